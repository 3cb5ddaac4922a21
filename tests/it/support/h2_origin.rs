//! An HTTP/2 origin with trailers, in cleartext (h2c) or over TLS.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{
    BoxStream, Gate,
    certs::{Identity, server_config},
    h2_client::{collect, fields},
    within,
};

/// An HTTP/2 origin that answers 200 with an empty body until told otherwise.
pub fn h2_origin() -> H2OriginBuilder {
    H2OriginBuilder { script: Arc::new(|_| H2Answer::new(200, "")), tls: None }
}

/// A request as the origin received it.
#[derive(Debug, Clone)]
pub struct H2Received {
    pub head: http::request::Parts,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// Which of the origin's connections it came on, from 0.
    pub connection: usize,
}

impl H2Received {
    /// The value of the first field with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }
    /// The value of the first trailer with this name.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref().and_then(|trailers| trailers.get(name)).and_then(|value| value.to_str().ok())
    }
}

/// What goes out in answer to one request.
#[derive(Debug, Clone)]
pub struct H2Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
    gate: Option<Gate>,
    end: End,
}

/// How a stream ends.
#[derive(Debug, Clone)]
enum End {
    InOrder,
    /// With a reset in the place of an answer.
    Refused(Reason),
    /// With a reset after head and body, once the gate lets it pass.
    Broken(Reason, Gate),
}

impl H2Answer {
    /// A response.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self { status, headers: HeaderMap::new(), body: body.into(), trailers: None, gate: None, end: End::InOrder }
    }
    /// A gRPC response: one message, and the status in the trailers.
    pub fn grpc(message: impl Into<Bytes>, status: u32) -> Self {
        let answer = Self::new(200, message).header("content-type", "application/grpc");
        answer.trailers(&[("grpc-status", &status.to_string())])
    }
    /// With this field as well.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.extend(fields(&[(name, value)]));
        self
    }
    /// With these trailers.
    pub fn trailers(mut self, pairs: &[(&str, &str)]) -> Self {
        self.trailers = Some(fields(pairs));
        self
    }
    /// Waits at the gate before the first byte.
    pub fn wait(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
    /// Resets the stream instead of answering.
    pub fn reset(mut self, reason: Reason) -> Self {
        self.end = End::Refused(reason);
        self
    }
    /// Resets the stream after head and body. At the gate, since a reset discards what is still queued: the test opens
    /// it once it has seen the head.
    pub fn reset_after_body(mut self, reason: Reason, gate: &Gate) -> Self {
        self.end = End::Broken(reason, gate.clone());
        self
    }
}

type Script = Arc<dyn Fn(&H2Received) -> H2Answer + Send + Sync>;

/// Describes an HTTP/2 origin.
pub struct H2OriginBuilder {
    script: Script,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl H2OriginBuilder {
    /// Answers with this status and body.
    pub fn respond(self, status: u16, body: &str) -> Self {
        let answer = H2Answer::new(status, body.to_owned());
        self.respond_with(move |_| answer.clone())
    }
    /// Answers what the function says, once the request is complete.
    pub fn respond_with(mut self, script: impl Fn(&H2Received) -> H2Answer + Send + Sync + 'static) -> Self {
        self.script = Arc::new(script);
        self
    }
    /// Speaks TLS with this certificate and takes `h2` only.
    pub fn tls(mut self, identity: &Identity) -> Self {
        self.tls = Some(server_config(identity, &[b"h2"], None));
        self
    }
    /// Binds a free port of 127.0.0.1 and serves until the [`H2Origin`] is dropped.
    pub async fn spawn(self) -> H2Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let record = Arc::new(Record::default());
        let accepting = tokio::spawn(accept(listener, Arc::new(self), record.clone()));
        H2Origin { addr, record, accepting, seen: AtomicUsize::new(0) }
    }
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<H2Received>>,
    connections: AtomicUsize,
    cancelled: AtomicUsize,
    changed: watch::Sender<()>,
}

/// A running HTTP/2 origin.
pub struct H2Origin {
    addr: SocketAddr,
    record: Arc<Record>,
    accepting: JoinHandle<()>,
    seen: AtomicUsize,
}

impl H2Origin {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
    /// All complete requests so far.
    pub fn requests(&self) -> Vec<H2Received> {
        self.record.requests.lock().clone()
    }
    /// The next request that this method has not returned yet.
    pub async fn next_request(&self) -> H2Received {
        let index = self.seen.fetch_add(1, Ordering::Relaxed);
        let mut changed = self.record.changed.subscribe();
        let arrived = async {
            loop {
                if let Some(request) = self.record.requests.lock().get(index).cloned() {
                    return request;
                }
                changed.changed().await.expect("the record outlives its watchers");
            }
        };
        within(&format!("request {index} at the HTTP/2 origin {}", self.addr), arrived).await
    }
    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }
    /// Streams that the other side reset or dropped before the end of the exchange.
    pub fn cancelled(&self) -> usize {
        self.record.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, builder: Arc<H2OriginBuilder>, record: Arc<Record>) {
    while let Ok((stream, _)) = listener.accept().await {
        let index = record.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(stream, builder.clone(), record.clone(), index));
    }
}

async fn connection(stream: TcpStream, builder: Arc<H2OriginBuilder>, record: Arc<Record>, index: usize) {
    stream.set_nodelay(true).expect("nodelay");
    let stream: BoxStream = match &builder.tls {
        None => Box::new(stream),
        Some(config) => match TlsAcceptor::from(config.clone()).accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (script, record) = (builder.script.clone(), record.clone());
        tokio::spawn(async move {
            if exchange(request, respond, script, &record, index).await.is_err() {
                record.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

async fn exchange(
    request: http::Request<h2::RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    script: Script,
    record: &Record,
    connection: usize,
) -> Result<(), h2::Error> {
    let (head, mut stream) = request.into_parts();
    let (body, trailers) = collect(&mut stream).await?;
    let received = H2Received { head, body, trailers, connection };
    let answer = script(&received);
    record.requests.lock().push(received);
    record.changed.send_replace(());
    if let Some(gate) = &answer.gate {
        tokio::select! {
            () = gate.wait() => {}
            reset = std::future::poll_fn(|context| respond.poll_reset(context)) => return reset.and_then(|reason| Err(reason.into())),
        }
    }
    if let End::Refused(reason) = answer.end {
        respond.send_reset(reason);
        return Ok(());
    }
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let more = answer.trailers.is_some() || matches!(answer.end, End::Broken(..));
    let mut sending = respond.send_response(response, answer.body.is_empty() && !more)?;
    if !answer.body.is_empty() {
        sending.send_data(answer.body, !more)?;
    }
    if let End::Broken(reason, gate) = answer.end {
        gate.wait().await;
        sending.send_reset(reason);
        return Ok(());
    }
    match answer.trailers {
        Some(trailers) => sending.send_trailers(trailers),
        None => Ok(()),
    }
}
