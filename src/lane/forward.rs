//! A request on its way to an endpoint, and to another one when that fails.

use std::sync::Arc;

use bytes::BytesMut;
use http::request::Parts;

use super::{
    Arrival,
    client::{After, Client, flush},
    head, own,
    pool::{Place, Pool},
    run::{Ended, Run, Upload},
};
use crate::{
    exchange::{Answer, Exchange},
    gate::Spelling,
    types::Stage,
    upstream::{Fault, tls_alert},
    wire::{self, Hindrance, Stream},
};

/// What became of a request that went to an endpoint.
pub(super) enum Forwarded {
    /// It is over.
    Over(After),
    /// A tunnel is open. What the endpoint has sent of it already.
    Tunnel(Stream, BytesMut),
}

/// Serves a request that goes to an endpoint.
pub(super) async fn forward<C: Client>(arrival: &mut Arrival<C>, pool: &Arc<Pool>) -> Forwarded {
    let Arrival { client, exchange, request, spelling } = arrival;
    let mut upload = Upload::new(client, exchange, request);
    match attempts(client, exchange, request, spelling, &mut upload, pool).await {
        Outcome::Over(after) => Forwarded::Over(after),
        Outcome::Tunnel(endpoint, first) => Forwarded::Tunnel(endpoint, first),
        Outcome::Failed { answer, reads_on } => {
            let after = Box::pin(fail(client, exchange, request, answer)).await;
            Forwarded::Over(if let (After::Close { .. }, false) = (after, reads_on) { After::Close { reads_on } } else { after })
        }
    }
}

/// What became of all attempts.
enum Outcome {
    /// The response was passed on.
    Over(After),
    /// A tunnel is open. What the endpoint has sent of it already.
    Tunnel(Stream, BytesMut),
    /// There is no response; this is to be told, if there is somebody to tell.
    Failed {
        answer: Option<Box<Answer>>,
        /// The client is still there, and may be sending.
        reads_on: bool,
    },
}

async fn attempts(
    client: &mut impl Client,
    exchange: &mut Exchange,
    request: &Parts,
    spelling: &Spelling,
    upload: &mut Upload,
    pool: &Arc<Pool>,
) -> Outcome {
    loop {
        match exchange.next_attempt(request).await {
            Ok(()) => {}
            // The verdict on the attempt before stands.
            Err(None) => return failed(exchange, true),
            Err(answer) => return Outcome::Failed { answer, reads_on: true },
        }
        let (place, mut endpoint) = match connect(exchange, pool).await {
            Ok(connected) => connected,
            Err((fault, words)) => {
                let again = exchange.failed(fault, upload.is_at_hand());
                if let Some(words) = words {
                    exchange.tls_failed(&words);
                }
                if again {
                    continue;
                }
                return failed(exchange, true);
            }
        };
        let mut head = BytesMut::with_capacity(1024);
        head::write_request(&mut head, request, exchange, spelling);
        match Run::new(client, &mut endpoint, exchange, upload, head).run().await {
            Ended::Answered { reusable, keep_alive } => {
                // One that has refused an upgrade may have been made ready for it.
                if reusable && !exchange.upgrades() {
                    let patience = exchange.upstream().and_then(|upstream| upstream.spec().connections.idle_timeout.limit());
                    pool.put(place, endpoint, patience);
                }
                return Outcome::Over(if keep_alive { After::Open } else { After::Close { reads_on: false } });
            }
            Ended::Tunnel(first) => return Outcome::Tunnel(endpoint, first),
            Ended::Again => {}
            Ended::Decided(answer) => return Outcome::Failed { answer: Some(answer), reads_on: true },
            Ended::Fault(fault, error) => {
                let again = exchange.failed(fault, upload.is_at_hand());
                // An endpoint that requires a certificate says so behind the handshake (TLS 1.3).
                if let Some(words) = error.as_ref().and_then(tls_alert) {
                    exchange.tls_failed(&words);
                }
                if !again {
                    // Of a client that broke off nothing more is read.
                    let broke_off = matches!(fault, Fault::ClientLeft | Fault::ClientNotReading | Fault::RequestBody(_));
                    return failed(exchange, !broke_off);
                }
            }
        }
    }
}

fn failed(exchange: &mut Exchange, reads_on: bool) -> Outcome {
    let answer = exchange.verdict.take().and_then(|verdict| exchange.conclude(verdict));
    Outcome::Failed { answer, reads_on }
}

/// A connection to the endpoint of the attempt: one that waits, or a new one.
async fn connect(exchange: &mut Exchange, pool: &Pool) -> Result<(Place, Stream), (Fault, Option<String>)> {
    let (Some(upstream), Some(attempt)) = (exchange.upstream().cloned(), &exchange.attempt) else {
        return Err((Fault::Internal, None));
    };
    let endpoint = attempt.guard.endpoint().clone();
    let (tls, digest) = upstream.request_tls().unzip();
    let place = Place::new(&endpoint, digest);
    if !attempt.anew
        && !exchange.upgrades()
        && let Some(stream) = pool.take(&place, attempt.started)
    {
        exchange.connected(true);
        return Ok((place, stream));
    }
    match Box::pin(wire::dial(endpoint.address(), tls, exchange.connect_patience())).await {
        Ok(stream) => {
            exchange.connected(false);
            Ok((place, stream))
        }
        Err(unconnected) => {
            let fault = match unconnected.hindrance {
                Hindrance::Timeout if exchange.is_late() => exchange.timeout(),
                hindrance => Fault::of_connecting(hindrance.cause()),
            };
            Err((fault, unconnected.tls))
        }
    }
}

/// Tells the client, as far as it still can be told.
async fn fail(client: &mut impl Client, exchange: &mut Exchange, request: &Parts, answer: Option<Box<Answer>>) -> After {
    let responded = exchange.stage() == Stage::Receiving;
    let Some(answer) = answer else {
        if !responded {
            exchange.outcome.status = 0;
        }
        return After::Cut;
    };
    let answer = exchange.settle(answer);
    if responded {
        // Truncation is never disguised: a close without the last chunk, or ahead of the length that was said.
        let _ = flush(client, Some(own::FAREWELL)).await;
        return After::Cut;
    }
    own::send(client, exchange, request, *answer, false).await
}
