//! Which endpoint a request's session is with.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::Upstream;
use crate::{
    balance::{RandomKey, Sticky, StickyId},
    endpoint::{Endpoint, InFlight},
    types::RequestHead,
};

/// The cookies of an upstream, and the endpoints that they name.
pub(super) struct Sessions {
    sticky: Sticky,
    endpoints: ArcSwap<HashMap<StickyId, Arc<Endpoint>>>,
    /// Held so that the next configuration finds it.
    _key: Arc<RandomKey>,
}

impl Sessions {
    pub(super) fn new(sticky: Sticky, key: Arc<RandomKey>) -> Self {
        Self { sticky, endpoints: ArcSwap::default(), _key: key }
    }
    /// Cookies that name others are as good as none from now on.
    pub(super) fn replace(&self, endpoints: &[Arc<Endpoint>]) {
        let ids = endpoints.iter().map(|endpoint| (self.sticky.id(endpoint.label()), endpoint.clone()));
        self.endpoints.store(Arc::new(ids.collect()));
    }
}

/// A session that a request belongs to.
#[derive(Debug, Clone)]
pub struct Pinned {
    endpoint: Arc<Endpoint>,
    /// Its cookie need not be renewed yet.
    fresh: bool,
}

impl Pinned {
    /// Is it with this endpoint?
    pub fn is_with(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }
    /// Where it is, if that endpoint may take the request.
    pub fn look(&self) -> Option<&Arc<Endpoint>> {
        self.may_take().then_some(&self.endpoint)
    }
    fn may_take(&self) -> bool {
        // A pool that panics does not change that: the strategy may find one that is well.
        self.endpoint.is_available(false, std::time::Instant::now)
    }
    /// Counts the request in at the session's endpoint, if that may take it: not when it is unhealthy, drains or
    /// its circuit is open.
    pub fn enter(&self) -> Option<InFlight> {
        if self.may_take() { self.endpoint.enter() } else { None }
    }
}

impl Upstream {
    /// The session that the request belongs to; always `None` without `sticky`.
    pub fn pinned(&self, head: &RequestHead<'_>, now: SystemTime) -> Option<Pinned> {
        let sessions = self.sessions.as_ref()?;
        let (id, fresh) = sessions.sticky.read(head, now)?;
        let endpoint = sessions.endpoints.load().get(&id)?.clone();
        Some(Pinned { endpoint, fresh })
    }

    /// The `Set-Cookie` for a response of `endpoint`, unless the request's own session says the same for a while.
    pub fn set_cookie(
        &self,
        pinned: Option<&Pinned>,
        endpoint: &Arc<Endpoint>,
        secure: bool,
        now: SystemTime,
    ) -> Option<HeaderValue> {
        let sessions = self.sessions.as_ref()?;
        if pinned.is_some_and(|pinned| pinned.fresh && pinned.is_with(endpoint)) {
            return None;
        }
        sessions.sticky.write(&sessions.sticky.id(endpoint.label()), secure, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        endpoint::{EndpointRegistry, HealthStatus},
        types::Code,
        upstream::tests::{compile_with, problems},
    };

    const TWO: &str = "{endpoints: ['127.0.0.1:1', '127.0.0.1:2'], sticky: {}}";

    fn pinned(upstream: &Upstream, set: &HeaderValue) -> Option<Pinned> {
        let cookie = set.to_str().unwrap().split(';').next().unwrap().parse().unwrap();
        let fields = http::HeaderMap::from_iter([(http::header::COOKIE, cookie)]);
        upstream.pinned(&RequestHead { method: "GET", host: "a", path: "/", query: None, fields: &fields }, UNIX_EPOCH)
    }

    #[test]
    fn a_session_survives_a_reload_and_ends_with_its_endpoint() {
        let registry = EndpointRegistry::default();
        let before = compile_with(&registry, TWO).0.unwrap();
        let endpoint = before.endpoints()[1].clone();
        let set = before.set_cookie(None, &endpoint, false, UNIX_EPOCH).unwrap();
        let after = compile_with(&registry, TWO).0.unwrap();
        drop(before);
        let session = pinned(&after, &set).unwrap();
        assert!(session.is_with(&endpoint) && session.enter().is_some());
        assert!(after.set_cookie(Some(&session), &endpoint, false, UNIX_EPOCH).is_none(), "the client has it");
        assert!(after.set_cookie(Some(&session), &after.endpoints()[0], false, UNIX_EPOCH).is_some(), "it moved");
        let late = UNIX_EPOCH + Duration::from_secs(1);
        let old = Pinned { fresh: false, ..session.clone() };
        assert_ne!(after.set_cookie(Some(&old), &endpoint, false, late).unwrap(), set, "renewed");

        endpoint.set_draining(true);
        assert!(session.enter().is_none());
        endpoint.set_draining(false);
        for endpoint in after.endpoints() {
            endpoint.set_health(HealthStatus::Unhealthy, "test");
        }
        assert!(session.enter().is_none());
        after.replace_endpoints(after.endpoints()[..1].to_vec());
        assert!(pinned(&after, &set).is_none(), "an endpoint that is gone");
        let other = compile_with(&EndpointRegistry::default(), TWO).0.unwrap();
        assert!(pinned(&other, &set).is_none(), "another process has another key");
        let none = compile_with(&registry, "endpoints: ['127.0.0.1:2']").0.unwrap();
        assert!(none.set_cookie(None, &endpoint, false, UNIX_EPOCH).is_none(), "nothing without `sticky`");
    }

    #[test]
    fn what_makes_no_sense_is_said_at_its_key() {
        for (sticky, path) in [
            ("cookie: ''", "sticky.cookie"),
            ("cookie: 'a b'", "sticky.cookie"),
            ("ttl: 0", "sticky.ttl"),
            ("ttl: 10ms", "sticky.ttl"),
            ("secret: short", "sticky.secret"),
        ] {
            let yaml = format!("{{endpoints: ['127.0.0.1:1'], sticky: {{{sticky}}}}}");
            assert_eq!(problems(&yaml), [(Code::BadValue, path.to_owned())], "{sticky}");
        }
    }
}
