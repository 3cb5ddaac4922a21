//! HTTP/3 connections: accept streams, serve each, and close in an order that loses no request.
//!
//! Streams are served in the task of their connection, as over HTTP/2.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use h3::{
    error::StreamError,
    server::{self, RequestResolver},
};
use http::header;
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep, timeout};

use super::{
    Shared,
    idle::Idleness,
    stream::{self, Elsewhere},
};
use crate::{
    exchange::{Attendance, Connection},
    lane::{H3Stream, StreamClient},
    pace::{Allowance, Pace, Share},
    quic::{EXCESSIVE_LOAD, NO_ERROR, Out, REQUEST_REJECTED, Streams},
};

/// Requests that a client may take back within [`WINDOW`]: as over HTTP/2, twice what a hurried reader leaves behind.
const TAKEN_BACK: u32 = 200;
const WINDOW: Duration = Duration::from_secs(30);

/// A GOAWAY announces the end first and names the last request later: so many more may be on their way until then.
const ON_THEIR_WAY: usize = 1 << 20;

/// Time between the two, at the least: two round trips, where those take longer.
const ANNOUNCED: Duration = Duration::from_millis(100);

type Conn = server::Connection<Streams, Bytes>;
type Request = RequestResolver<Streams, Bytes>;

/// What a connection has to see to.
enum Event {
    Request(Box<Request>),
    /// The process drains, or the listener was configured anew.
    Closing,
    /// Nothing was asked for as long as a connection may be idle.
    Idle,
    /// The end was announced long enough ago.
    Last,
    /// All that was asked for is over, and nothing more may come.
    Done,
    Flood,
    Ended,
}

/// How far the end is.
enum Stage {
    Open(Attendance),
    Announced(std::pin::Pin<Box<Sleep>>),
    Last,
}

/// Counts the requests that a client takes back.
#[derive(Debug, Default)]
struct TakenBack(Mutex<(u32, Option<Instant>)>);

impl TakenBack {
    fn count(&self) {
        let mut counted = self.0.lock();
        let since = *counted.1.get_or_insert_with(Instant::now);
        if since.elapsed() > WINDOW {
            *counted = (0, Some(Instant::now()));
        }
        counted.0 += 1;
    }

    fn is_flood(&self) -> bool {
        self.0.lock().0 > TAKEN_BACK
    }
}

/// Serves streams until the connection closes.
pub(super) async fn serve(quic: quinn::Connection, connection: Arc<Connection>, shared: Arc<Shared>) {
    let http = &connection.listener.http;
    let list = u64::from(connection.head_limits().list_bytes());
    let (streams, latest) = Streams::new(quic.clone(), list);
    let mut builder = server::builder();
    builder.max_field_section_size(list).send_grease(false);
    let Ok(Ok(mut conn)) = timeout(http.header_timeout.get(), builder.build(streams)).await else { return };
    let allowance = Allowance::new();
    let (elsewhere, taken_back) = (Arc::<Elsewhere>::default(), Arc::<TakenBack>::default());
    let mut streams = FuturesUnordered::new();
    let mut stage = Stage::Open(connection.door.attend());
    let mut idleness = Idleness::new(http.keepalive_timeout.get());
    let (mut left, mut asked) = (http.max_requests_per_connection.get(), false);
    loop {
        let event = poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = streams.poll_next_unpin(cx) {}
            // First: whoever floods may have the next request there all the time.
            if taken_back.is_flood() {
                return Poll::Ready(Event::Flood);
            }
            match poll_request(&mut conn, cx) {
                Poll::Ready(Some(request)) => return Poll::Ready(Event::Request(Box::new(request))),
                Poll::Ready(None) => return Poll::Ready(Event::Ended),
                Poll::Pending => {}
            }
            let is_idle = elsewhere.poll_none(cx) && streams.is_empty();
            match &mut stage {
                Stage::Open(door) => match door.poll_closed(cx) {
                    true => Poll::Ready(Event::Closing),
                    false if idleness.poll(is_idle, cx) => Poll::Ready(Event::Idle),
                    false => Poll::Pending,
                },
                Stage::Announced(sleep) => sleep.as_mut().poll(cx).map(|()| Event::Last),
                Stage::Last if is_idle => Poll::Ready(Event::Done),
                Stage::Last => Poll::Pending,
            }
        });
        match event.await {
            Event::Request(request) => {
                let Some(out) = latest.take() else { continue };
                if matches!(stage, Stage::Last) {
                    // Beyond the one that was named as the last: the client asks again elsewhere.
                    out.lock().reset(REQUEST_REJECTED);
                    continue;
                }
                (left, asked) = (left.saturating_sub(1), true);
                if left == 0 && matches!(stage, Stage::Open(_)) {
                    stage = announce(&mut conn, &quic).await;
                }
                let pace = Pace::sharing(Share::new(&allowance));
                let served = one(*request, out, pace, connection.clone(), shared.clone(), elsewhere.clone(), taken_back.clone());
                // A panic costs this stream and nothing else.
                streams.push(AssertUnwindSafe(served).catch_unwind());
            }
            Event::Closing | Event::Idle if asked => stage = announce(&mut conn, &quic).await,
            Event::Closing | Event::Idle => {
                // The library would name the first request, and serve it all the same: it may be asked twice then.
                let _ = conn.shutdown(0).await;
                stage = Stage::Last;
            }
            Event::Last => {
                let _ = conn.shutdown(1).await;
                stage = Stage::Last;
            }
            Event::Done => {
                quic.close(NO_ERROR, b"");
                break;
            }
            Event::Flood => {
                shared.observer.metrics().rejected("h3_reset_flood");
                log::debug!("HTTP/3 flood from {}: requests that are taken back", connection.peer);
                quic.close(EXCESSIVE_LOAD, b"");
                break;
            }
            Event::Ended => break,
        }
    }
    drop(conn);
    // What is still under way learns that its client is gone.
    while let Poll::Ready(Some(_)) = streams.poll_next_unpin(&mut Context::from_waker(std::task::Waker::noop())) {}
}

/// Resolves to the next request; `None` when there will be none.
fn poll_request(conn: &mut Conn, cx: &mut Context<'_>) -> Poll<Option<Request>> {
    // All that it waits with is in the connection.
    pin!(conn.accept()).poll(cx).map(|accepted| accepted.ok().flatten())
}

/// Says that the connection ends soon, and not yet with which request.
async fn announce(conn: &mut Conn, quic: &quinn::Connection) -> Stage {
    let _ = conn.shutdown(ON_THEIR_WAY).await;
    Stage::Announced(Box::pin(sleep(ANNOUNCED.max(quic.rtt() * 2))))
}

/// Serves one request.
async fn one(
    request: Request,
    out: Arc<Mutex<Out>>,
    pace: Arc<Pace>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    elsewhere: Arc<Elsewhere>,
    taken_back: Arc<TakenBack>,
) {
    let patience = connection.listener.http.header_timeout.get();
    let (head, stream) = match timeout(patience, request.resolve_request()).await {
        Ok(Ok((head, stream))) => (head, stream),
        Ok(Err(error)) => {
            if matches!(error, StreamError::RemoteTerminate { .. }) {
                taken_back.count();
            }
            return;
        }
        Err(_) => {
            out.lock().reset(REQUEST_REJECTED);
            return;
        }
    };
    let (mut head, ()) = head.into_parts();
    head.extensions.clear();
    let promised = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut stream = H3Stream::new(stream, out.clone(), pace, promised);
    poll_fn(|cx| {
        stream.look(cx);
        Poll::Ready(())
    })
    .await;
    stream::serve(head, StreamClient::new(stream), connection, shared, elsewhere).await;
    let was_taken_back = out.lock().was_taken_back();
    if was_taken_back {
        taken_back.count();
    }
}
