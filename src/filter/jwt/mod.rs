//! The `jwt` filter: who may come in, by a JSON Web Token (RFC 7519, RFC 6750) and the rules of RFC 8725.
//!
//! [`token`] reads what clients send, [`keys`] knows who signed it, [`policy`] what it must claim. [`source`] keeps keys
//! current, with [`fetch`] to ask for them; [`cache`] remembers what was verified. Signatures are verified by
//! aws-lc directly, like everything else here: what libraries for tokens add to that is the policy, which is ours to decide.
//!
//! A signature is verified where the request is, without another thread: it takes less than the way there and back.

mod algorithm;
mod cache;
mod fetch;
mod keys;
mod policy;
mod source;
mod spec;
#[cfg(test)]
mod tests;
mod token;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderName, HeaderValue, header};
use tokio::sync::watch;

use super::{
    Filter, FilterRequest, FilterTask, Slot, Verdict,
    alike::remove_alike,
    credential::{CredentialPlace, Sent},
};
use crate::{observe::Sample, types::Reply};
use algorithm::Algorithm;
use cache::{Admitted, Cache};
use policy::{ClaimPath, Policy, Refusal, header_value};
use source::Source;
pub use spec::JwtSpec;
use token::{MAX_TOKEN, Token};

#[derive(Debug)]
struct Jwt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    policy: Policy,
    from: Vec<CredentialPlace>,
    /// What the endpoint is told, and of which claim.
    headers: Vec<(HeaderName, ClaimPath)>,
    /// Their names: what a client sends in them, or in fields that pass for them, is removed.
    told: Vec<HeaderName>,
    challenges: Challenges,
    /// None: all that the keys are for.
    algorithms: Vec<Algorithm>,
    cache: Cache,
    forward_token: bool,
    optional: bool,
}

/// The values of `WWW-Authenticate` (RFC 6750 section 3). They tell an attacker nothing about what was wrong.
#[derive(Debug)]
struct Challenges {
    missing: HeaderValue,
    invalid: HeaderValue,
    lacking: HeaderValue,
}

/// What is known of a request.
enum Judged {
    Admitted(Arc<Admitted>),
    /// Without a token, where none is needed.
    Anonymous,
    Refused(Refusal),
}

impl Inner {
    fn verdict(self: &Arc<Self>, request: &mut FilterRequest<'_>, may_wait: bool) -> Verdict {
        match self.judge(request) {
            Judged::Anonymous => Verdict::Continue,
            Judged::Admitted(admitted) => {
                self.admit(&admitted, request);
                Verdict::Continue
            }
            Judged::Refused(refusal @ (Refusal::Key | Refusal::NoKeys)) if may_wait => match self.source.ask() {
                None => self.refuse(refusal),
                Some(asked) => {
                    let inner = self.clone();
                    Verdict::later(async move {
                        asked.await;
                        move |request: &mut FilterRequest<'_>, _: &mut Slot| inner.verdict(request, false)
                    })
                }
            },
            Judged::Refused(refusal) => self.refuse(refusal),
        }
    }

    fn judge(&self, request: &FilterRequest<'_>) -> Judged {
        let sent = self.from.iter().map(|place| place.sent(request)).find(|sent| !matches!(sent, Sent::Nothing));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        match sent {
            None | Some(Sent::Nothing) if self.optional => Judged::Anonymous,
            None | Some(Sent::Nothing) => Judged::Refused(Refusal::Missing),
            Some(Sent::Unusable) => Judged::Refused(Refusal::Malformed),
            Some(Sent::One(token)) => self.verify(&token, now).map_or_else(Judged::Refused, Judged::Admitted),
        }
    }

    /// Is this token admitted, in seconds since 1970?
    fn verify(&self, text: &str, now: f64) -> Result<Arc<Admitted>, Refusal> {
        if text.len() > MAX_TOKEN {
            return Err(Refusal::Malformed);
        }
        let keys = self.source.keys();
        let keys = keys.as_ref().ok_or(Refusal::NoKeys)?;
        let tag = self.cache.tag(text);
        if let Some(known) = tag.and_then(|tag| self.cache.get(&tag, &keys.digest, now)) {
            return Ok(known);
        }
        let token = Token::parse(text).map_err(|_| Refusal::Malformed)?;
        keys.verify(&token, &self.algorithms)?;
        let claims = token.claims().map_err(|_| Refusal::Malformed)?;
        let until = self.policy.check(token.kind.as_deref(), &claims, now)?;
        let told = self.headers.iter().map(|(_, claim)| claim.find(&claims).map(header_value).transpose());
        let admitted = Admitted { told: told.collect::<Result<_, _>>()?, keys: keys.digest, until };
        Ok(match tag {
            Some(tag) => self.cache.put(tag, admitted, now),
            None => Arc::new(admitted),
        })
    }

    fn admit(&self, admitted: &Admitted, request: &mut FilterRequest<'_>) {
        request.keeping.personal = true;
        for ((name, _), value) in self.headers.iter().zip(&admitted.told) {
            if let Some(value) = value {
                request.fields.set(name.clone(), value.clone());
            }
        }
        if !self.forward_token {
            // From every place: what was not looked at may be a token, too.
            for place in &self.from {
                if !matches!(place.sent(request), Sent::Nothing) {
                    place.remove(request);
                }
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Verdict {
        let challenge = |status, challenge: &HeaderValue| Reply::status(status).with(header::WWW_AUTHENTICATE, challenge.clone());
        let reply = match refusal {
            // The token may well be valid, and a client that is told otherwise would throw it away.
            Refusal::NoKeys => Reply::status(503).with(header::RETRY_AFTER, HeaderValue::from_static("5")),
            Refusal::Missing => challenge(401, &self.challenges.missing),
            Refusal::Scope | Refusal::Claim | Refusal::Header => challenge(403, &self.challenges.lacking),
            _ => challenge(401, &self.challenges.invalid),
        };
        Verdict::Answer { reply, reason: refusal.reason() }
    }
}

impl Filter for Jwt {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        // First of all, and always: the endpoint believes these fields.
        remove_alike(request.fields, &self.0.told);
        self.0.verdict(request, true)
    }

    fn samples(&self) -> Vec<Sample> {
        self.0.source.samples()
    }

    fn task(self: Arc<Self>, mut stopping: watch::Receiver<bool>) -> Option<FilterTask> {
        if !self.0.source.changes() {
            return None;
        }
        Some(Box::pin(async move {
            tokio::select! {
                () = self.0.source.follow() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }))
    }
}
