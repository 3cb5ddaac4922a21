//! Failure, in one place: from Pingora's error to a cause, a retry verdict, a status, a log word.

use pingora_core::{
    Error, ErrorSource,
    ErrorType::{self, *},
};
use pingora_proxy::{FailToProxy, Session};

use super::{RequestCtx, ctx::Decided, reply, retry, tls_fault};
use crate::{
    gate::Refusal,
    resilience::Failure,
    types::{Cause, Phase, Reply, Who},
};

/// An attempt failed before the request was sent.
pub(super) fn connecting(session: &Session, ctx: &mut RequestCtx, mut error: Box<Error>) -> Box<Error> {
    let cause = connect_cause(&error);
    ctx.record_attempt(None, Some(cause));
    tls_fault::note(ctx, &error);
    error.set_retry(retry::another(session, ctx, Failure::Unconnected, Some(cause)));
    error
}

/// An attempt failed on an open connection.
pub(super) fn proxying(session: &mut Session, ctx: &mut RequestCtx, mut error: Box<Error>, reused: bool) -> Box<Error> {
    if std::mem::take(&mut ctx.onward.retrying) {
        error.set_retry(true);
        return error;
    }
    let overdue = ctx.arrival.link.as_ref().is_some_and(|link| link.take_overdue());
    if ctx.decided.is_some() || !(overdue || *error.esource() == ErrorSource::Upstream) {
        error.set_retry(false);
        return error;
    }
    let cause = if overdue { Cause::HttpResponseTimeout } else { upstream_cause(&error, ctx.outcome.phase) };
    let answered = ctx.onward.attempt.as_ref().is_some_and(|attempt| attempt.recorded);
    error.retry.decide_reuse(reused);
    let open = !answered && !responded(session);
    let stale = open && stale(session, ctx, &error);
    ctx.record_attempt(None, Some(cause));
    tls_fault::note(ctx, &error);
    let again = stale || (open && again(session, ctx, cause));
    if overdue && !again {
        // It looks like the client's failure, and is the endpoint's.
        ctx.decided = Some(Decided { reply: Reply::status(cause.status()), cause, reason: None, who: Who::Upstream });
    }
    error.set_retry(again);
    error
}

/// A pooled connection may have been closed by the endpoint just as it was taken: that is no failure of the
/// endpoint, and it is forgiven once, whatever the policy, when nothing can happen twice.
fn stale(session: &Session, ctx: &mut RequestCtx, error: &Error) -> bool {
    let replayable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    // Pingora says so of errors before the first byte of a response, on connections that were reused.
    if !error.retry() || !replayable || ctx.onward.stale {
        return false;
    }
    (ctx.onward.stale, ctx.onward.forgiven) = (true, true);
    if let Some(attempt) = &mut ctx.onward.attempt {
        attempt.blameless = true;
    }
    ctx.onward.tries = ctx.onward.tries.saturating_sub(1);
    true
}

fn again(session: &Session, ctx: &RequestCtx, cause: Cause) -> bool {
    let failure = match cause {
        Cause::HttpResponseTimeout | Cause::ConnectionWriteTimeout => Failure::Timeout,
        Cause::HttpProtocolError => Failure::Malformed,
        _ => Failure::Reset,
    };
    retry::another(session, ctx, failure, Some(cause))
}

/// The final answer to a failure, if the client can still be answered.
pub(super) async fn answer(session: &mut Session, ctx: &mut RequestCtx, error: &Error) -> FailToProxy {
    if let Some(link) = &ctx.arrival.link {
        // For what is still to be read of the request.
        link.set_deadline(None);
    }
    if ctx.answered && *error.esource() == ErrorSource::Downstream && !matches!(error.etype(), WriteError | WriteTimedout) {
        // The answer was whole, and nobody needs the rest of the request: the connection closes, no more.
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    let clients = *error.esource() == ErrorSource::Downstream && ctx.decided.is_none();
    let decided = match ctx.decided.take() {
        Some(decided) => Some(decided),
        None => explain(ctx, error),
    };
    let Some(Decided { reply, cause, reason, who }) = decided else {
        // The client is gone: there is nobody to answer. What was decided on before that stands.
        if ctx.outcome.cause.is_none() {
            ctx.outcome.who = Who::Client;
            ctx.outcome.cause = Some(Cause::ConnectionTerminated);
            ctx.outcome.reason = Some("client_gone");
        }
        ctx.outcome.status = status_sent(session);
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let reply = fallback(ctx, cause, who).unwrap_or(reply);
    ctx.outcome.cause = Some(cause);
    ctx.outcome.reason = reason;
    ctx.outcome.who = who;
    let status = reply.status.as_u16();
    // Pingora ends the connection after a failure, whatever is returned below: so the answer says it, lest the client
    // sends its next request into the void.
    session.set_keepalive(None);
    if responded(session) {
        // Truncation is never disguised: a reset on HTTP/2, a close without the final chunk on HTTP/1.
        ctx.outcome.status = status_sent(session);
        session.as_downstream_mut().shutdown().await;
    } else {
        ctx.outcome.status = status;
        let sent = reply::send(session, ctx, reply, None).await;
        if sent.is_ok() && !clients {
            take_in(session, ctx).await;
        }
    }
    FailToProxy { error_code: status, can_reuse_downstream: false }
}

/// What the route answers when no endpoint has. The log and the metrics still tell why.
fn fallback(ctx: &RequestCtx, cause: Cause, who: Who) -> Option<Reply> {
    let upstreams_fault = who != Who::Client && matches!(cause.status(), 502..=504);
    ctx.route.as_ref()?.fallback.clone().filter(|_| upstreams_fault)
}

/// Reads what an HTTP/1 client still sends, within the drain timeout: closing on unread bytes would reset the
/// connection and may destroy the answer on its way (RFC 9112 section 9.6).
async fn take_in(session: &mut Session, ctx: &RequestCtx) {
    if ctx.arrival.admitted.http != "2" && !ctx.arrival.admitted.expect_continue {
        let _ = session.as_downstream_mut().drain_request_body().await;
    }
}

/// What an error that nobody decided on means. `None` when the client is gone.
fn explain(ctx: &RequestCtx, error: &Error) -> Option<Decided> {
    if let Some(refusal) = ctx.arrival.link.as_ref().and_then(|link| link.refusal()) {
        return Some(refused(refusal));
    }
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ReadTimedout => Some(refused(Refusal::BodyTimeout)),
            WriteTimedout | ReadError | WriteError | ConnectionClosed | ConnectError | H2Error => None,
            _ => Some(refused(Refusal::IncompleteHead)),
        },
        ErrorSource::Upstream => {
            let cause = ctx
                .outcome
                .attempts
                .last()
                .and_then(|attempt| attempt.failed)
                .unwrap_or_else(|| upstream_cause(error, ctx.outcome.phase));
            Some(Decided { reply: Reply::status(cause.status()), cause, reason: None, who: Who::Upstream })
        }
        // Pingora does not say whose it is when the last flush of a response fails. To endpoints it says.
        ErrorSource::Unset if *error.etype() == WriteError => None,
        ErrorSource::Internal | ErrorSource::Unset => {
            log::error!("request {} failed inside: {error}", ctx.outcome.request_id);
            let cause = Cause::ProxyInternalError;
            Some(Decided { reply: Reply::status(cause.status()), cause, reason: None, who: Who::Weir })
        }
    }
}

fn refused(refusal: Refusal) -> Decided {
    Decided { reply: Reply::status(refusal.status()), cause: refusal.cause(), reason: Some(refusal.reason()), who: Who::Client }
}

/// Was the head of a final response sent? One that opens a tunnel is final: what follows is not HTTP.
pub(super) fn responded(session: &Session) -> bool {
    status_sent(session) != 0
}

fn status_sent(session: &Session) -> u16 {
    let status = session.response_written().map_or(0, |response| response.status.as_u16());
    if matches!(status, 100 | 102..200) { 0 } else { status }
}

/// Why connecting failed.
fn connect_cause(error: &Error) -> Cause {
    match error.etype() {
        ConnectTimedout | TLSHandshakeTimedout => Cause::ConnectionTimeout,
        ConnectRefused => Cause::ConnectionRefused,
        ConnectNoRoute => Cause::DestinationIpUnroutable,
        InvalidCert => Cause::TlsCertificateError,
        TLSHandshakeFailure | HandshakeError | TLSWantX509Lookup => tls_cause(error),
        ConnectionClosed | ReadError | WriteError => Cause::ConnectionTerminated,
        _ => Cause::ConnectionRefused,
    }
}

/// rustls says within one error type whether the certificate was at fault.
fn tls_cause(error: &Error) -> Cause {
    if error.to_string().to_ascii_lowercase().contains("certificate") {
        Cause::TlsCertificateError
    } else {
        Cause::TlsProtocolError
    }
}

/// Why an exchange on an open connection failed.
fn upstream_cause(error: &Error, phase: Phase) -> Cause {
    match error.etype() {
        ReadTimedout if phase < Phase::Response => Cause::HttpResponseTimeout,
        ReadTimedout => Cause::ConnectionReadTimeout,
        WriteTimedout => Cause::ConnectionWriteTimeout,
        InvalidHTTPHeader | H1Error | InvalidH2 => Cause::HttpProtocolError,
        ConnectionClosed | ReadError | WriteError | H2Error if phase < Phase::Response => Cause::ConnectionTerminated,
        ConnectionClosed | ReadError | WriteError | H2Error => Cause::HttpResponseIncomplete,
        other => other_cause(other),
    }
}

fn other_cause(error: &ErrorType) -> Cause {
    match error {
        ConnectTimedout | TLSHandshakeTimedout => Cause::ConnectionTimeout,
        ConnectRefused | ConnectError => Cause::ConnectionRefused,
        TLSHandshakeFailure | HandshakeError => Cause::TlsProtocolError,
        InvalidCert => Cause::TlsCertificateError,
        _ => Cause::HttpProtocolError,
    }
}
