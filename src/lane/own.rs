//! Answers of Weir's own, and the end of a connection.

use std::{io, time::Duration};

use http::{header, request::Parts};
use tokio::time::Instant;

use super::{body::framed, client::Client, head, run::Upload};
use crate::{
    cache::Body,
    exchange::{Answer, DRAIN, Exchange, Framing, Fresh, Own, Plan},
    gate::{
        Spelling,
        response::{ResponseFraming, has_body},
    },
    types::{BodyStream, give_back},
    upstream::Fault,
};

/// How long what was sent so far of a response that is cut may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long, and how much, a client may go on to send on a connection that is over.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Answers a request of which nothing was forwarded.
pub(super) async fn answer(mut client: Client, mut exchange: Box<Exchange>, request: Parts, answer: Answer) -> Option<Client> {
    let mut upload = Upload::new(&exchange, &request);
    let after = send(&mut client, &mut exchange, &request, answer, &upload, true).await;
    exchange.finish();
    drop(exchange);
    give_back(request.headers);
    go_on(client, &mut upload, after).await
}

/// Answers a request with a stored response.
pub(super) async fn stored(mut client: Client, mut exchange: Box<Exchange>, request: Parts, fresh: Fresh) -> Option<Client> {
    let mut upload = Upload::new(&exchange, &request);
    let (status, mut fields, body) = (fresh.entry.head.status, fresh.fields(), &fresh.entry.body);
    exchange.outcome.cache = Some("hit");
    let framing = match (has_body(&exchange.outcome.method, status.as_u16()), fields.contains_key(header::CONTENT_LENGTH)) {
        (false, _) => ResponseFraming::None,
        (true, true) => ResponseFraming::Length(body.length()),
        (true, false) => ResponseFraming::Chunked,
    };
    let plan = exchange.respond(status, &mut fields, framing, true);
    client.ends_with_connection = plan.framing == Framing::UntilEnd;
    head::write_response(client.queue(), status, &fields, &Spelling::default(), &plan, exchange.admitted.http);
    give_back(fields);
    let after = match send_stored(&mut client, &mut exchange, body, plan).await {
        Ok(true) if plan.keep_alive => After::Open,
        Ok(true) => After::Close { reads_on: false },
        Ok(false) => After::Cut,
        Err(error) => {
            let _ = exchange.conclude(unsent(&error).judge(exchange.stage()));
            After::Cut
        }
    };
    count(&client, &mut exchange);
    exchange.finish();
    drop(exchange);
    give_back(request.headers);
    go_on(client, &mut upload, after).await
}

/// Sends the pieces of a stored body. False when it is cut.
async fn send_stored(client: &mut Client, exchange: &mut Exchange, body: &Body, plan: Plan) -> io::Result<bool> {
    let patience = exchange.connection.listener.http.body_idle_timeout.limit();
    if plan.framing == Framing::None {
        client.send(&[], patience).await?;
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
            client.send(&[], Some(FAREWELL)).await?;
            return Ok(false);
        }
        send_piece(client, &piece, end, plan, patience).await?;
        if end {
            return Ok(true);
        }
    }
}

/// Sends one piece, framed by the plan.
async fn send_piece(client: &mut Client, piece: &[u8], end: bool, plan: Plan, patience: Option<Duration>) -> io::Result<()> {
    if !end && piece.is_empty() {
        return Ok(());
    }
    let mut space = [0; 18];
    client.send(&framed(plan.framing == Framing::Chunked, piece, end, &mut space), patience).await
}

/// Sends an answer. May the connection go on behind it? It may not where `may` is false. What went wrong is in the outcome.
pub(super) async fn send(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Parts,
    answer: Answer,
    upload: &Upload,
    may: bool,
) -> After {
    let Ok(Own { status, fields, body, stream, mut plan }) = exchange.own(answer, request) else { return After::Cut };
    // A client that waits to be told to send its body never will.
    plan.keep_alive &= may && (upload.body.is_done() || exchange.sends_its_body());
    client.ends_with_connection = plan.framing == Framing::UntilEnd;
    head::write_response(client.queue(), status, &fields, &Spelling::default(), &plan, exchange.admitted.http);
    let patience = exchange.connection.listener.http.body_idle_timeout.limit();
    let sent = match stream {
        None => client.send(&[&body], patience).await,
        Some(stream) => match pour(client, exchange, stream, plan, patience).await {
            Ok(true) => Ok(()),
            Ok(false) => return After::Cut,
            Err(error) => Err(error),
        },
    };
    count(client, exchange);
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
pub(super) fn count(client: &Client, exchange: &mut Exchange) {
    exchange.outcome.bytes_in = exchange.body_in;
    exchange.outcome.bytes_out = exchange.body_out.saturating_sub(client.unsent() as u64);
}

/// What becomes of a client's connection behind a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Another request may follow.
    Open,
    /// It closes in order.
    Close {
        /// The client still sends its body, which is taken in so that a reset does not destroy the answer.
        reads_on: bool,
    },
    /// It ends as it is: what was sent is not whole.
    Cut,
}

/// A client that takes nothing has failed in another way than one that has left.
pub(super) fn unsent(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::TimedOut { Fault::ClientNotReading } else { Fault::ClientLeft }
}

/// Sends a body as it is read. False when it cannot be read to its end.
async fn pour(
    client: &mut Client,
    exchange: &mut Exchange,
    mut stream: BodyStream,
    plan: Plan,
    patience: Option<Duration>,
) -> io::Result<bool> {
    let mut left = stream.length;
    while let Ok((mut piece, end)) = exchange.next_own(&mut stream).await {
        if exchange.own_piece(&mut piece, &mut left, end).is_err() {
            return Ok(false);
        }
        send_piece(client, &piece, end, plan, patience).await?;
        if end {
            return Ok(true);
        }
    }
    // What was queued tells that there was an answer.
    client.send(&[], Some(FAREWELL)).await?;
    Ok(false)
}

/// Makes the connection ready for its next request, or ends it.
pub(super) async fn go_on(mut client: Client, upload: &mut Upload, after: After) -> Option<Client> {
    let drained = match after {
        After::Cut => {
            if client.ends_with_connection {
                client.break_off();
            }
            return None;
        }
        After::Open => drain(&mut client, upload).await,
        After::Close { reads_on } => {
            if reads_on {
                drain(&mut client, upload).await;
            }
            false
        }
    };
    if drained {
        return Some(client);
    }
    if upload.body.is_done() && client.ahead().is_empty() {
        // Nothing is unread, so that an ordinary end destroys nothing.
        let _ = tokio::time::timeout(LINGER, client.shutdown()).await;
    } else {
        client.close().await;
    }
    None
}

/// Reads the rest of the request's body. False when it does not come to its end in time.
async fn drain(client: &mut Client, upload: &mut Upload) -> bool {
    let deadline = Instant::now() + DRAIN;
    loop {
        while !client.ahead().is_empty() && !upload.body.is_done() {
            let Ok(decoded) = upload.body.decode(client.ahead()) else { return false };
            client.used(decoded.used);
        }
        if upload.body.is_done() {
            return true;
        }
        match client.fill(deadline).await {
            Some(Ok(1..)) => {}
            _ => return false,
        }
    }
}

impl Client {
    /// Closes our side and takes in what the client still sends, bounded in time and bytes: closing with unread bytes would reset the
    /// connection and could destroy the answer on its way (RFC 9112 section 9.6).
    pub async fn close(mut self) {
        let deadline = Instant::now() + LINGER;
        let closed = tokio::time::timeout(LINGER, self.shutdown()).await;
        if !matches!(closed, Ok(Ok(()))) {
            return;
        }
        let mut seen = 0;
        while seen < LINGER_BYTES {
            let ahead = self.ahead().len();
            self.used(ahead);
            match self.fill(deadline).await {
                Some(Ok(read @ 1..)) => seen += read,
                _ => return,
            }
        }
    }
}
