//! Responses that Weir makes itself: short, typed, never cached by accident, no internal address in them.

use std::io::ErrorKind;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    RequestCtx,
    filters::{self, Origin},
    respond, told,
};
use crate::{
    filter::BodyWish,
    gate::Refusal,
    types::{BodyStream, Cause, Reply},
};

/// The forms of a standard answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Html,
}

impl Form {
    /// JSON for clients that ask for JSON, HTML for browsers, text for the rest.
    fn for_accept(accept: &[u8]) -> Self {
        let accept = String::from_utf8_lossy(accept);
        let offers = |kind: &str| accept.split(',').any(|part| part.trim().starts_with(kind));
        if offers("text/html") {
            Form::Html
        } else if offers("application/json") || accept.contains("+json") {
            Form::Json
        } else {
            Form::Text
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; charset=utf-8",
            Form::Json => "application/json",
            Form::Html => "text/html; charset=utf-8",
        }
    }
}

/// The short standard text for a status. The request id is the one thing that helps both sides.
fn standard_body(status: StatusCode, request_id: &str, form: Form) -> String {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    match form {
        Form::Text => format!("{code} {reason}\nrequest {request_id}\n"),
        // Neither holds anything that a client sent: ids are ours, or checked to be plain.
        Form::Json => serde_json::json!({"status": code, "error": reason, "request_id": request_id}).to_string() + "\n",
        Form::Html => format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
             <title>{code} {reason}</title><style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32rem;padding:0 1rem}}\
             small{{opacity:.6}}</style><h1>{code} {reason}</h1><p><small>request {}</small></p></html>\n",
            escape(request_id)
        ),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Sends a reply through the response filters of the request's listener and route. An error is that of the client, which went away
/// or takes nothing: its connection is of no more use.
pub(super) async fn send(
    session: &mut Session,
    ctx: &mut RequestCtx,
    reply: Reply,
    stream: Option<BodyStream>,
) -> pingora_core::Result<()> {
    let request = session.req_header();
    let accept = request.headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    let measured = stream.as_ref().map(|stream| stream.length);
    let standard = stream.is_none() && reply.body.is_none() && (reply.status.is_client_error() || reply.status.is_server_error());
    let Some((mut response, mut body)) = build(reply, &ctx.outcome.request_id, Form::for_accept(accept), measured) else {
        return Ok(());
    };
    let wish = filters::response(request.method.as_str(), &mut response, Origin::Weir { standard }, ctx);
    let bodiless = request.method == Method::HEAD || matches!(response.status.as_u16(), 204 | 304);
    let whole = stream.is_none();
    if whole && wish != BodyWish::Nothing && !bodiless {
        let passed = ctx.filters.response_body(&mut body, true);
        if let Err(reason) = passed {
            (ctx.outcome.cause, ctx.outcome.reason) = (Some(Cause::ProxyInternalError), Some(reason));
            session.as_downstream_mut().shutdown().await;
            return Ok(());
        }
        response.insert_header(header::CONTENT_LENGTH, body.len())?;
    } else if measured == Some(None) || wish == BodyWish::Replace {
        respond::unmeasured(session, &mut response)?;
    }
    told::tell(&mut response, ctx);
    if !ctx.arrival.connection.stays_open() {
        session.as_downstream_mut().set_keepalive(None);
    }
    let sent = match stream {
        Some(stream) if !bodiless => pour(session, ctx, response, stream).await,
        _ => {
            let bodiless = bodiless || body.is_empty();
            write(session.as_downstream_mut(), response, body, bodiless).await
        }
    };
    sent.map_err(|error| error.into_down())
}

/// Sends a body as it is read. What cannot be read to its end is cut, visibly: a reset on HTTP/2, a close on HTTP/1.
async fn pour(
    session: &mut Session,
    ctx: &mut RequestCtx,
    response: ResponseHeader,
    mut stream: BodyStream,
) -> pingora_core::Result<()> {
    session.as_downstream_mut().write_response_header(Box::new(response)).await?;
    let mut left = stream.length;
    let failed = loop {
        let next = match ctx.time_left() {
            None => stream.next().await,
            Some(time) => tokio::time::timeout(time, stream.next()).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        };
        let (mut piece, end) = match next {
            Ok(Some(piece)) => (piece, false),
            Ok(None) => (Bytes::new(), true),
            Err(error) if error.kind() == ErrorKind::TimedOut => break "timeout",
            Err(error) => {
                log::warn!("request {}: the body of its answer cannot be read to its end: {error}", ctx.outcome.request_id);
                break "body_unreadable";
            }
        };
        if let Some(left) = &mut left {
            match left.checked_sub(piece.len() as u64) {
                Some(rest) if rest == 0 || !end => *left = rest,
                _ => break "body_unreadable",
            }
        }
        if let Err(reason) = ctx.filters.response_body(&mut piece, end) {
            break reason;
        }
        ctx.body_out += piece.len() as u64;
        ctx.arrival.pace.window.passed(piece.len());
        let downstream = session.as_downstream_mut();
        match (end, piece.is_empty()) {
            (false, true) => {}
            (false, false) => downstream.write_response_body(piece, false).await?,
            (true, true) => return downstream.finish_body().await,
            (true, false) => return downstream.write_response_body(piece, true).await,
        }
    };
    ctx.outcome.cause = Some(Cause::HttpResponseIncomplete);
    ctx.outcome.reason = Some(failed);
    session.set_keepalive(None);
    session.as_downstream_mut().shutdown().await;
    Ok(())
}

async fn write(session: &mut ServerSession, response: ResponseHeader, body: Bytes, bodiless: bool) -> pingora_core::Result<()> {
    session.write_response_header(Box::new(response)).await?;
    if bodiless { session.finish_body().await } else { session.write_response_body(body, true).await }
}

/// The head and the body of a reply. `stream` is the length of a body that comes from elsewhere, as far as it is known.
fn build(reply: Reply, request_id: &str, form: Form, stream: Option<Option<u64>>) -> Option<(ResponseHeader, Bytes)> {
    let status = reply.status;
    let mut response = ResponseHeader::build(status, Some(reply.headers.len() + 4)).ok()?;
    let body = match reply.body {
        _ if stream.is_some() => Bytes::new(),
        Some(body) => body,
        None if status.is_client_error() || status.is_server_error() => {
            response.insert_header(header::CONTENT_TYPE, form.content_type()).ok()?;
            standard_body(status, request_id, form).into()
        }
        None => Bytes::new(),
    };
    if status.is_client_error() || status.is_server_error() {
        response.insert_header(header::CACHE_CONTROL, "no-store").ok()?;
    }
    for (name, value) in reply.headers {
        response.append_header(name, value).ok()?;
    }
    // RFC 9110 section 8.6: not with 204, and with 304 it would speak of the body that a 200 had.
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && let Some(length) = stream.unwrap_or(Some(body.len() as u64))
    {
        response.insert_header(header::CONTENT_LENGTH, length).ok()?;
    }
    Some((response, body))
}

/// The bytes that answer an HTTP/1 request which the gate refused; the connection closes behind them.
pub fn render_refusal(refusal: Refusal, request_id: &str) -> BytesMut {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let body = standard_body(status, request_id, Form::Text);
    let mut answer = BytesMut::with_capacity(256 + body.len());
    let reason = status.canonical_reason().unwrap_or("Error");
    answer.put_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    answer.put_slice(format!("date: {}\r\n", httpdate::fmt_http_date(std::time::SystemTime::now())).as_bytes());
    if let Some(allow) = refusal.allow() {
        answer.put_slice(format!("allow: {allow}\r\n").as_bytes());
    }
    answer.put_slice(b"content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: close\r\n");
    answer.put_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    answer
}

/// How long the body of the answer to a refused request is.
pub fn refusal_length(refusal: Refusal, request_id: &str) -> u64 {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    standard_body(status, request_id, Form::Text).len() as u64
}

/// Answers an HTTP/2 request which the gate refused. The connection lives on: other streams share it.
pub async fn refuse_h2(mut session: ServerSession, refusal: Refusal, request_id: &str) -> pingora_core::Result<()> {
    let mut reply = Reply::status(refusal.status());
    if let Some(allow) = refusal.allow() {
        reply = reply.with(header::ALLOW, HeaderValue::from_static(allow));
    }
    let Some((response, body)) = build(reply, request_id, Form::Text, None) else { return Ok(()) };
    let head_only = session.req_header().method == Method::HEAD;
    write(&mut session, response, body, head_only).await?;
    session.finish().await.map(|_| ())
}
