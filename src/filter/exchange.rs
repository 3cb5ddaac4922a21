//! What a filter sees of one exchange, and what it may say of it.

use std::{any::Any, fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::Back;
use crate::{
    cache::Policy,
    types::{BodyStream, Client, FieldsMut, Reply, RequestId},
};

/// Digests of a body: whoever checks them would find them wrong where a filter has changed or replaced it.
pub(super) const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Tells caches that the answer depends on this field of the request.
pub(super) fn vary(fields: &mut dyn FieldsMut, name: &'static str) {
    let named = |one: &[u8]| one.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) || one.trim_ascii() == b"*";
    if !fields.any("vary", &mut |line| line.split(|byte| *byte == b',').any(named)) {
        fields.append(header::VARY, HeaderValue::from_static(name));
    }
}

/// What a filter keeps of one request, made when it first needs it. Dropped with the request, however that ends: a
/// guard in it is released by then.
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
    /// Answered here, with a body that is too large to be held or is not there yet.
    Stream {
        /// The head; a body in it is not looked at.
        reply: Reply,
        /// The body. Not read for HEAD, 204 and 304.
        body: BodyStream,
        /// One word for the log.
        reason: &'static str,
    },
    /// Not known yet. The request waits, within its deadline, without holding anything of it.
    Later(Later),
}

/// A verdict that somebody else must be asked for: a service, a database, another thread.
pub struct Later(Pin<Box<dyn Future<Output = After> + Send>>);

/// What is done with the request when the answer is there, by the filter that asked, with all that it sees of requests.
pub type After = Box<dyn FnOnce(&mut FilterRequest<'_>, &mut Slot) -> Verdict + Send>;

impl Verdict {
    /// Waits for the future, then goes on with what it returns.
    pub fn later<A>(ask: impl Future<Output = A> + Send + 'static) -> Self
    where
        A: FnOnce(&mut FilterRequest<'_>, &mut Slot) -> Verdict + Send + 'static,
    {
        Verdict::Later(Later(Box::pin(async move { Box::new(ask.await) as After })))
    }
}

impl Later {
    /// Waits for it.
    pub async fn wait(self) -> After {
        self.0.await
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
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
    /// How the answer is mapped back: what `rewrite` implies, and the rules of `map_back`.
    pub back: &'a mut Back,
    /// Who is asking, by which listener, over TLS or not, with which certificate.
    pub client: &'a Client,
    /// The name of the route. Empty for the filters of a listener, which run before one is chosen.
    pub route: &'a str,
    /// The header fields; changes are forwarded.
    pub fields: &'a mut dyn FieldsMut,
    /// The request's id for logs and error pages, from the gate or from `request_id`.
    pub request_id: &'a mut RequestId,
    /// The body's declared length, if one was declared.
    pub content_length: Option<u64>,
    /// May the answer be kept: what `cache` says, and what filters say that know who is asking.
    pub keeping: &'a mut Keeping,
    /// It asks for a WebSocket: after a 101, what passes is no body any more, and no filter sees it.
    pub upgrade: bool,
}

impl FilterRequest<'_> {
    /// The path and the query that are forwarded as things stand, after the filters that ran so far.
    pub(super) fn target(&self) -> (&str, Option<&str>) {
        match self.forward.as_deref() {
            Some(whole) => whole.split_once('?').map_or((whole, None), |(path, query)| (path, Some(query))),
            None => (self.path, self.query),
        }
    }
}

/// May the answer to a request be kept?
#[derive(Debug, Default)]
pub struct Keeping {
    /// What the route wants of the cache; `None` where it wants nothing.
    pub policy: Option<Arc<Policy>>,
    /// The client has identified itself, so that the answer may be for it alone. A filter that admits by who somebody is sets it:
    /// what it was shown may not be in the request any more when the cache looks at it.
    pub personal: bool,
}

/// A piece of a request body.
#[derive(Debug, Clone, Copy)]
pub struct RequestPiece<'a> {
    /// Its bytes, which may be none at the end.
    pub bytes: &'a Bytes,
    /// The length of the body so far, this piece included.
    pub so_far: u64,
    /// Nothing follows.
    pub end: bool,
}

/// What filters want of a response body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyWish {
    /// Nothing.
    #[default]
    Nothing,
    /// To see it pass.
    See,
    /// To put something else in its place, whose length is not known before its end.
    Replace,
}

/// A response while its filters run: the upstream's, or Weir's own.
pub struct FilterResponse<'a> {
    /// The status.
    pub status: u16,
    /// The method of the request.
    pub method: &'a str,
    /// The header fields; changes are sent.
    pub fields: &'a mut dyn FieldsMut,
    /// The endpoint that answered; `None` for a response of Weir's own, and for one from the cache.
    pub endpoint: Option<&'a str>,
    /// It comes from the cache: an endpoint has sent it to somebody before.
    pub cached: bool,
    /// It is an error of Weir's own whose body is the short standard text, which nobody has chosen.
    pub standard: bool,
    /// A filter has put a page in the place of its body.
    pub paged: bool,
    /// The name of the route; empty when none was chosen.
    pub route: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// What the filters asked for. Filters use [`Self::see_body`] and [`Self::replace_body`].
    pub wish: BodyWish,
}

impl FilterResponse<'_> {
    /// Lets [`super::Filter::response_body`] see every piece of this body. It must leave them as they are.
    pub fn see_body(&mut self) {
        self.wish = self.wish.max(BodyWish::See);
    }

    /// Lets [`super::Filter::response_body`] change this body. The proxy sees to the framing: `Content-Length` goes;
    /// what else speaks of the body (`ETag`, `Accept-Ranges`, digests) is the filter's to change.
    pub fn replace_body(&mut self) {
        self.wish = BodyWish::Replace;
    }

    /// May a body follow? Not after HEAD, in 1xx, 204 and 304, or with a length of 0. An HTTP/2 endpoint that ends
    /// its response with the head is found out only later: then no piece comes.
    pub fn may_have_body(&self) -> bool {
        self.method != "HEAD"
            && !matches!(self.status, 100..200 | 204 | 304)
            && self.fields.get(header::CONTENT_LENGTH.as_str()) != Some(b"0")
    }
}
