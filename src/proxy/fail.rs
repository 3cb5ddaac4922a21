//! Failure: the one translation of Pingora's errors to a [`Fault`], and of its verdict to what Pingora does.

use std::io::{self, ErrorKind};

use pingora_core::{Error, ErrorSource, ErrorType::*};
use pingora_proxy::{FailToProxy, Session};

use super::{RequestCtx, at_hand, reply};
use crate::{
    exchange::Answer,
    gate::Refusal,
    types::{Cause, Who},
    upstream::{Fault, NOT_PROCESSED, find, tls_fault, unconnected},
};

/// An attempt failed before the request was sent.
pub(super) fn connecting(session: &Session, ctx: &mut RequestCtx, mut error: Box<Error>) -> Box<Error> {
    let fault = match connect_fault(&error) {
        Fault::ConnectTimeout if ctx.is_late() => ctx.timeout(),
        fault => fault,
    };
    let again = ctx.failed(fault, at_hand(session));
    note_tls(ctx, &error);
    error.set_retry(again);
    error
}

/// An attempt failed on an open connection.
pub(super) fn proxying(session: &Session, ctx: &mut RequestCtx, mut error: Box<Error>, reused: bool) -> Box<Error> {
    if std::mem::take(&mut ctx.retrying) {
        error.set_retry(true);
        return error;
    }
    // Pingora asks for this decision before anybody asks the error.
    error.retry.decide_reuse(reused);
    let passed = ctx.deadlines().take_passed();
    if ctx.decided.is_some() {
        error.set_retry(false);
        return error;
    }
    let fault = match (passed, error.esource()) {
        (Some(limit), _) => ctx.overdue(limit),
        (None, ErrorSource::Upstream) => endpoint_fault(session, ctx, &error),
        (None, _) => other_fault(ctx, &error),
    };
    let again = ctx.failed(fault, at_hand(session)) && !responded(session);
    note_tls(ctx, &error);
    if ctx.verdict.is_some_and(|verdict| verdict.who == Who::Upstream) {
        // A limit that passed looks like the client's failure.
        error.as_up();
    }
    error.set_retry(again);
    error
}

fn note_tls(ctx: &mut RequestCtx, error: &Error) {
    if let Some(words) = tls_fault(error) {
        ctx.tls_failed(&words);
    }
}

/// The final answer to a failure, if the client can still be answered.
pub(super) async fn answer(session: &mut Session, ctx: &mut RequestCtx, error: &Error) -> FailToProxy {
    // For what is still to be read of the request.
    ctx.deadlines().clear();
    if ctx.answered && *error.esource() == ErrorSource::Downstream && !matches!(error.etype(), WriteError | WriteTimedout) {
        // The answer was whole, and nobody needs the rest of the request: the connection closes, no more.
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    // Of a client that broke off nothing more is read.
    let breaks_off = *error.esource() == ErrorSource::Downstream
        && ctx.decided.is_none()
        && ctx.verdict.is_none_or(|verdict| verdict.who == Who::Client);
    let Some(answer) = ctx.decided.take().or_else(|| explain(ctx, error)) else {
        ctx.outcome.status = status_sent(session);
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let answer = ctx.settle(answer);
    let status = answer.reply.status.as_u16();
    // Pingora ends the connection after a failure, whatever is returned below: so the answer says it, lest the client
    // sends its next request into the void.
    session.set_keepalive(None);
    if responded(session) {
        // Truncation is never disguised: a reset on HTTP/2, a close without the final chunk on HTTP/1.
        ctx.outcome.status = status_sent(session);
        ctx.cut();
        session.as_downstream_mut().shutdown().await;
    } else {
        let sent = reply::send(session, ctx, *answer).await;
        if sent.is_ok() && !breaks_off {
            take_in(session, ctx).await;
        }
    }
    FailToProxy { error_code: status, can_reuse_downstream: false }
}

/// Reads what an HTTP/1 client still sends, within the drain timeout: closing on unread bytes would reset the
/// connection and may destroy the answer on its way (RFC 9112 section 9.6).
async fn take_in(session: &mut Session, ctx: &RequestCtx) {
    if ctx.admitted.http.is_http1() && !ctx.admitted.expect_continue {
        let _ = session.as_downstream_mut().drain_request_body().await;
    }
}

/// What an error that nobody decided on means. `None` when there is nobody to answer, which the outcome then tells.
fn explain(ctx: &mut RequestCtx, error: &Error) -> Option<Box<Answer>> {
    let verdict = ctx.verdict.take().filter(|verdict| verdict.who != Who::Upstream || *error.esource() == ErrorSource::Upstream);
    let verdict = verdict.unwrap_or_else(|| {
        let fault = match error.esource() {
            ErrorSource::Upstream => late_fault(ctx, error),
            _ => other_fault(ctx, error),
        };
        fault.judge(ctx.stage())
    });
    if verdict.cause == Cause::ProxyInternalError {
        log::error!("request {} failed inside: {error}", ctx.outcome.request_id);
    }
    ctx.conclude(verdict)
}

/// Was the head of a final response sent? One that opens a tunnel is final: what follows is not HTTP.
pub(super) fn responded(session: &Session) -> bool {
    status_sent(session) != 0
}

fn status_sent(session: &Session) -> u16 {
    let status = session.response_written().map_or(0, |response| response.status.as_u16());
    if matches!(status, 100 | 102..200) { 0 } else { status }
}

/// The fault of a client, or of ours.
fn other_fault(ctx: &RequestCtx, error: &Error) -> Fault {
    if let Some(refusal) = ctx.link.as_ref().and_then(|link| link.refusal()) {
        return Fault::RequestBody(refusal);
    }
    if let Some(refusal) = find::<Refusal>(error) {
        return Fault::RequestBody(*refusal);
    }
    match (error.esource(), error.etype()) {
        // Pingora does not say whose it is when the last flush of a response fails. To endpoints it says.
        (ErrorSource::Downstream | ErrorSource::Unset, WriteError) if io_kind(error) == Some(ErrorKind::TimedOut) => {
            Fault::ClientNotReading
        }
        (ErrorSource::Downstream | ErrorSource::Unset, WriteError) => Fault::ClientLeft,
        (ErrorSource::Downstream, WriteTimedout) => Fault::ClientNotReading,
        // Nothing more was read, since the endpoint took nothing more.
        (ErrorSource::Downstream, ReadTimedout) if ctx.pace.upload.is_blocked() => Fault::NotReading,
        (ErrorSource::Downstream, ReadTimedout) => Fault::RequestBody(Refusal::BodyTimeout),
        (ErrorSource::Downstream, ReadError | ConnectionClosed | ConnectError | H2Error) => Fault::ClientLeft,
        (ErrorSource::Downstream, _) => Fault::RequestBody(Refusal::IncompleteHead),
        (ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset, _) => Fault::Internal,
    }
}

/// Why connecting failed.
fn connect_fault(error: &Error) -> Fault {
    match (unconnected(error), error.etype()) {
        (Some(unconnected), _) => Fault::of_connecting(unconnected.hindrance.cause()),
        // The beginning of HTTP/2 on a connection that is there.
        (None, HandshakeError) => Fault::TlsHandshake,
        (None, ConnectionClosed | ReadError | WriteError) => Fault::Closed,
        (None, _) => Fault::Refused,
    }
}

/// Why an exchange on an open connection failed.
fn endpoint_fault(session: &Session, ctx: &RequestCtx, error: &Error) -> Fault {
    match late_fault(ctx, error) {
        Fault::Closed if is_closed(error) => ctx.closed(at_hand(session)),
        fault => fault,
    }
}

fn late_fault(ctx: &RequestCtx, error: &Error) -> Fault {
    match error.etype() {
        // A limit of the whole is in all of Pingora's timeouts.
        ReadTimedout | WriteTimedout if ctx.is_late() => ctx.timeout(),
        ReadTimedout => Fault::Silent,
        WriteTimedout => Fault::NotReading,
        InvalidHTTPHeader | H1Error | InvalidH2 => Fault::NotHttp,
        ReadError if io_kind(error) == Some(ErrorKind::InvalidData) => Fault::NotHttp,
        etype if *etype == NOT_PROCESSED => Fault::NotProcessed,
        ConnectionClosed | ReadError | WriteError | H2Error => Fault::Closed,
        ConnectTimedout | TLSHandshakeTimedout | ConnectRefused | ConnectNoRoute | ConnectError | InvalidCert
        | TLSHandshakeFailure | HandshakeError => connect_fault(error),
        _ => Fault::NotHttp,
    }
}

/// Did the endpoint close the connection, by whatever sign?
fn is_closed(error: &Error) -> bool {
    matches!(error.etype(), ConnectionClosed)
        || matches!(
            io_kind(error),
            Some(
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::NotConnected
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::WriteZero
            )
        )
}

fn io_kind(error: &Error) -> Option<ErrorKind> {
    let of_h2 = || find::<h2::Error>(error).and_then(h2::Error::get_io);
    find::<io::Error>(error).or_else(of_h2).map(io::Error::kind)
}
