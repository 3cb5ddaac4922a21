//! Tracing: where a request's time went, as spans that join those of the services around us.
//!
//! Each traced request is one server span and one client span for each attempt; the id of an attempt's span is what the
//! endpoint sees as its parent. Spans are built from the [`Outcome`] when the request has ended, and only if its
//! trace is recorded; until then a traced request costs its ids. One thread sends them to a collector by OTLP
//! over gRPC. The way there is a bounded queue, and what does not fit is dropped and counted: a slow
//! collector must not become a slow proxy.

mod context;
mod exporter;
mod spans;
mod spec;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

pub use context::{SpanId, TraceId, Traceparent, is_tracestate};
pub use spec::{ContinueFrom, OtlpAddress, TracingSpec};

use super::Outcome;
use crate::types::Scheme;
use exporter::Exporter;

/// The place of one request in its trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// The span of the whole exchange.
    pub span: SpanId,
    /// Is it recorded, here and behind?
    pub sampled: bool,
    /// The span of a caller whose trace this continues.
    pub parent: Option<SpanId>,
    /// A caller whose trace was not continued.
    pub link: Option<(TraceId, SpanId)>,
    /// The scheme the client used.
    pub scheme: Scheme,
    /// The port the client asked for, when it named one.
    pub port: Option<u16>,
    /// How the endpoint was asked, if it was.
    pub onward: Onward,
}

/// How an endpoint was asked.
#[derive(Debug, Clone, Default)]
pub struct Onward {
    /// Over TLS.
    pub tls: bool,
    /// The path, where it is not the client's own.
    pub path: Option<String>,
}

impl Trace {
    /// What an endpoint is told, given the span of the attempt.
    pub fn traceparent(&self, span: SpanId) -> Traceparent {
        Traceparent { trace: self.id, span, sampled: self.sampled }
    }
}

/// Spans that went out and spans that were lost.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector has them.
    pub exported: AtomicU64,
    /// The queue was full.
    pub overflowed: AtomicU64,
    /// The collector could not be reached, or refused the request.
    pub failed: AtomicU64,
    /// The collector took the request and refused these.
    pub rejected: AtomicU64,
}

/// Tracing as it is configured, with the exporter that belongs to it.
pub struct Tracing {
    spec: TracingSpec,
    exporter: Exporter,
}

impl Tracing {
    /// Starts the exporter. It connects when there is something to send.
    ///
    /// # Errors
    /// When no thread can be started, or for `https` no root certificates be read.
    pub fn open(spec: &TracingSpec, counts: Arc<SpanCounts>) -> io::Result<Self> {
        Ok(Self { spec: spec.clone(), exporter: Exporter::start(spec, counts)? })
    }

    /// What it was opened with.
    pub fn spec(&self) -> &TracingSpec {
        &self.spec
    }

    /// The place of a request whose caller sent `incoming`. Who is not trusted cannot have anything recorded: neither
    /// the volume nor the names of our traces are a stranger's to choose.
    pub fn begin(&self, incoming: Option<Traceparent>, trusted: bool, scheme: Scheme, port: Option<u16>) -> Trace {
        let continues = trusted || self.spec.continue_from == ContinueFrom::Anyone;
        let (parent, stranger) = if continues { (incoming, None) } else { (None, incoming) };
        let sampled = parent.map_or_else(|| self.draw(), |parent| parent.sampled);
        Trace {
            id: parent.map_or_else(TraceId::random, |parent| parent.trace),
            span: SpanId::random(),
            sampled,
            parent: parent.map(|parent| parent.span),
            link: stranger.map(|stranger| (stranger.trace, stranger.span)),
            scheme,
            port,
            onward: Onward::default(),
        }
    }

    fn draw(&self) -> bool {
        let share = self.spec.sample.get();
        share >= 1.0 || (share > 0.0 && rand::random::<f64>() < share)
    }

    /// Queues the spans of an exchange. Never waits.
    pub fn finished(&self, outcome: &Outcome, trace: &Trace) {
        if trace.sampled {
            self.exporter.put(spans::count(outcome), || spans::build(outcome, trace));
        }
    }

    /// Waits until what was queued so far has been sent or given up, at most this long. False when that was not enough.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.exporter.flush(timeout)
    }
}

impl SpanCounts {
    /// Spans lost, by the word for why.
    pub fn dropped(&self) -> [(&'static str, u64); 3] {
        [("queue_full", &self.overflowed), ("export_failed", &self.failed), ("rejected", &self.rejected)]
            .map(|(word, count)| (word, count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests;
