//! What background loops report becomes metrics, and what is shown of upstreams is read from the running snapshot.

use std::{sync::Arc, time::Instant};

use crate::{
    cache::Cache,
    discovery::{Changes, DiscoveryObserver},
    endpoint::{Endpoint, HealthStatus},
    health::HealthObserver,
    observe::{EndpointState, Observer, Sample, StateSource, Tone, UpstreamState},
    snapshot::Store,
    types::Name,
    upstream::Upstream,
};

/// Reads the state of upstreams from the running snapshot.
pub(crate) struct LiveState(pub(crate) Arc<Store>);

impl StateSource for LiveState {
    fn upstreams(&self) -> Vec<UpstreamState> {
        self.0.load().upstreams.values().map(|upstream| state(upstream)).collect()
    }

    fn samples(&self) -> Vec<Sample> {
        let snapshot = self.0.load();
        let mut samples: Vec<Sample> = snapshot.filters().flat_map(|filter| filter.samples()).collect();
        samples.extend(snapshot.cache.map(held).into_iter().flatten());
        samples
    }
}

/// What the cache holds.
fn held(cache: &Cache) -> Vec<Sample> {
    let holdings = cache.holdings();
    let sample = |metric, labels: &[&str], value: u64| {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        Sample { metric, labels, value: value as f64 }
    };
    let disk = holdings.disk.map(|disk| ("disk", disk.bytes, disk.bound));
    let tiers = [Some(("memory", holdings.bytes, holdings.bound)), disk].into_iter().flatten();
    let tiers = tiers.flat_map(|(tier, bytes, bound)| {
        [sample("weir_cache_bytes", &[tier], bytes), sample("weir_cache_max_bytes", &[tier], bound)]
    });
    std::iter::once(sample("weir_cache_entries", &[], holdings.entries as u64)).chain(tiers).collect()
}

fn state(upstream: &Upstream) -> UpstreamState {
    let now = Instant::now();
    let endpoint = |endpoint: &Arc<Endpoint>| EndpointState {
        label: endpoint.label().clone(),
        weight: endpoint.weight(),
        priority: endpoint.priority(),
        zone: endpoint.zone().map(Arc::from),
        healthy: endpoint.may_take(now),
        situation: endpoint.situation(),
        transitions: endpoint.transitions(),
        in_flight: endpoint.in_flight(),
        stats: endpoint.stats(),
    };
    UpstreamState {
        name: upstream.name().clone(),
        strategy: upstream.spec().strategy.kind(),
        panicking: upstream.is_panicking(),
        endpoints: upstream.endpoints().iter().map(endpoint).collect(),
    }
}

/// Counts what the loops of upstreams do: health checks, discovery.
pub(crate) struct LoopMetrics(pub(crate) Arc<Observer>);

impl HealthObserver for LoopMetrics {
    fn checked(&self, endpoint: &Endpoint, passed: bool) {
        self.0.metrics().health_check(endpoint.upstream(), endpoint.label(), passed);
    }
    fn changed(&self, _: &Endpoint, _: HealthStatus, _: &str) {
        // The state is read from the endpoints when metrics are scraped.
    }
}

impl DiscoveryObserver for LoopMetrics {
    fn asked(&self, upstream: &Name, answered: bool) {
        self.0.metrics().discovery(upstream, Some(answered));
    }
    fn absent(&self, upstream: &Name) {
        self.0.metrics().discovery(upstream, None);
    }
    fn replaced(&self, upstream: &Name, changes: Changes) {
        self.0.metrics().endpoints_replaced(upstream, changes.added as u64, changes.removed as u64);
        let Changes { added, removed } = changes;
        self.0.timeline().add_of(upstream, Tone::Neutral, format_args!("discovery: {added} endpoints came, {removed} left"));
    }
}
