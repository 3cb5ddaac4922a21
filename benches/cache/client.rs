//! A client that asks for one path again and again, on connections that stay open.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

/// The longest time that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// What is asked for, and how.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub path: &'static str,
    /// More fields of the request, each with its line end.
    pub fields: &'static str,
    pub connections: usize,
    pub seconds: u64,
}

/// What came of it.
pub struct Report {
    pub answers: u64,
    pub took: Duration,
    /// In nanoseconds.
    times: Histogram<u64>,
}

impl Report {
    /// The time in which this share of the answers was there.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(share))
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 256 << 10] })
    }

    /// Sends a request and reads the answer.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let (mut got, mut end) = (0, None);
        loop {
            // Of a body only its end matters; what is in chunks fits into the buffer.
            let free = if matches!(end, Some(End::At(_))) { 0 } else { got };
            let count = self.stream.read(&mut self.buffer[free..]).await?;
            ensure!(count > 0, "the connection was closed");
            got += count;
            if end.is_none() {
                end = head(&self.buffer[..got])?;
            }
            match end {
                Some(End::At(length)) if got >= length => {
                    ensure!(got == length, "more came than was asked for");
                    return Ok(());
                }
                Some(End::Chunk) if self.buffer[..got].ends_with(b"\r\n0\r\n\r\n") => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Where an answer ends.
#[derive(Debug, Clone, Copy)]
enum End {
    At(usize),
    /// Behind its last chunk.
    Chunk,
}

/// Where the answer ends, once its head is there.
fn head(bytes: &[u8]) -> anyhow::Result<Option<End>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "an answer that begins with {:?}", text.lines().next());
    if text.contains("\ntransfer-encoding: chunked") {
        return Ok(Some(End::Chunk));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("a length")?;
    let length: usize = length.trim().parse()?;
    Ok(Some(End::At(end + 4 + length)))
}

pub fn request(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n{fields}\r\n").into_bytes()
}

/// Asks for a path for so long, on so many connections, each in a closed loop.
pub async fn run(address: SocketAddr, load: Load) -> anyhow::Result<Report> {
    let until = Instant::now() + Duration::from_secs(load.seconds);
    let request = request(load.path, load.fields);
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..load.connections {
        let request = request.clone();
        running.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut times = Histogram::new_with_bounds(1, LONGEST, 3)?;
            while Instant::now() < until {
                let began = Instant::now();
                connection.ask(&request).await?;
                times.saturating_record(began.elapsed().as_nanos() as u64);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Histogram::new_with_bounds(1, LONGEST, 3)?;
    while let Some(ended) = running.join_next().await {
        times.add(ended??)?;
    }
    Ok(Report { answers: times.len(), took: started.elapsed(), times })
}
