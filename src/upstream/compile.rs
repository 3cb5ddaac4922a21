//! Spec to [`Upstream`]: all problems, each at its key.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Instant};

use super::{
    Parts, Protocol, Upstream, UpstreamSpec, UpstreamTlsSpec, discover::Discover, peer, sticky::Sessions, tls::UpstreamTls,
};
use crate::{
    balance::RandomKey,
    discovery::{Discovery, ListedEndpoint, Scheme},
    endpoint::{EndpointRegistry, EndpointSettings, Place},
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
        let schemes = Schemes::of(spec, at);
        let spec = &schemes.as_ref().map_or(Cow::Borrowed(spec), |schemes| schemes.lay_over(spec));
        let addresses_fine = check_endpoints(spec, at) && schemes.is_some();
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
        let named = spec.endpoints.iter().filter_map(Discovery::named);
        let discover: Option<Vec<Discovery>> = match &spec.discover {
            Some(discover) => {
                Discovery::compile(discover, registry, &at.key("discover")).map(|source| named.chain([source]).collect())
            }
            None => Some(named.collect()),
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
        let discover = discover.into_iter().map(|discovery| Discover::new(name, discovery, registry)).collect();
        let listed = spec.endpoints.iter().filter_map(|endpoint| {
            let (address, weight) = (endpoint.target.address()?, endpoint.share()?.get());
            let place = Place { priority: endpoint.priority, zone: endpoint.zone.clone() };
            Some((registry.get(name, address, weight, place), weight))
        });
        let parts = Parts {
            endpoints: listed.collect(),
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
        Some(Arc::new(Upstream::new(name.clone(), spec.clone().into_owned(), parts)))
    }
}

/// What the endpoints' own schemes say of TLS.
#[derive(Debug)]
struct Schemes {
    /// That of the file, or what `https://` asks for; with the name of the endpoints where they have one.
    tls: Option<UpstreamTlsSpec>,
}

impl Schemes {
    /// All endpoints of an upstream are spoken to in the same way. `None` where they contradict each other, or `tls`.
    fn of(spec: &UpstreamSpec, at: &At) -> Option<Self> {
        let at_endpoints = at.key("endpoints");
        let endpoints = || spec.endpoints.iter().enumerate();
        let first = |scheme| endpoints().find(|(_, endpoint)| endpoint.target.scheme() == Some(scheme));
        if let (Some((index, endpoint)), Some(_)) = (first(Scheme::Http), &spec.tls) {
            let message = format!("`{}` is in cleartext, and this upstream has `tls`", endpoint.target);
            let at_endpoint = at_endpoints.index(index);
            let problem = at_endpoint.problem(Code::Conflict, message);
            problem.hint("write `https://`, or remove `tls`").also(at.key("tls").path(), "TLS is asked for here");
            return None;
        }
        let tls = match (&spec.tls, first(Scheme::Https)) {
            (None, None) => return Some(Self { tls: None }),
            (Some(tls), _) => tls.clone(),
            (None, Some((https, _))) => {
                if let Some((index, other)) = endpoints().find(|(_, other)| other.target.scheme() != Some(Scheme::Https)) {
                    let message = format!("`{}` is not over TLS, and another endpoint of this upstream is", other.target);
                    let at_endpoint = at_endpoints.index(index);
                    at_endpoint
                        .problem(Code::Conflict, message)
                        .hint("write `https://` in front of all of them, or make two upstreams")
                        .also(at_endpoints.index(https).path(), "this one is over TLS");
                    return None;
                }
                UpstreamTlsSpec::default()
            }
        };
        let name = |endpoint: &ListedEndpoint| endpoint.target.name().map(|(name, _)| name.to_owned());
        let Some(named) = endpoints().find_map(|(_, endpoint)| name(endpoint)).filter(|_| tls.sni.is_none()) else {
            return Some(Self { tls: Some(tls) });
        };
        if tls.verify
            && let Some((index, other)) = endpoints().find(|(_, other)| name(other).as_ref() != Some(&named))
        {
            let message = format!("`{named}` and `{}` need different names in TLS, and an upstream has only one", other.target);
            let at_endpoint = at_endpoints.index(index);
            let problem = at_endpoint.problem(Code::Conflict, message);
            problem.hint("write `tls: {sni: NAME}` if all certificates have one name in common, or make two upstreams");
            return None;
        }
        Some(Self { tls: Some(UpstreamTlsSpec { sni: Some(named), ..tls }) })
    }

    fn lay_over<'s>(&self, spec: &'s UpstreamSpec) -> Cow<'s, UpstreamSpec> {
        match &self.tls {
            None => Cow::Borrowed(spec),
            Some(tls) => Cow::Owned(UpstreamSpec { tls: Some(tls.clone()), ..spec.clone() }),
        }
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
    let mut seen = HashMap::<String, usize>::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let (at_endpoint, target) = (at.index(index), &endpoint.target);
        // The same with another scheme is the same.
        let place = target.address().map(Address::to_string);
        let place = place.or_else(|| target.name().map(|(name, port)| format!("{name}:{port}"))).unwrap_or_default();
        if let Some(first) = seen.insert(place, index) {
            at_endpoint
                .problem(Code::BadAddress, format!("`{target}` is there twice"))
                .hint("give it a larger weight to send it more requests")
                .also(at.index(first).path(), "first here");
            fine = false;
        }
        let port = target.address().and_then(Address::tcp).map(|address| address.port());
        if port.or(target.name().map(|(_, port)| port)) == Some(0) {
            at_endpoint.problem(Code::BadAddress, "an endpoint cannot have port 0");
            fine = false;
        }
        if target.name().is_some() && endpoint.share().is_some() && Discovery::named(endpoint).is_none() {
            at_endpoint.problem(Code::BadAddress, format!("`{target}` is not a name in DNS"));
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
