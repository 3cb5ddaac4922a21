//! Layer 2: what happens to a request on its way in, and to its response on the way out.
//!
//! A filter is one file: its Spec (what the user writes), its compiled form (the [`Filter`]), its tests.
//! Registering it is one line in [`FilterSpec`] and one in `FilterSpec::compile`. What a filter must
//! remember of one request it keeps in its own [`Slot`].

mod alike;
mod api_key;
mod asked;
mod back;
mod basic_auth;
mod body_limit;
mod cache;
mod chain;
mod coding;
mod compress;
mod concurrency;
mod cors;
mod credential;
mod error_pages;
mod exchange;
mod fault;
mod forward_auth;
mod geo;
mod headers;
mod ip_access;
mod jwt;
mod kept;
mod key;
mod maintenance;
mod map_back;
mod mirror;
mod named;
mod passage;
mod rate_limit;
mod request_id;
mod rewrite;
mod security_headers;
mod service;
pub mod small_file;
mod static_files;
#[cfg(test)]
mod tests_support;
mod user_agent;

use std::{fmt::Debug, pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    observe::Sample,
    registry,
    types::{At, Fields, Name, Size},
};
pub use back::{Back, Own, Seen};
pub use chain::{Chain, Slots};
pub use exchange::{After, BodyWish, FilterRequest, FilterResponse, Keeping, Later, RequestPiece, Slot, Verdict};
pub use kept::{Kept, Scope};
pub use named::{ChainSpec, Chains, references, upstreams};
pub use passage::{Pass, Passage};
pub use service::{Answered, Call, CallError, Calling, Service, Services, Take};

registry! {
    /// One step of a route's `filters`, which run in order on requests and in reverse on responses.
    pub enum FilterSpec {
        /// Gives each request an id, in a header and in the log.
        RequestId(request_id::RequestIdSpec) = "request_id",
        /// Admits by the client's address.
        IpAccess(ip_access::IpAccessSpec) = "ip_access",
        /// Changes the path that is forwarded.
        Rewrite(rewrite::RewriteSpec) = "rewrite",
        /// Maps the endpoint's own URLs and cookies back, by rules or not at all.
        MapBack(map_back::MapBackSpec) = "map_back",
        /// Sets, adds and removes header fields.
        Headers(headers::HeadersSpec) = "headers",
        /// Bounds the request body.
        BodyLimit(body_limit::BodyLimitSpec) = "body_limit",
        /// Lets pages of other origins read the answers.
        Cors(cors::CorsSpec) = "cors",
        /// Bounds how often somebody may ask.
        RateLimit(rate_limit::RateLimitSpec) = "rate_limit",
        /// Bounds how much somebody may ask at a time.
        Concurrency(concurrency::ConcurrencySpec) = "concurrency",
        /// Makes browsers strict about the answers.
        SecurityHeaders(security_headers::SecurityHeadersSpec) = "security_headers",
        /// Admits by what the client says it is.
        UserAgent(user_agent::UserAgentSpec) = "user_agent",
        /// Answers in place of the service while a file exists.
        Maintenance(maintenance::MaintenanceSpec) = "maintenance",
        /// Admits by a key that was handed out.
        ApiKey(api_key::ApiKeySpec) = "api_key",
        /// Admits by a name and a password.
        BasicAuth(basic_auth::BasicAuthSpec) = "basic_auth",
        /// Admits by a JSON Web Token.
        Jwt(Box<jwt::JwtSpec>) = "jwt",
        /// Admits by what a service says of the request.
        ForwardAuth(forward_auth::ForwardAuthSpec) = "forward_auth",
        /// Admits by the client's country.
        Geo(geo::GeoSpec) = "geo",
        /// Delays or fails some requests on purpose.
        Fault(fault::FaultSpec) = "fault",
        /// Answers errors with pages of one's own.
        ErrorPages(error_pages::ErrorPagesSpec) = "error_pages",
        /// Answers with files of a directory.
        StaticFiles(static_files::StaticFilesSpec) = "static_files",
        /// Keeps answers and sends them again.
        Cache(cache::CacheFilterSpec) = "cache",
        /// Compresses what clients are sent.
        Compress(compress::CompressSpec) = "compress",
        /// Sends a copy of some requests to another upstream.
        Mirror(mirror::MirrorSpec) = "mirror",
        /// The filters of a chain declared under `filter_chains`, in its place.
        Chain(ChainSpec) = "chain",
    }
}

impl FilterSpec {
    /// The filters that do what the user wrote: one, or those of a named chain. `None` when a problem was reported
    /// instead. What must outlive a reload comes from the scope.
    fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let at = at.key(self.kind());
        match self {
            FilterSpec::RequestId(spec) => spec.compile(&at),
            FilterSpec::IpAccess(spec) => spec.compile(&at),
            FilterSpec::Rewrite(spec) => spec.compile(&at),
            FilterSpec::MapBack(spec) => spec.compile(&at),
            FilterSpec::Headers(spec) => spec.compile(&at),
            FilterSpec::BodyLimit(spec) => spec.compile(&at),
            FilterSpec::Cors(spec) => spec.compile(&at),
            FilterSpec::RateLimit(spec) => spec.compile(&at, scope),
            FilterSpec::Concurrency(spec) => spec.compile(&at, scope),
            FilterSpec::SecurityHeaders(spec) => spec.compile(&at),
            FilterSpec::UserAgent(spec) => spec.compile(&at),
            FilterSpec::Maintenance(spec) => spec.compile(&at),
            FilterSpec::ApiKey(spec) => spec.compile(&at),
            FilterSpec::BasicAuth(spec) => spec.compile(&at, scope),
            FilterSpec::Jwt(spec) => spec.compile(&at, scope),
            FilterSpec::ForwardAuth(spec) => spec.compile(&at, scope),
            FilterSpec::Geo(spec) => spec.compile(&at),
            FilterSpec::Fault(spec) => spec.compile(&at),
            FilterSpec::ErrorPages(spec) => spec.compile(&at),
            FilterSpec::StaticFiles(spec) => spec.compile(&at),
            FilterSpec::Cache(spec) => spec.compile(&at),
            FilterSpec::Compress(spec) => spec.compile(&at),
            FilterSpec::Mirror(spec) => spec.compile(&at, scope),
            // `Chains` puts the filters of the chain here.
            FilterSpec::Chain(_) => None,
        }
    }

    /// True when it asks for the cache.
    pub fn caches(&self) -> bool {
        self.largest_kept().is_some()
    }

    /// The largest answer that it keeps, if it asks for the cache.
    pub fn largest_kept(&self) -> Option<Size> {
        match self {
            FilterSpec::Cache(spec) => Some(spec.max_object),
            _ => None,
        }
    }

    /// The upstream that it talks to on its own account, and the key that names it.
    pub fn upstream(&self) -> Option<(&'static str, &Name)> {
        match self {
            FilterSpec::ForwardAuth(spec) => Some(("upstream", &spec.upstream)),
            FilterSpec::Mirror(spec) => Some(("upstream", &spec.upstream)),
            _ => None,
        }
    }

    /// True when it asks for the client's country, which takes a database.
    pub fn asks_country(&self) -> bool {
        matches!(self, FilterSpec::Geo(_))
    }
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

    /// For every piece of the request body, and once with nothing at its end. An answer here ends the exchange:
    /// the upstream request is aborted. [`Verdict::Later`] and [`Verdict::Stream`] have no place here.
    ///
    /// A body that is sent again on another try passes again from its start: `so_far` tells.
    fn request_body(&self, piece: &RequestPiece<'_>, slot: &mut Slot) -> Verdict {
        let _ = (piece, slot);
        Verdict::Continue
    }

    /// True when [`Filter::request_body`] wants to be called.
    fn sees_request_body(&self) -> bool {
        false
    }

    /// Before the response head is sent: the upstream's, or Weir's own.
    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        let _ = (response, slot);
    }

    /// For every piece of the response body, once [`Filter::response`] has asked for it with
    /// [`FilterResponse::see_body`] or [`FilterResponse::replace_body`]. What is in `piece` afterwards goes on, to the
    /// filters before this one and to the client; an empty piece sends nothing yet.
    ///
    /// The last call has `end`, with or without bytes, and comes only for a body that is complete. A body streams:
    /// what a piece brings should leave with it, and what is kept back must be bounded.
    ///
    /// # Errors
    /// One word for the log. The response is cut, visibly.
    fn response_body(&self, piece: &mut Bytes, end: bool, slot: &mut Slot) -> Result<(), &'static str> {
        let _ = (piece, end, slot);
        Ok(())
    }

    /// What it would do to the path that is forwarded, and how answers would be mapped back, as far as that can be told without a request:
    /// for `explain`.
    fn foretell(&self, path: &mut String, back: &mut Back) {
        let _ = (path, back);
    }

    /// What it counts for itself, read at a scrape. The metrics are defined in [`crate::observe`], and it keeps the
    /// numbers where they outlive a reload.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }

    /// Work beside requests, such as fetching keys: runs until `stopping` turns true or the future is dropped, which
    /// happens when another configuration takes over. `None` for a filter that has none.
    fn task(self: Arc<Self>, stopping: watch::Receiver<bool>) -> Option<FilterTask> {
        let _ = stopping;
        None
    }
}

/// What a filter does beside requests.
pub type FilterTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The fields of a request that strategies and limits may use as a key.
pub fn field_text<'f>(fields: &'f dyn Fields, name: &str) -> Option<&'f str> {
    fields.get(name).and_then(|value| std::str::from_utf8(value).ok())
}
