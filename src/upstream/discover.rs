//! Endpoints found while running, beside those that the configuration lists.

use std::{collections::HashSet, sync::Arc, time::Instant};

use futures_util::future::join_all;

use super::Upstream;
use crate::{
    discovery::{Changes, Discovery, DiscoveryObserver, Found},
    endpoint::{Discovered, Endpoint, EndpointRegistry},
    types::{Address, Name},
};

/// Changes of one answer that are logged one by one. Beyond, a line with their number says enough.
const NAMED: usize = 10;

/// A source, and what it found last.
pub(super) struct Discover {
    discovery: Discovery,
    found: Arc<Discovered>,
    registry: EndpointRegistry,
}

impl Discover {
    /// Begins with what the same source found for the configuration before this one, so that a reload does
    /// not leave requests without endpoints until the first answer.
    pub(super) fn new(upstream: &Name, discovery: Discovery, registry: &EndpointRegistry) -> Self {
        let found = registry.discovered(upstream, discovery.source());
        Self { discovery, found, registry: registry.clone() }
    }
}

/// The listed endpoints, and those that the sources found. What is both is as it is listed, and what several sources have found is as
/// the first of them has it.
pub(super) fn join(listed: &[(Arc<Endpoint>, u32)], sources: &[Discover]) -> Vec<Arc<Endpoint>> {
    let found = sources.iter().flat_map(|source| source.found.get());
    let mut all: Vec<Arc<Endpoint>> = listed.iter().map(|(endpoint, _)| endpoint.clone()).collect();
    let mut addresses: HashSet<Address> = all.iter().map(|endpoint| endpoint.address().clone()).collect();
    all.extend(found.filter(|endpoint| addresses.insert(endpoint.address().clone())));
    all
}

impl Upstream {
    /// Finds endpoints until the future is dropped.
    pub(super) async fn discover(&self, observer: &dyn DiscoveryObserver) {
        if self.discover.is_empty() {
            observer.absent(&self.name);
            return std::future::pending().await;
        }
        let sources = self.discover.iter().enumerate().map(|(number, discover)| {
            let apply = move |found: Vec<Found>| self.found(number, &found);
            discover.discovery.run(&self.name, observer, apply)
        });
        join_all(sources).await;
    }

    /// Makes these the endpoints that this source found. One that is not among them any more, or is about to go, gets no new
    /// request; those in flight hold it until they end.
    fn found(&self, number: usize, found: &[Found]) -> Changes {
        let (before, own) = (self.endpoints(), &self.discover[number]);
        let sooner = self.discover[..number].iter().flat_map(|source| source.found.get());
        let sooner: Vec<Arc<Endpoint>> = sooner.chain(self.weights.iter().map(|(endpoint, _)| endpoint.clone())).collect();
        let sooner: HashSet<&Address> = sooner.iter().map(|endpoint| endpoint.address()).collect();
        let found = found.iter().filter(|found| !sooner.contains(&found.endpoint.address));
        let found = found.map(|Found { endpoint: found, leaving }| {
            let endpoint = own.registry.get(&self.name, &found.address, found.weight.get(), found.place());
            endpoint.set_weight(found.weight.get());
            if let Some(decay) = self.spec.strategy.decay() {
                endpoint.set_decay(decay);
            }
            endpoint.set_draining(*leaving);
            endpoint
        });
        own.found.set(found.collect());
        let now = join(&self.weights, &self.discover);
        let (added, removed) = (only_in(&now, &before), only_in(&before, &now));
        let changes = Changes { added: added.len(), removed: removed.len() };
        if changes != Changes::default() {
            added.iter().for_each(|new| new.found(Instant::now()));
            self.replace_endpoints(now);
            // Nobody chooses them any more. The next one at such an address may not be leaving.
            removed.iter().for_each(|gone| gone.set_draining(false));
            self.log_changes(&added, "added");
            self.log_changes(&removed, "removed; its requests in flight may finish");
        }
        changes
    }

    fn log_changes(&self, endpoints: &[Arc<Endpoint>], what: &str) {
        for endpoint in endpoints.iter().take(NAMED) {
            log::info!("upstream {}: endpoint {} {what}", self.name, endpoint.label());
        }
        if endpoints.len() > NAMED {
            log::info!("upstream {}: {} more {what}", self.name, endpoints.len() - NAMED);
        }
    }
}

/// Those of `some` that are not among `others`.
fn only_in(some: &[Arc<Endpoint>], others: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    let others: HashSet<*const Endpoint> = others.iter().map(Arc::as_ptr).collect();
    some.iter().filter(|endpoint| !others.contains(&Arc::as_ptr(endpoint))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::watch;

    use crate::{
        endpoint::{EndpointRegistry, HealthStatus},
        types::Code,
        upstream::tests::{compile_with, problems},
    };

    #[test]
    fn what_cannot_be_asked_is_said_at_its_key() {
        for (dns, code, path) in [
            ("{name: api.internal}", Code::MissingKey, "discover.dns"),
            ("{name: _http._tcp.api, port: 80}", Code::Conflict, "discover.dns.port"),
            ("{name: api, port: 80, refresh: 1ms}", Code::BadValue, "discover.dns.refresh"),
            ("{name: 127.0.0.1, port: 80}", Code::BadValue, "discover.dns.name"),
            ("{name: api, port: 80, servers: 'unix:/dns'}", Code::BadValue, "discover.dns.servers"),
        ] {
            assert_eq!(problems(&format!("{{discover: {{dns: {dns}}}}}")), [(code, path.to_owned())], "{dns}");
        }
        for (docker, code, path) in [
            ("{network: ''}", Code::BadValue, "discover.docker.network"),
            ("{tls: {}}", Code::Conflict, "discover.docker.tls"),
            ("{host: 'tcp://engine:2376', tls: {cert: a.pem}}", Code::Conflict, "discover.docker.tls"),
            ("{host: 'tcp://engine:2376', tls: {ca: /no/such.pem}}", Code::BadCertificate, "discover.docker.tls"),
            ("{host: 'tcp://an_engine_:2376', tls: {ca: /no/such.pem}}", Code::BadCertificate, "discover.docker.tls"),
        ] {
            assert_eq!(problems(&format!("{{discover: {{docker: {docker}}}}}")), [(code, path.to_owned())], "{docker}");
        }
    }

    #[tokio::test]
    async fn what_was_found_survives_a_reload_as_long_as_the_source_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints.yaml");
        std::fs::write(&path, "- 127.0.0.1:2").unwrap();
        let registry = EndpointRegistry::default();
        let from = |file: &str| format!("{{endpoints: ['127.0.0.1:1'], discover: {{file: {{path: {file}}}}}}}");
        let before = compile_with(&registry, &from(path.to_str().unwrap())).0.unwrap();
        assert_eq!(before.endpoints().len(), 1, "compiling does not read the file");
        let (_shutdown, stopped) = watch::channel(false);
        let task = tokio::spawn(before.clone().run(stopped, Arc::new(())));
        let both = async {
            let mut endpoints = before.endpoints.watch();
            endpoints.wait_for(|endpoints| endpoints.len() == 2).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("found in time");
        before.endpoints()[1].set_health(HealthStatus::Unhealthy, "status 503");

        let after = compile_with(&registry, &from(path.to_str().unwrap())).0.unwrap();
        assert!(Arc::ptr_eq(&after.endpoints()[1], &before.endpoints()[1]), "with all that was learned about it");
        let other = compile_with(&registry, &from("/other.yaml")).0.unwrap();
        assert_eq!(other.endpoints().len(), 1);
        task.abort();
    }
}
