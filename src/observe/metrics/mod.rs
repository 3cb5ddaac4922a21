//! Metrics, in a registry of their own for each process instance.
//!
//! A finished request costs a few lookups of short names in maps without locks (listener, route, upstream,
//! endpoint), about ten atomic additions, and no formatting and no allocation: `benches/observe.rs` measures it.
//! The counts are our own atomics rather than the library's `CounterVec`s for two reasons. Those hash all label
//! values of every sample under a lock, and they tell label sets apart by a hash over the values run
//! together: listener `a` with route `bc` and listener `ab` with route `c` would share one counter.
//!
//! What lives elsewhere (health, requests in flight on an endpoint) is read at the scrape, through a [`StateSource`].
//! Label values come from the configuration or from fixed sets, never from a client.

mod counts;
mod families;
mod named;
mod pulse;
mod traffic;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, process_collector::ProcessCollector};

use super::{Attempt, Outcome, SpanCounts, StateSource};
use crate::{
    endpoint::Counted,
    types::{Cause, Driver, Name, Phase},
};
pub use pulse::Pulse;
use traffic::{Tcp, Traffic, TrafficCollector};

/// The label of requests that no route matched.
pub const NO_ROUTE: &str = "_none";
/// The reason of what the `rate_limit` filter refuses, which is counted by route.
const RATE_LIMITED: &str = "rate_limited";

/// Every metric of one process instance.
pub struct Metrics {
    registry: Registry,
    traffic: Arc<Traffic>,
    generation: IntGauge,
    reloads: IntCounterVec,
    last_reload_success: IntGauge,
    certificates: IntGaugeVec,
    orders: IntCounterVec,
    unobtained: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    pub fn new() -> Self {
        Self::try_new().expect("names and labels are constants, and each is registered once")
    }

    fn try_new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let traffic = Arc::new(Traffic::default());
        let generation = IntGauge::new("weir_config_generation", "The running configuration, counted from 1.")?;
        let reloads = IntCounterVec::new(Opts::new("weir_config_reloads_total", "Reloads of the configuration."), &["result"])?;
        let last_reload_success = IntGauge::new("weir_config_last_reload_success", "1 unless the last reload failed.")?;
        let expiry = "When a certificate expires, in seconds since 1970.";
        let certificates = IntGaugeVec::new(Opts::new("weir_tls_certificate_not_after_timestamp_seconds", expiry), &["name"])?;
        let orders = "Orders for certificates, by the authority and how they ended.";
        let orders = IntCounterVec::new(Opts::new("weir_acme_orders_total", orders), &["authority", "result"])?;
        let unobtained = "Names whose last order for a certificate failed.";
        let unobtained = IntGauge::new("weir_acme_failing_names", unobtained)?;
        let build = IntGaugeVec::new(Opts::new("weir_build_info", "The version that is running."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        last_reload_success.set(1);
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]);
        }
        registry.register(Box::new(TrafficCollector::new(traffic.clone())?))?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(last_reload_success.clone()))?;
        registry.register(Box::new(certificates.clone()))?;
        registry.register(Box::new(orders.clone()))?;
        registry.register(Box::new(unobtained.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, traffic, generation, reloads, last_reload_success, certificates, orders, unobtained })
    }

    /// Where a scrape reads the state of endpoints. Held weakly: the source may well hold these metrics itself.
    pub fn watch(&self, source: &Arc<dyn StateSource>) {
        *self.traffic.source.lock() = Some(Arc::downgrade(source));
    }

    /// Counts a finished exchange: its request, its attempts, its error, its refusal.
    pub fn finished(&self, outcome: &Outcome) {
        let route = outcome.route.as_deref().unwrap_or(NO_ROUTE);
        self.traffic.listeners.with(&outcome.listener, |listener| {
            listener.routes.with(route, |exchanges| {
                exchanges.requests.hit(&outcome.method, outcome.status);
                exchanges.took.observe(outcome.times.total);
                exchanges.spread.record(outcome.times.total);
                exchanges.bytes_in.fetch_add(outcome.bytes_in, Relaxed);
                exchanges.bytes_out.fetch_add(outcome.bytes_out, Relaxed);
            });
        });
        if let Some(driver) = outcome.driver {
            self.traffic.drivers[driver as usize].fetch_add(1, Relaxed);
        }
        if let Some(upstream) = &outcome.upstream {
            self.attempted(upstream, outcome);
        }
        if let Some(cause) = outcome.error() {
            count(&self.traffic.errors, cause.word());
        }
        if outcome.reason == Some(RATE_LIMITED) {
            count(&self.traffic.rate_limited, route);
        }
        if let Some(reason) = outcome.refusal() {
            self.rejected(reason);
        }
        if let Some(word) = outcome.cache {
            self.traffic.cached.with(route, |words| count(words, word));
        }
    }

    /// Counts the attempts of an exchange that no client waited for.
    pub fn fetched(&self, outcome: &Outcome) {
        if let Some(upstream) = &outcome.upstream {
            self.attempted(upstream, outcome);
        }
    }

    fn attempted(&self, name: &Name, outcome: &Outcome) {
        self.traffic.upstreams.with(name, |upstream| {
            for attempt in &outcome.attempts {
                upstream.endpoints.with(&attempt.endpoint, |endpoint| match (attempt.failed, attempt.status) {
                    (_, Some(status)) => endpoint.responses.hit(status),
                    (Some(_), None) => endpoint.responses.hit(0),
                    (None, None) => endpoint.responses.abandoned(),
                });
            }
            if let Some((_last, before)) = outcome.attempts.split_last() {
                before.iter().for_each(|attempt| count(&upstream.retries, retried_for(attempt)));
            }
            // A connection from the pool took no time to connect, and would only flatter the histogram.
            if !outcome.times.connect.is_zero() {
                upstream.connect.observe(outcome.times.connect);
            }
            if let Some(first_byte) = outcome.times.first_byte {
                upstream.first_byte.observe(first_byte);
            }
        });
    }

    /// Counts a connection of layer 4 that ended: its error, its refusal.
    pub fn disconnected(&self, outcome: &Outcome) {
        if let Some(cause) = outcome.error() {
            count(&self.traffic.errors, cause.word());
        }
        if let (Some(reason), Phase::Admit | Phase::Route) = (outcome.reason, outcome.phase) {
            self.rejected(reason);
        }
    }

    /// Counts a connection to an endpoint for layer 4, or why there is none, and how long that took.
    pub fn dialled(&self, upstream: &Name, endpoint: &str, failed: Option<Cause>, took: Duration) {
        self.traffic.upstreams.with(upstream, |upstream| {
            let result = failed.map_or("ok", Cause::word);
            upstream.endpoints.with(endpoint, |endpoint| count(&endpoint.connections, result));
            if failed.is_none() {
                upstream.connect.observe(took);
            }
        });
    }

    /// Counts another attempt to connect for layer 4, by what ended the one before.
    pub fn dialled_again(&self, upstream: &Name, cause: Cause) {
        self.traffic.upstreams.with(upstream, |upstream| count(&upstream.retries, cause.word()));
    }

    /// Counts a connection of layer 4 in until the meter drops, and what goes through it.
    pub fn session(&self, listener: &Name) -> SessionMeter {
        let listener = self.traffic.listeners.get(listener);
        listener.tcp.get_or_init(Tcp::default).connections.fetch_add(1, Relaxed);
        SessionMeter(listener)
    }

    /// Counts a refusal that has no outcome, such as a connection over the limit.
    /// [`finished`](Self::finished) counts the others.
    pub fn rejected(&self, reason: &'static str) {
        count(&self.traffic.rejected, reason);
    }

    /// Counts a request field that was not forwarded.
    pub fn field_dropped(&self, listener: &Name, reason: &'static str) {
        self.traffic.listeners.with(listener, |listener| count(&listener.fields_dropped, reason));
    }

    /// Counts a connection in until the guard drops.
    pub fn connection(&self, listener: &Name) -> ConnectionGuard {
        let listener = self.traffic.listeners.get(listener);
        listener.connections.fetch_add(1, Relaxed);
        ConnectionGuard(listener)
    }

    /// Counts a request in until the guard drops; `None` when no route matched.
    pub fn request(&self, route: Option<&Name>) -> RequestGuard {
        let in_flight = self.traffic.in_flight.get(route.map_or(NO_ROUTE, Name::as_str));
        in_flight.fetch_add(1, Relaxed);
        RequestGuard(in_flight)
    }

    /// Counts a TLS handshake with a client. `version` as in [`TlsClient`](crate::types::TlsClient), empty when none
    /// was agreed; `result` is `ok` or one of few words for the failure.
    pub fn handshake(&self, listener: &Name, version: &'static str, result: &'static str, resumed: bool) {
        self.traffic.listeners.with(listener, |listener| {
            *listener.handshakes.lock().entry((version, result, resumed)).or_default() += 1;
        });
    }

    /// Counts a retry that the budget did not allow.
    pub fn retry_budget_exhausted(&self, upstream: &Name) {
        self.traffic.upstreams.with(upstream, |upstream| upstream.budget_exhausted.fetch_add(1, Relaxed));
    }

    /// Counts an active health check.
    pub fn health_check(&self, upstream: &Name, endpoint: &str, passed: bool) {
        self.traffic.upstreams.with(upstream, |upstream| {
            upstream.endpoints.with(endpoint, |endpoint| {
                let counter = if passed { &endpoint.checks_passed } else { &endpoint.checks_failed };
                counter.fetch_add(1, Relaxed);
            });
        });
    }

    /// A source of endpoints was asked, and answered or not; `None` when there is no source.
    pub fn discovery(&self, upstream: &Name, answered: Option<bool>) {
        self.traffic.upstreams.with(upstream, |upstream| {
            upstream.discovers.store(answered.is_some(), Relaxed);
            upstream.discovery_failing.store(answered == Some(false), Relaxed);
        });
    }

    /// Endpoints were found or are gone.
    pub fn endpoints_replaced(&self, upstream: &Name, added: u64, removed: u64) {
        self.traffic.upstreams.with(upstream, |upstream| {
            upstream.added.fetch_add(added, Relaxed);
            upstream.removed.fetch_add(removed, Relaxed);
        });
    }

    /// A configuration is running: the first one.
    pub fn started(&self, generation: u64) {
        self.generation.set(generation as i64);
    }

    /// A reload put this generation into service.
    pub fn reloaded(&self, generation: u64) {
        self.started(generation);
        self.reloads.with_label_values(&["success"]).inc();
        self.last_reload_success.set(1);
    }

    /// A reload was refused, and everything is as it was.
    pub fn reload_failed(&self) {
        self.reloads.with_label_values(&["failure"]).inc();
        self.last_reload_success.set(0);
    }

    /// The generation that is running, 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.generation.get() as u64
    }

    /// The certificates in service, by name, with the end of their validity. Replaces what was said before.
    pub fn certificates<'a>(&self, certificates: impl IntoIterator<Item = (&'a str, SystemTime)>) {
        self.certificates.reset();
        for (name, not_after) in certificates {
            let seconds = not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
            self.certificates.with_label_values(&[name]).set(seconds);
        }
    }

    /// An order for a certificate ended.
    pub fn certificate_ordered(&self, authority: &str, obtained: bool) {
        let result = if obtained { "success" } else { "failure" };
        self.orders.with_label_values(&[authority, result]).inc();
    }

    /// So many names have no certificate, or one that could not be renewed.
    pub fn certificates_failing(&self, names: usize) {
        self.unobtained.set(i64::try_from(names).unwrap_or(i64::MAX));
    }

    /// Forgets listeners and routes that a reload took away.
    pub fn retain(&self, keep_listener: impl Fn(&str) -> bool, keep_route: impl Fn(&str) -> bool) {
        let keep_route = |route: &str| route == NO_ROUTE || keep_route(route);
        self.traffic.listeners.retain(|name, listener| {
            listener.routes.retain(|route, _| keep_route(route));
            // A listener that is gone may still have connections; it is kept until a reload finds them closed.
            keep_listener(name) || listener.connections.load(Relaxed) > 0
        });
        self.traffic.cached.retain(|route, _| keep_route(route));
        self.traffic.in_flight.retain(|route, count| keep_route(route) || count.load(Relaxed) > 0);
    }

    /// The counter of lines that the access log could not write.
    pub fn access_log_dropped(&self) -> Arc<AtomicU64> {
        self.traffic.access_log_dropped.clone()
    }

    /// The counters of spans that went out and were lost.
    pub fn spans(&self) -> Arc<SpanCounts> {
        self.traffic.spans.clone()
    }

    /// Connections open and requests in flight, of all listeners and routes.
    pub fn load(&self) -> Load {
        let mut load = Load::default();
        self.traffic.listeners.each(|_, listener| load.connections += listener.connections.load(Relaxed).max(0) as u64);
        self.traffic.in_flight.each(|_, count| load.requests += count.load(Relaxed).max(0) as u64);
        load
    }

    /// Requests that ended and those among them that ended in an error, of all listeners and routes.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.traffic.listeners.each(|_, listener| {
            listener.routes.each(|_, exchanges| {
                exchanges.requests.each(|_, code, count| {
                    totals.requests += count;
                    totals.server_errors += if code.starts_with('5') { count } else { 0 };
                });
                totals.bytes_in += exchanges.bytes_in.load(Relaxed);
                totals.bytes_out += exchanges.bytes_out.load(Relaxed);
            });
        });
        self.traffic.rejected.each(|_, count| totals.rejected += count.load(Relaxed));
        [totals.by_lane, totals.by_pingora] = Driver::ALL.map(|driver| self.traffic.drivers[driver as usize].load(Relaxed));
        totals
    }

    /// Every route as seen through every listener; `_none` stands for no route.
    pub fn exchanges(&self, mut visit: impl FnMut(&str, &str, ExchangeCounts)) {
        self.traffic.listeners.each(|listener, counts| {
            counts.routes.each(|route, exchanges| visit(listener, route, exchanges.read()));
        });
    }

    /// Requests of routes with a cache: route, what the cache did, how often.
    pub fn cached(&self, mut visit: impl FnMut(&str, &str, u64)) {
        self.traffic.cached.each(|route, words| words.each(|word, count| visit(route, word, count.load(Relaxed))));
    }

    /// Open connections of every listener that has had any.
    pub fn connections(&self, mut visit: impl FnMut(&str, u64)) {
        self.traffic.listeners.each(|listener, counts| visit(listener, counts.connections.load(Relaxed).max(0) as u64));
    }

    /// Requests in flight of every route that has had any.
    pub fn in_flight(&self, mut visit: impl FnMut(&str, u64)) {
        self.traffic.in_flight.each(|route, count| visit(route, count.load(Relaxed).max(0) as u64));
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            log::error!("metrics could not be rendered: {error}");
        }
        text
    }
}

/// What one route did through one listener, since the start.
#[derive(Debug, Clone, Default)]
pub struct ExchangeCounts {
    /// Requests that ended.
    pub requests: u64,
    /// Those answered with a 4xx.
    pub client_errors: u64,
    /// Those answered with a 5xx.
    pub server_errors: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// How long they took.
    pub took: Counted,
}

/// What is going on now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Load {
    /// Open downstream connections.
    pub connections: u64,
    /// Requests being served.
    pub requests: u64,
}

/// What went on since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// Those answered with a 5xx.
    pub server_errors: u64,
    /// Requests refused by the gate or a filter.
    pub rejected: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// Requests that Weir's own driver carried.
    pub by_lane: u64,
    /// Requests that Pingora carried.
    pub by_pingora: u64,
}

/// One open connection. Dropping it counts the connection out.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<traffic::Listener>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// One connection of layer 4. Dropping it counts the connection out.
#[derive(Debug)]
pub struct SessionMeter(Arc<traffic::Listener>);

impl SessionMeter {
    /// Counts bytes that were passed on: from the client, and to it.
    pub fn moved(&self, received: u64, sent: u64) {
        let tcp = self.0.tcp.get_or_init(Tcp::default);
        // Mostly one direction moves at a time, and the counters are shared by all threads.
        for (counter, bytes) in [(&tcp.received, received), (&tcp.sent, sent)] {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        }
    }
}

impl Drop for SessionMeter {
    fn drop(&mut self) {
        self.0.tcp.get_or_init(Tcp::default).connections.fetch_sub(1, Relaxed);
    }
}

/// One request being served. Dropping it counts the request out.
#[derive(Debug)]
pub struct RequestGuard(Arc<AtomicI64>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn count(counters: &named::Named<AtomicU64>, name: &str) {
    counters.with(name, |counter| counter.fetch_add(1, Relaxed));
}

/// Why another attempt followed this one.
fn retried_for(attempt: &Attempt) -> &'static str {
    match (attempt.failed, attempt.status) {
        (Some(cause), _) => cause.word(),
        (None, Some(502)) => "502",
        (None, Some(503)) => "503",
        (None, Some(504)) => "504",
        _ => "status",
    }
}

#[cfg(test)]
mod tests;
