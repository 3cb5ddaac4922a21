//! The counts of traffic, and the collector that turns them into samples when somebody asks.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    ExchangeCounts,
    counts::{Codes, Durations, MethodCodes, Observed},
    families::{self, Families},
    named::Named,
};
use crate::{
    endpoint::{Condition, Spread, Transitions},
    observe::{Sample, SpanCounts, StateSource, UpstreamState},
    types::Driver,
};

/// One route as seen through one listener.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pub(super) requests: MethodCodes,
    pub(super) took: Durations,
    /// The same, finer: for percentiles of the last seconds.
    pub(super) spread: Spread,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl Exchanges {
    pub(super) fn read(&self) -> ExchangeCounts {
        let classes = self.requests.classes();
        ExchangeCounts {
            requests: classes.iter().sum(),
            client_errors: classes[4],
            server_errors: classes[5],
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            took: self.spread.read(),
        }
    }
}

/// TLS version, result, resumed: all words of ours, so the map stays as small as their product.
type Handshake = (&'static str, &'static str, bool);

/// What goes through a listener of layer 4.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    pub(super) connections: AtomicI64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

/// One listener.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) connections: AtomicI64,
    /// A lock, since a handshake costs a thousand times as much as taking it.
    pub(super) handshakes: Mutex<BTreeMap<Handshake, u64>>,
    pub(super) routes: Named<Exchanges>,
    /// Request fields that were not forwarded, by reason: words of ours.
    pub(super) fields_dropped: Named<AtomicU64>,
    /// Once it has had a connection of layer 4.
    pub(super) tcp: OnceLock<Tcp>,
}

/// One endpoint.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    pub(super) responses: Codes,
    /// Connections of layer 4, by how connecting ended: words of ours.
    pub(super) connections: Named<AtomicU64>,
    pub(super) checks_passed: AtomicU64,
    pub(super) checks_failed: AtomicU64,
}

/// One upstream.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) connect: Durations,
    pub(super) first_byte: Durations,
    pub(super) retries: Named<AtomicU64>,
    pub(super) budget_exhausted: AtomicU64,
    pub(super) endpoints: Named<Endpoint>,
    pub(super) discovers: AtomicBool,
    pub(super) discovery_failing: AtomicBool,
    pub(super) added: AtomicU64,
    pub(super) removed: AtomicU64,
}

/// Everything that requests count.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) listeners: Named<Listener>,
    pub(super) in_flight: Named<AtomicI64>,
    pub(super) upstreams: Named<Upstream>,
    pub(super) rejected: Named<AtomicU64>,
    /// Requests by who carried them, in the order of [`Driver::ALL`].
    pub(super) drivers: [AtomicU64; 2],
    pub(super) errors: Named<AtomicU64>,
    pub(super) rate_limited: Named<AtomicU64>,
    /// By route, by what the cache did.
    pub(super) cached: Named<Named<AtomicU64>>,
    pub(super) access_log_dropped: Arc<AtomicU64>,
    pub(super) spans: Arc<SpanCounts>,
    pub(super) source: Mutex<Option<Weak<dyn StateSource>>>,
}

impl Traffic {
    fn source(&self) -> Option<Arc<dyn StateSource>> {
        self.source.lock().as_ref().and_then(Weak::upgrade)
    }

    /// Forgets what the running configuration no longer has, so that series end with their endpoint.
    fn forget_all_but(&self, state: &[UpstreamState]) {
        let current: HashSet<(&str, &str)> = state
            .iter()
            .flat_map(|upstream| upstream.endpoints.iter().map(|endpoint| (upstream.name.as_str(), &*endpoint.label)))
            .collect();
        self.upstreams.retain(|name, upstream| {
            upstream.endpoints.retain(|endpoint, _| current.contains(&(name, endpoint)));
            state.iter().any(|upstream| upstream.name.as_str() == name)
        });
    }

    fn collect_listeners(&self, families: &mut Families) {
        let mut took = BTreeMap::<String, Observed>::new();
        self.listeners.each(|listener, counts| {
            families.add("weir_listener_connections", &[listener], counts.connections.load(Relaxed) as f64);
            for ((version, result, resumed), count) in counts.handshakes.lock().iter() {
                let labels = [listener, version, result, if *resumed { "true" } else { "false" }];
                families.add("weir_listener_tls_handshakes_total", &labels, *count as f64);
            }
            counts.fields_dropped.each(|reason, count| {
                families.add("weir_dropped_fields_total", &[listener, reason], count.load(Relaxed) as f64);
            });
            if let Some(tcp) = counts.tcp.get() {
                families.add("weir_tcp_connections", &[listener], tcp.connections.load(Relaxed) as f64);
                for (direction, bytes) in [("received", &tcp.received), ("sent", &tcp.sent)] {
                    families.add("weir_tcp_bytes_total", &[listener, direction], bytes.load(Relaxed) as f64);
                }
            }
            counts.routes.each(|route, exchanges| {
                exchanges.requests.each(|method, code, count| {
                    families.add("weir_http_requests_total", &[listener, route, method, code], count as f64);
                });
                let (bytes_in, bytes_out) = (exchanges.bytes_in.load(Relaxed), exchanges.bytes_out.load(Relaxed));
                families.add("weir_http_request_bytes_total", &[listener, route], bytes_in as f64);
                families.add("weir_http_response_bytes_total", &[listener, route], bytes_out as f64);
                exchanges.took.add_to(took.entry(route.to_owned()).or_default());
            });
        });
        for (route, took) in took {
            families.add_durations("weir_http_request_duration_seconds", &[&route], &took);
        }
        self.in_flight.each(|route, count| {
            families.add("weir_http_requests_in_flight", &[route], count.load(Relaxed) as f64);
        });
    }

    fn collect_cache(&self, families: &mut Families) {
        self.cached.each(|route, words| {
            words.each(|word, count| {
                families.add("weir_cache_requests_total", &[route, word], count.load(Relaxed) as f64);
            });
        });
    }

    fn collect_upstreams(&self, families: &mut Families) {
        self.upstreams.each(|upstream, counts| {
            for (name, durations) in [
                ("weir_upstream_connect_duration_seconds", &counts.connect),
                ("weir_upstream_first_byte_duration_seconds", &counts.first_byte),
            ] {
                let mut total = Observed::default();
                durations.add_to(&mut total);
                families.add_durations(name, &[upstream], &total);
            }
            counts.retries.each(|reason, count| {
                families.add("weir_retries_total", &[upstream, reason], count.load(Relaxed) as f64);
            });
            if counts.discovers.load(Relaxed) {
                let failing = f64::from(u8::from(counts.discovery_failing.load(Relaxed)));
                families.add("weir_upstream_discovery_failing", &[upstream], failing);
                for (change, count) in [("added", &counts.added), ("removed", &counts.removed)] {
                    families.add("weir_upstream_endpoint_changes_total", &[upstream, change], count.load(Relaxed) as f64);
                }
            }
            let exhausted = counts.budget_exhausted.load(Relaxed);
            if exhausted > 0 {
                families.add("weir_retry_budget_exhausted_total", &[upstream], exhausted as f64);
            }
            counts.endpoints.each(|endpoint, counts| {
                counts.responses.each(|code, count| {
                    families.add("weir_upstream_requests_total", &[upstream, endpoint, code], count as f64);
                });
                counts.connections.each(|result, count| {
                    let labels = [upstream, endpoint, result];
                    families.add("weir_upstream_tcp_connections_total", &labels, count.load(Relaxed) as f64);
                });
                for (result, count) in [("pass", &counts.checks_passed), ("fail", &counts.checks_failed)] {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        families.add("weir_upstream_health_checks_total", &[upstream, endpoint, result], count as f64);
                    }
                }
            });
        });
    }
}

/// In-flight requests and health are read where they live rather than copied into gauges on every change.
fn collect_state(state: &[UpstreamState], families: &mut Families) {
    for upstream in state {
        families.add("weir_upstream_panic", &[upstream.name.as_str()], f64::from(u8::from(upstream.panicking)));
        for endpoint in &upstream.endpoints {
            let labels = [upstream.name.as_str(), &*endpoint.label];
            families.add("weir_upstream_requests_in_flight", &labels, f64::from(endpoint.in_flight));
            for condition in Condition::ALL {
                let holds = f64::from(u8::from(endpoint.situation.condition == condition));
                families.add("weir_upstream_endpoint_state", &[labels[0], labels[1], condition.word()], holds);
            }
            let Transitions { open, half_open, closed } = endpoint.transitions;
            for (to, count) in [("open", open), ("half_open", half_open), ("closed", closed)] {
                families.add("weir_circuit_breaker_transitions_total", &[labels[0], labels[1], to], count as f64);
            }
        }
    }
}

/// What filters count themselves. A series that several tell appears once.
fn collect_samples(samples: Vec<Sample>, families: &mut Families) {
    let mut series = BTreeMap::<(&'static str, Vec<String>), f64>::new();
    for Sample { metric, labels, value } in samples {
        let known = series.entry((metric, labels)).or_default();
        *known = if families::counts(metric) { *known + value } else { value };
    }
    for ((metric, labels), value) in series {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        families.add(metric, &labels, value);
    }
}

/// What the registry holds.
pub(super) struct TrafficCollector {
    traffic: Arc<Traffic>,
    descs: Vec<Desc>,
}

impl TrafficCollector {
    pub(super) fn new(traffic: Arc<Traffic>) -> prometheus::Result<Self> {
        Ok(Self { traffic, descs: families::descs()? })
    }
}

impl Collector for TrafficCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        if let Some(source) = self.traffic.source() {
            let state = source.upstreams();
            self.traffic.forget_all_but(&state);
            collect_state(&state, &mut families);
            collect_samples(source.samples(), &mut families);
        }
        self.traffic.collect_listeners(&mut families);
        self.traffic.collect_upstreams(&mut families);
        self.traffic.rejected.each(|reason, count| {
            families.add("weir_rejected_requests_total", &[reason], count.load(Relaxed) as f64);
        });
        for (driver, count) in Driver::ALL.iter().zip(&self.traffic.drivers) {
            families.add("weir_http_requests_by_driver_total", &[driver.word()], count.load(Relaxed) as f64);
        }
        self.traffic.rate_limited.each(|route, count| {
            families.add("weir_rate_limited_total", &[route], count.load(Relaxed) as f64);
        });
        self.traffic.collect_cache(&mut families);
        self.traffic.errors.each(|word, count| {
            families.add("weir_proxy_errors_total", &[word], count.load(Relaxed) as f64);
        });
        let dropped = self.traffic.access_log_dropped.load(Relaxed);
        families.add("weir_access_log_dropped_total", &[], dropped as f64);
        let spans = &self.traffic.spans;
        families.add("weir_spans_exported_total", &[], spans.exported.load(Relaxed) as f64);
        for (reason, count) in spans.dropped() {
            families.add("weir_spans_dropped_total", &[reason], count as f64);
        }
        families.finish()
    }
}
