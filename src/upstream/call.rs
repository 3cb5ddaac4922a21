//! Requests of Weir's own to an upstream, for filters: see [`crate::filter::Service`].
//!
//! They are balanced, counted and judged as those of clients are, over connections of their own.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::Poll,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora_core::{
    Error, ErrorType, Result,
    connectors::{ConnectorOptions, http::Connector as HttpConnector},
    protocols::http::client::HttpSession,
    upstreams::peer::Peer,
};
use pingora_http::RequestHeader;
use tokio::time::timeout_at;

use super::{
    Attempts, EndpointConnector, Fault, Granted, Next, Replay, Upstream, connect_by_us, h2_exchange::H2Exchange, tell_tls_fault,
    tls_fault, unconnected,
};
use crate::{
    endpoint::{AttemptResult, Endpoint, InFlight},
    filter::{Answered, Call, CallError, Calling, Service, Services, Take},
    gate::{
        self,
        hop::{self, Onward},
    },
    pace::Pace,
    resilience::RetryPolicy,
    types::{BodyStream, Name, Stage},
};

/// Idle connections kept, of all upstreams together.
const POOL: usize = 512;
/// What is read of a body that nobody wants, to use its connection again. A new connection costs less than more.
const THROWN_AWAY: usize = 64 * 1024;

/// Makes connections as those of requests are made.
type Connector = HttpConnector<EndpointConnector>;
type Session = HttpSession<H2Exchange>;

/// Makes calls, over connections that outlive the configuration they were opened for. Clones share everything.
#[derive(Clone, Default)]
pub struct Calls {
    /// Made by the first call: it reads the system's authorities.
    connector: Arc<OnceLock<Connector>>,
}

impl Calls {
    /// These upstreams as services.
    pub fn services(&self, upstreams: &BTreeMap<Name, Arc<Upstream>>) -> Services {
        let service = |(name, upstream): (&Name, &Arc<Upstream>)| {
            let service = Target { upstream: upstream.clone(), calls: self.clone() };
            (name.clone(), Arc::new(service) as Arc<dyn Service>)
        };
        upstreams.iter().map(service).collect()
    }

    fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| Connector::new_custom(Some(ConnectorOptions::new(POOL)), EndpointConnector::new()))
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

/// One upstream that can be asked.
#[derive(Debug, Clone)]
struct Target {
    upstream: Arc<Upstream>,
    calls: Calls,
}

impl Service for Target {
    fn call(&self, call: Call) -> Calling {
        let target = self.clone();
        Box::pin(async move { target.exchange(call).await })
    }
}

/// A try that failed.
struct Failed {
    error: CallError,
    /// What went wrong, where another try may help, and how far the try had come.
    fault: Option<(Fault, Stage)>,
}

impl Failed {
    fn finally(error: CallError) -> Self {
        Self { error, fault: None }
    }

    /// No connection could be made: nothing of the call has reached anybody.
    fn unconnected(error: Option<&Error>) -> Self {
        let fault =
            error.and_then(unconnected).map_or(Fault::ConnectTimeout, |failed| Fault::of_connecting(failed.hindrance.cause()));
        Self { error: CallError::Connect, fault: Some((fault, Stage::Connecting)) }
    }
}

impl Target {
    async fn exchange(&self, mut call: Call) -> Result<Answered, CallError> {
        let deadline = Instant::now() + call.within;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.upstream.arrived(Instant::now());
        let mut attempts = Attempts::new(self.upstream.clone());
        attempts.enter(Some(left())).await.map_err(|_| CallError::Unavailable)?;
        let (key, policy) = (self.upstream.key_of_connection(call.client), RetryPolicy::unasked());
        // A body is sent once.
        let replay = |in_time| Replay { idempotent: call_is_safe(&call), at_hand: call.body.is_none(), in_time };
        let (whole, partial) = (replay(true), replay(false));
        let mut error = CallError::Unavailable;
        loop {
            let Ok(Next { guard, anew, .. }) = attempts.next(&key, &policy) else { return Err(error) };
            // Not at the pace of the client whose request it is made for.
            let attempt = Pace::unpaced().scope(self.attempt(&guard, anew, &mut call, deadline));
            let failed = match attempt.await {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            error = failed.error;
            let Some((fault, stage)) = failed.fault else { return Err(error) };
            let replay = match (left().is_zero(), stage) {
                (true, _) => partial,
                // Nothing of the body was asked for yet.
                (false, Stage::Connecting) => Replay { at_hand: true, ..whole },
                (false, _) => whole,
            };
            if attempts.again(fault.judge(stage).again, &policy, replay) != Granted::Yes {
                return Err(error);
            }
        }
    }

    fn tell_tls(&self, guard: &InFlight, error: Option<&Error>) {
        if let Some(fault) = error.and_then(tls_fault) {
            tell_tls_fault(self.upstream.name(), guard.endpoint().label(), &fault);
        }
    }

    async fn attempt(&self, guard: &InFlight, anew: bool, call: &mut Call, deadline: Instant) -> Result<Answered, Failed> {
        let started = Instant::now();
        let mut peer = self.upstream.peer(guard.endpoint(), Some(deadline.saturating_duration_since(started)));
        if anew {
            super::open_anew(&mut peer);
        }
        connect_by_us(&mut peer);
        let connector = self.calls.connector();
        let (mut session, reused) = match timeout_at(deadline.into(), connector.get_http_session(&*peer)).await {
            Ok(Ok(session)) => session,
            failed => {
                guard.record(AttemptResult { ok: false, first_byte: None }, Instant::now());
                let error = failed.as_ref().ok().and_then(|failed| failed.as_ref().err());
                self.tell_tls(guard, error.map(|error| &**error));
                return Err(Failed::unconnected(error.map(|error| &**error)));
            }
        };
        let head = head(call, &session, guard.endpoint());
        let Ok(head) = head else { return Err(Failed::finally(CallError::Broken)) };
        let sent = timeout_at(deadline.into(), send(&mut session, head, call.body.as_mut())).await;
        let status = match sent {
            Ok(Ok(status)) => status,
            // It was closed while nobody used it, which says nothing about the endpoint.
            Ok(Err(_)) if reused && call.body.is_none() && call_is_safe(call) => {
                return Err(Failed { error: CallError::Broken, fault: Some((Fault::Stale, Stage::Waiting)) });
            }
            failed => {
                guard.record(AttemptResult { ok: false, first_byte: None }, Instant::now());
                self.tell_tls(guard, failed.as_ref().ok().and_then(|failed| failed.as_ref().err()).map(|error| &**error));
                let error = if failed.is_ok() && Instant::now() < deadline { CallError::Broken } else { CallError::Timeout };
                return Err(Failed::finally(error));
            }
        };
        guard.record(AttemptResult { ok: status < 500, first_byte: Some(started.elapsed()) }, Instant::now());
        let answered = timeout_at(deadline.into(), receive(&mut session, call.take)).await;
        let answered = answered.unwrap_or(Err(CallError::Timeout)).map_err(Failed::finally)?;
        if session.response_done() {
            if let HttpSession::H1(h1) = &mut session {
                h1.respect_keepalive();
            }
            connector.release_http_session(session, &*peer, peer.idle_timeout()).await;
        }
        Ok(answered)
    }
}

fn call_is_safe(call: &Call) -> bool {
    call.method.is_safe()
}

/// The head as it is written to this connection.
fn head(call: &Call, session: &Session, endpoint: &Endpoint) -> Result<Box<RequestHeader>> {
    let mut head = RequestHeader::build_no_case(call.method.clone(), call.target.as_bytes(), Some(call.fields.len() + 2))?;
    for (name, value) in &call.fields {
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    if !call.fields.contains_key(header::HOST) {
        head.insert_header(header::HOST, endpoint.address().authority())?;
    }
    let length = match &call.body {
        Some(body) => body.length,
        None => Some(0),
    };
    match length {
        Some(0) if matches!(call.method, Method::GET | Method::HEAD) => {}
        Some(length) => head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?,
        None if session.as_custom().is_some() => {}
        None => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
    }
    Ok(Box::new(head))
}

/// Sends the call, and waits for the head of the answer: its status.
async fn send(session: &mut Session, head: Box<RequestHeader>, body: Option<&mut BodyStream>) -> Result<u16> {
    let method = head.method.clone();
    session.write_request_header(head).await?;
    if let Some(body) = body {
        let broken = |error| Error::because(ErrorType::ReadError, "the body of a call", error);
        while let Some(piece) = body.next().await.map_err(broken)? {
            // Over HTTP/2 a write does not wait: this does.
            poll_fn(|cx| Pace::with(|pace| pace.upload.poll_ready(cx)).unwrap_or(Poll::Ready(()))).await;
            session.write_request_body(piece, false).await?;
        }
    }
    session.finish_request_body().await?;
    loop {
        session.read_response_header().await?;
        let status = admitted(&method, session)?;
        if status >= 200 {
            return Ok(status);
        }
    }
}

/// The status of an answer that is HTTP, by the rules for those that clients get.
fn admitted(method: &Method, session: &Session) -> Result<u16> {
    let broken = |reason: String| Error::explain(ErrorType::InvalidHTTPHeader, reason);
    let head = session.response_header().ok_or_else(|| broken("no head".to_owned()))?;
    let version = if head.version == Version::HTTP_10 { gate::Version::Http10 } else { gate::Version::Http11 };
    let status = head.status.as_u16();
    let framing = gate::response::admit_response(method.as_str(), status, version, false, &head.headers);
    framing.map(|_| status).map_err(|reason| broken(reason.to_string()))
}

/// The answer, its body as far as it is wanted.
async fn receive(session: &mut Session, take: Take) -> Result<Answered, CallError> {
    let Some(head) = session.response_header() else { return Err(CallError::Broken) };
    let (status, mut fields): (_, HeaderMap) = (head.status, head.headers.clone());
    hop::strip_response(&mut fields, Onward::default());
    let (keep, most) = match take {
        Take::Head => (false, THROWN_AWAY),
        Take::Body(most) => (true, most),
    };
    let (mut body, mut length) = (BytesMut::new(), 0);
    while let Some(piece) = session.read_response_body().await.map_err(|_| CallError::Broken)? {
        length += piece.len();
        match (length > most, keep) {
            (true, true) => return Err(CallError::TooLarge),
            (true, false) => break,
            (false, true) => body.extend_from_slice(&piece),
            (false, false) => {}
        }
    }
    Ok(Answered { status, fields, body: Bytes::from(body) })
}
