//! One check of one endpoint, and what follows from it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora_core::{Error, ErrorType};
use pingora_load_balancing::{Backend, health_check::HealthCheck};

use super::{HealthCheckSpec, connect::Dial, grpc::GrpcProbe, http::HttpProbe, tcp, threshold::Thresholds};
use crate::{
    endpoint::{Endpoint, HealthStatus},
    types::{At, Code},
};

/// Who wants to know about checks: metrics. (The log lines are written here.)
pub trait HealthObserver: Send + Sync {
    /// A check ended.
    fn checked(&self, endpoint: &Endpoint, passed: bool);
    /// An endpoint has another status now.
    fn changed(&self, endpoint: &Endpoint, status: HealthStatus, reason: &str);
}

/// Nobody wants to know.
impl HealthObserver for () {
    fn checked(&self, _endpoint: &Endpoint, _passed: bool) {}
    fn changed(&self, _endpoint: &Endpoint, _status: HealthStatus, _reason: &str) {}
}

#[derive(Debug)]
enum Probe {
    Http(Box<HttpProbe>),
    Tcp,
    Grpc(GrpcProbe),
}

/// Checks endpoints of one upstream. Results are kept with the endpoint, so they survive a reload.
pub struct Checker {
    probe: Probe,
    dial: Dial,
    pub(super) interval: Duration,
    timeout: Duration,
    timeout_text: String,
    thresholds: Thresholds,
}

impl HealthCheckSpec {
    /// The compiled form, for an upstream whose endpoints are reached like this. Problems are reported at `at`, the `health_check` key.
    pub fn compile(&self, dial: Dial, at: &At) -> Option<Checker> {
        let mut ok = true;
        for (key, span) in [("interval", self.interval), ("timeout", self.timeout)] {
            if span.get().is_zero() {
                at.key(key).problem(Code::BadValue, format!("`{key}` must be longer than nothing")).hint("write `10s`");
                ok = false;
            }
        }
        let probe = match (&self.http, &self.tcp, &self.grpc) {
            (Some(http), None, None) => http.compile(&at.key("http")).map(Box::new).map(Probe::Http),
            (None, Some(_), None) => Some(Probe::Tcp),
            (None, None, Some(grpc)) => grpc.compile(dial.http2(), &at.key("grpc")).map(Probe::Grpc),
            (None, None, None) => {
                at.problem(Code::Conflict, "a health check needs a probe")
                    .hint("add `http: {path: /health}`, `tcp: {}` or `grpc: {}`");
                None
            }
            (_, _, grpc) => {
                let second = if grpc.is_some() { "grpc" } else { "tcp" };
                at.key(second).problem(Code::Conflict, "a health check has one probe: `http`, `tcp` or `grpc`").at_key();
                None
            }
        };
        probe.filter(|_| ok).map(|probe| Checker {
            probe,
            dial,
            interval: self.interval.get(),
            timeout: self.timeout.get(),
            timeout_text: format!("timeout after {}", self.timeout),
            thresholds: Thresholds { healthy_after: self.healthy_after, unhealthy_after: self.unhealthy_after },
        })
    }
}

impl Checker {
    /// Asks once, within the timeout for everything from connecting to the last byte. `Err` says why the
    /// check failed.
    pub async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        let probe = async {
            match &self.probe {
                Probe::Http(probe) => probe.probe(endpoint.address(), &self.dial).await,
                Probe::Grpc(probe) => probe.probe(endpoint.address(), &self.dial).await,
                Probe::Tcp => tcp::probe(endpoint.address(), &self.dial).await,
            }
        };
        // What an endpoint answers must not end its checks for good, whatever it does to a parser.
        let probe =
            AssertUnwindSafe(probe).catch_unwind().map(|result| result.unwrap_or_else(|_| Err("the check panicked".into())));
        tokio::time::timeout(self.timeout, probe).await.unwrap_or_else(|_| Err(self.timeout_text.clone()))
    }

    /// Asks once and draws the conclusion: the endpoint's status, a log line and the observer's call if
    /// that changed.
    pub async fn check(&self, endpoint: &Endpoint, observer: &dyn HealthObserver) {
        let result = self.probe(endpoint).await;
        self.conclude(endpoint, &result, observer);
    }

    fn conclude(&self, endpoint: &Endpoint, result: &Result<(), String>, observer: &dyn HealthObserver) {
        let passed = result.is_ok();
        let before = endpoint.health().status;
        let (status, streak) = self.thresholds.after(before, endpoint.streak(), passed);
        endpoint.set_streak(streak);
        // Once checks have taken it out, the circuit breaker has nothing to add.
        if !passed && status != HealthStatus::Unhealthy {
            endpoint.check_failed(Instant::now());
        }
        // A failure that does not count yet leaves the reason alone: it speaks of the status.
        let reason = match result {
            Err(reason) if status == HealthStatus::Unhealthy => reason.as_str(),
            Ok(()) if status == HealthStatus::Healthy => "passed",
            _ => {
                observer.checked(endpoint, passed);
                return;
            }
        };
        let changed = endpoint.set_health(status, reason);
        observer.checked(endpoint, passed);
        if changed {
            match (before, status) {
                (_, HealthStatus::Unhealthy) => {
                    log::warn!("upstream {}: endpoint {} is unhealthy: {reason}", endpoint.upstream(), endpoint.label());
                }
                (HealthStatus::Unhealthy, _) => {
                    log::info!("upstream {}: endpoint {} is healthy again", endpoint.upstream(), endpoint.label());
                }
                // A first pass confirms what was assumed: not worth a line.
                _ => {}
            }
            observer.changed(endpoint, status, reason);
        }
    }
}

/// For use with Pingora's own loop. [`super::run()`] is what Weir uses: there each endpoint has its own clock.
#[async_trait]
impl HealthCheck for Checker {
    async fn check(&self, target: &Backend) -> pingora_core::Result<()> {
        let Some(endpoint) = target.ext.get::<Arc<Endpoint>>() else { return Ok(()) };
        let result = self.probe(endpoint).await;
        self.conclude(endpoint, &result, &());
        result.map_err(|reason| Error::explain(ErrorType::Custom("health check failed"), reason))
    }
    fn health_threshold(&self, success: bool) -> usize {
        let thresholds = self.thresholds;
        let count = if success { thresholds.healthy_after } else { thresholds.unhealthy_after };
        count.get() as usize
    }
}
