//! All counters at one moment.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{super::AdminState, process};
use crate::{
    observe::{ExchangeCounts, UpstreamState},
    types::Name,
};

/// Counters by name. As large as the configuration: about a kilobyte for each route and listener that had requests.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) cpu: Duration,
    /// By listener, then by route.
    pub(super) exchanges: HashMap<Box<str>, HashMap<Box<str>, ExchangeCounts>>,
    /// Requests and errors, by upstream, then by endpoint.
    pub(super) endpoints: HashMap<Name, HashMap<Arc<str>, (u64, u64)>>,
}

impl Reading {
    /// Before anything was counted.
    pub(super) fn nothing(at: Instant) -> Self {
        Self { at, cpu: process::cpu(), exchanges: HashMap::new(), endpoints: HashMap::new() }
    }

    pub(super) fn take(state: &AdminState, upstreams: &[UpstreamState]) -> Self {
        let mut reading = Self::nothing(Instant::now());
        state.metrics().exchanges(|listener, route, counts| {
            reading.exchanges.entry(listener.into()).or_default().insert(route.into(), counts);
        });
        for upstream in upstreams {
            let endpoints = upstream.endpoints.iter();
            let counts = endpoints.map(|endpoint| (endpoint.label.clone(), (endpoint.stats.requests, endpoint.stats.errors)));
            reading.endpoints.insert(upstream.name.clone(), counts.collect());
        }
        reading
    }

    /// What had been counted of this route.
    pub(super) fn exchange(&self, listener: &str, route: &str) -> Option<&ExchangeCounts> {
        self.exchanges.get(listener)?.get(route)
    }

    /// What had been counted of this endpoint.
    pub(super) fn endpoint(&self, upstream: &Name, endpoint: &str) -> (u64, u64) {
        self.endpoints.get(upstream).and_then(|endpoints| endpoints.get(endpoint)).copied().unwrap_or_default()
    }
}
