//! The metrics of traffic: name, kind, labels and help of each, and samples gathered under them.

use std::collections::HashMap;

use prometheus::{
    core::Desc,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::counts::{BOUNDS_MICROS, Observed};

/// Name, kind, labels, help.
type Definition = (&'static str, MetricType, &'static [&'static str], &'static str);

/// In the order of the documentation.
const DEFINITIONS: &[Definition] = &[
    ("weir_listener_connections", MetricType::GAUGE, &["listener"], "Open downstream connections."),
    (
        "weir_listener_tls_handshakes_total",
        MetricType::COUNTER,
        &["listener", "version", "result", "resumed"],
        "Downstream TLS handshakes.",
    ),
    ("weir_http_requests_total", MetricType::COUNTER, &["listener", "route", "method", "code"], "Requests that ended."),
    (
        "weir_http_request_duration_seconds",
        MetricType::HISTOGRAM,
        &["route"],
        "From the first byte of a request to the last byte of its response.",
    ),
    ("weir_http_request_bytes_total", MetricType::COUNTER, &["listener", "route"], "Body bytes received from clients."),
    ("weir_http_response_bytes_total", MetricType::COUNTER, &["listener", "route"], "Body bytes sent to clients."),
    ("weir_http_requests_in_flight", MetricType::GAUGE, &["route"], "Requests being served."),
    ("weir_tcp_connections", MetricType::GAUGE, &["listener"], "Connections of layer 4 being served."),
    (
        "weir_tcp_bytes_total",
        MetricType::COUNTER,
        &["listener", "direction"],
        "Bytes received from clients of layer 4, and sent to them.",
    ),
    ("weir_rejected_requests_total", MetricType::COUNTER, &["reason"], "Requests refused by the gate or a filter."),
    ("weir_http_requests_by_driver_total", MetricType::COUNTER, &["driver"], "Requests by who carried them: lane or pingora."),
    (
        "weir_dropped_fields_total",
        MetricType::COUNTER,
        &["listener", "reason"],
        "Request fields that were not forwarded, since services could take them for others.",
    ),
    (
        "weir_upstream_requests_total",
        MetricType::COUNTER,
        &["upstream", "endpoint", "code"],
        "Attempts on endpoints; code 0 for those that failed without a response, abandoned for those given up before one.",
    ),
    (
        "weir_upstream_tcp_connections_total",
        MetricType::COUNTER,
        &["upstream", "endpoint", "result"],
        "Connections to endpoints for layer 4: ok, or why there is none.",
    ),
    ("weir_upstream_connect_duration_seconds", MetricType::HISTOGRAM, &["upstream"], "Opening a connection, TLS included."),
    (
        "weir_upstream_first_byte_duration_seconds",
        MetricType::HISTOGRAM,
        &["upstream"],
        "From the start of the last attempt to its response header.",
    ),
    ("weir_upstream_requests_in_flight", MetricType::GAUGE, &["upstream", "endpoint"], "Requests in flight on an endpoint."),
    ("weir_upstream_endpoint_state", MetricType::GAUGE, &["upstream", "endpoint", "state"], "1 for the state an endpoint is in."),
    (
        "weir_circuit_breaker_transitions_total",
        MetricType::COUNTER,
        &["upstream", "endpoint", "to"],
        "Changes of an endpoint's circuit breaker.",
    ),
    ("weir_upstream_panic", MetricType::GAUGE, &["upstream"], "1 while all endpoints are used, since too few are available."),
    ("weir_upstream_health_checks_total", MetricType::COUNTER, &["upstream", "endpoint", "result"], "Active health checks."),
    (
        "weir_upstream_discovery_failing",
        MetricType::GAUGE,
        &["upstream"],
        "1 while the source of endpoints has no answer and those found last are kept.",
    ),
    (
        "weir_upstream_endpoint_changes_total",
        MetricType::COUNTER,
        &["upstream", "change"],
        "Endpoints that discovery added and removed.",
    ),
    ("weir_retries_total", MetricType::COUNTER, &["upstream", "reason"], "Further attempts, by what ended the one before."),
    (
        "weir_retry_budget_exhausted_total",
        MetricType::COUNTER,
        &["upstream"],
        "Further attempts that were not made, since retries had their share of the load.",
    ),
    ("weir_proxy_errors_total", MetricType::COUNTER, &["type"], "Exchanges that ended in an error, by RFC 9209 type."),
    ("weir_rate_limited_total", MetricType::COUNTER, &["route"], "Requests that `rate_limit` refused."),
    (
        "weir_cache_requests_total",
        MetricType::COUNTER,
        &["route", "status"],
        "Requests of routes with a cache, by what the cache did.",
    ),
    ("weir_cache_entries", MetricType::GAUGE, &[], "Responses in the cache."),
    ("weir_cache_bytes", MetricType::GAUGE, &["tier"], "Bytes that the cache takes, in memory and on disk."),
    ("weir_cache_max_bytes", MetricType::GAUGE, &["tier"], "Bytes that the cache may take."),
    (
        "weir_rate_limit_store_up",
        MetricType::GAUGE,
        &["store"],
        "1 while the store of `rate_limit` answers, 0 while each edge limits by itself.",
    ),
    (
        "weir_mirrored_requests_total",
        MetricType::COUNTER,
        &["filter", "upstream", "result"],
        "Copies that `mirror` made of requests: answered, failed, dropped.",
    ),
    ("weir_jwt_keys", MetricType::GAUGE, &["source"], "Keys that `jwt` verifies tokens by."),
    (
        "weir_jwt_keys_failing",
        MetricType::GAUGE,
        &["source"],
        "1 while the file or URL of keys has none that can be used, and those before are kept.",
    ),
    ("weir_access_log_dropped_total", MetricType::COUNTER, &[], "Lines of the access log that could not be written."),
    ("weir_spans_exported_total", MetricType::COUNTER, &[], "Spans that the collector has taken."),
    ("weir_spans_dropped_total", MetricType::COUNTER, &["reason"], "Spans that were lost on the way to the collector."),
];

/// For registering the collector.
pub(super) fn descs() -> prometheus::Result<Vec<Desc>> {
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.into()).collect();
    let desc = |(name, _, names, help): &Definition| Desc::new((*name).into(), (*help).into(), labels(names), HashMap::new());
    DEFINITIONS.iter().map(desc).collect()
}

/// Samples by the name of their metric.
#[derive(Default)]
pub(super) struct Families(HashMap<&'static str, Vec<Metric>>);

impl Families {
    /// Adds a counter or a gauge, with label values in the order of the definition.
    pub(super) fn add(&mut self, name: &'static str, values: &[&str], value: f64) {
        let (_, kind, labels, _) = definition(name);
        let mut metric = labelled(labels, values);
        if *kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.entry(name).or_default().push(metric);
    }

    /// Adds a histogram.
    pub(super) fn add_durations(&mut self, name: &'static str, values: &[&str], observed: &Observed) {
        let mut count = 0;
        let buckets = BOUNDS_MICROS.iter().zip(&observed.buckets).map(|(bound, observations)| {
            count += observations;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(observed.buckets.iter().sum());
        histogram.set_sample_sum(observed.sum_micros as f64 / 1e6);
        let mut metric = labelled(definition(name).2, values);
        metric.set_histogram(histogram);
        self.0.entry(name).or_default().push(metric);
    }

    /// Everything that has samples.
    pub(super) fn finish(mut self) -> Vec<MetricFamily> {
        let family = |(name, kind, _, help): &Definition| {
            let mut family = MetricFamily::default();
            family.set_metric(self.0.remove(name)?);
            family.set_name((*name).into());
            family.set_help((*help).into());
            family.set_field_type(*kind);
            Some(family)
        };
        DEFINITIONS.iter().filter_map(family).collect()
    }
}

/// Is it a counter?
pub(super) fn counts(name: &str) -> bool {
    definition(name).1 == MetricType::COUNTER
}

/// Panics on a name that is not defined, which only a mistake in this directory can cause.
fn definition(name: &str) -> &'static Definition {
    DEFINITIONS.iter().find(|definition| definition.0 == name).expect("every metric is defined")
}

fn labelled(labels: &[&str], values: &[&str]) -> Metric {
    debug_assert_eq!(labels.len(), values.len());
    let pair = |(label, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*label).into());
        pair.set_value((*value).into());
        pair
    };
    Metric::from_label(labels.iter().zip(values).map(pair).collect())
}
