//! The `basic_auth` filter: who may come in, by a name and a password (RFC 7617).
//!
//! [`users`] knows the hashes, [`verify`] when one is computed: a password is slow to verify on purpose, so this happens
//! beside the threads that serve requests, a few at a time, and once for the many requests that a page makes.

#[cfg(test)]
mod tests;
mod users;
mod verify;

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, Scope, Slot, Verdict, alike::remove_alike, credential::is_realm, headers::field_name};
use crate::types::{At, Code, ConfigPath, Reply, Span};
use users::Users;
use verify::{Turns, Verifier};

/// The longest `cache`: what is remembered is a fast hash, though a keyed one, so it is not kept for days.
const MAX_CACHE: Span = Span::secs(3600);

/// Admits by a name and a password. Without the right ones the answer is 401.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuthSpec {
    /// The file of users, one `name:hash` to a line, hashed with bcrypt (`htpasswd -B -C 12`) or argon2id.
    pub users: ConfigPath,
    /// The name of the protected space, which browsers show.
    #[serde(default = "BasicAuthSpec::default_realm")]
    pub realm: String,
    /// The header field that tells the endpoint the user's name. What a client sends in it itself is removed.
    #[serde(default = "BasicAuthSpec::default_user_header")]
    pub user_header: String,
    /// Leave the password in the request that is forwarded.
    #[serde(default)]
    pub forward_password: bool,
    /// For how long a password that was right is not verified again. `0` verifies it with each request.
    #[serde(default = "BasicAuthSpec::default_cache")]
    pub cache: Span,
}

impl BasicAuthSpec {
    fn default_realm() -> String {
        "restricted".into()
    }
    fn default_user_header() -> String {
        "x-auth-user".into()
    }
    fn default_cache() -> Span {
        Span::secs(60)
    }

    pub(super) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let quotable = is_realm(&self.realm, &at.key("realm"));
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        let challenge = HeaderValue::from_str(&challenge).ok().filter(|_| quotable);
        if self.cache > MAX_CACHE {
            at.key("cache")
                .problem(Code::BadValue, "a password would be taken for right too long")
                .hint("1h at most; 60s is usual");
            sound = false;
        }
        let header_at = at.key("user_header");
        let user_header = field_name(&self.user_header, &header_at);
        if user_header == Some(header::AUTHORIZATION) {
            header_at.problem(Code::Conflict, "`authorization` is where the password comes from").hint("choose another field");
            sound = false;
        }
        let users = Users::read(&self.users, &at.key("users"))?;
        let turns = scope.shared_by_all("basic_auth", Turns::of_this_machine);
        let Some(verifier) = Verifier::new(users, turns, self.cache.limit().unwrap_or(Duration::ZERO)) else {
            at.problem(Code::Conflict, "the system gives no random numbers, without which passwords cannot be kept");
            return None;
        };
        let admission = Admission { user_header: user_header?, forward_password: self.forward_password, challenge: challenge? };
        sound.then(|| -> Arc<dyn Filter> { Arc::new(BasicAuth { verifier: Arc::new(verifier), admission: Arc::new(admission) }) })
    }
}

#[derive(Debug)]
struct BasicAuth {
    verifier: Arc<Verifier>,
    admission: Arc<Admission>,
}

/// What is done once it is known who asks.
#[derive(Debug)]
struct Admission {
    user_header: HeaderName,
    forward_password: bool,
    challenge: HeaderValue,
}

impl Admission {
    fn admit(&self, user: HeaderValue, request: &mut FilterRequest<'_>) -> Verdict {
        remove_alike(request.fields, std::slice::from_ref(&self.user_header));
        request.fields.set(self.user_header.clone(), user);
        request.keeping.personal = true;
        if !self.forward_password {
            request.fields.remove(&header::AUTHORIZATION);
        }
        Verdict::Continue
    }

    fn refuse(&self, reason: &'static str) -> Verdict {
        Verdict::Answer { reply: Reply::status(401).with(header::WWW_AUTHENTICATE, self.challenge.clone()), reason }
    }

    /// Not 401: browsers would ask for another password.
    fn busy() -> Verdict {
        let reply = Reply::status(503).with(header::RETRY_AFTER, HeaderValue::from_static("1"));
        Verdict::Answer { reply, reason: "basic_auth_busy" }
    }
}

/// What a request has in `Authorization`.
enum Sent {
    Nothing,
    Credentials(String, Vec<u8>),
    /// Two of them, or none that could be any.
    Unusable,
}

fn sent(request: &FilterRequest<'_>) -> Sent {
    let mut values = request.fields.get_all(header::AUTHORIZATION.as_str());
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(value), None) => one(value),
        // Who reads the first of two and who reads the last would not agree on who asks.
        _ => Sent::Unusable,
    }
}

fn one(value: &[u8]) -> Sent {
    let (scheme, token) = value.split_at(value.iter().position(|&b| b == b' ').unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Sent::Nothing;
    }
    let credentials = BASE64_STANDARD.decode(token.trim_ascii()).ok().and_then(|pair| String::from_utf8(pair).ok());
    // RFC 7617 section 2 forbids control characters; bcrypt would end the password at a NUL.
    let credentials = credentials.filter(|pair| !pair.chars().any(char::is_control));
    match credentials.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((name, password)) => Sent::Credentials(name.to_owned(), password.as_bytes().to_vec()),
        None => Sent::Unusable,
    }
}

impl Filter for BasicAuth {
    fn kind(&self) -> &'static str {
        "basic_auth"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let (name, password) = match sent(request) {
            Sent::Nothing => return self.admission.refuse("basic_auth_missing"),
            Sent::Unusable => return self.admission.refuse("basic_auth_invalid"),
            Sent::Credentials(name, password) => (name, password),
        };
        let tag = self.verifier.tag(&name, &password);
        if let Some(user) = self.verifier.known(&tag) {
            return self.admission.admit(user, request);
        }
        let (verifier, admission) = (self.verifier.clone(), self.admission.clone());
        Verdict::later(async move {
            let verified = verifier.verify(tag, name, password).await;
            move |request: &mut FilterRequest<'_>, _: &mut Slot| match verified {
                Ok(Some(user)) => admission.admit(user, request),
                Ok(None) => admission.refuse("basic_auth_invalid"),
                Err(()) => Admission::busy(),
            }
        })
    }
}
