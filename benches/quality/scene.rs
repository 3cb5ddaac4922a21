//! The edge and its ten endpoints.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use weir::{
    config,
    lab::{Backend, BackendHandle, BackendOptions, Faults},
    server::RunningServer,
    snapshot,
    types::Ratio,
};

pub const ENDPOINTS: usize = 10;
/// The position of the endpoint that is slow, and of the one that fails.
pub const SLOW: usize = 3;
const FAILING: usize = 7;
pub const SLOWNESS: u32 = 10;
pub const FAILS: u8 = 20;

/// A request takes between this long and three times as long, evenly distributed.
const LEAST: Duration = Duration::from_millis(10);
const MEAN: Duration = Duration::from_millis(20);

/// Are the endpoints alike, or is one slow and one failing?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    Alike,
    OneSlowOneFailing,
}

impl Cast {
    /// What an endpoint works on at a time. Fewer where all of them are about to slow down: what then waits without a limit holds four
    /// sockets each, and is to stay below 20,000.
    pub fn workers(self) -> u32 {
        match self {
            Cast::Alike => 4,
            Cast::OneSlowOneFailing => 10,
        }
    }

    /// Requests per second that all endpoints together can work on. Computed, so that it is the same in each run: an
    /// endpoint is its timers, not the machine.
    pub fn capacity(self) -> f64 {
        let ordinary = f64::from(self.workers()) / MEAN.as_secs_f64();
        match self {
            Cast::Alike => ordinary * ENDPOINTS as f64,
            Cast::OneSlowOneFailing => ordinary * ((ENDPOINTS - 1) as f64 + 1.0 / f64::from(SLOWNESS)),
        }
    }

    fn faults(self, index: usize) -> Faults {
        let slowness = if self == Cast::OneSlowOneFailing && index == SLOW { SLOWNESS } else { 1 };
        let fails = if self == Cast::OneSlowOneFailing && index == FAILING { FAILS } else { 0 };
        Faults {
            delay: LEAST * slowness,
            jitter: (MEAN - LEAST) * 2 * slowness,
            rate: Ratio::percent(fails),
            ..Faults::default()
        }
    }
}

/// A running edge in front of its endpoints.
pub struct Scene {
    edge: RunningServer,
    pub endpoints: Vec<BackendHandle>,
}

impl Scene {
    /// Starts it, with these keys for the upstream and these for the route, in flow style.
    pub async fn start(cast: Cast, upstream: &str, route: &str) -> anyhow::Result<Self> {
        let mut endpoints = Vec::new();
        for index in 0..ENDPOINTS {
            let options = BackendOptions::named(format!("endpoint-{index}")).faults(cast.faults(index)).workers(cast.workers());
            endpoints.push(Backend::spawn(options).await?);
        }
        let addresses: Vec<String> = endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect();
        // Clients are told apart by what they forward, so the bench is a proxy that is trusted.
        let yaml = format!(
            "observability: {{log: {{level: error}}, access_log: {{path: off}}}}\n\
             admin: off\n\
             listeners: {{web: {{address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8]}}}}\n\
             routes: [{{name: all, upstream: pool, {route}}}]\n\
             upstreams: {{pool: {{endpoints: [{}], {upstream}}}}}\n",
            addresses.join(", ")
        );
        let loaded = snapshot::check(config::parse_str("bench.yaml", &yaml, Path::new("."), &|_| None));
        let report = || config::render::human(loaded.document.sources(), &loaded.diagnostics, false);
        let spec = loaded.spec.clone().filter(|_| loaded.is_ok()).with_context(report)?;
        Ok(Self { edge: RunningServer::start(spec).await?, endpoints })
    }

    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.edge.address("web").context("the listener has no address")
    }

    /// Requests that each endpoint has received.
    pub fn received(&self) -> Vec<u64> {
        self.endpoints.iter().map(BackendHandle::requests).collect()
    }

    /// Stops it, without waiting for what an endpoint still works on.
    pub async fn stop(self) {
        drop(self.endpoints);
        self.edge.stop_within(Duration::from_millis(100)).await;
    }
}
