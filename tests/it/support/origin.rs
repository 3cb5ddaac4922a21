//! An origin whose behaviour a test scripts byte by byte, and that remembers what it was sent.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{BoxStream, Gate, certs::Ca, certs::Identity, certs::server_config, wire::RawRequest, wire::Wire, within};

/// An origin that answers 200 with an empty body until told otherwise.
pub fn origin() -> OriginBuilder {
    OriginBuilder::default()
}

/// An address where nothing listens: connecting is refused.
pub async fn refused_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bind");
    let address = socket.local_addr().expect("address");
    // Bound for as long as the tests run, and never listening: so nobody else gets the port and answers.
    std::mem::forget(socket);
    address
}

/// What goes out in answer to one request, and how the connection goes on.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pieces: Vec<Piece>,
    end: End,
}

#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    Wait(Gate),
}

/// How a connection goes on after an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    KeepAlive,
    Close,
    Reset,
    /// Nothing more is read or written; the connection stays.
    Hold,
    /// The connection is a tunnel from here on: bytes come back as they came.
    Echo,
}

impl Answer {
    /// These bytes, exactly.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::default().bytes(bytes)
    }
    /// A well-formed response with `content-length`.
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::with_headers(status, &[], body)
    }
    /// A well-formed response with these fields and `content-length`.
    pub fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = head(status, headers);
        if !matches!(status, 100..200 | 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        Self::raw(head + "\r\n").bytes(body)
    }
    /// A chunked response with these chunks and trailers.
    pub fn chunked(status: u16, chunks: &[&str], trailers: &[(&str, &str)]) -> Self {
        let mut text = head(status, &[("transfer-encoding", "chunked")]) + "\r\n";
        for chunk in chunks {
            text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        text.push_str("0\r\n");
        for (name, value) in trailers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        Self::raw(text + "\r\n")
    }
    /// Nothing at all; see [`Answer::hold`], [`Answer::close`], [`Answer::reset`].
    pub fn nothing() -> Self {
        Self::default()
    }
    /// A 101 to `protocol`, then a tunnel that echoes.
    pub fn switch(protocol: &str) -> Self {
        Self::raw(head(101, &[("connection", "upgrade"), ("upgrade", protocol)]) + "\r\n").echo()
    }
    /// Then is a tunnel that echoes.
    pub fn echo(mut self) -> Self {
        self.end = End::Echo;
        self
    }
    /// Goes on with these bytes.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.pieces.push(Piece::Bytes(bytes.as_ref().to_vec()));
        self
    }
    /// Waits here until the gate lets it pass.
    pub fn wait(mut self, gate: &Gate) -> Self {
        self.pieces.push(Piece::Wait(gate.clone()));
        self
    }
    /// Then closes in order.
    pub fn close(mut self) -> Self {
        self.end = End::Close;
        self
    }
    /// Then resets the connection.
    pub fn reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }
    /// Then neither reads nor writes nor closes.
    pub fn hold(mut self) -> Self {
        self.end = End::Hold;
        self
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Other");
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// What happens to a connection before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnAccept {
    Serve,
    Close,
    Reset,
    Hold,
}

type Script = Arc<dyn Fn(&RawRequest) -> Answer + Send + Sync>;

/// Describes an origin. Answers are given in the order in which they were described; the last one repeats.
#[derive(Default)]
pub struct OriginBuilder {
    answers: Vec<Script>,
    on_accept: Vec<OnAccept>,
    first_bytes: Vec<u8>,
    skip_bodies: bool,
    continues: &'static str,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl OriginBuilder {
    /// Answers with this status and body.
    pub fn respond(self, status: u16, body: &str) -> Self {
        let body = body.to_owned();
        self.respond_with(move |_| Answer::new(status, &body))
    }
    /// Answers with this status, these fields and this body.
    pub fn respond_headers(self, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        self.answer(Answer::with_headers(status, headers, body))
    }
    /// Answers with these bytes, exactly.
    pub fn respond_raw(self, bytes: impl AsRef<[u8]>) -> Self {
        self.answer(Answer::raw(bytes))
    }
    /// Answers like this.
    pub fn answer(self, answer: Answer) -> Self {
        self.respond_with(move |_| answer.clone())
    }
    /// Answers what the function says.
    pub fn respond_with(mut self, script: impl Fn(&RawRequest) -> Answer + Send + Sync + 'static) -> Self {
        self.answers.push(Arc::new(script));
        self
    }
    /// Answers 200 with this body, but waits at the gate before the first byte.
    pub fn slow(self, gate: &Gate, body: &str) -> Self {
        let answer = Answer::nothing().wait(gate);
        let Answer { pieces, .. } = Answer::new(200, body);
        self.answer(Answer { pieces: answer.pieces.into_iter().chain(pieces).collect(), end: End::KeepAlive })
    }
    /// Sends half a header block, then closes.
    pub fn half_header(self) -> Self {
        self.answer(Answer::raw("HTTP/1.1 200 OK\r\ncontent-le").close())
    }
    /// Sends the first `count` bytes of a 200 with a body of 64 KiB, then resets; with 0, right after the request.
    pub fn reset_after(self, count: usize) -> Self {
        let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 64 * 1024).into_bytes();
        bytes.resize(bytes.len() + 64 * 1024, b'x');
        self.answer(Answer::raw(&bytes[..count.min(bytes.len())]).reset())
    }
    /// Reads requests and never answers.
    pub fn never_answer(self) -> Self {
        self.answer(Answer::nothing().hold())
    }
    /// Closes the next connection right after accepting it. Like answers, the last description for connections repeats;
    /// [`OriginBuilder::then_serve`] ends the trouble.
    pub fn accept_then_close(mut self) -> Self {
        self.on_accept.push(OnAccept::Close);
        self
    }
    /// Resets the next connection right after accepting it.
    pub fn accept_then_reset(mut self) -> Self {
        self.on_accept.push(OnAccept::Reset);
        self
    }
    /// Accepts the next connection and never reads from it.
    pub fn accept_then_hold(mut self) -> Self {
        self.on_accept.push(OnAccept::Hold);
        self
    }
    /// Serves the connections after those described so far.
    pub fn then_serve(mut self) -> Self {
        self.on_accept.push(OnAccept::Serve);
        self
    }
    /// Sends these bytes as soon as a connection is there, whatever it will ask for.
    pub fn hasty(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.first_bytes = bytes.as_ref().to_vec();
        self
    }
    /// Answers as soon as the header block is there and leaves the request's body alone.
    pub fn ignoring_bodies(mut self) -> Self {
        self.skip_bodies = true;
        self
    }
    /// Sends `100 Continue` to a request that expects it.
    pub fn continuing(mut self) -> Self {
        self.continues = "HTTP/1.1 100 Continue\r\n\r\n";
        self
    }
    /// Speaks TLS with this certificate.
    pub fn tls(self, identity: &Identity) -> Self {
        self.tls_offering(identity, &[b"http/1.1"])
    }
    /// The same, offering these protocols (ALPN), of which it speaks HTTP/1.1 alone.
    pub fn tls_offering(mut self, identity: &Identity, protocols: &[&[u8]]) -> Self {
        self.tls = Some(server_config(identity, protocols, None));
        self
    }
    /// Speaks TLS with this certificate, and requires one of this authority from clients.
    pub fn mutual_tls(mut self, identity: &Identity, clients: &Ca) -> Self {
        self.tls = Some(server_config(identity, &[b"http/1.1"], Some(clients)));
        self
    }
    /// Binds a free port of 127.0.0.1 and serves until the [`Origin`] is dropped.
    pub async fn spawn(self) -> Origin {
        self.spawn_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind"))
    }
    /// The same on a listener of the test's own.
    pub fn spawn_on(mut self, listener: TcpListener) -> Origin {
        if self.answers.is_empty() {
            self = self.respond(200, "");
        }
        let addr = listener.local_addr().expect("address");
        let record = Arc::new(Record::default());
        let accepting = tokio::spawn(accept(listener, Arc::new(self), record.clone()));
        Origin { addr, record, accepting, seen: AtomicUsize::new(0) }
    }
}

/// What the origin was sent.
#[derive(Default)]
struct Record {
    requests: Mutex<Vec<RawRequest>>,
    /// Messages that broke off: connection and the bytes up to there.
    broken: Mutex<Vec<(usize, Vec<u8>)>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    answered: AtomicUsize,
    tunnelled: Mutex<BTreeMap<usize, Vec<u8>>>,
    changed: watch::Sender<()>,
}

/// A running origin.
pub struct Origin {
    addr: SocketAddr,
    record: Arc<Record>,
    accepting: JoinHandle<()>,
    seen: AtomicUsize,
}

impl Origin {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
    /// All complete requests so far.
    pub fn requests(&self) -> Vec<RawRequest> {
        self.record.requests.lock().clone()
    }
    /// How many complete requests so far.
    pub fn request_count(&self) -> usize {
        self.record.requests.lock().len()
    }
    /// The next request that this method has not returned yet.
    pub async fn next_request(&self) -> RawRequest {
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
        within(&format!("request {index} at the origin {}", self.addr), arrived).await
    }
    /// Requests that broke off or were no HTTP, as bytes.
    pub fn broken(&self) -> Vec<Vec<u8>> {
        self.record.broken.lock().iter().map(|(_, bytes)| bytes.clone()).collect()
    }
    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }
    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.record.open.load(Ordering::Relaxed)
    }
    /// Bytes that came through tunnels, by connection.
    pub fn tunnelled(&self) -> Vec<Vec<u8>> {
        self.record.tunnelled.lock().values().cloned().collect()
    }
    /// Closes the listener: from now on, connecting is refused. Open connections stay.
    pub async fn stop_listening(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Counts a connection as open while it is.
struct Open(Arc<Record>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, script: Arc<OriginBuilder>, record: Arc<Record>) {
    while let Ok((stream, _)) = listener.accept().await {
        let index = record.connections.fetch_add(1, Ordering::Relaxed);
        record.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(record.clone());
        let script = script.clone();
        tokio::spawn(async move {
            // A connection that breaks is something tests provoke; what it carried is in the record.
            let _ = connection(stream, &script, &open.0, index).await;
        });
    }
}

fn reset_on_close(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

async fn connection(stream: TcpStream, script: &OriginBuilder, record: &Record, index: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A second handle to the socket, since a TLS stream hides it; the last close sends the FIN or the RST.
    let socket = socket2::SockRef::from(&stream).try_clone()?;
    let entry = script.on_accept.get(index).or(script.on_accept.last()).copied();
    match entry.unwrap_or(OnAccept::Serve) {
        OnAccept::Serve => {}
        OnAccept::Close => return Ok(()),
        OnAccept::Reset => return reset_on_close(&socket),
        OnAccept::Hold => return std::future::pending().await,
    }
    let stream: BoxStream = match &script.tls {
        None => Box::new(stream),
        Some(config) => Box::new(TlsAcceptor::from(config.clone()).accept(stream).await?),
    };
    let mut wire = Wire::new(stream);
    wire.stream.write_all(&script.first_bytes).await?;
    wire.stream.flush().await?;
    loop {
        let request = match wire.request(index, !script.skip_bodies, script.continues.as_bytes()).await {
            Ok(Some(request)) => request,
            Ok(None) => return wire.stream.shutdown().await,
            Err(error) => {
                let bytes = [wire.message(), wire.pending()].concat();
                record.broken.lock().push((index, bytes));
                record.changed.send_replace(());
                return Err(error);
            }
        };
        let turn = record.answered.fetch_add(1, Ordering::Relaxed);
        let answer = script.answers[turn.min(script.answers.len() - 1)](&request);
        let head_request = request.method == "HEAD";
        record.requests.lock().push(request);
        record.changed.send_replace(());
        write(&mut wire, &answer, head_request).await?;
        match answer.end {
            End::KeepAlive => {}
            End::Close => return wire.stream.shutdown().await,
            End::Reset => return reset_on_close(&socket),
            End::Hold => return std::future::pending().await,
            End::Echo => return tunnel(wire, record, index).await,
        }
    }
}

async fn write(wire: &mut Wire<BoxStream>, answer: &Answer, head_request: bool) -> io::Result<()> {
    for piece in &answer.pieces {
        match piece {
            Piece::Wait(gate) => gate.wait().await,
            Piece::Bytes(bytes) => {
                // To HEAD, the same header and no body.
                let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
                let bytes = if head_request { &bytes[..end.unwrap_or(0)] } else { &bytes[..] };
                wire.stream.write_all(bytes).await?;
                wire.stream.flush().await?;
            }
        }
    }
    Ok(())
}

async fn tunnel(mut wire: Wire<BoxStream>, record: &Record, index: usize) -> io::Result<()> {
    let mut piece = wire.pending().to_vec();
    loop {
        record.tunnelled.lock().entry(index).or_default().extend_from_slice(&piece);
        wire.stream.write_all(&piece).await?;
        wire.stream.flush().await?;
        piece.resize(16 * 1024, 0);
        match wire.stream.read(&mut piece).await? {
            0 => return wire.stream.shutdown().await,
            count => piece.truncate(count),
        }
    }
}
