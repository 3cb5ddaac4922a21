//! What users write of `jwt`, and what is wrong with it.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Challenges, Inner, Jwt,
    algorithm::Algorithm,
    cache::Cache,
    keys::KeySet,
    policy::{Audience, ClaimPath, Policy},
    source::{Remote, Shared, Source},
};
use crate::{
    filter::{
        Filter, Scope,
        credential::{CredentialPlace, is_realm},
        headers::field_name,
    },
    tls::Trust,
    types::{At, Code, ConfigPath, OneOrMany, Secret, Span},
    wire::Url,
};

/// More would make expired tokens good again.
const MAX_LEEWAY: Span = Span::secs(300);

/// The longest `cache`: verifying once an hour is felt by nobody.
const MAX_CACHE: Span = Span::secs(3600);

/// Below this, issuers would be asked all the time.
const MIN_REFRESH: Span = Span::secs(60);
const LEAST_PAUSE: Span = Span::secs(1);

/// Admits by a JSON Web Token. Without a valid one the answer is 401, without what it must claim 403.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// The keys that tokens are verified by.
    pub keys: KeysSpec,
    /// Who may have issued a token (`iss`): one of these. Left out: whoever has the key.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub issuer: OneOrMany<String>,
    /// Whom a token must be for (`aud`): one of these, or `"*"` for anybody. Left out: only tokens that name nobody.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub audience: OneOrMany<String>,
    /// How a token may be signed. Left out: in any way that the keys are for.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub algorithms: OneOrMany<Algorithm>,
    /// What kind of token it must say it is (`typ`), as in `at+jwt`. Left out: any.
    #[serde(default, rename = "type", skip_serializing_if = "OneOrMany::is_absent")]
    pub kind: OneOrMany<String>,
    /// How far the clocks of issuers may differ, 5 m at most.
    #[serde(default = "JwtSpec::default_leeway")]
    pub leeway: Span,
    /// Refuse tokens that never expire.
    #[serde(default = "JwtSpec::yes")]
    pub require_expiry: bool,
    /// Claims that a token must make, whatever they say.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub require: OneOrMany<ClaimPath>,
    /// Scopes that a token must have, all of them (`scope` or `scp`).
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub scopes: OneOrMany<String>,
    /// What claims must say: each one of its values, or a list with one of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<ClaimPath, OneOrMany<String>>,
    /// Where clients put the token: `bearer` (`Authorization: Bearer`), `header:NAME`, `cookie:NAME` or `query:NAME`. The
    /// first that a request has counts.
    #[serde(default = "JwtSpec::default_from")]
    pub from: OneOrMany<CredentialPlace>,
    /// Header fields that tell the endpoint what a token claims. What a client sends in them itself is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims_to_headers: BTreeMap<String, ClaimPath>,
    /// Leave the token in the request that is forwarded.
    #[serde(default)]
    pub forward_token: bool,
    /// Admit requests without a token, too. One that is there must be valid.
    #[serde(default)]
    pub optional: bool,
    /// For how long a token that was valid is not verified again. `0` verifies it with each request.
    #[serde(default = "JwtSpec::default_cache")]
    pub cache: Span,
    /// The name of the protected space, for `WWW-Authenticate`.
    #[serde(default = "JwtSpec::default_realm")]
    pub realm: String,
}

/// Where keys come from: exactly one of `url`, `file` and `secret`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysSpec {
    /// Where the issuer publishes its key set: `https://issuer.example/.well-known/jwks.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A key set in JSON, or public keys in PEM. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ConfigPath>,
    /// A secret of 32 bytes or more that the issuer signs with, for HS256; HS384 needs 48, HS512 needs 64.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub secret: Secret,
    /// How often a URL is fetched, 1 m at least; somewhat earlier where the answer asks for it (`max-age`).
    #[serde(default = "KeysSpec::default_refresh")]
    pub refresh: Span,
    /// A token with a key that is not known has the URL fetched at once, but no more often than this, 1 s at least.
    #[serde(default = "KeysSpec::default_min_refresh")]
    pub min_refresh: Span,
    /// The authorities by which the server of the URL is verified, in PEM. Left out: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigPath>,
    /// Take a URL that is not `https`, on another machine, too.
    #[serde(default)]
    pub allow_http: bool,
}

impl JwtSpec {
    fn default_leeway() -> Span {
        Span::secs(30)
    }
    fn yes() -> bool {
        true
    }
    fn default_from() -> OneOrMany<CredentialPlace> {
        OneOrMany(vec![CredentialPlace::Bearer])
    }
    fn default_cache() -> Span {
        Span::secs(300)
    }
    fn default_realm() -> String {
        "api".into()
    }

    pub(in crate::filter) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let policy = self.policy(at);
        let from = self.places(at);
        let headers = self.headers(at);
        let challenges = self.challenges(at);
        let mut sound = true;
        if self.cache > MAX_CACHE {
            at.key("cache").problem(Code::BadValue, "nothing is gained by so long a time").hint("1h at most; 5m is usual");
            sound = false;
        }
        let source = self.keys.source(&at.key("keys"), scope);
        sound &= source.as_ref().is_none_or(|source| self.fits(source, at));
        let inner = Inner {
            source: source?,
            policy: policy?,
            from: from?,
            told: headers.as_ref()?.iter().map(|(name, _)| name.clone()).collect(),
            headers: headers?,
            challenges: challenges?,
            algorithms: self.algorithms.to_vec(),
            cache: Cache::new(self.cache.get().as_secs_f64()),
            forward_token: self.forward_token,
            optional: self.optional,
        };
        sound.then(|| -> Arc<dyn Filter> { Arc::new(Jwt(Arc::new(inner))) })
    }

    /// Can there be keys for the algorithms that are asked for?
    fn fits(&self, source: &Source, at: &At) -> bool {
        let place = match (&self.keys.url, &self.keys.file) {
            (Some(_), _) => "url",
            (_, Some(_)) => "file",
            _ => "secret",
        };
        let at_keys = at.key("keys").key(place);
        let fits = match source.keys().as_ref().filter(|_| self.keys.url.is_none()) {
            Some(keys) => {
                for skipped in &keys.skipped {
                    at_keys.problem(Code::Ineffective, format!("of the key set, {skipped}"));
                }
                keys.has_any_of(&self.algorithms)
            }
            // What is published is no secret.
            None => self.algorithms.is_absent() || self.algorithms.iter().any(|algorithm| algorithm.hmac().is_none()),
        };
        if !fits {
            at.key("algorithms")
                .problem(Code::Conflict, "no key is for any of these algorithms, so nobody would be admitted")
                .also(at_keys.path(), "these keys")
                .hint("HS384 needs a secret of 48 bytes, HS512 one of 64; others need keys of their own kind");
        }
        fits
    }

    fn policy(&self, at: &At) -> Option<Policy> {
        let mut sound = true;
        if self.leeway > MAX_LEEWAY {
            at.key("leeway").problem(Code::BadValue, "expired tokens would be valid too long").hint("5m at most; 30s is usual");
            sound = false;
        }
        if !self.require_expiry {
            at.key("require_expiry")
                .problem(Code::Insecure, "a token that never expires is valid for whoever finds it")
                .hint("have the issuer set `exp`");
        }
        // RFC 6749 section 3.3, and it stands in a challenge.
        let is_scope =
            |scope: &String| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        for (index, scope) in self.scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope)) {
            let at = if self.scopes.len() == 1 { at.key("scopes") } else { at.key("scopes").index(index) };
            at.problem(Code::BadValue, format!("{scope:?} is no scope")).hint("write one scope to an item of the list");
            sound = false;
        }
        for (claim, _) in self.claims.iter().filter(|(_, values)| values.is_absent()) {
            at.key("claims").key(claim.to_string()).problem(Code::MissingKey, "no value of this claim would be admitted");
            sound = false;
        }
        let audience = match self.audience.iter().any(|one| one == "*") {
            true => Audience::Any,
            false => Audience::These(self.audience.to_vec()),
        };
        sound.then(|| Policy {
            issuers: self.issuer.to_vec(),
            audience,
            kinds: self.kind.to_vec(),
            leeway: self.leeway.get().as_secs_f64(),
            require_expiry: self.require_expiry,
            required: self.require.to_vec(),
            scopes: self.scopes.to_vec(),
            claims: self.claims.iter().map(|(claim, values)| (claim.clone(), values.to_vec())).collect(),
        })
    }

    fn places(&self, at: &At) -> Option<Vec<CredentialPlace>> {
        let mut sound = !self.from.is_absent();
        if !sound {
            at.key("from").problem(Code::MissingKey, "no place is left for a token").hint("write `bearer`");
        }
        for (index, place) in self.from.iter().enumerate() {
            let at_place = if self.from.len() == 1 { at.key("from") } else { at.key("from").index(index) };
            if let CredentialPlace::Header(name) = place {
                sound &= field_name(name.as_str(), &at_place).is_some();
                if let Some((told, _)) = self.claims_to_headers.iter().find(|(told, _)| name.as_str().eq_ignore_ascii_case(told))
                {
                    at_place
                        .problem(Code::Conflict, format!("`{name}` is also a field that tells a claim"))
                        .also(at.key("claims_to_headers").key(told.clone()).path(), "this one")
                        .hint("choose another field for one of them");
                    sound = false;
                }
            }
        }
        sound.then(|| self.from.to_vec())
    }

    fn headers(&self, at: &At) -> Option<Vec<(HeaderName, ClaimPath)>> {
        /// Fields with a meaning that a claim cannot have.
        const TAKEN: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::HOST];
        let each = self.claims_to_headers.iter().map(|(text, claim)| {
            let at = at.key("claims_to_headers").key(text.clone());
            let name = field_name(text, &at)?;
            if TAKEN.contains(&name) {
                at.problem(Code::BadValue, format!("`{name}` means something else")).at_key().hint("choose a field of your own");
                return None;
            }
            Some((name, claim.clone()))
        });
        let each: Vec<Option<_>> = each.collect();
        let headers: Vec<(HeaderName, ClaimPath)> = each.into_iter().collect::<Option<_>>()?;
        let twice =
            headers.iter().enumerate().find(|(index, (name, _))| headers[..*index].iter().any(|(other, _)| other == name));
        if let Some((_, (name, _))) = twice {
            at.key("claims_to_headers").problem(Code::Duplicate, format!("`{name}` is there twice"));
            return None;
        }
        Some(headers)
    }

    fn challenges(&self, at: &At) -> Option<Challenges> {
        let quotable = is_realm(&self.realm, &at.key("realm"));
        let value = |rest: &str| HeaderValue::from_str(&format!("Bearer realm=\"{}\"{rest}", self.realm)).ok();
        let mut lacking = ", error=\"insufficient_scope\"".to_owned();
        if !self.scopes.is_absent() {
            lacking += &format!(", scope=\"{}\"", self.scopes.join(" "));
        }
        let invalid = value(", error=\"invalid_token\"");
        Some(Challenges { missing: value("")?, invalid: invalid?, lacking: value(&lacking)? }).filter(|_| quotable)
    }
}

impl KeysSpec {
    fn default_refresh() -> Span {
        Span::secs(3600)
    }
    fn default_min_refresh() -> Span {
        Span::secs(10)
    }

    fn source(&self, at: &At, scope: &Scope<'_>) -> Option<Source> {
        match (&self.url, &self.file, !self.secret.is_empty()) {
            (Some(url), None, false) => self.remote(url, at, scope),
            (None, Some(file), false) => Source::file(file)
                .inspect_err(|reason| {
                    at.key("file").problem(Code::UnreadableFile, format!("cannot use `{file}`: {reason}"));
                })
                .ok(),
            (None, None, true) => KeySet::of_secret(self.secret.expose().as_bytes())
                .inspect_err(|reason| {
                    at.key("secret").problem(Code::BadValue, reason).hint("`openssl rand -hex 32` makes one for HS256");
                })
                .map(Source::fixed)
                .ok(),
            (None, None, false) => {
                at.problem(Code::MissingKey, "without keys nobody is admitted").hint("add one of `url`, `file` and `secret`");
                None
            }
            _ => {
                at.problem(Code::Conflict, "only one of `url`, `file` and `secret` can say what the keys are");
                None
            }
        }
    }

    fn remote(&self, url: &str, at: &At, scope: &Scope<'_>) -> Option<Source> {
        let mut sound = true;
        for (key, span, least) in [("refresh", self.refresh, MIN_REFRESH), ("min_refresh", self.min_refresh, LEAST_PAUSE)] {
            if span < least {
                at.key(key).problem(Code::BadValue, "the issuer would be asked all the time").hint(format!("{least} at least"));
                sound = false;
            }
        }
        let at_url = at.key("url");
        let address = Url::parse(url);
        let problem = |reason: &String| {
            at_url.problem(Code::BadValue, reason);
        };
        let address = address.inspect_err(problem).ok()?;
        if !address.is_tls() && !address.is_loopback() {
            let message = "whoever is on the way could put their own keys in the answer";
            if self.allow_http {
                at_url.problem(Code::Insecure, message);
            } else {
                at_url.problem(Code::BadValue, message).hint("use `https`, or `allow_http: true` on a network of your own");
                sound = false;
            }
        }
        let identity = format!("jwt {url} {}", self.ca.as_ref().map_or(String::new(), ToString::to_string));
        let shared = scope.shared_by_all(&identity, Shared::default);
        let tls = match address.is_tls() {
            true => Some(self.tls(&address, &shared, at)?),
            false => None,
        };
        let (refresh, min_refresh) = (self.refresh.get(), self.min_refresh.get());
        sound.then(|| Source::url(Remote { name: address.name(), address, tls, refresh, min_refresh }, shared))
    }

    fn tls(&self, address: &Url, shared: &Shared, at: &At) -> Option<Arc<rustls::ClientConfig>> {
        let (trust, key) = match &self.ca {
            Some(ca) => (Trust::File(ca), "ca"),
            None => (Trust::System, "url"),
        };
        if let (None, Some(known)) = (&self.ca, shared.system.get()) {
            return Some(known.clone());
        }
        let config = address
            .client_tls(trust)
            .inspect_err(|error| {
                at.key(key).problem(Code::BadCertificate, error.to_string());
            })
            .ok()??;
        if self.ca.is_none() {
            let _ = shared.system.set(config.clone());
        }
        Some(config)
    }
}
