//! All that one exchange taught us: filled in along the way, read once at its end.
//!
//! An [`Outcome`] feeds the access log, the metrics, and the recent errors of the admin API.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use compact_str::CompactString;
use smallvec::SmallVec;

use super::{SpanId, Trace};
use crate::types::{Cause, Driver, Name, Phase, RequestId, Stage, TlsClient, Version, Who};

/// One attempt on one endpoint.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// Why it failed; `None` for one that was answered or abandoned.
    pub failed: Option<Cause>,
    /// The status it answered with.
    pub status: Option<u16>,
    /// How far it had come when it failed, was abandoned, or was cut in the middle of its response. `None` for one that
    /// was completed.
    pub stage: Option<Stage>,
    /// From the request's first byte to choosing it.
    pub since: Duration,
    /// From choosing it to its response header, its failure, or its being abandoned.
    pub took: Duration,
    /// Its span, where requests are traced.
    pub span: Option<SpanId>,
    /// Why it failed, in words, where the cause alone does not say it: what was wrong with a certificate.
    pub detail: Option<Box<str>>,
}

impl Attempt {
    /// The outcome of one that was abandoned before it was answered: its client left, a limit of Weir's own was
    /// reached, or a drain cut it.
    pub const ABANDONED: &'static str = "abandoned";
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// From the request's first byte to the response's last.
    pub total: Duration,
    /// Waiting for a place.
    pub queue: Duration,
    /// Connecting (0 for a pooled connection).
    pub connect: Duration,
    /// From the start of the last attempt to its response header.
    pub first_byte: Option<Duration>,
}

/// What an [`Outcome`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layer {
    /// An exchange of HTTP.
    #[default]
    Http,
    /// A connection of layer 4: there is no status.
    Tcp,
}

/// One exchange (or one layer-4 connection).
#[derive(Debug, Clone)]
pub struct Outcome {
    /// An exchange or a connection.
    pub layer: Layer,
    /// When its first byte arrived; of a connection, when it was accepted.
    pub started: SystemTime,
    /// Its id.
    pub request_id: RequestId,
    /// Its place in a trace, where requests are traced. In a box: most edges have none.
    pub trace: Option<Box<Trace>>,
    /// The client, as trusted proxies have it.
    pub client: IpAddr,
    /// The client's port, 0 when unknown.
    pub client_port: u16,
    /// The listener.
    pub listener: Name,
    /// TLS facts of the downstream connection.
    pub tls: Option<Arc<TlsClient>>,
    /// The version of the request; `None` when it could not be read so far.
    pub http: Option<Version>,
    /// The method; empty when the request could not be read so far.
    pub method: CompactString,
    /// The host, lower case.
    pub host: CompactString,
    /// The canonical path without the query. May hold anything a client sent: escape it when printing.
    pub path: CompactString,
    /// The route's name; `None` when none matched or the gate refused.
    pub route: Option<Name>,
    /// The upstream's name.
    pub upstream: Option<Name>,
    /// Attempts in order; the last one's endpoint served the request.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// The status sent to the client; 0 when none was.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Where the time went.
    pub times: Times,
    /// Who ended it.
    pub who: Who,
    /// How far it came.
    pub phase: Phase,
    /// Why it ended, unless the upstream's response was passed on whole.
    pub cause: Option<Cause>,
    /// The gate's or a filter's own short word for a refusal: `duplicate_host`, `ip_denied`, `timeout_header`.
    pub reason: Option<&'static str>,
    /// The generation of the configuration that served it.
    pub generation: u64,
    /// The client's user agent.
    pub user_agent: Option<CompactString>,
    /// The referring page.
    pub referer: Option<CompactString>,
    /// What the cache did, in one word; `None` where the route has none.
    pub cache: Option<&'static str>,
    /// Who carried it; `None` for what the gate refused, and on layer 4.
    pub driver: Option<Driver>,
}

/// What is known of an exchange or a connection when it begins.
#[derive(Debug)]
pub struct Opening {
    /// What it is.
    pub layer: Layer,
    /// When its first byte arrived; of a connection, when it was accepted.
    pub started: SystemTime,
    /// Its id.
    pub id: RequestId,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The listener.
    pub listener: Name,
    /// TLS facts of the connection.
    pub tls: Option<Arc<TlsClient>>,
    /// The generation of the configuration that serves it.
    pub generation: u64,
}

impl Outcome {
    /// One of which nothing more is known yet.
    pub fn begin(opening: Opening) -> Self {
        Self {
            layer: opening.layer,
            started: opening.started,
            request_id: opening.id,
            trace: None,
            client: opening.client,
            client_port: opening.client_port,
            listener: opening.listener,
            tls: opening.tls,
            http: None,
            method: CompactString::default(),
            host: CompactString::default(),
            path: CompactString::default(),
            route: None,
            upstream: None,
            attempts: SmallVec::new(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            times: Times::default(),
            who: Who::Upstream,
            phase: Phase::Admit,
            cause: None,
            reason: None,
            generation: opening.generation,
            user_agent: None,
            referer: None,
            cache: None,
            driver: None,
        }
    }

    /// The error it ended in. An answer below 400 that Weir was configured to give (a redirect, `respond`) is none.
    pub fn error(&self) -> Option<Cause> {
        let configured = |cause: &Cause| *cause == Cause::ProxyInternalResponse && (100..400).contains(&self.status);
        self.cause.filter(|cause| !configured(cause))
    }

    /// Why the gate or a filter refused it. Other reasons (a redirect, a timeout, a client that left) are no refusals.
    pub fn refusal(&self) -> Option<&'static str> {
        let refused = match self.cause? {
            Cause::HttpRequestError | Cause::HttpRequestDenied | Cause::HttpUpgradeFailed | Cause::ProxyLoopDetected => true,
            // A body that stalled, noticed only when its stream was given up.
            Cause::ConnectionReadTimeout => self.who == Who::Client,
            _ => false,
        };
        self.reason.filter(|_| refused)
    }
}
