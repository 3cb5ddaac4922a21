//! What the caches are in front of: `/small/N` is 1 KiB, `/large/N` is 100 KiB, and all of it may be kept for an hour.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const SMALL: usize = 1 << 10;
pub const LARGE: usize = 100 << 10;

/// An origin that runs.
pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Origin {
    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

pub async fn start() -> std::io::Result<Origin> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let origin = Origin { address: listener.local_addr()?, asked: Arc::default() };
    let asked = origin.asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, asked.clone()));
        }
    });
    Ok(origin)
}

async fn serve(mut stream: TcpStream, asked: Arc<AtomicU64>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let length = if buffer.starts_with(b"GET /large/") { LARGE } else { SMALL };
        buffer.drain(..end + 4);
        asked.fetch_add(1, Relaxed);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: max-age=3600\r\netag: \"1\"\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut answer = head.into_bytes();
        answer.resize(answer.len() + length, b'x');
        stream.write_all(&answer).await?;
    }
}
