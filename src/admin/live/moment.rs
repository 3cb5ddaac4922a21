//! What went on between two readings.

use std::{collections::HashMap, sync::Arc};

use super::{
    Rates,
    rates::{add, per_second, round, since},
    reading::Reading,
};
use crate::{
    observe::{ExchangeCounts, UpstreamState},
    types::Name,
};

/// Traffic of everything over the last seconds, and upstreams as they are at its end.
pub(in crate::admin) struct Moment {
    pub(in crate::admin) total: Rates,
    /// Requests behind those rates.
    pub(in crate::admin) requests: u64,
    /// Requests per second of each listener.
    pub(in crate::admin) listeners: HashMap<Box<str>, f64>,
    pub(in crate::admin) routes: HashMap<Box<str>, RouteMoment>,
    pub(in crate::admin) upstreams: Vec<UpstreamState>,
    endpoints: HashMap<Name, HashMap<Arc<str>, (f64, f64)>>,
    /// CPU cores in use.
    pub(in crate::admin) cpu: f64,
}

/// Traffic of one route.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct RouteMoment {
    pub(in crate::admin) rates: Rates,
    /// Requests since the start.
    pub(in crate::admin) requests: u64,
    /// Requests per second through each listener.
    pub(in crate::admin) listeners: Vec<(Box<str>, f64)>,
}

impl Moment {
    pub(super) fn between(earlier: &Reading, now: &Reading, upstreams: Vec<UpstreamState>) -> Self {
        // Just after the start two readings may be one.
        let seconds = now.at.saturating_duration_since(earlier.at).as_secs_f64().max(0.1);
        let (mut total, mut listeners) = (ExchangeCounts::default(), HashMap::new());
        let mut routes = HashMap::<Box<str>, (ExchangeCounts, RouteMoment)>::new();
        for (listener, exchanges) in &now.exchanges {
            let mut requests = 0;
            for (route, counts) in exchanges {
                let new = earlier.exchange(listener, route).map_or_else(|| counts.clone(), |earlier| since(counts, earlier));
                requests += new.requests;
                add(&mut total, &new);
                let (sum, moment) = routes.entry(route.clone()).or_default();
                moment.requests += counts.requests;
                moment.listeners.push((listener.clone(), per_second(new.requests, seconds)));
                add(sum, &new);
            }
            listeners.insert(listener.clone(), per_second(requests, seconds));
        }
        let finish = |(route, (sum, moment)): (Box<str>, (ExchangeCounts, RouteMoment))| {
            (route, RouteMoment { rates: Rates::new(&sum, seconds), ..moment })
        };
        let endpoints = upstreams.iter().map(|upstream| {
            let rates = upstream.endpoints.iter().map(|endpoint| {
                let (requests, errors) = earlier.endpoint(&upstream.name, &endpoint.label);
                let new = endpoint.stats.requests.saturating_sub(requests);
                let failed = endpoint.stats.errors.saturating_sub(errors);
                let share = if new == 0 { 0.0 } else { round(failed as f64 / new as f64, 1e5) };
                (endpoint.label.clone(), (per_second(new, seconds), share))
            });
            (upstream.name.clone(), rates.collect())
        });
        Self {
            total: Rates::new(&total, seconds),
            requests: total.requests,
            listeners,
            routes: routes.into_iter().map(finish).collect(),
            endpoints: endpoints.collect(),
            upstreams,
            cpu: round(now.cpu.saturating_sub(earlier.cpu).as_secs_f64() / seconds, 1e3),
        }
    }

    /// Requests per second to an endpoint, and the share of them that failed.
    pub(in crate::admin) fn endpoint(&self, upstream: &Name, endpoint: &str) -> (f64, f64) {
        self.endpoints.get(upstream).and_then(|endpoints| endpoints.get(endpoint)).copied().unwrap_or_default()
    }
}
