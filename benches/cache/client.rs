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

/// What came of it.
pub struct Report {
    pub answers: u64,
    pub took: Duration,
    /// In nanoseconds.
    times: Histogram<u64>,
}

impl Report {
    pub fn p99(&self) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(0.99))
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

    /// Sends a request and reads the answer. The length of its body.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.stream.write_all(request).await?;
        let (mut got, mut whole) = (0, None);
        while whole.is_none_or(|(_, whole)| got < whole) {
            let count = self.stream.read(&mut self.buffer[got..]).await?;
            ensure!(count > 0, "the connection was closed");
            got += count;
            if whole.is_none() {
                whole = head(&self.buffer[..got])?;
            }
        }
        let (body, whole) = whole.context("an answer")?;
        ensure!(got == whole, "more came than was asked for");
        Ok(body)
    }
}

/// The length of the body and of all, once the head is there.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "an answer that begins with {:?}", text.lines().next());
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("a length")?;
    let length: usize = length.trim().parse()?;
    Ok(Some((length, end + 4 + length)))
}

pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// Asks for a path for so long, on so many connections, each in a closed loop.
pub async fn run(address: SocketAddr, path: &str, connections: usize, seconds: u64) -> anyhow::Result<Report> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let request = request(path);
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..connections {
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
