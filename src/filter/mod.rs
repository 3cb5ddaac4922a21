//! Layer 2: what happens to a request on its way in, and to its response on the way out.
//!
//! A filter is one file: its Spec (what the user writes), its compiled form (the [`Filter`]), its tests.
//! Registering it is one line in [`FilterSpec`] and one in `FilterSpec::compile`. What a filter must
//! remember of one request it keeps in its own [`Slot`].

mod api_key;
mod body_limit;
mod chain;
mod cors;
mod geo;
mod headers;
mod ip_access;
mod maintenance;
mod request_id;
mod rewrite;
mod security_headers;
pub mod small_file;
mod template;
#[cfg(test)]
mod tests_support;
mod user_agent;

use std::{any::Any, fmt::Debug, sync::Arc};

use crate::{
    registry,
    types::{At, Client, Fields, FieldsMut, Reply},
};
pub use chain::{Chain, Slots};
pub use template::{Template, TemplateError};

registry! {
    /// One step of a route's `filters`, which run in order on requests and in reverse on responses.
    pub enum FilterSpec {
        /// Gives each request an id, in a header and in the log.
        RequestId(request_id::RequestIdSpec) = "request_id",
        /// Admits by the client's address.
        IpAccess(ip_access::IpAccessSpec) = "ip_access",
        /// Changes the path that is forwarded.
        Rewrite(rewrite::RewriteSpec) = "rewrite",
        /// Sets, adds and removes header fields.
        Headers(headers::HeadersSpec) = "headers",
        /// Bounds the request body.
        BodyLimit(body_limit::BodyLimitSpec) = "body_limit",
        /// Lets pages of other origins read the answers.
        Cors(cors::CorsSpec) = "cors",
        /// Makes browsers strict about the answers.
        SecurityHeaders(security_headers::SecurityHeadersSpec) = "security_headers",
        /// Admits by what the client says it is.
        UserAgent(user_agent::UserAgentSpec) = "user_agent",
        /// Answers in place of the service while a file exists.
        Maintenance(maintenance::MaintenanceSpec) = "maintenance",
        /// Admits by a key that was handed out.
        ApiKey(api_key::ApiKeySpec) = "api_key",
        /// Admits by the client's country.
        Geo(geo::GeoSpec) = "geo",
    }
}

impl FilterSpec {
    /// The filter that does what the user wrote; `None` when a problem was reported instead.
    pub fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let at = at.key(self.kind());
        match self {
            FilterSpec::RequestId(spec) => spec.compile(&at),
            FilterSpec::IpAccess(spec) => spec.compile(&at),
            FilterSpec::Rewrite(spec) => spec.compile(&at),
            FilterSpec::Headers(spec) => spec.compile(&at),
            FilterSpec::BodyLimit(spec) => spec.compile(&at),
            FilterSpec::Cors(spec) => spec.compile(&at),
            FilterSpec::SecurityHeaders(spec) => spec.compile(&at),
            FilterSpec::UserAgent(spec) => spec.compile(&at),
            FilterSpec::Maintenance(spec) => spec.compile(&at),
            FilterSpec::ApiKey(spec) => spec.compile(&at),
            FilterSpec::Geo(spec) => spec.compile(&at),
        }
    }

    /// True when it asks for the client's country, which takes a database.
    pub fn asks_country(&self) -> bool {
        matches!(self, FilterSpec::Geo(_))
    }
}

/// What a filter keeps of one request, made when it first needs it.
pub type Slot = Option<Box<dyn Any + Send + Sync>>;

/// What becomes of the request.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next filter.
    Continue,
    /// Answered here. Filters that already ran, and the one that answers, still see the response.
    Answer {
        /// What the client gets.
        reply: Reply,
        /// One word for the log (`Outcome.reason`): `ip_denied`, `body_too_large`.
        reason: &'static str,
    },
}

/// A request while its filters run.
pub struct FilterRequest<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The host, lower case, without a port.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The path and query to forward instead of the client's own: what `rewrite` sets.
    pub forward: &'a mut Option<String>,
    /// Who is asking.
    pub client: &'a Client,
    /// The name of the route.
    pub route: &'a str,
    /// The header fields; changes are forwarded.
    pub fields: &'a mut dyn FieldsMut,
    /// The request's id for logs and error pages, from the gate or from `request_id`.
    pub request_id: &'a mut Arc<str>,
    /// The body's declared length, if one was declared.
    pub content_length: Option<u64>,
}

/// A response while its filters run: the upstream's, or Weir's own.
pub struct FilterResponse<'a> {
    /// The status.
    pub status: u16,
    /// The header fields; changes are sent.
    pub fields: &'a mut dyn FieldsMut,
    /// The endpoint that answered, if one did.
    pub endpoint: Option<&'a str>,
    /// The name of the route.
    pub route: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// One compiled filter, shared by all requests of its route.
pub trait Filter: Send + Sync + Debug {
    /// The kind, as users write it.
    fn kind(&self) -> &'static str;

    /// Before the request is forwarded, with its head and without its body.
    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let _ = (request, slot);
        Verdict::Continue
    }

    /// For every piece of the request body; `so_far` counts the bytes including this piece.
    /// An answer here ends the exchange: the upstream request is aborted.
    fn request_body(&self, so_far: u64, slot: &mut Slot) -> Verdict {
        let _ = (so_far, slot);
        Verdict::Continue
    }

    /// True when [`Filter::request_body`] wants to be called.
    fn sees_request_body(&self) -> bool {
        false
    }

    /// Before the response head is sent.
    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        let _ = (response, slot);
    }
}

/// The fields of a request that strategies and limits may use as a key.
pub fn field_text<'f>(fields: &'f dyn Fields, name: &str) -> Option<&'f str> {
    fields.get(name).and_then(|value| std::str::from_utf8(value).ok())
}
