//! Responses that Weir makes itself: short, typed, never cached by accident, no internal address in them.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{RequestCtx, fields::ResponseFields};
use crate::{filter::FilterResponse, gate::Refusal, types::Reply};

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

/// Sends a reply through the response filters of the request's route. A client that is gone by now is no error.
pub(super) async fn send(session: &mut Session, ctx: &mut RequestCtx, reply: Reply) {
    let request = session.req_header();
    let head_only = request.method == Method::HEAD;
    let accept = request.headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    let Some((mut response, body)) = build(reply, &ctx.outcome.request_id, Form::for_accept(accept)) else { return };
    if let Some(route) = &ctx.route {
        let mut fields = ResponseFields(&mut response);
        let mut view = FilterResponse {
            status: ctx.outcome.status,
            fields: &mut fields,
            endpoint: None,
            route: &route.name,
            request_id: &ctx.outcome.request_id,
        };
        route.chain.response(&mut view, &mut ctx.slots);
    }
    let bodiless = head_only || body.is_empty() || response.status == StatusCode::NO_CONTENT;
    let downstream = session.as_downstream_mut();
    if !ctx.arrival.connection.stays_open() {
        downstream.set_keepalive(None);
    }
    if write(downstream, response, body, bodiless).await.is_err() {
        log::debug!("request {}: the client went away before its answer", ctx.outcome.request_id);
    }
}

async fn write(session: &mut ServerSession, response: ResponseHeader, body: Bytes, bodiless: bool) -> pingora_core::Result<()> {
    session.write_response_header(Box::new(response)).await?;
    if bodiless { session.finish_body().await } else { session.write_response_body(body, true).await }
}

fn build(reply: Reply, request_id: &str, form: Form) -> Option<(ResponseHeader, Bytes)> {
    let status = reply.status;
    let mut response = ResponseHeader::build(status, Some(reply.headers.len() + 4)).ok()?;
    let body = match reply.body {
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
    if status != StatusCode::NO_CONTENT {
        response.insert_header(header::CONTENT_LENGTH, body.len()).ok()?;
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

/// Answers an HTTP/2 request which the gate refused. The connection lives on: other streams share it.
pub async fn refuse_h2(mut session: ServerSession, refusal: Refusal, request_id: &str) -> pingora_core::Result<()> {
    let mut reply = Reply::status(refusal.status());
    if let Some(allow) = refusal.allow() {
        reply = reply.with(header::ALLOW, HeaderValue::from_static(allow));
    }
    let Some((response, body)) = build(reply, request_id, Form::Text) else { return Ok(()) };
    let head_only = session.req_header().method == Method::HEAD;
    write(&mut session, response, body, head_only).await?;
    session.finish().await.map(|_| ())
}
