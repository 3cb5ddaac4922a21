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
    resilience::Entry,
    snapshot::Destination,
    types::{Cause, Phase, Who},
    upstream::Upstream,
    wire::{Stream, dial},
};

/// Endpoints that are tried beside the first while no connection comes about.
const OTHERS: usize = 2;

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
    let now = Instant::now();
    upstream.arrived(now);
    enter(upstream, record, now).await?;
    let key = upstream.key_of_connection(record.client());
    let patience = upstream.spec().connections.connect_timeout.limit();
    let mut tried = Vec::new();
    loop {
        let Some(endpoint) = upstream.take_another(&key, &tried) else {
            return Err(ours(Cause::DestinationUnavailable, "no_endpoint"));
        };
        let started = Instant::now();
        let failed = match dial(endpoint.endpoint().address(), upstream.byte_tls(), patience).await {
            Ok(stream) => {
                record.connected(endpoint, started.elapsed());
                return Ok(stream);
            }
            Err(failed) => failed,
        };
        let cause = failed.hindrance.cause();
        record.failed(&endpoint, failed, started.elapsed());
        tried.push(endpoint.endpoint().clone());
        let end = End { who: Who::Upstream, phase: Phase::Connect, cause: Some(cause), reason: None };
        if tried.len() > OTHERS || !upstream.has_another(&tried) {
            return Err(end);
        }
        let metrics = record.observer().metrics();
        if !upstream.withdraw_retry(Instant::now()) {
            metrics.retry_budget_exhausted(upstream.name());
            return Err(end);
        }
        metrics.dialled_again(upstream.name(), cause);
    }
}

/// Waits for a place, where connections are limited.
async fn enter(upstream: &Upstream, record: &mut Record, now: Instant) -> Result<(), End> {
    let Some((entry, limits)) = upstream.enter() else { return Ok(()) };
    let permit = match entry {
        Entry::Admitted(permit) => permit,
        Entry::Refused => return Err(ours(Cause::ConnectionLimitReached, "queue_full")),
        Entry::Queued(turn) => {
            // Without a limit of its own the wait is bounded all the same: by the patience of clients, which is about this.
            let patience = limits.queue_timeout.limit().unwrap_or(hello::PATIENCE);
            match timeout(patience, turn).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(ours(Cause::ConnectionLimitReached, "queue_timeout")),
            }
        }
    };
    record.admitted(permit, now.elapsed());
    Ok(())
}

fn ours(cause: Cause, reason: &'static str) -> End {
    End { who: Who::Weir, phase: Phase::Select, cause: Some(cause), reason: Some(reason) }
}
