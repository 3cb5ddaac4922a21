//! What is measured.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use weir::lab::load::{self, Load, Progress, Report, Target};

use super::{
    Options,
    endpoint::BULK,
    proxies::{Kind, Proxy},
};

/// Connections one after the other, on so many at a time.
const CONNECTIONS: usize = 8_000;
const AT_A_TIME: usize = 16;
/// Connections that echo at a time.
const ECHOING: usize = 32;
const MESSAGE: usize = 64;
const GIB: u64 = 1 << 30;
const BULK_GIB: u64 = 4;
const FEW: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    Connection,
    Echo,
    EchoRate,
    EchoP99,
    Added,
    AddedP99,
    Gib,
    GibRate,
    MemoryIdle,
    MemoryFew,
    PerConnectionFew,
    MemoryMany,
    PerConnectionMany,
}

impl super::table::Figure for Figure {
    const ALL: &'static [Self] = &[
        Figure::Connection,
        Figure::Echo,
        Figure::EchoRate,
        Figure::EchoP99,
        Figure::Added,
        Figure::AddedP99,
        Figure::Gib,
        Figure::GibRate,
        Figure::MemoryIdle,
        Figure::MemoryFew,
        Figure::PerConnectionFew,
        Figure::MemoryMany,
        Figure::PerConnectionMany,
    ];

    fn name(self) -> &'static str {
        match self {
            Figure::Connection => "CPU per connection, µs",
            Figure::Echo => "CPU per echo of 64 bytes, µs",
            Figure::EchoRate => "echoes per second, 32 connections",
            Figure::EchoP99 => "p99 of these, ms",
            Figure::Added => "added to an echo, one connection, median, ms",
            Figure::AddedP99 => "the same, p99, ms",
            Figure::Gib => "CPU per GiB, s",
            Figure::GibRate => "GiB per second, one connection",
            Figure::MemoryIdle => "memory without connections, MB",
            Figure::MemoryFew => "memory with 1,000 open, MB",
            Figure::PerConnectionFew => "of that per connection, kB",
            Figure::MemoryMany => "memory with the most open, MB",
            Figure::PerConnectionMany => "of that per connection, kB",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Figure::EchoRate => format!("{value:.0}"),
            Figure::Added | Figure::AddedP99 | Figure::EchoP99 | Figure::Gib => format!("{value:.3}"),
            _ => format!("{value:.1}"),
        }
    }
}

type Values = Vec<(Figure, f64)>;

pub async fn all(kind: Kind, endpoint: SocketAddr, options: &Options) -> anyhow::Result<Values> {
    let wanted = |scene: &str| options.only.as_deref().is_none_or(|only| only == scene);
    let mut values = Values::new();
    if wanted("memory") {
        values.extend(memory(kind, endpoint, options.open).await?);
    }
    let proxy = Proxy::start(kind, endpoint).await?;
    if wanted("connections") {
        values.push((Figure::Connection, connections(&proxy).await?));
    }
    if wanted("echo") {
        values.extend(echo(&proxy, options).await);
    }
    if wanted("latency") {
        values.extend(latency(&proxy, endpoint, options).await);
    }
    if wanted("bulk") {
        values.extend(bulk(&proxy).await?);
    }
    Ok(values)
}

async fn connections(proxy: &Proxy) -> anyhow::Result<f64> {
    let before = proxy.process.cpu();
    let mut running = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let address = proxy.address;
        running.spawn(async move {
            for _ in 0..CONNECTIONS / AT_A_TIME {
                open(address).await?;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok((proxy.process.cpu() - before).as_secs_f64() * 1e6 / CONNECTIONS as f64)
}

/// A connection that has carried one echo.
async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [b'x'; MESSAGE];
    stream.write_all(&buffer).await?;
    stream.read_exact(&mut buffer).await?;
    Ok(stream)
}

async fn echoing(address: SocketAddr, connections: usize, seconds: u64) -> Report {
    let target = Target::Tcp { address: address.to_string(), bytes: vec![b'x'; MESSAGE], timeout: Duration::from_secs(10) };
    let load = Load { target, connections, duration: Duration::from_secs(seconds) };
    load::run(&load, &Arc::new(Progress::default())).await
}

async fn echo(proxy: &Proxy, options: &Options) -> Values {
    echoing(proxy.address, ECHOING, 1).await;
    let before = proxy.process.cpu();
    let report = echoing(proxy.address, ECHOING, options.seconds).await;
    let each = (proxy.process.cpu() - before).as_secs_f64() * 1e6 / report.answers().max(1) as f64;
    let p99 = report.quantile(0.99).as_secs_f64() * 1e3;
    vec![(Figure::Echo, each), (Figure::EchoRate, report.rate()), (Figure::EchoP99, p99)]
}

async fn latency(proxy: &Proxy, endpoint: SocketAddr, options: &Options) -> Values {
    let direct = echoing(endpoint, 1, options.seconds).await;
    let through = echoing(proxy.address, 1, options.seconds).await;
    let added = |share| (through.quantile(share).as_secs_f64() - direct.quantile(share).as_secs_f64()) * 1e3;
    vec![(Figure::Added, added(0.5)), (Figure::AddedP99, added(0.99))]
}

async fn bulk(proxy: &Proxy) -> anyhow::Result<Values> {
    let mut stream = TcpStream::connect(proxy.address).await?;
    let (before, started) = (proxy.process.cpu(), Instant::now());
    let wanted = BULK_GIB * GIB;
    stream.write_all(&[&[BULK][..], &wanted.to_be_bytes()].concat()).await?;
    let (mut buffer, mut got) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => got += count as u64,
        }
    }
    anyhow::ensure!(got == wanted, "{got} of {wanted} bytes came");
    let cpu = (proxy.process.cpu() - before).as_secs_f64() / BULK_GIB as f64;
    Ok(vec![(Figure::Gib, cpu), (Figure::GibRate, BULK_GIB as f64 / started.elapsed().as_secs_f64())])
}

async fn memory(kind: Kind, endpoint: SocketAddr, most: usize) -> anyhow::Result<Values> {
    let proxy = Proxy::start(kind, endpoint).await?;
    let idle = proxy.process.memory();
    let mut held = Vec::new();
    let mut values = vec![(Figure::MemoryIdle, idle as f64 / 1e6)];
    for (count, total, each) in
        [(FEW, Figure::MemoryFew, Figure::PerConnectionFew), (most, Figure::MemoryMany, Figure::PerConnectionMany)]
    {
        while held.len() < count {
            // A few at a time: what is measured is what they hold when they are idle, not a storm.
            let some: Vec<_> = (0..50.min(count - held.len())).map(|_| open(proxy.address)).collect();
            for opened in futures_util::future::join_all(some).await {
                held.push(opened?);
            }
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let now = proxy.process.memory();
        values.push((total, now as f64 / 1e6));
        values.push((each, now.saturating_sub(idle) as f64 / count as f64 / 1e3));
    }
    Ok(values)
}
