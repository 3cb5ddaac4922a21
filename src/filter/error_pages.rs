//! The `error_pages` filter: pages of one's own in place of the short standard texts and, if told, of endpoints' errors.
//!
//! Only what nobody has chosen is replaced: the standard text of an error of Weir's own. A `respond`, a `fallback` and
//! a page of `maintenance` stay. Pages are read with the configuration and kept in memory.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Filter, FilterRequest, FilterResponse, Slot, Verdict,
    exchange::{DIGESTS, vary},
    small_file,
};
use crate::{
    string_type,
    types::{At, Code, ConfigPath, FieldsMut, OneOrMany},
};

/// The longest page: it is kept in memory, and written out for every error.
const MAX_PAGE: u64 = 1 << 20;

/// Answers errors with pages of one's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPagesSpec {
    /// The pages. For a status that several are for, one that names it exactly wins, then the first.
    pub pages: Vec<ErrorPageSpec>,
    /// Replace errors that endpoints answer with, too.
    #[serde(default)]
    pub intercept: bool,
}

/// One page, in one form or two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPageSpec {
    /// The statuses that it is for: `404`, or a class, `5xx`.
    pub status: OneOrMany<Statuses>,
    /// A file for browsers, up to 1 MiB. `{status}`, `{reason}` and `{request_id}` in it are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<ConfigPath>,
    /// A file for clients that ask for JSON, filled in likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<ConfigPath>,
}

/// One status of an error, or a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All that begin with this digit.
    Class(u16),
}

impl FromStr for Statuses {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "4xx" => return Ok(Statuses::Class(4)),
            "5xx" => return Ok(Statuses::Class(5)),
            _ => {}
        }
        let status = text.parse().ok().filter(|status| (400..=599).contains(status) && text.len() == 3);
        status.map(Statuses::One).ok_or_else(|| format!("`{text}` is not the status of an error; write `404`, `4xx` or `5xx`"))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statuses::One(status) => status.fmt(f),
            Statuses::Class(digit) => write!(f, "{digit}xx"),
        }
    }
}
string_type!(Statuses, "ErrorStatuses", "The status of an error, or a class of them: `404`, `4xx`, `5xx`.", None);

impl ErrorPagesSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let at = at.key("pages");
        if self.pages.is_empty() {
            at.problem(Code::MissingKey, "`error_pages` without a page does nothing")
                .hint("add `{status: 5xx, html: sorry.html}`");
            return None;
        }
        let mut sound = true;
        let mut pages = Vec::with_capacity(self.pages.len());
        for (index, page) in self.pages.iter().enumerate() {
            let at = at.index(index);
            if page.status.is_absent() {
                at.key("status").problem(Code::MissingKey, "the page is for no status").hint("write `404` or `5xx`");
                sound = false;
            }
            if page.html.is_none() && page.json.is_none() {
                at.problem(Code::MissingKey, "the page has no file").hint("add `html` or `json`");
                sound = false;
            }
            let mut form = |key: &str, file: &Option<ConfigPath>| {
                let file = file.as_ref()?;
                match small_file::read(file, MAX_PAGE) {
                    Ok(content) => Some(Text::parse(&content)),
                    Err(reason) => {
                        at.key(key).problem(Code::UnreadableFile, format!("cannot read `{file}`: {reason}"));
                        sound = false;
                        None
                    }
                }
            };
            pages.push(Page { statuses: page.status.to_vec(), html: form("html", &page.html), json: form("json", &page.json) });
        }
        sound.then(|| -> Arc<dyn Filter> { Arc::new(ErrorPages { pages, intercept: self.intercept }) })
    }
}

#[derive(Debug)]
struct ErrorPages {
    pages: Vec<Page>,
    intercept: bool,
}

#[derive(Debug)]
struct Page {
    statuses: Vec<Statuses>,
    html: Option<Text>,
    json: Option<Text>,
}

/// A file, split at what is filled in. Other braces are the page's own: styles and JSON are full of them.
#[derive(Debug, PartialEq)]
struct Text(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Plain(Bytes),
    Filled(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Status,
    Reason,
    RequestId,
}

impl Text {
    fn parse(content: &[u8]) -> Self {
        const NAMES: [(&[u8], Value); 3] =
            [(b"{status}", Value::Status), (b"{reason}", Value::Reason), (b"{request_id}", Value::RequestId)];
        let mut parts = Vec::new();
        let (mut plain, mut at) = (0, 0);
        while let Some(brace) = memchr::memchr(b'{', &content[at..]).map(|found| found + at) {
            let Some((name, value)) = NAMES.iter().find(|(name, _)| content[brace..].starts_with(name)) else {
                at = brace + 1;
                continue;
            };
            parts.extend((plain < brace).then(|| Part::Plain(Bytes::copy_from_slice(&content[plain..brace]))));
            parts.push(Part::Filled(*value));
            (at, plain) = (brace + name.len(), brace + name.len());
        }
        parts.extend((plain < content.len()).then(|| Part::Plain(Bytes::copy_from_slice(&content[plain..]))));
        Self(parts)
    }

    fn fill(&self, form: Form, status: u16, request_id: &str) -> Bytes {
        if let [Part::Plain(all)] = &self.0[..] {
            return all.clone();
        }
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Plain(bytes) => out.extend_from_slice(bytes),
                Part::Filled(Value::Status) => out.extend_from_slice(status.to_string().as_bytes()),
                Part::Filled(Value::Reason) => {
                    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
                    out.extend_from_slice(reason.unwrap_or("Error").as_bytes());
                }
                Part::Filled(Value::RequestId) => form.escape(request_id, &mut out),
            }
        }
        out.into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Json,
}

impl Form {
    const fn content_type(self) -> HeaderValue {
        match self {
            Form::Html => HeaderValue::from_static("text/html; charset=utf-8"),
            Form::Json => HeaderValue::from_static("application/json"),
        }
    }

    /// An id may be the client's own, with any visible ASCII in it.
    fn escape(self, text: &str, out: &mut Vec<u8>) {
        for byte in text.bytes() {
            match (self, byte) {
                (Form::Html, b'<' | b'>' | b'&' | b'"' | b'\'') => out.extend_from_slice(format!("&#{byte};").as_bytes()),
                (Form::Json, b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                _ => out.push(byte),
            }
        }
    }
}

/// What a client has asked for, kept from its request to its response. Of no size, so keeping it takes no memory; a
/// client that asks for neither gets what there is, a page for browsers first.
struct AsksHtml;
struct AsksJson;
/// gRPC clients read statuses from other fields, and bodies as messages: they are left alone.
struct SpeaksGrpc;
/// The page that goes out in place of the body.
struct Replacing(Option<Bytes>);

impl Page {
    /// The page in the form that the client asks for; `None` where there is none in that form.
    fn form(&self, slot: &Slot) -> Option<(Form, &Text)> {
        let asks = |any: &Slot, html: bool| match any {
            Some(any) if html => any.is::<AsksHtml>(),
            Some(any) => any.is::<AsksJson>(),
            None => true,
        };
        let html = self.html.as_ref().filter(|_| asks(slot, true)).map(|text| (Form::Html, text));
        html.or_else(|| self.json.as_ref().filter(|_| asks(slot, false)).map(|text| (Form::Json, text)))
    }
}

impl ErrorPages {
    fn page(&self, status: u16) -> Option<&Page> {
        let named = |wanted: Statuses| self.pages.iter().find(|page| page.statuses.contains(&wanted));
        named(Statuses::One(status)).or_else(|| named(Statuses::Class(status / 100)))
    }
}

/// Fields that speak of a body which is not sent; `Content-Range` of a 416 speaks of what there is.
const OF_THE_BODY: [HeaderName; 7] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LAST_MODIFIED,
];

fn relabel(fields: &mut dyn FieldsMut, form: Form) {
    OF_THE_BODY.iter().chain(&DIGESTS).for_each(|name| fields.remove(name));
    fields.set(header::CONTENT_TYPE, form.content_type());
}

impl Filter for ErrorPages {
    fn kind(&self) -> &'static str {
        "error_pages"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let offers = |name: &str, kinds: &[&[u8]]| {
            request.fields.any(name, &mut |value| kinds.iter().any(|kind| memchr::memmem::find(value, kind).is_some()))
        };
        if offers("content-type", &[b"application/grpc"]) {
            *slot = Some(Box::new(SpeaksGrpc));
        } else if offers("accept", &[b"text/html"]) {
            *slot = Some(Box::new(AsksHtml));
        } else if offers("accept", &[b"application/json", b"+json"]) {
            *slot = Some(Box::new(AsksJson));
        }
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        let theirs = (response.endpoint.is_some() || response.cached) && self.intercept && response.may_have_body();
        // A page of the route's, or of a filter behind this one, is nearer to what went wrong.
        if !(response.standard || theirs) || response.status < 400 || response.paged {
            return;
        }
        let speaks_grpc = slot.as_ref().is_some_and(|slot| slot.is::<SpeaksGrpc>());
        let Some(page) = self.page(response.status).filter(|_| !speaks_grpc) else { return };
        if theirs {
            // Ours is not to be stored; an endpoint's may be, and what comes depends on the form that is asked for.
            vary(response.fields, "accept");
        }
        let Some((form, text)) = page.form(slot) else { return };
        let page = text.fill(form, response.status, response.request_id);
        relabel(response.fields, form);
        response.replace_body();
        response.paged = true;
        *slot = Some(Box::new(Replacing(Some(page))));
    }

    fn response_body(&self, piece: &mut Bytes, _: bool, slot: &mut Slot) -> Result<(), &'static str> {
        // The page goes out at once, and nothing else does, however much the endpoint has to say.
        if let Some(replacing) = slot.as_mut().and_then(|slot| slot.downcast_mut::<Replacing>()) {
            *piece = replacing.0.take().unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    /// The filter over these files, and the directory that they are in.
    fn pages(intercept: bool) -> (super::super::Chain, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(directory.path().join(name), content).unwrap();
            directory.path().join(name)
        };
        let options = serde_json::json!({"intercept": intercept, "pages": [
            {"status": ["5xx"], "html": file("5.html", "<style>p{color:red}</style>{status} {reason} {request_id}{x}")},
            {"status": "503", "html": file("503.html", "busy"), "json": file("503.json", r#"{"id": "{request_id}"}"#)},
            {"status": "4xx", "json": file("4.json", "{}")},
        ]});
        (compile(&format!(r#"[{{"error_pages": {options}}}]"#)), directory)
    }

    fn answered(chain: &super::super::Chain, accept: Option<&str>, status: u16, own: bool) -> Option<(String, String)> {
        let mut exchange = Exchange { request_id: "<\"id\">".into(), standard: own, ..Exchange::default() };
        if !own {
            exchange.endpoint = Some("127.0.0.1:1".into());
        }
        if let Some(accept) = accept {
            exchange.set("accept", accept);
        }
        exchange.request(chain).unwrap();
        let sent = [("etag", "\"1\""), ("content-type", "text/x-theirs"), ("content-encoding", "gzip"), ("repr-digest", "x")];
        let fields = exchange.response_with(chain, status, &sent);
        let mut first = Bytes::from("theirs");
        chain.response_body(&mut first, false, &mut exchange.slots).unwrap();
        let mut last = Bytes::from("theirs");
        chain.response_body(&mut last, true, &mut exchange.slots).unwrap();
        let replaced = first != "theirs";
        assert_eq!((fields.contains_key("etag"), last.is_empty()), (!replaced, replaced));
        assert_eq!((fields.contains_key("content-encoding"), fields.contains_key("repr-digest")), (!replaced, !replaced));
        replaced.then(|| (fields["content-type"].to_str().unwrap().into(), String::from_utf8(first.to_vec()).unwrap()))
    }

    #[test]
    fn the_page_is_that_of_the_status_in_the_form_that_was_asked_for() {
        let (chain, _directory) = pages(false);
        let html = |body: &str| Some(("text/html; charset=utf-8".to_owned(), body.to_owned()));
        let json = |body: &str| Some(("application/json".to_owned(), body.to_owned()));
        let filled = "<style>p{color:red}</style>502 Bad Gateway &#60;&#34;id&#34;&#62;{x}";
        for (accept, status, want) in [
            (None, 502, html(filled)),
            (Some("text/html,*/*"), 502, html(filled)),
            (Some("application/json"), 502, None),
            (None, 503, html("busy")),
            (Some("application/problem+json"), 503, json(r#"{"id": "<\"id\">"}"#)),
            (Some("text/html"), 404, None),
            (Some("*/*"), 404, json("{}")),
            (None, 200, None),
        ] {
            assert_eq!(answered(&chain, accept, status, true), want, "{accept:?} {status}");
        }
        assert_eq!(answered(&chain, None, 502, false), None, "an endpoint's own page stays");
    }

    #[test]
    fn an_endpoints_errors_are_replaced_when_told() {
        let (chain, _directory) = pages(true);
        assert_eq!(answered(&chain, None, 503, false).unwrap().1, "busy");
        for (accept, status, varies) in
            [("text/html", 503, true), ("image/png", 404, true), ("text/html", 404, true), ("*/*", 200, false)]
        {
            let mut exchange = Exchange { endpoint: Some("127.0.0.1:1".into()), ..Exchange::default() };
            exchange.set("accept", accept);
            exchange.request(&chain).unwrap();
            let fields = exchange.response(&chain, status);
            assert_eq!(fields.get("vary").is_some_and(|vary| vary == "accept"), varies, "{accept} {status}");
        }
        assert_eq!(answered(&chain, None, 200, false), None);
        let mut grpc = Exchange { endpoint: Some("127.0.0.1:1".into()), ..Exchange::default() };
        grpc.set("content-type", "application/grpc+proto");
        grpc.request(&chain).unwrap();
        assert!(grpc.response(&chain, 503).is_empty());
        let mut head = Exchange { method: "HEAD".into(), endpoint: Some("127.0.0.1:1".into()), ..Exchange::default() };
        head.request(&chain).unwrap();
        assert!(head.response(&chain, 503).is_empty());
    }

    #[test]
    fn what_somebody_chose_stays() {
        let (chain, _directory) = pages(true);
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        assert!(exchange.response(&chain, 503).is_empty(), "an own answer whose body is not the standard text");
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"pages": []}"#, "without a page"),
            (r#"{"pages": [{"status": [], "html": "Cargo.toml"}]}"#, "for no status"),
            (r#"{"pages": [{"status": "404"}]}"#, "has no file"),
            (r#"{"pages": [{"status": "404", "html": "/nonexistent"}]}"#, "cannot read"),
            (r#"{"pages": [{"status": "404", "json": "/"}]}"#, "not a file"),
        ] {
            let problems = refused(&format!(r#"[{{"error_pages": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
        for wrong in ["200", "3xx", "xx", "600", "0404", "5XX"] {
            assert!(wrong.parse::<Statuses>().is_err(), "{wrong}");
        }
        assert_eq!("5xx".parse::<Statuses>().unwrap().to_string(), "5xx");
    }
}
