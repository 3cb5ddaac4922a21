//! The one thread that sends spans: it takes them off the queue, joins them into messages, and outlives every trouble of
//! the collector.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tokio::sync::{Notify, mpsc as queue};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{SpanCounts, TracingSpec, spans};

/// Exchanges that wait: a second of ten thousand requests, of which half are recorded. With two spans of 2 KiB each they
/// take 16 MiB at most.
const QUEUE: usize = 4096;
/// Spans in one message. At 2 KiB each that is a quarter of the 4 MiB that collectors take.
const BATCH: usize = 512;
/// How long the first span of a message waits for others.
const DELAY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The default of OpenTelemetry's exporters.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before each further try of a message. What comes meanwhile fills the queue.
const AGAIN: [Duration; 4] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The requests' end of the queue. Once it is dropped the thread ends when it has sent what is queued.
pub(super) struct Exporter {
    queue: queue::Sender<Entry>,
    counts: Arc<SpanCounts>,
    hurry: Arc<Hurry>,
}

/// Somebody waits for what is queued: failures are not tried again.
#[derive(Default)]
struct Hurry {
    is_on: AtomicBool,
    begins: Notify,
}

impl Hurry {
    fn begin(&self) {
        self.is_on.store(true, Relaxed);
        self.begins.notify_waiters();
    }
}

enum Entry {
    Spans(Vec<Span>),
    /// Everything before this is to be sent, and then told.
    Flush(SyncSender<()>),
}

impl Exporter {
    pub(super) fn start(spec: &TracingSpec, counts: Arc<SpanCounts>) -> io::Result<Self> {
        let address = spec.otlp.to_string();
        let mut endpoint = Endpoint::from_shared(address.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("weir/", env!("CARGO_PKG_VERSION"))))
            .map_err(io::Error::other)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(EXPORT_TIMEOUT);
        if spec.otlp.is_tls() {
            endpoint = endpoint.tls_config(tls(spec.ca.as_deref())?).map_err(io::Error::other)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, entries) = queue::channel(QUEUE);
        let hurry = Arc::<Hurry>::default();
        let resource = resource(&spec.service);
        let (counted, hurried) = (counts.clone(), hurry.clone());
        thread::Builder::new().name("tracing".into()).spawn(move || {
            runtime.block_on(async {
                let client = TraceServiceClient::new(endpoint.connect_lazy());
                let failing = false;
                Sender { address, client, entries, resource, counts: counted, hurry: hurried, failing }.run().await;
            });
        })?;
        Ok(Self { queue: sender, counts, hurry })
    }

    /// Queues what `spans` builds, which it does only if there is room.
    pub(super) fn put(&self, count: usize, spans: impl FnOnce() -> Vec<Span>) {
        match self.queue.try_reserve() {
            Ok(place) => place.send(Entry::Spans(spans())),
            Err(_) => {
                self.counts.overflowed.fetch_add(count as u64, Relaxed);
            }
        }
    }

    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (tell, told) = mpsc::sync_channel(1);
        self.hurry.begin();
        while self.queue.try_send(Entry::Flush(tell.clone())).is_err() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        told.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Whom to believe that he is the collector.
fn tls(ca: Option<&Path>) -> io::Result<ClientTlsConfig> {
    let config = ClientTlsConfig::new();
    let Some(ca) = ca else { return Ok(config.with_native_roots()) };
    let pem = fs::read(ca).map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", ca.display())))?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

/// Who the spans are from.
fn resource(service: &str) -> Resource {
    let mut attributes = Vec::new();
    spans::text(&mut attributes, "service.name", service);
    spans::text(&mut attributes, "service.version", env!("CARGO_PKG_VERSION"));
    // Tells edges of one service apart, and one process from its successor.
    spans::text(&mut attributes, "service.instance.id", &uuid::Uuid::new_v4().to_string());
    if let Ok(host) = nix::unistd::gethostname() {
        spans::text(&mut attributes, "host.name", &host.to_string_lossy());
    }
    spans::number(&mut attributes, "process.pid", std::process::id().into());
    Resource { attributes, ..Resource::default() }
}

struct Sender {
    address: String,
    client: TraceServiceClient<Channel>,
    entries: queue::Receiver<Entry>,
    resource: Resource,
    counts: Arc<SpanCounts>,
    hurry: Arc<Hurry>,
    failing: bool,
}

impl Sender {
    /// Sends until the queue is closed and empty.
    async fn run(mut self) {
        while let Some(first) = self.entries.recv().await {
            let (mut batch, mut waiting) = (Vec::new(), None);
            let full = tokio::time::sleep(DELAY);
            tokio::pin!(full);
            let mut next = Some(first);
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Spans(spans) => batch.extend(spans),
                    Entry::Flush(done) => waiting = Some(done),
                }
                if batch.len() < BATCH && waiting.is_none() {
                    next = tokio::select! {
                        entry = self.entries.recv() => entry,
                        () = &mut full => None,
                    };
                }
            }
            if !batch.is_empty() {
                self.send(batch).await;
            }
            if let Some(done) = waiting {
                self.hurry.is_on.store(false, Relaxed);
                let _ = done.try_send(());
            }
        }
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let message = self.message(batch);
        match self.deliver(message).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.counts.exported.fetch_add(count - rejected, Relaxed);
                self.counts.rejected.fetch_add(rejected, Relaxed);
                if std::mem::take(&mut self.failing) {
                    log::warn!("tracing: {} takes spans again", self.address);
                }
            }
            Err(status) => {
                self.counts.failed.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let Self { address, .. } = self;
                    log::warn!("tracing: {address} takes no spans, they are lost: {}: {}", status.code(), reason(&status));
                }
            }
        }
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..InstrumentationScope::default()
        };
        let schema_url = spans::SCHEMA.to_owned();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: schema_url.clone() }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, schema_url }],
        }
    }

    /// Is somebody waiting, or tracing switched off?
    fn is_ending(&self) -> bool {
        self.hurry.is_on.load(Relaxed) || self.entries.is_closed()
    }

    /// Sends a message, again where that may help, and answers how many of its spans were refused.
    async fn deliver(&mut self, message: ExportTraceServiceRequest) -> Result<u64, Status> {
        let mut waits = AGAIN.iter();
        loop {
            // Before the flag is read, so that no beginning is missed.
            let hurried = self.hurry.clone();
            let hurried = hurried.begins.notified();
            let failure = match self.client.export(message.clone()).await {
                Ok(answer) => {
                    let partial = answer.into_inner().partial_success.unwrap_or_default();
                    if partial.rejected_spans > 0 {
                        log::debug!("tracing: {} spans were rejected: {}", partial.rejected_spans, partial.error_message);
                    }
                    return Ok(u64::try_from(partial.rejected_spans).unwrap_or(0));
                }
                Err(failure) => failure,
            };
            let Some(wait) = waits.next().filter(|_| is_passing(&failure) && !self.is_ending()) else { return Err(failure) };
            // Half of it at least, so that edges that lost one collector do not come back together.
            let wait = wait.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = hurried => return Err(failure),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// The failures that OTLP calls retryable. `RESOURCE_EXHAUSTED` is one only if the collector says for how long, which those in
/// use do not.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss
    )
}

/// The innermost cause: `transport error` alone helps nobody.
fn reason(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    if std::ptr::addr_eq(error, status) { status.message().to_owned() } else { error.to_string() }
}
