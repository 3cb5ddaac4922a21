//! The response's head: is it HTTP, what is changed in it, and how its body is framed on its way to the client.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Exchange, filters, told};
use crate::{
    filter::BodyWish,
    gate::{
        self, Upgrade, Version,
        hop::{self, Onward},
        response::{BadResponse, ResponseFraming, has_body},
    },
    types::{Phase, Scheme},
};

/// What a response head from an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// An interim one (1xx): another follows.
    Interim,
    /// The request is sent to another endpoint, and this response is dropped.
    Again,
    /// The final one, or one that opens a tunnel.
    Final(ResponseFraming),
}

/// Whose response it is.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// The endpoint with this label.
    Endpoint(&'a str),
    /// An endpoint's, kept since.
    Cache,
    /// Weir's.
    Weir {
        /// Its body is the short standard text.
        standard: bool,
    },
}

/// How the client knows where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// HTTP/1 chunks.
    Chunked,
    /// Where the connection or, in HTTP/2, the stream ends.
    UntilEnd,
}

/// How a response goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The end of its body.
    pub framing: Framing,
    /// Another response may follow on the connection.
    pub keep_alive: bool,
}

impl Exchange {
    /// The head of a response (of any status, 1xx too) came from the endpoint. `at_hand` as for [`Exchange::failed`].
    ///
    /// # Errors
    /// When it breaks HTTP: what it means cannot be told.
    pub fn received(
        &mut self,
        status: StatusCode,
        version: Version,
        fields: &HeaderMap,
        at_hand: bool,
    ) -> Result<Received, BadResponse> {
        let code = status.as_u16();
        let framing = gate::response::admit_response(&self.outcome.method, code, version, self.upgrades(), fields)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Received::Interim);
        }
        let again = self.again_for_status(code, at_hand);
        self.attempt_answered(code);
        if again {
            return Ok(Received::Again);
        }
        self.outcome.phase = Phase::Response;
        // The attempt has answered in time. What is left is the exchange's, and silence, in which a tunnel may be as long as it likes.
        self.answer_by = None;
        Ok(Received::Final(framing))
    }

    /// How long both sides may be silent while the response is passed on.
    pub fn silence(&self) -> Option<std::time::Duration> {
        let idle = self.connection.listener.http.body_idle_timeout.limit();
        let each = self.route.as_ref().and_then(|route| route.retry.per_try_timeout());
        idle.into_iter().chain(each).min()
    }

    /// Takes out of a head what was meant for us alone (RFC 9110 section 7.6.1). Trailers go on only where both sides have a way for
    /// them.
    pub fn clean(&self, status: StatusCode, fields: &mut HeaderMap, trailers: bool) {
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade: Option<Upgrade> = self.admitted.upgrade.filter(|_| upgraded);
        hop::strip_response(fields, Onward { upgrade, trailers });
        if status == StatusCode::NO_CONTENT || status.is_informational() {
            fields.remove(header::CONTENT_LENGTH);
        }
    }

    /// Makes the final head the client's: filters in reverse, the session's cookie, the framing. It was cleaned before.
    pub fn respond(&mut self, status: StatusCode, fields: &mut HeaderMap, framing: ResponseFraming, cached: bool) -> Plan {
        self.outcome.status = status.as_u16();
        if cached {
            // No endpoint has sent this: the one that was asked in vain least of all.
            self.attempt = None;
        }
        let endpoint = self.attempt.as_ref().map(|attempt| attempt.guard.endpoint().label().clone());
        let origin = match endpoint.as_deref() {
            Some(endpoint) => Origin::Endpoint(endpoint),
            None if cached => Origin::Cache,
            None => Origin::Weir { standard: false },
        };
        self.map_back(fields);
        let wish = filters::response(fields, origin, self);
        self.keep(fields);
        told::tell(fields, self);
        self.plan(status, fields, framing, wish == BodyWish::Replace)
    }

    /// How the body goes on, and the fields that say so.
    pub(super) fn plan(&self, status: StatusCode, fields: &mut HeaderMap, framing: ResponseFraming, replaced: bool) -> Plan {
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        if replaced {
            fields.remove(header::CONTENT_LENGTH);
        }
        let old = self.admitted.http == Version::Http10;
        let open = match self.admitted.http {
            // Knows no chunks (RFC 9112 section 6.1): the body ends where the connection does.
            Version::Http10 | Version::Http2 | Version::Http3 => Framing::UntilEnd,
            Version::Http11 => Framing::Chunked,
        };
        let framing = match framing {
            _ if !has_body(&self.outcome.method, status.as_u16()) => Framing::None,
            ResponseFraming::None => Framing::None,
            _ if replaced => open,
            ResponseFraming::Length(length) => Framing::Length(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => open,
        };
        match framing {
            Framing::Chunked => drop(fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
            Framing::None if !old => {}
            _ => drop(fields.remove(header::TRANSFER_ENCODING)),
        }
        let ends = framing == Framing::UntilEnd && self.admitted.http.is_http1();
        let keep_alive = self.admitted.keep_alive && !ends && !upgraded && self.connection.stays_open();
        Plan { framing, keep_alive }
    }

    /// Keeps the client with the endpoint that answered, where the upstream wants that. After the filters, so that one
    /// that removes the endpoint's own cookies does not end sessions.
    fn keep(&self, fields: &mut HeaderMap) {
        let (Some(attempts), Some(attempt)) = (&self.attempts, &self.attempt) else { return };
        let (secure, now) = (self.client.scheme == Scheme::Https, self.began.time);
        if let Some(cookie) = attempts.upstream().set_cookie(attempts.pinned(), attempt.guard.endpoint(), secure, now) {
            fields.append(header::SET_COOKIE, cookie);
        }
    }
}
