//! From a client to a connected endpoint.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    hello::{self, BadHello, Hello},
    record::{End, Record},
};
use crate::{
    resilience::RetryPolicy,
    snapshot::Destination,
    types::{Cause, Phase, Stage, Who},
    upstream::{Attempts, Fault, Granted, Next, Replay, Stop, Upstream},
    wire::{Stream, dial},
};

/// Endpoints that are tried beside the first while no connection comes about.
const OTHERS: u8 = 2;

/// A TLS alert, `unrecognized_name`, fatal (RFC 6066, section 3): what a server says that does not have the name.
const UNRECOGNIZED_NAME: &[u8] = b"\x15\x03\x01\x00\x02\x02\x70";

/// The upstream of a connection. May read the beginning of what the client sends.
pub(super) async fn destination(
    client: &mut Stream,
    ahead: &mut BytesMut,
    destination: &Destination,
    record: &mut Record,
) -> Result<Arc<Upstream>, End> {
    let names = match destination {
        Destination::One(upstream) => return Ok(upstream.clone()),
        Destination::Named(names) => names,
    };
    let refused = |cause, reason| End { who: Who::Client, phase: Phase::Route, cause: Some(cause), reason: Some(reason) };
    let name = match timeout(hello::PATIENCE, read_hello(client, ahead)).await {
        Ok(Ok(name)) => name,
        Ok(Err(None)) => return Err(refused(Cause::ConnectionTerminated, "client_gone")),
        Ok(Err(Some(bad))) => return Err(refused(Cause::TlsProtocolError, bad.reason())),
        Err(_) => return Err(refused(Cause::ConnectionReadTimeout, "timeout_client_hello")),
    };
    let upstream = names.find(name.as_deref()).cloned();
    if let Some(name) = name {
        record.asked_for(name);
    }
    if upstream.is_none() {
        record.tell_unknown_name();
        // It fits the empty send buffer of a new connection.
        let _ = timeout(hello::PATIENCE, client.write_all(UNRECOGNIZED_NAME)).await;
        let _ = client.shutdown().await;
    }
    upstream.ok_or_else(|| refused(Cause::DestinationNotFound, "no_such_name"))
}

/// Reads until the client has greeted. What was read stays in the buffer. `Err(None)` when the client went away.
async fn read_hello(client: &mut Stream, ahead: &mut BytesMut) -> Result<Option<String>, Option<BadHello>> {
    loop {
        match hello::parse(ahead)? {
            Hello::Whole(name) => return Ok(name),
            Hello::Part(needed) => ahead.reserve(needed.saturating_sub(ahead.len())),
        }
        match client.read_buf(ahead).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(None),
        }
    }
}

/// Connects to an endpoint, or to another one.
pub(super) async fn endpoint(upstream: &Arc<Upstream>, record: &mut Record) -> Result<Stream, End> {
    record.goes_to(upstream.name());
    upstream.arrived(Instant::now());
    let mut attempts = Attempts::new(upstream.clone());
    let waited = attempts.enter(None).await.map_err(|stop| ours(Cause::ConnectionLimitReached, stop.reason()))?;
    let (key, policy) = (upstream.key_of_connection(record.client()), RetryPolicy::connecting(OTHERS));
    let mut end = ours(Cause::DestinationUnavailable, Stop::NoEndpoint.reason());
    loop {
        let Ok(Next { guard, .. }) = attempts.next(&key, &policy) else { return Err(end) };
        let started = Instant::now();
        let patience = upstream.spec().connections.connect_timeout.limit();
        let failed = match dial(guard.endpoint().address(), upstream.byte_tls(), patience).await {
            Ok(stream) => {
                record.admitted(attempts.into_permit(), waited);
                record.connected(guard, started.elapsed());
                return Ok(stream);
            }
            Err(failed) => failed,
        };
        let cause = failed.hindrance.cause();
        record.failed(&guard, failed, started.elapsed());
        end = End { who: Who::Upstream, phase: Phase::Connect, cause: Some(cause), reason: None };
        let metrics = record.observer().metrics();
        // No byte was sent, so nothing can happen twice.
        let replay = Replay { idempotent: false, at_hand: true, in_time: true };
        match attempts.again(Fault::of_connecting(cause).judge(Stage::Connecting).again, &policy, replay) {
            Granted::Yes => metrics.dialled_again(upstream.name(), cause),
            Granted::No => return Err(end),
            Granted::Broke => {
                metrics.retry_budget_exhausted(upstream.name());
                return Err(end);
            }
        }
    }
}

fn ours(cause: Cause, reason: &'static str) -> End {
    End { who: Who::Weir, phase: Phase::Select, cause: Some(cause), reason: Some(reason) }
}
