//! Spec to [`Upstream`]: all problems, each at its key.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{Parts, Protocol, Upstream, UpstreamSpec, discover::Discover, peer, sticky::Sessions, tls::UpstreamTls};
use crate::{
    balance::RandomKey,
    discovery::{Discovery, MAX_WEIGHT},
    endpoint::{Endpoint, EndpointRegistry, EndpointSettings},
    health::Dial,
    resilience::{Places, RetryBudget},
    types::{Address, At, Code, Name, Span},
};

impl Upstream {
    /// Compiles a Spec. Apart from reading the certificate files it names, this changes nothing: known
    /// endpoints keep their weight and state until [`Upstream::publish`].
    ///
    /// Problems are reported at `at`, the upstream's place in the file; `None` if any of them is an error.
    pub fn compile(name: &Name, spec: &UpstreamSpec, registry: &EndpointRegistry, at: &At) -> Option<Arc<Self>> {
        let addresses_fine = check_endpoints(spec, at);
        let strategy_fine = check_strategy(spec, &at.key("strategy"));
        let protocol_fine = check_protocol(spec, at);
        let tls = match &spec.tls {
            Some(tls) => UpstreamTls::compile(tls, spec, &at.key("tls")).map(|tls| Some(Arc::new(tls))),
            None => Some(None),
        };
        let checker = match &spec.health_check {
            Some(check) => {
                let tls = tls.as_ref().and_then(Option::as_ref).map(|tls| tls.offered.clone());
                let dial = Dial { tls, h2c: spec.connections.protocol == Protocol::H2c };
                check.compile(dial, &at.key("health_check")).map(Some)
            }
            None => Some(None),
        };
        let discover = match &spec.discover {
            Some(discover) => Discovery::compile(discover, registry, &at.key("discover")).map(Some),
            None => Some(None),
        };
        let breaker = match spec.circuit_breaker.on() {
            Some(breaker) => breaker.compile(&at.key("circuit_breaker")).map(Some),
            None => Some(None),
        };
        let sessions = match &spec.sticky {
            Some(sticky) => {
                let key = registry.shared(name, RandomKey::generate);
                sticky.compile(name, &key, &at.key("sticky")).map(|sticky| Some(Sessions::new(sticky, key)))
            }
            None => Some(None),
        };
        let (tls, checker, discover, breaker, sessions) = (tls?, checker?, discover?, breaker?, sessions?);
        let settings = EndpointSettings { breaker, slow_start: spec.slow_start.and_then(Span::limit) };
        let pool = registry.pool(name);
        if !(addresses_fine && strategy_fine && protocol_fine) {
            return None;
        }
        let discover = discover.map(|discovery| Discover::new(name, discovery, registry));
        let listed: Vec<Arc<Endpoint>> = spec
            .endpoints
            .iter()
            .map(|endpoint| registry.get(name, &endpoint.address, endpoint.weight.get(), endpoint.place()))
            .collect();
        let parts = Parts {
            endpoints: listed,
            pool,
            settings,
            checker,
            discover,
            peer: peer::Template::new(name, spec, tls.as_ref()),
            budget: registry.shared(name, || RetryBudget::new(Instant::now())),
            places: registry.shared(name, Places::default),
            sessions,
            tls,
        };
        Some(Arc::new(Upstream::new(name.clone(), spec.clone(), parts)))
    }
}

fn check_endpoints(spec: &UpstreamSpec, at: &At) -> bool {
    let mut fine = true;
    if spec.endpoints.is_empty() && spec.discover.is_none() {
        at.problem(Code::MissingKey, "an upstream needs at least one endpoint, or `discover` to find some")
            .hint("add `endpoints: [127.0.0.1:9001]`");
        fine = false;
    }
    let at = at.key("endpoints");
    let mut seen = HashMap::<&Address, usize>::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let at_endpoint = at.index(index);
        if let Some(first) = seen.insert(&endpoint.address, index) {
            at_endpoint
                .problem(Code::BadAddress, format!("`{}` is there twice", endpoint.address))
                .hint("give it a larger weight to send it more requests")
                .also(at.index(first).path(), "first here");
            fine = false;
        }
        if endpoint.address.tcp().is_some_and(|address| address.port() == 0) {
            at_endpoint.problem(Code::BadAddress, "an endpoint cannot have port 0");
            fine = false;
        }
        if endpoint.weight.get() > MAX_WEIGHT {
            let message = format!("a weight goes from 1 to {MAX_WEIGHT}, this is {}", endpoint.weight);
            at_endpoint.key("weight").problem(Code::BadValue, message);
            fine = false;
        }
    }
    fine
}

fn check_strategy(spec: &UpstreamSpec, at: &At) -> bool {
    let fine = spec.strategy.decay().is_none_or(|decay| !decay.is_zero());
    if !fine {
        at.key(spec.strategy.kind()).key("decay").problem(Code::BadValue, "`decay` must be longer than nothing");
    }
    fine
}

fn check_protocol(spec: &UpstreamSpec, at: &At) -> bool {
    let at_protocol = at.key("connections").key("protocol");
    match (spec.connections.protocol, &spec.tls) {
        (Protocol::H2, None) => {
            at_protocol
                .problem(Code::Conflict, "`h2` is HTTP/2 over TLS, and this upstream has no `tls`")
                .hint("add `tls: {}`, or write `h2c` for HTTP/2 in cleartext");
            false
        }
        (Protocol::H2c, Some(_)) => {
            at_protocol
                .problem(Code::Conflict, "`h2c` is HTTP/2 in cleartext, and this upstream has `tls`")
                .hint("write `h2`, or remove `tls`")
                .also(at.key("tls").path(), "TLS is asked for here");
            false
        }
        _ => true,
    }
}
