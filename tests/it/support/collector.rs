//! An OTLP collector: it takes spans over gRPC with the official service definition, and keeps them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, Span, span::SpanKind},
};
use parking_lot::Mutex;
use tonic::{
    Request, Response, Status,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{Gate, certs::Identity};

/// What the collector does with a message.
pub type Script = dyn Fn(usize) -> Result<i64, Status> + Send + Sync;

/// A collector that takes everything.
pub async fn collector() -> Collector {
    collector_that(|_| Ok(0)).await
}

/// A collector that takes everything, over TLS.
pub async fn tls_collector(identity: &Identity) -> Collector {
    let pem = |file: &std::path::Path| std::fs::read(file).expect("a file of the fixture");
    let identity = tonic::transport::Identity::from_pem(pem(&identity.cert_file), pem(&identity.key_file));
    start(Arc::new(|_| Ok(0)), None, Some(ServerTlsConfig::new().identity(identity))).await
}

/// A collector that answers its nth message (from 0) with so many rejected spans, or with a failure.
pub async fn collector_that(script: impl Fn(usize) -> Result<i64, Status> + Send + Sync + 'static) -> Collector {
    start(Arc::new(script), None, None).await
}

/// A collector that holds every message back until the gate lets it pass.
pub async fn stuck_collector(gate: &Gate) -> Collector {
    start(Arc::new(|_| Ok(0)), Some(gate.clone()), None).await
}

async fn start(script: Arc<Script>, gate: Option<Gate>, tls: Option<ServerTlsConfig>) -> Collector {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let kept = Arc::<Mutex<Vec<ResourceSpans>>>::default();
    let service = TraceServiceServer::new(Service { script, gate, kept: kept.clone(), messages: AtomicUsize::default() });
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).expect("a certificate");
    }
    let serving = server.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    let task = tokio::spawn(async move { serving.await.expect("serves") });
    Collector { address, kept, task }
}

struct Service {
    script: Arc<Script>,
    gate: Option<Gate>,
    kept: Arc<Mutex<Vec<ResourceSpans>>>,
    messages: AtomicUsize,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &self.gate {
            gate.wait().await;
        }
        let rejected_spans = (self.script)(number)?;
        self.kept.lock().extend(request.into_inner().resource_spans);
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: String::new() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }))
    }
}

/// A running collector. It ends when it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    kept: Arc<Mutex<Vec<ResourceSpans>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    /// What it was sent.
    pub fn messages(&self) -> Vec<ResourceSpans> {
        self.kept.lock().clone()
    }
    /// Every span so far, in the order of their arrival.
    pub fn spans_now(&self) -> Vec<Seen> {
        let messages = self.messages();
        messages.into_iter().flat_map(|message| message.scope_spans).flat_map(|scope| scope.spans).map(Seen).collect()
    }
    /// The spans, once there are so many.
    pub async fn spans(&self, count: usize) -> Vec<Seen> {
        crate::eventually!(self.spans_now(), |spans: &Vec<Seen>| spans.len() >= count)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Seen(pub Span);

impl Seen {
    /// `server` or `client`.
    pub fn kind(&self) -> SpanKind {
        self.0.kind()
    }
    /// Its own id, in hex.
    pub fn id(&self) -> String {
        hex(&self.0.span_id)
    }
    /// Its parent's, empty for none.
    pub fn parent(&self) -> String {
        hex(&self.0.parent_span_id)
    }
    /// Its trace's.
    pub fn trace(&self) -> String {
        hex(&self.0.trace_id)
    }
    /// An attribute as text; empty when it is missing.
    pub fn get(&self, key: &str) -> String {
        text(&self.0.attributes, key)
    }
    /// Did it end in an error?
    pub fn is_error(&self) -> bool {
        self.0.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

/// An attribute as text; empty when it is missing.
pub fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        None => String::new(),
        other => panic!("{key}: {other:?}"),
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
