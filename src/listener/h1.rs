//! HTTP/1 connections: read a head under a deadline, admit it, decide on it, hand it to a driver, again.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, header, request::Parts};
use pingora_core::{
    apps::HttpServerApp,
    protocols::{IO, http::ServerSession},
};
use tokio::time::{Instant, timeout};

use super::{Shared, h1_stream::H1Stream, h2};
use crate::{
    config::DriverChoice,
    exchange::{Attendance, Began, Connection, Decision, Exchange, refusal_length, render_refusal},
    gate::{Admitted, Glimpse, Refusal, Spelling, head},
    lane::{self, H1Client},
    proxy::Arrival,
    tunnel::{End, Parting, Side, Tunnel},
    wire::Transport,
};

/// How a connection goes on after its next head was waited for.
enum Next {
    /// A whole head is there.
    Head { length: usize, began: Began },
    /// The client speaks HTTP/2 with prior knowledge.
    Http2,
    /// Nothing more will come, or nothing came in time: close without a word.
    Close,
    /// What came is refused.
    Refused { refusal: Refusal, began: Began },
}

/// How long a connection without a request yet is waited for when a drain begins: a round trip across the world, and another.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves requests until the connection closes.
pub(super) async fn serve(transport: Transport, connection: Arc<Connection>, shared: Arc<Shared>) {
    let http = &connection.listener.http;
    let mut client = H1Client::new(transport);
    let mut door = connection.door.attend();
    for served in 0..http.max_requests_per_connection.get() {
        let patience = if served == 0 { http.header_timeout.get() } else { http.keepalive_timeout.get() };
        let (length, began) = match next_head(&mut client, &mut door, &connection, patience, served == 0).await {
            Next::Head { length, began } => (length, began),
            Next::Http2 => {
                let (transport, ahead) = client.into_parts();
                return Box::pin(h2::serve(transport, ahead, connection, shared)).await;
            }
            Next::Close => return close(client).await,
            Next::Refused { refusal, began } => {
                let read = Glimpse::of_bytes(client.ahead());
                return Box::pin(refuse(client, &connection, &shared, refusal, began, read)).await;
            }
        };
        let last = served + 1 == http.max_requests_per_connection.get();
        // Boxed: an idle connection has no room for what one request needs.
        match Box::pin(one(client, length, began, last, &connection, &shared)).await {
            Some(next) => client = next,
            None => return,
        }
    }
}

/// Serves one request. `None` when the connection is over.
async fn one(
    mut client: H1Client,
    length: usize,
    began: Began,
    last: bool,
    connection: &Arc<Connection>,
    shared: &Arc<Shared>,
) -> Option<H1Client> {
    let mut head = client.take(length);
    if head.starts_with(b"\r\n") {
        // The empty line that the gate tolerates ahead of a request goes no further.
        head.advance(2);
    }
    let head = head.freeze();
    let (mut admitted, mut request, spelling) = match admit(&head, connection) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let read = Glimpse::of_bytes(&head);
            refuse(client, connection, shared, refusal, began, read).await;
            return None;
        }
    };
    admitted.keep_alive &= !last;
    let exchange = Exchange::new(connection.clone(), admitted, began, shared.store.load(), shared.observer.clone());
    // Boxed: it is large, and is handed on from here to there.
    let mut exchange = Box::new(exchange);
    let mut decision = exchange.decide(&mut request).await;
    let direct = shared.driver == DriverChoice::Auto && lane::takes(&exchange, &request, &mut decision);
    if direct {
        return lane::serve(lane::Arrival { client, exchange, request, spelling }, decision, &shared.pool).await;
    }
    Box::pin(by_pingora(client, exchange, request, spelling, decision, &head, shared)).await
}

/// Has Pingora serve a request.
async fn by_pingora(
    client: H1Client,
    exchange: Box<Exchange>,
    request: Parts,
    spelling: Spelling,
    decision: Decision,
    head: &[u8],
    shared: &Shared,
) -> Option<H1Client> {
    let connection = exchange.connection.clone();
    let (transport, ahead) = client.into_parts();
    let mut stream = H1Stream::new(transport, ahead, connection.listener.http.body_idle_timeout.limit());
    let (tunnel, parting) = exchange.admitted.upgrade.map(|_| Tunnel::new()).unzip();
    let link = stream.begin(exchange.admitted.body, tunnel.clone(), &connection.head_limits());
    let prefix = for_pingora(head, &exchange);
    let mut session = ServerSession::new_http1(match tunnel {
        None => Box::new(stream),
        Some(tunnel) => Box::new(End::new(stream, Side::Client, tunnel)),
    });
    session.set_pipelined_prefix(prefix);
    let arrival = Arrival::h1(exchange, request, spelling, decision, link);
    let reused = arrival.scope(shared.edge.process_new_http(session, connection.door.closed())).await;
    match reused.and_then(|reused| returned(reused.consume().0)) {
        Some(returned) if returned.is_complete() => {
            let (transport, ahead) = returned.into_parts();
            Some(H1Client::again(transport, ahead))
        }
        _ => {
            part(parting).await;
            None
        }
    }
}

/// The stream that Pingora was given, when the connection may go on.
fn returned(stream: Box<dyn IO>) -> Option<H1Stream> {
    match stream.into_any().downcast::<H1Stream>() {
        Ok(stream) => Some(*stream),
        Err(end) => end.downcast::<End<H1Stream>>().ok()?.into_inner(),
    }
}

/// Ends a tunnel, if there is one.
async fn part(parting: Option<Parting>) {
    if let Some(parting) = parting {
        // Boxed, as what is rare.
        Box::pin(parting.finish()).await;
    }
}

/// Waits for the next head. The first byte may take `patience`, the whole head the header timeout from there.
async fn next_head(
    stream: &mut H1Client,
    door: &mut Attendance,
    connection: &Connection,
    patience: Duration,
    first: bool,
) -> Next {
    let limits = connection.head_limits();
    if stream.ahead().is_empty() {
        let mut deadline = Instant::now() + patience;
        let mut closing = false;
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = stream.poll_fill(cx) {
                return Poll::Ready(read.ok());
            }
            if !closing && door.poll_closed(cx) {
                // Nobody waits for an answer between requests. Who has only just connected is about to ask, and would take a
                // close for a failure.
                let grace = if first { FIRST_REQUEST } else { Duration::ZERO };
                (closing, deadline) = (true, deadline.min(Instant::now() + grace));
            }
            if stream.poll_overdue(deadline, cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        if !matches!(read, Some(1..)) {
            return Next::Close;
        }
    }
    let began = Began::now();
    let deadline = Instant::from_std(began.at + connection.listener.http.header_timeout.get());
    let mut scanned = 0;
    loop {
        if first && connection.listener.http.h2c && connection.tls.is_none() {
            let ahead = stream.ahead();
            let common = ahead.len().min(H2_PREFACE.len());
            if ahead[..common] == H2_PREFACE[..common] {
                if common == H2_PREFACE.len() {
                    return Next::Http2;
                }
                // Could be either still: wait for more without judging it.
                match stream.fill(deadline).await {
                    Some(Ok(1..)) => continue,
                    _ => return Next::Close,
                }
            }
        }
        match head::scan(stream.ahead(), &limits, &mut scanned) {
            Ok(Some(length)) => return Next::Head { length, began },
            Ok(None) => {}
            Err(refusal) => return Next::Refused { refusal, began },
        }
        match stream.fill(deadline).await {
            Some(Ok(1..)) => {}
            Some(_) => return Next::Close,
            None => return Next::Refused { refusal: Refusal::HeaderTimeout, began },
        }
    }
}

/// Checks the head, and makes of it what policy works on.
fn admit(head: &Bytes, connection: &Connection) -> Result<(Admitted, Parts, Spelling), Refusal> {
    let parsed = head::parse(head, &connection.head_limits())?;
    let admitted = connection.admit_h1(&parsed)?;
    let target = admitted.origin_form.as_deref().unwrap_or(parsed.target);
    let mut request = parsed.request(target, head)?;
    if !request.headers.contains_key(header::HOST) && !admitted.host.is_empty() {
        // HTTP/1.0 allows to name the host in the target alone, which is lost there.
        request.headers.insert(header::HOST, HeaderValue::from_str(&admitted.authority()).map_err(|_| Refusal::BadHost)?);
    }
    let mut spelling = Spelling::new(head.clone());
    parsed.fields().iter().for_each(|field| spelling.note(field.name));
    Ok((admitted, request, spelling))
}

/// A head that Pingora can read: what it makes of it is replaced by what was decided, but where the body ends.
fn for_pingora(head: &[u8], exchange: &Exchange) -> BytesMut {
    let line = head.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let version = exchange.admitted.http.as_str();
    let mut prefix = BytesMut::with_capacity(head.len() + 16);
    for part in [&*exchange.outcome.method, " / HTTP/", version, "\r\n"] {
        prefix.extend_from_slice(part.as_bytes());
    }
    prefix.extend_from_slice(&head[line..]);
    prefix
}

/// Answers what the gate refused, reports it, and closes. `read` is what could be read of it.
async fn refuse(mut client: H1Client, connection: &Connection, shared: &Shared, refusal: Refusal, began: Began, read: Glimpse) {
    let mut outcome = connection.refused(shared.store.load().generation, began, refusal, read);
    outcome.bytes_out = refusal_length(refusal, &outcome.request_id);
    let answer = render_refusal(refusal, &outcome.request_id);
    shared.observer.finished(&outcome);
    if client.send(&answer, Duration::from_secs(5)).await.is_ok() {
        client.close().await;
    }
}

async fn close(mut client: H1Client) {
    let _ = timeout(Duration::from_secs(1), client.shutdown()).await;
}
