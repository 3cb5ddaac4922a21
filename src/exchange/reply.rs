//! Responses that Weir makes itself: short, typed, never cached by accident, no internal address in them.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header, request};

use super::{Exchange, Origin, Plan, filters, told};
use crate::{
    filter::BodyWish,
    gate::{
        Refusal,
        response::{ResponseFraming, has_body},
    },
    types::{BodyStream, Cause, Reply, Who},
};

/// An answer of Weir's own, with the words that explain it.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub reply: Reply,
    /// The body, where it is not in the reply.
    pub stream: Option<BodyStream>,
    /// Why, in the words of RFC 9209; `None` for an ordinary answer.
    pub cause: Option<Cause>,
    /// What the cause does not tell.
    pub reason: Option<&'static str>,
    /// Who ended the exchange.
    pub who: Who,
}

impl Answer {
    /// To a request that breaks a rule of the gate.
    pub fn refused(refusal: Refusal) -> Box<Self> {
        let (cause, reason) = (Some(refusal.cause()), Some(refusal.reason()));
        Box::new(Self { reply: refusal_reply(refusal), stream: None, cause, reason, who: Who::Client })
    }
    /// Weir says no.
    pub fn weir(reply: Reply, cause: Cause, reason: &'static str) -> Box<Self> {
        Box::new(Self { reply, stream: None, cause: Some(cause), reason: Some(reason), who: Who::Weir })
    }
    /// Weir answers, which is no refusal: a redirect, a fixed response, a preflight.
    pub fn ordinary(reply: Reply) -> Box<Self> {
        Box::new(Self { reply, stream: None, cause: None, reason: None, who: Who::Weir })
    }
}

/// An answer of Weir's own as its client gets it.
pub struct Own {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: HeaderMap,
    /// The body, where that is at hand and goes out.
    pub body: Bytes,
    /// The body, where that comes in pieces and goes out: [`Exchange::own_piece`] sees each.
    pub stream: Option<BodyStream>,
    /// How it goes out.
    pub plan: Plan,
}

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

impl Exchange {
    /// Makes an answer of Weir's own: through the response filters of the request's listener and route.
    ///
    /// # Errors
    /// One word, when a filter cannot go on: the connection is cut.
    pub fn own(&mut self, answer: Answer, request: &request::Parts) -> Result<Own, &'static str> {
        let Answer { reply, mut stream, cause, reason, who } = answer;
        let status = reply.status;
        (self.outcome.status, self.outcome.cause, self.outcome.reason, self.outcome.who) = (status.as_u16(), cause, reason, who);
        let accept = request.headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
        let failure = status.is_client_error() || status.is_server_error();
        let standard = stream.is_none() && reply.body.is_none() && failure;
        let measured = stream.as_ref().map(|stream| stream.length);
        let (mut fields, mut body) = build(reply, &self.outcome.request_id, Form::for_accept(accept), measured);
        let wish = filters::response(&mut fields, Origin::Weir { standard }, self);
        let has_body = has_body(&self.outcome.method, status.as_u16());
        let mut framing = match measured {
            _ if !has_body => ResponseFraming::None,
            Some(None) => ResponseFraming::Chunked,
            Some(Some(length)) => ResponseFraming::Length(length),
            None => ResponseFraming::Length(body.len() as u64),
        };
        let mut replaced = wish == BodyWish::Replace;
        if stream.is_none() && wish != BodyWish::Nothing && has_body {
            self.filters.response_body(&mut body, true).inspect_err(|reason| {
                (self.outcome.cause, self.outcome.reason) = (Some(Cause::ProxyInternalError), Some(*reason));
            })?;
            // It is whole, so its length is known whatever filters did to it.
            (framing, replaced) = (ResponseFraming::Length(body.len() as u64), false);
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        told::tell(&mut fields, self);
        let plan = self.plan(status, &mut fields, framing, replaced);
        if !has_body {
            (body, stream) = (Bytes::new(), None);
        }
        if stream.is_none() {
            self.body_out += body.len() as u64;
        }
        Ok(Own { status, fields, body, stream, plan })
    }

    /// A piece of an answer that comes in pieces is about to be sent. `left` is what its length leaves for it and those behind it.
    ///
    /// # Errors
    /// One word, when it cannot go on: what was sent is cut, visibly.
    pub fn own_piece(&mut self, piece: &mut Bytes, left: &mut Option<u64>, end: bool) -> Result<(), &'static str> {
        let cut = self.counted(piece, left, end);
        if let Err(reason) = cut {
            self.outcome.cause = Some(Cause::HttpResponseIncomplete);
            self.outcome.reason = Some(reason);
        }
        cut
    }

    fn counted(&mut self, piece: &mut Bytes, left: &mut Option<u64>, end: bool) -> Result<(), &'static str> {
        if let Some(left) = left {
            match left.checked_sub(piece.len() as u64) {
                Some(rest) if rest == 0 || !end => *left = rest,
                _ => return Err(UNREADABLE),
            }
        }
        self.filters.response_body(piece, end)?;
        self.body_out += piece.len() as u64;
        Ok(())
    }

    /// The next piece of such an answer, with whether it is the last.
    ///
    /// # Errors
    /// One word, when the rest cannot be had.
    pub async fn next_own(&mut self, stream: &mut BodyStream) -> Result<(Bytes, bool), &'static str> {
        let next = match self.time_left() {
            None => stream.next().await,
            Some(time) => {
                tokio::time::timeout(time, stream.next()).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            }
        };
        let failed = match next {
            Ok(Some(piece)) => return Ok((piece, false)),
            Ok(None) => return Ok((Bytes::new(), true)),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => "timeout",
            Err(error) => {
                log::warn!("request {}: the body of its answer cannot be read to its end: {error}", self.outcome.request_id);
                UNREADABLE
            }
        };
        (self.outcome.cause, self.outcome.reason) = (Some(Cause::HttpResponseIncomplete), Some(failed));
        Err(failed)
    }
}

/// The word for a body that ends where it should not.
const UNREADABLE: &str = "body_unreadable";

/// The fields and the body of a reply. `stream` is the length of a body that comes from elsewhere, as far as it is known.
fn build(reply: Reply, request_id: &str, form: Form, stream: Option<Option<u64>>) -> (HeaderMap, Bytes) {
    let status = reply.status;
    let failure = status.is_client_error() || status.is_server_error();
    let mut fields = HeaderMap::with_capacity(reply.headers.len() + 4);
    let body = match reply.body {
        _ if stream.is_some() => Bytes::new(),
        Some(body) => body,
        None if failure => {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
            standard_body(status, request_id, form).into()
        }
        None => Bytes::new(),
    };
    if failure {
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    for (name, value) in reply.headers {
        fields.append(name, value);
    }
    // RFC 9110 section 8.6: not with 204, and with 304 it would speak of the body that a 200 had.
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && let Some(length) = stream.unwrap_or(Some(body.len() as u64))
    {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    (fields, body)
}

/// The answer to a request that breaks a rule of the gate.
pub fn refusal_reply(refusal: Refusal) -> Reply {
    let reply = Reply::status(refusal.status());
    match refusal.allow() {
        Some(allow) => reply.with(header::ALLOW, HeaderValue::from_static(allow)),
        None => reply,
    }
}

/// Fields and body of a reply that no filter sees, as text.
pub fn standard_head(reply: Reply, request_id: &str) -> (HeaderMap, Bytes) {
    build(reply, request_id, Form::Text, None)
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
