//! Sessions that stay with an endpoint: a signed cookie, around any strategy.
//!
//! The cookie is `ENDPOINT EXPIRES SIGNATURE` in hexadecimal. The endpoint is named by a keyed hash of its
//! upstream and address: that says nothing about the network behind the edge, is the same after a reload or on
//! another edge with the same secret, and does not depend on which other endpoints there are. The signature
//! (HMAC-SHA256, RFC 2104) keeps clients from choosing their endpoint or their time.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{At, Code, Name, RequestHead, Secret, Span, hex};

/// A shorter secret can be guessed.
const LEAST_SECRET: usize = 16;
/// A longer name is a mistake.
const MOST_NAME: usize = 64;

/// Sessions that stay with an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StickySpec {
    /// The name of the cookie.
    pub cookie: String,
    /// How long a session lasts without a request.
    pub ttl: Span,
    /// Signs the cookies, at least 16 bytes; the same on each edge that shares the sessions. When left out it is
    /// random and lasts as long as the process.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub secret: Secret,
}

impl Default for StickySpec {
    fn default() -> Self {
        Self { cookie: "weir_affinity".into(), ttl: Span::secs(3600), secret: Secret::default() }
    }
}

/// A key that nobody wrote: one per upstream and process.
pub struct RandomKey([u8; 32]);

impl RandomKey {
    /// Another one.
    pub fn generate() -> Self {
        Self(rand::random())
    }
}

impl StickySpec {
    /// The compiled form; `random` signs where there is no secret. Problems are reported at `at`.
    pub fn compile(&self, upstream: &Name, random: &RandomKey, at: &At) -> Option<Sticky> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let mut fine = true;
        if self.cookie.is_empty() || self.cookie.len() > MOST_NAME || !self.cookie.bytes().all(token) {
            let message = format!("`{}` cannot be the name of a cookie", self.cookie.escape_default());
            at.key("cookie").problem(Code::BadValue, message).hint("write `weir_affinity`");
            fine = false;
        }
        // `Max-Age` counts in seconds. The longest span is shorter than what browsers keep a cookie for, 400 days.
        let ttl = self.ttl.get().as_secs();
        if ttl == 0 {
            at.key("ttl").problem(Code::BadValue, "a session lasts at least `1s`").hint("write `1h`");
            fine = false;
        }
        if !self.secret.is_empty() && self.secret.expose().len() < LEAST_SECRET {
            at.key("secret").problem(Code::BadValue, format!("a secret of less than {LEAST_SECRET} bytes can be guessed"));
            fine = false;
        }
        let secret = if self.secret.is_empty() { &random.0[..] } else { self.secret.expose().as_bytes() };
        fine.then(|| Sticky {
            cookie: self.cookie.clone(),
            ttl,
            upstream: upstream.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        })
    }
}

const ID: usize = 16;
const EXPIRES: usize = 8;
const SIGNATURE: usize = 32;
const COOKIE: usize = ID + EXPIRES + SIGNATURE;

/// What a cookie calls an endpoint.
pub type StickyId = [u8; ID];

/// Signs and reads the cookies of one upstream.
#[derive(Debug)]
pub struct Sticky {
    cookie: String,
    /// In seconds.
    ttl: u64,
    upstream: Name,
    key: hmac::Key,
}

impl Sticky {
    /// What cookies call the endpoint with this address.
    pub fn id(&self, address: &str) -> StickyId {
        let hash = hmac::sign(&self.key, &self.message(b"endpoint", address.as_bytes()));
        let mut id = StickyId::default();
        id.copy_from_slice(&hash.as_ref()[..ID]);
        id
    }

    /// What the request's cookie says: the endpoint, and whether more than half of the time is left. `None`
    /// without a cookie that is ours, this upstream's and not expired.
    pub fn read(&self, head: &RequestHead<'_>, now: SystemTime) -> Option<(StickyId, bool)> {
        let cookie = unhex(head.cookie(&self.cookie)?)?;
        let (signed, signature) = cookie.split_at(ID + EXPIRES);
        // Compares in constant time.
        hmac::verify(&self.key, &self.message(b"cookie", signed), signature).ok()?;
        let (id, expires) = signed.split_at(ID);
        let left = u64::from_be_bytes(expires.try_into().ok()?).saturating_sub(seconds(now));
        (left > 0).then_some((id.try_into().ok()?, left > self.ttl / 2))
    }

    /// The `Set-Cookie` that keeps a client with this endpoint from now on.
    pub fn write(&self, id: &StickyId, secure: bool, now: SystemTime) -> Option<HeaderValue> {
        let Self { cookie: name, ttl, .. } = self;
        let mut cookie = [0; COOKIE];
        cookie[..ID].copy_from_slice(id);
        cookie[ID..ID + EXPIRES].copy_from_slice(&(seconds(now) + ttl).to_be_bytes());
        let signature = hmac::sign(&self.key, &self.message(b"cookie", &cookie[..ID + EXPIRES]));
        cookie[ID + EXPIRES..].copy_from_slice(signature.as_ref());
        let secure = if secure { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{name}={}; Path=/; Max-Age={ttl}; HttpOnly; SameSite=Lax{secure}", hex(&cookie))).ok()
    }

    /// A name holds no zero byte, so no two messages of different kinds or upstreams are the same bytes.
    fn message(&self, kind: &[u8], what: &[u8]) -> Vec<u8> {
        [kind, b"\0", self.upstream.as_str().as_bytes(), b"\0", what].concat()
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// As [`hex`] writes it and not otherwise.
fn unhex(text: &str) -> Option<[u8; COOKIE]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * COOKIE {
        return None;
    }
    let mut bytes = [0; COOKIE];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Problems;

    const NOW: SystemTime = UNIX_EPOCH;

    fn sticky(upstream: &str, secret: &str) -> Sticky {
        let spec = StickySpec { secret: secret.to_owned().into(), ..StickySpec::default() };
        spec.compile(&upstream.parse().unwrap(), &RandomKey([7; 32]), &Problems::default().root()).unwrap()
    }
    fn after(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }
    /// The `name=value` of a `Set-Cookie`.
    fn pair(set: &HeaderValue) -> String {
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }
    fn read(sticky: &Sticky, cookie: &str, now: SystemTime) -> Option<(StickyId, bool)> {
        let fields = http::HeaderMap::from_iter([(http::header::COOKIE, cookie.parse().unwrap())]);
        sticky.read(&RequestHead { method: "GET", host: "a", path: "/", query: None, fields: &fields }, now)
    }

    #[test]
    fn a_cookie_names_the_endpoint_until_it_expires() {
        let sticky = sticky("api", "");
        let id = sticky.id("127.0.0.1:1");
        assert_ne!(id, sticky.id("127.0.0.1:2"));
        let set = sticky.write(&id, false, NOW).unwrap();
        let cookie = pair(&set);
        assert_eq!(set, format!("{cookie}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"));
        assert!(sticky.write(&id, true, NOW).unwrap().to_str().unwrap().ends_with("; SameSite=Lax; Secure"));
        for (then, want) in [(0, Some(true)), (1799, Some(true)), (1800, Some(false)), (3599, Some(false)), (3600, None)] {
            assert_eq!(read(&sticky, &format!("a=b; {cookie}; c=d"), after(then)), want.map(|fresh| (id, fresh)), "{then}");
        }
        assert_eq!(read(&sticky, "a=b", NOW), None);
    }

    #[test]
    fn what_another_wrote_does_not_count() {
        let (ours, secret) = (sticky("api", ""), sticky("api", "0123456789abcdef"));
        let id = ours.id("127.0.0.1:1");
        let cookie = pair(&ours.write(&id, false, NOW).unwrap());
        let start = cookie.find('=').unwrap() + 1;
        for at in start..cookie.len() {
            let mut forged = cookie.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(read(&ours, &String::from_utf8(forged).unwrap(), NOW), None, "{at}");
        }
        for wrong in ["".to_owned(), cookie[start..].to_uppercase(), format!("{}00", &cookie[start..]), "0".repeat(2 * COOKIE)] {
            assert_eq!(read(&ours, &format!("weir_affinity={wrong}"), NOW), None, "{wrong}");
        }
        assert_eq!(read(&sticky("web", ""), &cookie, NOW), None, "another upstream's");
        assert_eq!(read(&secret, &cookie, NOW), None, "signed with another key");
        assert_ne!(sticky("web", "").id("127.0.0.1:1"), id);
        assert_ne!(secret.id("127.0.0.1:1"), id, "what endpoints are called cannot be worked out without the key");
        let elsewhere = pair(&secret.write(&secret.id("127.0.0.1:1"), false, NOW).unwrap());
        assert!(read(&sticky("api", "0123456789abcdef"), &elsewhere, NOW).is_some(), "another edge with the same secret");
    }
}
