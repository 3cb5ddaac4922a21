//! Answers of Weir's own.

use std::{io, time::Duration};

use http::{HeaderMap, StatusCode, header, request::Parts};

use super::{
    Arrival,
    client::{self, After, Client, Piece, flush},
};
use crate::{
    cache::Body,
    exchange::{Answer, Exchange, Framing, Fresh, Own, Plan},
    gate::{
        Spelling,
        response::{ResponseFraming, has_body},
    },
    types::BodyStream,
    upstream::Fault,
};

/// How long what was sent so far of a response that is cut may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Answers a request of which nothing was forwarded.
pub(super) async fn answer<C: Client>(arrival: &mut Arrival<C>, answer: Answer) -> After {
    let Arrival { client, exchange, request, .. } = arrival;
    send(client, exchange, request, answer, true).await
}

/// Answers a request with a stored response.
pub(super) async fn stored<C: Client>(arrival: &mut Arrival<C>, fresh: Fresh) -> After {
    let Arrival { client, exchange, .. } = arrival;
    let (status, mut fields, body) = (fresh.entry.head.status, fresh.fields(), &fresh.entry.body);
    exchange.outcome.cache = Some("hit");
    let framing = match (has_body(&exchange.outcome.method, status.as_u16()), fields.contains_key(header::CONTENT_LENGTH)) {
        (false, _) => ResponseFraming::None,
        (true, true) => ResponseFraming::Length(body.length()),
        (true, false) => ResponseFraming::Chunked,
    };
    let plan = exchange.respond(status, &mut fields, framing, true);
    match send_stored(client, exchange, status, fields, body, &plan).await {
        Ok(true) if plan.keep_alive => After::Open,
        Ok(true) => After::Close { reads_on: false },
        Ok(false) => After::Cut,
        Err(error) => {
            let _ = exchange.conclude(unsent(&error).judge(exchange.stage()));
            After::Cut
        }
    }
}

/// Sends a stored response. False when it is cut.
async fn send_stored(
    client: &mut impl Client,
    exchange: &mut Exchange,
    status: StatusCode,
    fields: HeaderMap,
    body: &Body,
    plan: &Plan,
) -> io::Result<bool> {
    client.head(status, fields, &Spelling::default(), plan, exchange.admitted.http)?;
    let patience = exchange.connection.listener.http.body_idle_timeout.limit();
    if plan.framing == Framing::None {
        flush(client, patience).await?;
        return Ok(true);
    }
    let (mut at, length) = (0, body.length());
    loop {
        let mut piece = body.piece(at, length).unwrap_or_default();
        at += piece.len() as u64;
        let end = at >= length || piece.is_empty();
        if let Err(answer) = exchange.response_piece(&mut piece, end) {
            // What it would have answered is for the log alone.
            exchange.settle(answer);
            flush(client, Some(FAREWELL)).await?;
            return Ok(false);
        }
        client::send(client, Piece::Held(&piece), end, plan, patience).await?;
        if end {
            return Ok(true);
        }
    }
}

/// Sends an answer. May the connection go on behind it? It may not where `may` is false. What went wrong is in the outcome.
pub(super) async fn send(client: &mut impl Client, exchange: &mut Exchange, request: &Parts, answer: Answer, may: bool) -> After {
    let Ok(Own { status, fields, body, stream, mut plan }) = exchange.own(answer, request) else { return After::Cut };
    // A client that waits to be told to send its body never will.
    plan.keep_alive &= may && (client.is_read() || exchange.sends_its_body());
    let patience = exchange.connection.listener.http.body_idle_timeout.limit();
    let sent = match (client.head(status, fields, &Spelling::default(), &plan, exchange.admitted.http), stream) {
        (Err(error), _) => Err(error),
        (Ok(()), None) => client::send(client, Piece::Held(&body), true, &plan, patience).await,
        (Ok(()), Some(stream)) => match pour(client, exchange, stream, &plan, patience).await {
            Ok(true) => Ok(()),
            Ok(false) => return After::Cut,
            Err(error) => Err(error),
        },
    };
    match sent {
        Ok(()) if plan.keep_alive => After::Open,
        Ok(()) => After::Close { reads_on: exchange.sends_its_body() },
        Err(error) => {
            let _ = exchange.conclude(unsent(&error).judge(exchange.stage()));
            After::Cut
        }
    }
}

/// Tells the log how many bytes of both bodies went: of the response's, all that the client's side has taken.
pub(super) fn count(client: &impl Client, exchange: &mut Exchange) {
    exchange.outcome.bytes_in = exchange.body_in;
    exchange.outcome.bytes_out = exchange.body_out.saturating_sub(client.waiting() as u64);
}

/// A client that takes nothing has failed in another way than one that has left.
pub(super) fn unsent(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::TimedOut { Fault::ClientNotReading } else { Fault::ClientLeft }
}

/// Sends a body as it is read. False when it cannot be read to its end.
async fn pour(
    client: &mut impl Client,
    exchange: &mut Exchange,
    mut stream: BodyStream,
    plan: &Plan,
    patience: Option<Duration>,
) -> io::Result<bool> {
    let mut left = stream.length;
    while let Ok((mut piece, end)) = exchange.next_own(&mut stream).await {
        if exchange.own_piece(&mut piece, &mut left, end).is_err() {
            return Ok(false);
        }
        client::send(client, Piece::Held(&piece), end, plan, patience).await?;
        if end {
            return Ok(true);
        }
    }
    // What was queued tells that there was an answer.
    flush(client, Some(FAREWELL)).await?;
    Ok(false)
}
