//! The request as the endpoint gets it.

use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    gate::Spelling,
    types::{Fields, FieldsMut},
};

/// Finishes the head for this attempt.
pub(super) fn request(session: &Session, request: &mut RequestHeader, ctx: &mut RequestCtx) -> Result<()> {
    let asked = session.req_header();
    if request.version == Version::HTTP_2 && asked.version == Version::HTTP_2 && asked.headers.contains_key(header::TE) {
        // What is left of TE says that the client takes trailers. It is told to those whose trailers can go on to the
        // client, which they cannot through HTTP/1; gRPC services insist on it. Pingora has removed it.
        request.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    if asked.version == Version::HTTP_2 {
        // For an endpoint that speaks HTTP/1 Pingora has put `:authority` in the place of what `headers` has set; for one that
        // speaks HTTP/2 the host would go with the target that a rewrite replaces.
        let named = || asked.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(host) = asked.headers.get(header::HOST).cloned().or_else(named) {
            request.insert_header(header::HOST, host)?;
        }
    }
    if let Some(target) = &ctx.rewritten {
        let uri = target.parse().map_err(|error| Error::because(ErrorType::InternalError, "rewritten path", error))?;
        request.set_uri(uri);
    }
    ctx.onward(&mut Onward { request, spelling: &ctx.spelling });
    if ctx.uploaded {
        ctx.request_is_whole(Instant::now());
        ctx.deadlines().set_answer(ctx.answer_by);
    }
    if let Some(hold) = &ctx.hold {
        hold.begin();
    }
    Ok(())
}

/// Pingora's head as fields that policy changes. Both kinds of insertion fail only for names that are no header names, which the type
/// rules out.
struct Onward<'a> {
    request: &'a mut RequestHeader,
    spelling: &'a Spelling,
}

impl Onward<'_> {
    /// A name of its own spelling: Pingora would write one in lower case with capitals.
    fn spelt(&self, name: &HeaderName) -> String {
        String::from_utf8_lossy(self.spelling.of(name.as_str(), &mut 0)).into_owned()
    }
}

impl Fields for Onward<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.request.headers.get(name).map(HeaderValue::as_bytes)
    }
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Fields::get_all(&self.request.headers as &HeaderMap, name)
    }
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.request.headers.each(see);
    }
}

impl FieldsMut for Onward<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.request.insert_header(self.spelt(&name), value);
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.request.append_header(self.spelt(&name), value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.request.remove_header(name);
    }
}
