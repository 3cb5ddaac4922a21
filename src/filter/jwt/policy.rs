//! What a token must claim, once it is known that it was signed (RFC 7519 section 4.1, RFC 8725), and what of it
//! the endpoint is told.

use std::{fmt, str::FromStr};

use http::HeaderValue;
use serde_json::{Number, Value};

use crate::string_type;

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no token.
    Missing,
    /// What is there is no token, or there are two.
    Malformed,
    /// It is signed in a way that is not allowed, or that no key of this issuer does.
    Algorithm,
    /// It is signed by a key that nobody knows.
    Key,
    /// It was not signed by the key it names.
    Signature,
    /// Its time has passed, or it does not say when that is.
    Expired,
    /// It is from the future.
    Early,
    /// Somebody else has issued it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It is a token for another purpose.
    Type,
    /// It lacks a scope.
    Scope,
    /// It lacks a claim, or claims something else.
    Claim,
    /// What it claims cannot stand in a header field.
    Header,
    /// No keys have been fetched yet.
    NoKeys,
}

impl Refusal {
    /// The word in the log. Clients are told less.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "jwt_missing",
            Self::Malformed => "jwt_malformed",
            Self::Algorithm => "jwt_algorithm",
            Self::Key => "jwt_key",
            Self::Signature => "jwt_signature",
            Self::Expired => "jwt_expired",
            Self::Early => "jwt_early",
            Self::Issuer => "jwt_issuer",
            Self::Audience => "jwt_audience",
            Self::Type => "jwt_type",
            Self::Scope => "jwt_scope",
            Self::Claim => "jwt_claim",
            Self::Header => "jwt_header",
            Self::NoKeys => "jwt_no_keys",
        }
    }
}

/// A claim: the name of one, or a JSON Pointer (RFC 6901) to what is inside one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// The claim, if the token makes it. `null` is none.
    pub(super) fn find<'c>(&self, claims: &'c Value) -> Option<&'c Value> {
        let found = if self.0.starts_with('/') { claims.pointer(&self.0) } else { claims.get(&self.0) };
        found.filter(|claim| !claim.is_null())
    }
}

impl FromStr for ClaimPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "/" => Err(format!("`{text}` is no claim; write its name, or `/name/inside` for what is inside of one")),
            _ => Ok(Self(text.into())),
        }
    }
}
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
string_type!(ClaimPath, "ClaimPath", "The name of a claim, or a JSON Pointer such as `/realm_access/roles`.", None);

/// What tokens are for.
#[derive(Debug)]
pub(super) enum Audience {
    /// For anybody.
    Any,
    /// For one of these. Where there is none, only tokens that are for nobody in particular.
    These(Vec<String>),
}

#[derive(Debug)]
pub(super) struct Policy {
    /// One of these has issued it, if any is named.
    pub(super) issuers: Vec<String>,
    pub(super) audience: Audience,
    /// `typ` is one of these, if any is named.
    pub(super) kinds: Vec<String>,
    /// Seconds that clocks may differ by.
    pub(super) leeway: f64,
    pub(super) require_expiry: bool,
    pub(super) required: Vec<ClaimPath>,
    /// It has all of these.
    pub(super) scopes: Vec<String>,
    /// Each of these claims is one of these values, or a list with one of them.
    pub(super) claims: Vec<(ClaimPath, Vec<String>)>,
}

impl Policy {
    /// Is such a token admitted now, in seconds since 1970? Until when?
    pub(super) fn check(&self, kind: Option<&str>, claims: &Value, now: f64) -> Result<f64, Refusal> {
        if !self.kinds.is_empty() && !kind.is_some_and(|kind| self.kinds.iter().any(|wanted| same_type(wanted, kind))) {
            return Err(Refusal::Type);
        }
        let until = self.times(claims, now)?;
        self.whose(claims)?;
        let held = scopes(claims);
        if !self.scopes.iter().all(|scope| held.contains(&scope.as_str())) {
            return Err(Refusal::Scope);
        }
        let there = self.required.iter().all(|claim| claim.find(claims).is_some());
        let fitting = self.claims.iter().all(|(claim, values)| claim.find(claims).is_some_and(|claim| is_one_of(claim, values)));
        if there && fitting { Ok(until) } else { Err(Refusal::Claim) }
    }

    fn times(&self, claims: &Value, now: f64) -> Result<f64, Refusal> {
        // A time that is no number is no time: to pass it over would be to admit by it.
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(time) => time.as_f64().map(Some).ok_or(Refusal::Malformed),
        };
        let (expiry, begin, issued) = (time("exp")?, time("nbf")?, time("iat")?);
        let until = match expiry {
            Some(expiry) => expiry + self.leeway,
            None if self.require_expiry => return Err(Refusal::Expired),
            None => f64::INFINITY,
        };
        if now >= until {
            return Err(Refusal::Expired);
        }
        match [begin, issued].into_iter().flatten().any(|time| time > now + self.leeway) {
            true => Err(Refusal::Early),
            false => Ok(until),
        }
    }

    fn whose(&self, claims: &Value) -> Result<(), Refusal> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !self.issuers.is_empty() && !issuer.is_some_and(|issuer| self.issuers.iter().any(|known| known == issuer)) {
            return Err(Refusal::Issuer);
        }
        match (&self.audience, claims.get("aud")) {
            (Audience::Any, _) => Ok(()),
            // RFC 7519 section 4.1.3: who does not find itself there must refuse it.
            (Audience::These(wanted), None) => {
                if wanted.is_empty() {
                    Ok(())
                } else {
                    Err(Refusal::Audience)
                }
            }
            (Audience::These(wanted), Some(named)) => {
                match strings(named).iter().any(|one| wanted.iter().any(|known| known == one)) {
                    true => Ok(()),
                    false => Err(Refusal::Audience),
                }
            }
        }
    }
}

/// `application/` may be left out, and case does not matter (RFC 7515 section 4.1.9).
fn same_type(one: &str, other: &str) -> bool {
    fn short(text: &str) -> &str {
        match text.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => text,
        }
    }
    short(one).eq_ignore_ascii_case(short(other))
}

/// One string, or a list of them.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The scopes of a token: words in `scope` (RFC 8693 section 4.2), or a list or words in `scp`, as some issuers have it.
fn scopes(claims: &Value) -> Vec<&str> {
    let named = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name));
    named.flat_map(strings).flat_map(|words| words.split(' ')).collect()
}

fn is_one_of(claim: &Value, values: &[String]) -> bool {
    let is = |claim: &Value| match claim {
        Value::String(text) => values.contains(text),
        Value::Number(number) if !is_exact(number) => false,
        Value::Bool(_) | Value::Number(_) => values.contains(&claim.to_string()),
        _ => false,
    };
    match claim {
        Value::Array(many) => many.iter().any(is),
        one => is(one),
    }
}

/// Does it still say what the issuer wrote? Of longer whole numbers than these the last digits are lost, and two that are not the
/// same (the ids of two people) would be.
fn is_exact(number: &Number) -> bool {
    const WHOLE: f64 = (1_u64 << 53) as f64;
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.abs() < WHOLE)
}

/// A claim as the value of a header field. A list is its items with commas between them.
///
/// What an endpoint would read as something else is refused: control characters, spaces around it, which are
/// dropped on the way, commas inside the items of a list, and numbers that are too long to be told exactly.
pub(super) fn header_value(claim: &Value) -> Result<HeaderValue, Refusal> {
    let scalar = |claim: &Value| match claim {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if !is_exact(number) => Err(Refusal::Header),
        Value::Bool(_) | Value::Number(_) => Ok(claim.to_string()),
        _ => Err(Refusal::Header),
    };
    let text = match claim {
        Value::Array(many) => {
            let items = many.iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
            if items.iter().any(|item| item.contains(',') || item.trim() != item || item.is_empty()) {
                return Err(Refusal::Header);
            }
            items.join(",")
        }
        one => scalar(one)?,
    };
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(Refusal::Header);
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Refusal::Header)
}
