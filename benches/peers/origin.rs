//! What the programs are in front of: endpoints on addresses of this machine, served by one thread of this process with answers that
//! are made beforehand. One port speaks HTTP/1.1, and one gRPC.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::grpc;

/// Lengths of the bodies: `/small` and whatever is not named here, `/kept` (fresh for an hour) and files, `/large`, `/huge` and what
/// `/upload` takes.
pub const SMALL: usize = 100;
pub const MIDDLE: usize = 1 << 10;
pub const LARGE: usize = 100 << 10;
pub const HUGE: usize = 10 << 20;

/// Of a request for `/fields`, and of its answer.
pub const FIELDS: usize = 50;

/// The payload of a WebSocket message, which fits into the short form of a frame.
pub const MESSAGE: usize = 64;
/// Of a frame without a mask, and of the mask.
pub const FRAME_HEAD: usize = 2;
pub const MASK: usize = 4;

/// The key of RFC 6455, section 1.3, and what accepts it.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What the endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// gRPC over HTTP/2 in cleartext.
    Grpc,
}

/// An origin that runs.
pub struct Origin {
    http1: u16,
    grpc: u16,
    asked: Arc<AtomicU64>,
}

impl Origin {
    /// So many different addresses. All of 127.0.0.0/8 is this machine.
    pub fn endpoints(&self, protocol: Protocol, count: usize) -> Vec<SocketAddr> {
        let port = match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Grpc => self.grpc,
        };
        let address = |number: usize| Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250) as u8 + 1);
        (0..count).map(|number| (address(number), port).into()).collect()
    }

    /// Requests over HTTP/1.1 so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    huge: Vec<u8>,
    kept: Vec<u8>,
    fields: Vec<u8>,
    upgrade: Vec<u8>,
    asked: Arc<AtomicU64>,
}

impl Answers {
    fn to(&self, request: &[u8]) -> &[u8] {
        match () {
            () if request.starts_with(b"GET /large ") => &self.large,
            () if request.starts_with(b"GET /huge ") => &self.huge,
            () if request.starts_with(b"GET /kept ") => &self.kept,
            () if request.starts_with(b"GET /fields ") => &self.fields,
            () if request.starts_with(b"GET /websocket ") => &self.upgrade,
            () => &self.small,
        }
    }
}

pub fn start() -> io::Result<Origin> {
    let [http1, grpc] = [listen()?, listen()?];
    let origin = Origin { http1: http1.local_addr()?.port(), grpc: grpc.local_addr()?.port(), asked: Arc::default() };
    let answers = Arc::new(Answers {
        small: answer("", SMALL),
        large: answer("", LARGE),
        huge: answer("", HUGE),
        kept: answer("cache-control: max-age=3600\r\n", MIDDLE),
        fields: answer(&fields(FIELDS - 2), SMALL),
        upgrade: format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
        )
        .into_bytes(),
        asked: origin.asked.clone(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("origin".to_owned()).spawn(move || {
        runtime
            .block_on(async { tokio::join!(accept(http1, |stream| serve(stream, answers.clone())), accept(grpc, grpc::serve)) })
    })?;
    Ok(origin)
}

/// On all addresses, since an endpoint has one of its own.
fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Fields that no program knows.
pub fn fields(count: usize) -> String {
    (0..count).map(|number| format!("x-field-{number:02}: a value of thirty-two bytes, {number:06}\r\n")).collect()
}

fn answer(fields: &str, length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{fields}content-length: {length}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

/// What becomes of a connection is its client's to notice.
async fn accept<E, F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, from) = listener.accept().await?;
        if from.ip().is_loopback() {
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        answers.asked.fetch_add(1, Relaxed);
        let head = end + 4;
        if buffer.starts_with(b"POST /upload ") {
            discard(&mut stream, HUGE.saturating_sub(buffer.len() - head)).await?;
            buffer.truncate(head);
        }
        stream.write_all(answers.to(&buffer)).await?;
        if buffer.starts_with(b"GET /websocket ") {
            return echo(stream).await;
        }
        buffer.drain(..head);
    }
}

/// Reads so many bytes.
async fn discard(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(128 << 10, stream.take(length as u64)), &mut tokio::io::sink())
        .await?;
    Ok(())
}

/// Frames of a client are masked, and those of a server are not.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut frame = [0; FRAME_HEAD + MASK + MESSAGE];
    loop {
        stream.read_exact(&mut frame).await?;
        let (head, masked) = frame.split_at_mut(FRAME_HEAD);
        let (mask, payload) = masked.split_at_mut(MASK);
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        let mut answer = [0; FRAME_HEAD + MESSAGE];
        answer[0] = head[0];
        answer[1] = MESSAGE as u8;
        answer[FRAME_HEAD..].copy_from_slice(payload);
        stream.write_all(&answer).await?;
    }
}
