//! The loop that keeps asking a source.

use std::time::Duration;

use super::{DiscoverSpec, EndpointSpec, Found, ListedEndpoint, Source, dns::Dns};
use crate::{
    endpoint::EndpointRegistry,
    types::{At, Name},
};

/// Who wants to know about discovery: metrics. (The log lines are written here and by whoever applies.)
pub trait DiscoveryObserver: Send + Sync {
    /// A source was asked, and answered or not.
    fn asked(&self, upstream: &Name, answered: bool);
    /// There is nothing to ask (any more).
    fn absent(&self, upstream: &Name);
    /// Endpoints came and went.
    fn replaced(&self, upstream: &Name, changes: Changes);
}

/// Nobody wants to know.
impl DiscoveryObserver for () {
    fn asked(&self, _upstream: &Name, _answered: bool) {}
    fn absent(&self, _upstream: &Name) {}
    fn replaced(&self, _upstream: &Name, _changes: Changes) {}
}

/// How many endpoints came and went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Endpoints that were not there before.
    pub added: usize,
    /// Endpoints that are not there any more.
    pub removed: usize,
}

/// What one question to a source came to.
#[derive(Debug)]
pub(super) struct Asked {
    /// The endpoints; `Ok(None)` when nothing has changed; or why there is no answer.
    pub(super) found: Result<Option<Vec<EndpointSpec>>, String>,
    /// When to ask again.
    pub(super) again: Duration,
}

/// Finds endpoints of one upstream.
#[derive(Debug)]
pub struct Discovery {
    source: Source,
    text: String,
}

impl Discovery {
    /// The compiled form. Problems are reported at `at`, the `discover` key.
    pub fn compile(spec: &DiscoverSpec, registry: &EndpointRegistry, at: &At) -> Option<Self> {
        let source = spec.compile(registry, at)?;
        let text = match &source {
            Source::Dns(dns) => dns.to_string(),
            Source::Docker(docker) => docker.to_string(),
            Source::File(file) => file.to_string(),
        };
        Some(Self { source, text })
    }

    /// Of an endpoint that the configuration names. `None` for one that has an address, is not used, or is no name in DNS.
    pub fn named(listed: &ListedEndpoint) -> Option<Self> {
        let (name, port) = listed.target.name()?;
        let dns = Dns::of(name, port, listed.share()?, listed)?;
        let text = dns.to_string();
        Some(Self { source: Source::Dns(Box::new(dns)), text })
    }

    /// What is asked, in words that tell one source from another: `dns api.internal:8080`.
    pub fn source(&self) -> &str {
        &self.text
    }

    /// Asks until the future is dropped. What is found is handed to `apply`; while there is no answer, what
    /// was found last stays, and the log says so once for each reason.
    pub async fn run(&self, upstream: &Name, observer: &dyn DiscoveryObserver, apply: impl Fn(Vec<Found>) -> Changes) {
        let mut source = self.source.clone();
        let mut trouble = None;
        loop {
            let Asked { found, again } = match &mut source {
                Source::Dns(dns) => dns.ask().await,
                Source::Docker(docker) => match docker.follow(upstream, observer, &apply).await {},
                Source::File(file) => file.ask().await,
            };
            match found {
                Ok(None) => {}
                Ok(Some(found)) => {
                    if trouble.take().is_some() {
                        log::info!("upstream {upstream}: {} answers again", self.text);
                    }
                    observer.asked(upstream, true);
                    observer.replaced(upstream, apply(found.into_iter().map(Found::from).collect()));
                }
                Err(reason) => {
                    observer.asked(upstream, false);
                    if trouble.as_ref() != Some(&reason) {
                        log::warn!("upstream {upstream}: {}: {reason}; keeping the endpoints found last", self.text);
                        trouble = Some(reason);
                    }
                }
            }
            tokio::time::sleep(again).await;
        }
    }
}
