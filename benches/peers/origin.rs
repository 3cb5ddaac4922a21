//! What the programs are in front of: two addresses, served by one thread of this process with answers that are made beforehand.

use std::{
    io,
    net::{SocketAddr, TcpListener},
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

/// Lengths of the bodies: `/small`, `/kept` (fresh for an hour) and files, `/large`.
pub const SMALL: usize = 100;
pub const MIDDLE: usize = 1 << 10;
pub const LARGE: usize = 100 << 10;

/// The payload of a WebSocket message, which fits into the short form of a frame.
pub const MESSAGE: usize = 64;
/// Of a frame without a mask, and of the mask.
pub const FRAME_HEAD: usize = 2;
pub const MASK: usize = 4;

/// The key of RFC 6455, section 1.3, and what accepts it.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An origin that runs.
pub struct Origin {
    pub endpoints: [SocketAddr; 2],
    asked: Arc<AtomicU64>,
}

impl Origin {
    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    kept: Vec<u8>,
    upgrade: Vec<u8>,
    asked: Arc<AtomicU64>,
}

pub fn start() -> io::Result<Origin> {
    let listeners = [TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?];
    let origin = Origin { endpoints: [listeners[0].local_addr()?, listeners[1].local_addr()?], asked: Arc::default() };
    let answers = Arc::new(Answers {
        small: answer("", SMALL),
        large: answer("", LARGE),
        kept: answer("cache-control: max-age=3600\r\n", MIDDLE),
        upgrade: format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
        )
        .into_bytes(),
        asked: origin.asked.clone(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("origin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let [first, second] = listeners.map(|listener| accept(listener, answers.clone()));
            tokio::join!(first, second)
        })
    })?;
    Ok(origin)
}

fn answer(fields: &str, length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{fields}content-length: {length}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, answers.clone()));
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        answers.asked.fetch_add(1, Relaxed);
        let upgrade = buffer.starts_with(b"GET /websocket ");
        let answer = match () {
            () if upgrade => &answers.upgrade,
            () if buffer.starts_with(b"GET /large ") => &answers.large,
            () if buffer.starts_with(b"GET /kept ") => &answers.kept,
            () => &answers.small,
        };
        stream.write_all(answer).await?;
        buffer.drain(..end + 4);
        if upgrade {
            return echo(stream).await;
        }
    }
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
