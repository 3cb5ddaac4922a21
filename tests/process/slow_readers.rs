//! Clients that ask for large responses and do not read them: what the process holds for each, and that endpoints are made to wait.
//!
//! Measured is anonymous memory, which is the process's own; what the kernel holds in socket buffers is in no figure of the
//! process, and is kept small where the test can do that: by the buffers of its own sockets, by a small segment size, from which
//! Linux derives the send buffer of the other side, and by unix sockets to the endpoints, whose receive side has no buffer that grows.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::sys::signal::Signal;
use socket2::SockRef;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpSocket, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::{
    child::Run,
    support::{
        BoxStream, Gate, PATIENCE,
        certs::tls,
        edge::edge,
        h2_raw::{Frame, PREFACE, flag, get_fields, kind},
        within,
    },
};

/// The size of a response.
const BODY: usize = 2 << 20;
/// What may be held for a response.
const HELD_PER_RESPONSE: u64 = 64 << 10;
/// What may be held for a connection of a client, whatever its number of streams.
const HELD_PER_CONNECTION: u64 = 1 << 20;
/// What does not grow with the number of responses: arenas of the allocator, one for each thread.
const SLACK: u64 = 8 << 20;
/// What an endpoint may have sent for a response, most of it into the send buffer of Weir's socket to the client. A response that is
/// read as fast as it comes is 2 MiB.
const SENT_PER_RESPONSE: u64 = 512 << 10;
/// The buffers and segments of the sockets of this test.
const SOCKET_BUFFER: u32 = 8 << 10;
const SEGMENT: u32 = 1400;

/// How many connections and streams.
#[derive(Clone, Copy)]
struct Size {
    h1_connections: usize,
    h2_connections: usize,
    h2_streams: usize,
}

const QUICK: Size = Size { h1_connections: 60, h2_connections: 3, h2_streams: 50 };
const FULL: Size = Size { h1_connections: 1000, h2_connections: 20, h2_streams: 50 };

/// What every response consists of: a pattern in which no two places of a frame's size are alike.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| (0..BODY).map(|place| (place % 251) as u8 ^ (place >> 14) as u8).collect());

#[derive(Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

#[derive(Clone, Copy)]
struct Case {
    client: Http,
    tls: bool,
    endpoint: Http,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |http| if http == Http::One { "HTTP/1.1" } else { "HTTP/2" };
        let secured = if self.tls { "TLS" } else { "clear" };
        write!(f, "{:8} {secured:5} from {}", name(self.client), name(self.endpoint))
    }
}

/// What was measured.
struct Row {
    case: Case,
    responses: u64,
    connections: u64,
    held: u64,
    sent: u64,
}

impl Row {
    fn bound(&self) -> u64 {
        (HELD_PER_RESPONSE * self.responses).min(HELD_PER_CONNECTION * self.connections) + SLACK
    }
    fn is_good(&self) -> bool {
        self.held <= self.bound() && self.sent <= SENT_PER_RESPONSE * self.responses
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Self { case, responses, connections, held, sent } = self;
        let (held, bound, sent) = (mebibytes(*held), mebibytes(self.bound()), mebibytes(*sent));
        let verdict = if self.is_good() { "" } else { "  TOO MUCH" };
        write!(
            f,
            "{case}: {responses} responses on {connections} connections: {held:6.1} MiB held (bound {bound:.1}), {sent:6.1} MiB sent by endpoints{verdict}"
        )
    }
}

/// A socket that says how many bytes it has sent.
struct Counted {
    stream: UnixStream,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.sent.fetch_add(count as u64, Relaxed);
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An endpoint that answers each request with [`PATTERN`], once the gate is open.
struct Endpoint {
    /// Holds the socket.
    directory: TempDir,
    gate: Gate,
    sent: Arc<AtomicU64>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Endpoint {
    fn spawn(http: Http) -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("socket")).expect("bind");
        let (sent, asked) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        let gate = Gate::new();
        tasks.spawn(accept(listener, http, gate.clone(), sent.clone(), asked.clone()));
        Self { directory, gate, sent, asked, _tasks: tasks }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

async fn accept(listener: UnixListener, http: Http, gate: Gate, sent: Arc<AtomicU64>, asked: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        SockRef::from(&stream).set_send_buffer_size(SOCKET_BUFFER as usize).expect("SO_SNDBUF");
        let stream = Counted { stream, sent: sent.clone() };
        let (gate, asked) = (gate.clone(), asked.clone());
        match http {
            Http::One => connections.spawn(async move { drop(answer_h1(stream, gate, &asked).await) }),
            Http::Two => connections.spawn(async move { drop(answer_h2(stream, gate, asked).await) }),
        };
    }
}

async fn answer_h1(mut stream: Counted, gate: Gate, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        asked.fetch_add(1, Relaxed);
        gate.wait().await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").as_bytes()).await?;
        stream.write_all(&PATTERN).await?;
    }
}

async fn answer_h2(stream: Counted, gate: Gate, asked: Arc<AtomicUsize>) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(1000).handshake(stream).await?;
    let mut streams = JoinSet::new();
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        asked.fetch_add(1, Relaxed);
        let gate = gate.clone();
        streams.spawn(async move {
            gate.wait().await;
            let head = http::Response::builder().header("content-length", BODY).body(()).expect("a response");
            let Ok(mut stream) = respond.send_response(head, false) else { return };
            let mut left = PATTERN.clone();
            while !left.is_empty() {
                stream.reserve_capacity(left.len().min(16 << 10));
                let Some(Ok(capacity)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let piece = left.split_to(capacity.min(left.len()));
                if stream.send_data(piece, left.is_empty()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// A connection to the edge whose owner has little room for what comes.
async fn connect(address: SocketAddr, case: Case) -> BoxStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SOCKET_BUFFER).expect("SO_RCVBUF");
    SockRef::from(&socket).set_tcp_mss(SEGMENT).expect("TCP_MAXSEG");
    let stream = within("a connection to the edge", socket.connect(address)).await.expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    if !case.tls {
        return Box::new(stream);
    }
    let tls = tls().sni("localhost").alpn(if case.client == Http::One { "http/1.1" } else { "h2" });
    let secured = within("the handshake", TlsConnector::from(tls.config()).connect(tls.server_name(), stream)).await;
    Box::new(secured.expect("TLS"))
}

/// A client that is connected and idle.
struct Client {
    stream: BoxStream,
    http: Http,
}

impl Client {
    async fn connect(address: SocketAddr, case: Case) -> Self {
        let mut stream = connect(address, case).await;
        match case.client {
            Http::One => {
                // What a connection allocates for its first request is not held for a response.
                stream.write_all(b"GET /idle HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("taken");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\nidle") {
                    head.push(within("an answer", stream.read_u8()).await.expect("a byte"));
                }
            }
            Http::Two => {
                // SETTINGS_INITIAL_WINDOW_SIZE; and the window of the connection, which begins with 65,535.
                let windows = [
                    PREFACE.to_vec(),
                    Frame::settings(&[(4, 0x7fff_ffff)]).bytes(),
                    Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, (0x7fff_ffff - 65_535_u32).to_be_bytes()).bytes(),
                    Frame::new(kind::SETTINGS, flag::ACK, 0, []).bytes(),
                ];
                stream.write_all(&windows.concat()).await.expect("taken");
                while frame(&mut stream).await.kind != kind::SETTINGS {}
            }
        }
        stream.flush().await.expect("flushed");
        Self { stream, http: case.client }
    }

    async fn ask(&mut self, size: Size, scheme: &str) {
        let requests = match self.http {
            Http::One => b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
            Http::Two => (0..size.h2_streams)
                .flat_map(|stream| {
                    Frame::headers(1 + 2 * stream as u32, true, &get_fields(scheme, "localhost", "/large", &[])).bytes()
                })
                .collect(),
        };
        self.stream.write_all(&requests).await.expect("taken");
        self.stream.flush().await.expect("flushed");
    }

    /// Reads what it asked for, and finds it complete.
    async fn read(mut self, size: Size) {
        match self.http {
            Http::One => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(self.stream.read_u8().await.expect("a byte"));
                }
                assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
                let (mut body, mut at) = (vec![0; 16 << 10], 0);
                while at < BODY {
                    self.stream.read_exact(&mut body).await.expect("a piece of the body");
                    assert!(body == PATTERN[at..at + body.len()], "the body differs after {at} bytes");
                    at += body.len();
                    tokio::task::yield_now().await;
                }
            }
            Http::Two => {
                let (mut at, mut ended) = (vec![0; size.h2_streams], 0);
                while ended < size.h2_streams {
                    let frame = frame(&mut self.stream).await;
                    assert!(!matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY), "{frame:?}");
                    if frame.kind == kind::DATA {
                        let at = &mut at[frame.stream as usize / 2];
                        assert!(
                            frame.payload == PATTERN[*at..*at + frame.payload.len()],
                            "a body differs after {at} bytes: {}",
                            String::from_utf8_lossy(&frame.payload[..frame.payload.len().min(80)])
                        );
                        *at += frame.payload.len();
                    }
                    if matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.flags & flag::END_STREAM != 0 {
                        ended += 1;
                    }
                    tokio::task::yield_now().await;
                }
                assert_eq!(at, vec![BODY; size.h2_streams]);
            }
        }
    }
}

async fn frame(stream: &mut BoxStream) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.expect("a whole frame");
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Frame { kind: head[3], flags: head[4], stream, payload }
}

/// Bytes of memory that belong to the process alone and could not be taken from it.
fn anonymous(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("Linux");
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).expect("a line for it");
    let bytes = |key| line(key).trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10;
    bytes("Anonymous:").saturating_sub(bytes("LazyFree:"))
}

/// Waits until a number has stayed the same for half a second. Nothing tells that nobody sends any more but that nobody does.
async fn settled(what: &str, look: impl Fn() -> u64) -> u64 {
    let (give_up, mut last, mut since) = (Instant::now() + PATIENCE, look(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < give_up, "{what} still grows after {PATIENCE:?}: {last}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

async fn measure(case: Case, size: Size) -> Row {
    let endpoint = Endpoint::spawn(case.endpoint);
    let protocol = if case.endpoint == Http::One { "h1" } else { "h2c" };
    let edge = edge()
        .upstream_at("app", &endpoint.socket(), &format!("connections: {{protocol: {protocol}}}"))
        .route("idle", "match: {path: /idle}\nrespond: {body: idle}")
        .route("large", "upstream: app");
    let edge = if case.tls { edge.tls() } else { edge.listener("http: {h2c: true}") };
    let mut run = Run::start(edge).await;
    let (listener, scheme) = if case.tls { ("edge", "https") } else { ("web", "http") };
    let (connections, responses) = match case.client {
        Http::One => (size.h1_connections, size.h1_connections),
        Http::Two => (size.h2_connections, size.h2_connections * size.h2_streams),
    };
    // What the first request of a process allocates is not held for a response.
    let mut first = Client::connect(run.address(listener), case).await;
    endpoint.gate.pass_one();
    first.ask(Size { h2_streams: 1, ..size }, scheme).await;
    first.read(Size { h2_streams: 1, ..size }).await;
    endpoint.asked.store(0, Relaxed);
    endpoint.sent.store(0, Relaxed);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(run.address(listener), case).await);
    }
    for client in &mut clients {
        client.ask(size, scheme).await;
    }
    eventually!(endpoint.asked.load(Relaxed), |asked: &usize| *asked == responses);
    // A request in flight has a cost of its own, of whatever size its response is.
    let in_flight = anonymous(run.weir.pid());
    endpoint.gate.open();
    let sent = settled("what endpoints have sent", || endpoint.sent.load(Relaxed)).await;
    let held = anonymous(run.weir.pid()).saturating_sub(in_flight);

    let mut reading = JoinSet::new();
    clients.into_iter().for_each(|client| drop(reading.spawn(client.read(size))));
    let all = async { while reading.join_next().await.transpose().expect("a complete response").is_some() {} };
    tokio::time::timeout(PATIENCE * 4, all).await.expect("responses that arrive");
    run.end(Signal::SIGTERM).await;
    Row { case, responses: responses as u64, connections: connections as u64, held, sent }
}

async fn measure_all(everywhere: bool) {
    let mut rows = Vec::new();
    for client in [Http::Two, Http::One] {
        for tls in [false, true] {
            for endpoint in [Http::One, Http::Two] {
                // A thousand responses for each row take a minute.
                let full = everywhere || (tls && endpoint == Http::One);
                rows.push(measure(Case { client, tls, endpoint }, if full { FULL } else { QUICK }).await);
            }
        }
    }
    let table: String = rows.iter().map(|row| format!("{row}\n")).collect();
    println!("{table}");
    assert!(rows.iter().all(Row::is_good), "\n{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_nobody_reads_hold_little_memory() {
    measure_all(std::env::var_os("WEIR_TEST_MANY_SLOW_READERS").is_some()).await;
}
