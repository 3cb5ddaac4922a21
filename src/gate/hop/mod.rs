//! What an intermediary changes in a message that it passes on (RFC 9110 section 7.6).
//!
//! Functions over a [`HeaderMap`]. A driver calls [`strip_request`] and [`UnderscoreFields::apply`] before the filters run, so
//! that a client cannot use Connection to take away what a filter has set; then [`Forwarded::apply`] and Via. A response
//! passes [`strip_response`] alone.
//! Content-Length and Transfer-Encoding stay: framing belongs to the driver that writes the message.

mod forwarded;
mod names;
mod underscores;
mod via;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, COOKIE, TE, UPGRADE},
};
use smallvec::SmallVec;

pub use forwarded::{Forwarded, Peer};
pub use names::{CONNECTION_FIELDS, is_forbidden_trailer};
use names::{is_hop_by_hop, is_protected};
pub(super) use underscores::is_suspicious;
pub use underscores::{DropReason, Dropped, UnderscoreFields};
pub use via::{MAX_PASSES, PSEUDONYM, via};

use super::{Refusal, Upgrade, syntax::elements};

/// What survives of the connection's own fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Onward {
    /// The message asks for an upgrade, or agrees to one.
    pub upgrade: Option<Upgrade>,
    /// Trailers of this message are passed on, so its Trailer field is true.
    pub trailers: bool,
}

/// Removes what was meant for this connection from a request.
///
/// TE goes on as `trailers` when the client said so, and only then. Proxy-Authorization is removed too: it was
/// addressed to a proxy, which is us, and a service must not see it. `Proxy` is removed for services that make it the
/// environment variable `HTTP_PROXY` (CVE-2016-5385).
pub fn strip_request(fields: &mut HeaderMap, onward: Onward) {
    let te = fields.get_all(TE).iter().any(|value| elements(value.as_bytes()).any(|e| e.eq_ignore_ascii_case(b"trailers")));
    strip(fields, onward);
    if te {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what was meant for this connection from a response.
///
/// Proxy-Authenticate is removed too: Weir asks for no proxy credentials, and a browser that is asked would send them.
pub fn strip_response(fields: &mut HeaderMap, onward: Onward) {
    strip(fields, onward);
}

fn strip(fields: &mut HeaderMap, onward: Onward) {
    let own = |name: &&HeaderName| is_hop_by_hop(name.as_str()) || (name.as_str() == "trailer" && !onward.trailers);
    // Most requests over a connection that stays open have nothing of this.
    if onward.upgrade.is_none() && !fields.keys().any(|name| own(&name)) {
        return;
    }
    let mut gone: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for value in fields.get_all(CONNECTION) {
        let nominated = elements(value.as_bytes()).filter_map(|option| HeaderName::from_bytes(option).ok());
        gone.extend(nominated.filter(|name| fields.contains_key(name) && !is_protected(name.as_str())));
    }
    gone.extend(fields.keys().filter(own).cloned());
    for name in &gone {
        fields.remove(name);
    }
    if onward.upgrade.is_some() {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// What becomes of an OPTIONS request with Max-Forwards (RFC 9110 section 7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxForwards {
    /// No such field: pass it on as it is.
    Unbounded,
    /// The request ends here: answer it.
    Answer,
    /// Pass it on with this value.
    Forward(u8),
}

/// Decides by [`super::Admitted::max_forwards`].
pub const fn max_forwards(value: Option<u8>) -> MaxForwards {
    match value {
        None => MaxForwards::Unbounded,
        Some(0) => MaxForwards::Answer,
        Some(hops) => MaxForwards::Forward(hops - 1),
    }
}

/// Joins the cookie lines of an HTTP/2 request into the one that HTTP/1 allows (RFC 9113 section 8.2.3).
pub fn join_cookies(fields: &mut HeaderMap) -> Result<(), Refusal> {
    let mut lines = fields.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return Ok(()) };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).map_err(|_| Refusal::BadFieldValue)?;
    fields.insert(COOKIE, joined);
    Ok(())
}

#[cfg(test)]
mod tests;
