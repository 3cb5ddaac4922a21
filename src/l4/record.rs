//! What is known of a connection, and told when it ends, on whatever path.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use log::Level;
use serde_json::Value;
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use super::Witness;

use crate::{
    endpoint::{AttemptResult, InFlight},
    observe::{
        Attempt, ConnectionGuard, Layer, Observer, Opening, Outcome, SessionMeter, Times,
        process_log::{self, Notice},
    },
    resilience::Permit,
    snapshot::Listener,
    types::{Cause, Name, Phase, RequestId, Stage, TlsClient, Who},
    upstream::tell_tls_fault,
    wire::Unconnected,
};

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Who ended it.
    pub who: Who,
    /// How far it had come.
    pub phase: Phase,
    /// Why; `None` when it ended in order.
    pub cause: Option<Cause>,
    /// What the cause does not tell.
    pub reason: Option<&'static str>,
}

/// One connection. Dropping it counts it out and logs it.
pub(super) struct Record {
    listener: Arc<Listener>,
    observer: Arc<Observer>,
    cut: CancellationToken,
    id: RequestId,
    generation: u64,
    source: (IpAddr, u16),
    tls: Option<Arc<TlsClient>>,
    began: Instant,
    started: SystemTime,
    upstream: Option<Name>,
    attempts: SmallVec<[Attempt; 1]>,
    queue: Duration,
    connect: Duration,
    received: u64,
    sent: u64,
    end: Option<End>,
    /// Counted on its endpoint; what is not yet known of that: whether it was well.
    endpoint: Option<InFlight>,
    judged: bool,
    permit: Option<Permit>,
    meter: SessionMeter,
    _connection: ConnectionGuard,
}

impl Record {
    pub(super) fn new(
        listener: Arc<Listener>,
        source: (IpAddr, u16),
        tls: Option<Arc<TlsClient>>,
        generation: u64,
        id: RequestId,
        observer: Arc<Observer>,
        cut: CancellationToken,
    ) -> Self {
        let meter = observer.metrics().session(&listener.name);
        let connection = observer.metrics().connection(&listener.name);
        Self {
            listener,
            observer,
            cut,
            id,
            generation,
            source,
            tls,
            began: Instant::now(),
            started: SystemTime::now(),
            upstream: None,
            attempts: SmallVec::new(),
            queue: Duration::ZERO,
            connect: Duration::ZERO,
            received: 0,
            sent: 0,
            end: None,
            endpoint: None,
            judged: false,
            permit: None,
            meter,
            _connection: connection,
        }
    }

    pub(super) fn client(&self) -> IpAddr {
        self.source.0
    }
    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The name that a client asked for in TLS that is passed on.
    pub(super) fn asked_for(&mut self, name: String) {
        self.tls = Some(Arc::new(TlsClient { sni: Some(name.into()), ..TlsClient::default() }));
    }
    /// Says in the process log that no upstream is configured for the name.
    pub(super) fn tell_unknown_name(&self) {
        let listener = &self.listener.name;
        let notice = Notice { level: Level::Info, target: module_path!(), kind: "unknown_sni", about: listener };
        notice.tell(|| {
            let client = SocketAddr::from(self.source).to_string();
            let sni = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
            let asked = sni.map_or_else(|| "no SNI".to_owned(), |sni| format!("SNI {sni}"));
            let message =
                format!("TLS handshake refused on listener {listener}, client {client}: `tcp.sni` has no upstream for {asked}");
            let facts = process_log::facts([
                ("listener", listener.as_str().into()),
                ("client", client.into()),
                ("sni", sni.map_or(Value::Null, Value::from)),
                ("reason", "no_such_name".into()),
            ]);
            (message, facts)
        });
    }
    /// Goes to this upstream.
    pub(super) fn goes_to(&mut self, upstream: &Name) {
        self.upstream = Some(upstream.clone());
    }
    /// Has a place among the connections of the upstream, for which it waited.
    pub(super) fn admitted(&mut self, permit: Option<Permit>, waited: Duration) {
        (self.permit, self.queue) = (permit, waited);
    }

    /// An endpoint could not be connected to.
    pub(super) fn failed(&mut self, endpoint: &InFlight, failed: Unconnected, took: Duration) {
        endpoint.record(AttemptResult { ok: false, first_byte: None }, Instant::now());
        if let (Some(upstream), Some(fault)) = (&self.upstream, &failed.tls) {
            tell_tls_fault(upstream, endpoint.endpoint().label(), fault);
        }
        self.attempted(endpoint, Some(failed.hindrance.cause()), failed.tls.map(Box::from), took);
    }
    /// An endpoint is connected.
    pub(super) fn connected(&mut self, endpoint: InFlight, took: Duration) {
        self.attempted(&endpoint, None, None, took);
        if let Some(permit) = &self.permit {
            permit.learn(took, Instant::now());
        }
        (self.endpoint, self.connect) = (Some(endpoint), took);
    }
    fn attempted(&mut self, endpoint: &InFlight, failed: Option<Cause>, detail: Option<Box<str>>, took: Duration) {
        let label = endpoint.endpoint().label().clone();
        if let Some(upstream) = &self.upstream {
            self.observer.metrics().dialled(upstream, &label, failed, took);
        }
        let since = self.began.elapsed().saturating_sub(took);
        let stage = failed.map(|_| Stage::Connecting);
        self.attempts.push(Attempt { endpoint: label, failed, status: None, stage, since, took, span: None, detail });
    }

    fn judge(&mut self, result: AttemptResult) {
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| !self.judged) {
            endpoint.record(result, Instant::now());
            self.judged = true;
        }
    }

    /// It ended. Without this it was cut, or something of ours failed.
    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    fn ended(&self) -> End {
        let ours = |cause, reason| End { who: Who::Weir, phase: Phase::Response, cause: Some(cause), reason: Some(reason) };
        match self.end {
            Some(end) => end,
            None if self.cut.is_cancelled() => ours(Cause::ConnectionTerminated, "shutdown_grace"),
            None => ours(Cause::ProxyInternalError, "panic"),
        }
    }
}

impl Witness for Record {
    fn moved(&mut self, received: u64, sent: u64) {
        self.meter.moved(received, sent);
        self.received += received;
        self.sent += sent;
        if sent > 0 {
            self.endpoint_is_well();
        }
    }
    fn endpoint_is_well(&mut self) {
        self.judge(AttemptResult { ok: true, first_byte: Some(self.connect) });
    }
    /// As a forwarder does that has nothing behind it.
    fn endpoint_is_bad(&mut self) {
        self.judge(AttemptResult { ok: false, first_byte: None });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let End { who, phase, cause, reason } = self.ended();
        let outcome = Outcome::begin(Opening {
            layer: Layer::Tcp,
            started: self.started,
            id: self.id.clone(),
            client: self.source.0,
            client_port: self.source.1,
            listener: self.listener.name.clone(),
            tls: self.tls.take(),
            generation: self.generation,
        });
        self.observer.disconnected(&Outcome {
            upstream: self.upstream.take(),
            attempts: std::mem::take(&mut self.attempts),
            bytes_in: self.received,
            bytes_out: self.sent,
            times: Times { total: self.began.elapsed(), queue: self.queue, connect: self.connect, first_byte: None },
            who,
            phase,
            cause,
            reason,
            ..outcome
        });
    }
}
