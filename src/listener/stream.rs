//! One request of a connection that carries several: admitted, decided on, handed to a driver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use http::{Method, request::Parts};
use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession};
use tokio::time::timeout;

use super::{Shared, session::StreamSession};
use crate::{
    config::DriverChoice,
    exchange::{Began, Connection, Decision, Exchange, refusal_length},
    gate::{BodyFraming, Glimpse, Refusal, Spelling},
    lane::{self, ARRIVAL, RequestStream, StreamClient},
    proxy::Arrival,
};

/// Streams of one connection that have a task of their own.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    count: AtomicUsize,
    ended: AtomicWaker,
}

struct Away(Arc<Elsewhere>);

impl Away {
    fn new(elsewhere: &Arc<Elsewhere>) -> Self {
        elsewhere.count.fetch_add(1, Relaxed);
        Self(elsewhere.clone())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
        self.0.ended.wake();
    }
}

impl Elsewhere {
    /// Is there none? If there is, the task is woken when one ends.
    pub(super) fn poll_none(&self, cx: &Context<'_>) -> bool {
        self.ended.register(cx.waker());
        self.count.load(Relaxed) == 0
    }
}

/// Serves one request.
pub(super) async fn serve<S: RequestStream>(
    mut request: Parts,
    client: StreamClient<S>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    elsewhere: Arc<Elsewhere>,
) {
    let began = Began::now();
    let mut admitted = match connection.admit_stream(&request, S::VERSION) {
        Ok(admitted) => admitted,
        Err(refusal) => return Box::pin(refuse(request, client, &connection, &shared, refusal, began)).await,
    };
    if client.is_ended() && admitted.body == BodyFraming::Stream {
        // Its head was the end of the stream.
        admitted.body = BodyFraming::None;
    }
    let exchange = Exchange::new(connection, admitted, began, shared.store.load(), shared.observer.clone());
    // Boxed: it is large, and is handed on from here to there.
    let mut exchange = Box::new(exchange);
    let mut decision = exchange.decide(&mut request).await;
    let direct = shared.driver == DriverChoice::Auto && lane::takes(&exchange, &request, &mut decision);
    if direct {
        let arrival = lane::Arrival { client, exchange, request, spelling: Spelling::default() };
        if let Some(mut client) = lane::serve(arrival, decision, &shared.pool).await {
            client.arrive().await;
        }
        return;
    }
    let (away, served_by) = (Away::new(&elsewhere), shared.clone());
    shared.spawn(async move {
        let _away = away;
        by_pingora(exchange, request, client.into_stream(), decision, &served_by).await;
    });
}

/// Has Pingora serve a request.
async fn by_pingora<S: RequestStream>(
    exchange: Box<Exchange>,
    mut request: Parts,
    stream: S,
    decision: Decision,
    shared: &Shared,
) {
    // What Pingora does for the one is right for the other, which it does not know.
    request.version = http::Version::HTTP_2;
    let (pace, door, farewell) = (stream.pace().clone(), exchange.connection.door.clone(), stream.farewell());
    let session = ServerSession::new_custom(Box::new(StreamSession::new(request.clone().into(), stream)));
    let arrival = Arrival::stream(exchange, request, decision, pace);
    arrival.scope(shared.edge.process_new_http(session, door.closed())).await;
    let _ = timeout(ARRIVAL, farewell).await;
}

async fn refuse<S: RequestStream>(
    request: Parts,
    mut client: StreamClient<S>,
    connection: &Connection,
    shared: &Shared,
    refusal: Refusal,
    began: Began,
) {
    let has_body = request.method != Method::HEAD;
    let read = Glimpse::of_parts(&request, S::VERSION);
    let mut outcome = connection.refused(shared.store.load().generation, began, refusal, read);
    outcome.bytes_out = if has_body { refusal_length(refusal, &outcome.request_id) } else { 0 };
    shared.observer.finished(&outcome);
    client.refuse(refusal, &outcome.request_id, has_body).await;
    client.arrive().await;
}
