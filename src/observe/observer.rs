//! One place that is told how each exchange ended.

use std::{io, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::{AccessLog, AccessLogSpec, Metrics, Outcome, Recent, Timeline, Tracing, TracingSpec};

/// Metrics, access log, tracing and recent errors of one process instance. Dropping it waits for the access log, at most two seconds.
pub struct Observer {
    metrics: Arc<Metrics>,
    access_log: ArcSwap<AccessLog>,
    tracing: ArcSwapOption<Tracing>,
    recent: Recent,
    timeline: Arc<Timeline>,
}

impl Observer {
    /// An observer with metrics of its own, that does not trace yet.
    ///
    /// # Errors
    /// When the access log cannot be opened.
    pub fn new(access_log: &AccessLogSpec) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let access_log = AccessLog::open(access_log, metrics.access_log_dropped())?;
        Ok(Self {
            metrics,
            access_log: ArcSwap::from_pointee(access_log),
            tracing: ArcSwapOption::empty(),
            recent: Recent::default(),
            timeline: Arc::default(),
        })
    }

    /// Learns from a finished exchange. Never waits.
    pub fn finished(&self, outcome: &Outcome) {
        self.metrics.finished(outcome);
        self.recent.finished(outcome);
        if let Some(trace) = outcome.trace.as_deref().filter(|trace| trace.sampled)
            && let Some(tracing) = &*self.tracing.load()
        {
            tracing.finished(outcome, trace);
        }
        // Last: who sees the line finds the rest done.
        self.access_log.load().finished(outcome);
    }

    /// Learns from an exchange with an endpoint that no client waited for. Never waits.
    pub fn fetched(&self, outcome: &Outcome) {
        self.metrics.fetched(outcome);
    }

    /// Tracing, unless it is off.
    pub fn tracing(&self) -> Guard<Option<Arc<Tracing>>> {
        self.tracing.load()
    }

    /// Learns from a connection of layer 4 that ended. Never waits.
    pub fn disconnected(&self, outcome: &Outcome) {
        self.metrics.disconnected(outcome);
        self.recent.finished(outcome);
        self.access_log.load().finished(outcome);
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The last errors.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The last changes of state.
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// For a reload: opens an access log if its settings changed, to be handed to [`Observer::replace_access_log`].
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_access_log(&self, spec: &AccessLogSpec) -> io::Result<Option<AccessLog>> {
        match self.access_log.load().spec() == spec {
            true => Ok(None),
            false => AccessLog::open(spec, self.metrics.access_log_dropped()).map(Some),
        }
    }

    /// Logs there from now on. The old one writes what it has queued, for which this waits up to two seconds.
    pub fn replace_access_log(&self, opened: AccessLog) {
        self.access_log.swap(Arc::new(opened)).close();
    }

    /// At the start and for a reload: what tracing will be, `None` not at all, to be handed to [`Observer::replace_tracing`].
    /// If its settings are as they were, so is the exporter.
    ///
    /// # Errors
    /// When no exporter can be started.
    pub fn open_tracing(&self, spec: Option<&TracingSpec>) -> io::Result<Option<Arc<Tracing>>> {
        let running = self.tracing.load_full();
        match spec {
            Some(spec) if running.as_deref().map(Tracing::spec) != Some(spec) => {
                Tracing::open(spec, self.metrics.spans()).map(|opened| Some(Arc::new(opened)))
            }
            Some(_) => Ok(running),
            None => Ok(None),
        }
    }

    /// Traces in this way from now on. Requests under way end in the way that holds then. The old exporter sends what it
    /// has queued, for which nobody waits.
    pub fn replace_tracing(&self, tracing: Option<Arc<Tracing>>) {
        self.tracing.store(tracing);
    }

    /// Opens the access log's file anew (SIGUSR1).
    pub fn reopen(&self) {
        self.access_log.load().reopen();
    }

    /// Waits for the access log and the last spans, at most this long for each, as the process ends. False when that was
    /// not enough.
    pub fn flush(&self, timeout: Duration) -> bool {
        let traced = self.tracing.load().as_ref().is_none_or(|tracing| tracing.flush(timeout));
        self.access_log.load().flush(timeout) && traced
    }
}

impl Drop for Observer {
    /// The last lines reach the log, unless its sink is stuck.
    fn drop(&mut self) {
        self.access_log.load().close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::testing::outcome, types::Cause};

    #[test]
    fn an_exchange_reaches_all_three_of_its_own_instance_only() {
        let dir = tempfile::tempdir().unwrap();
        let spec = |name: &str| AccessLogSpec { path: dir.path().join(name).to_str().unwrap().into(), ..Default::default() };
        let (one, other) = (Observer::new(&spec("one")).unwrap(), Observer::new(&spec("other")).unwrap());
        one.finished(&Outcome { cause: Some(Cause::ConnectionRefused), status: 502, ..outcome() });
        assert!(one.open_access_log(&spec("one")).unwrap().is_none(), "open already");
        one.replace_access_log(one.open_access_log(&spec("two")).unwrap().unwrap());
        one.finished(&outcome());
        assert!(one.flush(Duration::from_secs(20)) && other.flush(Duration::from_secs(20)));
        let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap().lines().count();
        assert_eq!((lines("one"), lines("two"), lines("other")), (1, 1, 0));
        assert_eq!((one.recent().errors().len(), other.recent().errors().len()), (1, 0));
        assert_eq!((one.metrics().totals().requests, other.metrics().totals().requests), (2, 0));
        assert!(one.open_access_log(&spec("no/such/dir")).is_err());
    }
}
