//! What is measured.

use std::time::Duration;

use anyhow::ensure;

use super::{
    Options,
    caches::{Cache, Kind},
    client::{self, Connection},
    origin::Origin,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    SmallCpu,
    SmallRate,
    SmallP99,
    LargeCpu,
    LargeRate,
    LargeP99,
    MemoryEmpty,
    MemoryFull,
    PerObject,
}

impl super::beside::Figure for Figure {
    const ALL: &'static [Self] = &[
        Figure::SmallCpu,
        Figure::SmallRate,
        Figure::SmallP99,
        Figure::LargeCpu,
        Figure::LargeRate,
        Figure::LargeP99,
        Figure::MemoryEmpty,
        Figure::MemoryFull,
        Figure::PerObject,
    ];

    fn name(self) -> &'static str {
        match self {
            Figure::SmallCpu => "CPU per hit of 1 KiB, µs",
            Figure::SmallRate => "hits per second, 1 KiB",
            Figure::SmallP99 => "p99 of these, ms",
            Figure::LargeCpu => "CPU per hit of 100 KiB, µs",
            Figure::LargeRate => "hits per second, 100 KiB",
            Figure::LargeP99 => "p99 of these, ms",
            Figure::MemoryEmpty => "memory, empty, MB",
            Figure::MemoryFull => "memory with the objects of 1 KiB, MB",
            Figure::PerObject => "of that per object, kB",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Figure::SmallRate | Figure::LargeRate => format!("{value:.0}"),
            Figure::SmallP99 | Figure::LargeP99 | Figure::PerObject => format!("{value:.2}"),
            _ => format!("{value:.1}"),
        }
    }
}

type Values = Vec<(Figure, f64)>;

pub async fn all(kind: Kind, origin: &Origin, options: &Options) -> anyhow::Result<Values> {
    let wanted = |scene: &str| options.only.as_deref().is_none_or(|only| only == scene);
    let mut values = Values::new();
    if wanted("memory") {
        let cache = Cache::start(kind, origin.address).await?;
        values.extend(memory(&cache, origin, options).await?);
    }
    let cache = Cache::start(kind, origin.address).await?;
    for (scene, path, [cpu, rate, p99]) in [
        ("small", "/small/1", [Figure::SmallCpu, Figure::SmallRate, Figure::SmallP99]),
        ("large", "/large/1", [Figure::LargeCpu, Figure::LargeRate, Figure::LargeP99]),
    ] {
        if wanted(scene) {
            let (each, per_second, slow) = hits(&cache, origin, path, options).await?;
            values.extend([(cpu, each), (rate, per_second), (p99, slow)]);
        }
    }
    Ok(values)
}

/// CPU for each in microseconds, hits per second, p99 in milliseconds.
async fn hits(cache: &Cache, origin: &Origin, path: &str, options: &Options) -> anyhow::Result<(f64, f64, f64)> {
    // Stored, and every connection's first request paid for.
    client::run(cache.address, path, options.connections, 1).await?;
    let (before, asked) = (cache.process.cpu(), origin.asked());
    let report = client::run(cache.address, path, options.connections, options.seconds).await?;
    let cpu = (cache.process.cpu() - before).as_secs_f64();
    ensure!(origin.asked() == asked, "{} requests went to the origin", origin.asked() - asked);
    let answers = report.answers.max(1) as f64;
    Ok((cpu * 1e6 / answers, answers / report.took.as_secs_f64(), report.p99().as_secs_f64() * 1e3))
}

async fn memory(cache: &Cache, origin: &Origin, options: &Options) -> anyhow::Result<Values> {
    let empty = cache.process.memory();
    let mut connection = Connection::open(cache.address).await?;
    for number in 0..options.objects {
        connection.ask(&client::request(&format!("/small/{number}"))).await?;
    }
    drop(connection);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let full = cache.process.memory();
    // All of them are there.
    let asked = origin.asked();
    let mut connection = Connection::open(cache.address).await?;
    for number in (0..options.objects).step_by(97) {
        connection.ask(&client::request(&format!("/small/{number}"))).await?;
    }
    ensure!(origin.asked() == asked, "{} objects were not kept", origin.asked() - asked);
    let each = full.saturating_sub(empty) as f64 / options.objects.max(1) as f64;
    Ok(vec![(Figure::MemoryEmpty, empty as f64 / 1e6), (Figure::MemoryFull, full as f64 / 1e6), (Figure::PerObject, each / 1e3)])
}
