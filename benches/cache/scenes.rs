//! What is measured.

use std::time::Duration;

use anyhow::ensure;

use super::{
    Options,
    caches::{Cache, HUGE, Kind},
    client::{self, Connection, Load},
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
    SmallFileCpu,
    SmallFileRate,
    SmallFileP99,
    LargeFileCpu,
    LargeFileRate,
    LargeFileP99,
    HugeFileCpu,
    BesideMedian,
    BesideP99,
    BesidePages,
    MemoryEmpty,
    MemoryFull,
    PerObject,
}

impl super::table::Figure for Figure {
    const ALL: &'static [Self] = &[
        Figure::SmallCpu,
        Figure::SmallRate,
        Figure::SmallP99,
        Figure::LargeCpu,
        Figure::LargeRate,
        Figure::LargeP99,
        Figure::SmallFileCpu,
        Figure::SmallFileRate,
        Figure::SmallFileP99,
        Figure::LargeFileCpu,
        Figure::LargeFileRate,
        Figure::LargeFileP99,
        Figure::HugeFileCpu,
        Figure::BesideMedian,
        Figure::BesideP99,
        Figure::BesidePages,
        Figure::MemoryEmpty,
        Figure::MemoryFull,
        Figure::PerObject,
    ];

    fn name(self) -> &'static str {
        match self {
            Figure::SmallCpu => "CPU per hit of 1 KiB, µs",
            Figure::SmallRate => "hits per second, 1 KiB",
            Figure::SmallFileCpu => "CPU per file of 1 KiB, µs",
            Figure::SmallFileRate => "files per second, 1 KiB",
            Figure::LargeFileCpu => "CPU per file of 100 KiB, µs",
            Figure::LargeFileRate => "files per second, 100 KiB",
            Figure::HugeFileCpu => "CPU per GiB in files of 16 MiB, s",
            Figure::BesideMedian => "1 KiB beside pages that are compressed, median, ms",
            Figure::BesideP99 => "the same, p99, ms",
            Figure::BesidePages => "such pages per second",
            Figure::SmallP99 | Figure::LargeP99 | Figure::SmallFileP99 | Figure::LargeFileP99 => "p99 of these, ms",
            Figure::LargeCpu => "CPU per hit of 100 KiB, µs",
            Figure::LargeRate => "hits per second, 100 KiB",
            Figure::MemoryEmpty => "memory, empty, MB",
            Figure::MemoryFull => "memory with the objects of 1 KiB, MB",
            Figure::PerObject => "of that per object, kB",
        }
    }

    fn show(self, value: f64) -> String {
        use Figure::*;
        match self {
            SmallRate | LargeRate | SmallFileRate | LargeFileRate | BesidePages => format!("{value:.0}"),
            SmallCpu | LargeCpu | SmallFileCpu | LargeFileCpu | MemoryEmpty | MemoryFull => format!("{value:.1}"),
            _ => format!("{value:.2}"),
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
    let hits = [
        ("small", "/small/1", [Figure::SmallCpu, Figure::SmallRate, Figure::SmallP99]),
        ("large", "/large/1", [Figure::LargeCpu, Figure::LargeRate, Figure::LargeP99]),
    ];
    let files = [
        ("files", "/files/small", [Figure::SmallFileCpu, Figure::SmallFileRate, Figure::SmallFileP99]),
        ("files", "/files/large", [Figure::LargeFileCpu, Figure::LargeFileRate, Figure::LargeFileP99]),
    ];
    for (scene, path, [cpu, rate, p99]) in hits.into_iter().chain(files.into_iter().filter(|_| kind.serves_files())) {
        if wanted(scene) {
            let (each, per_second, slow) = answers(&cache, origin, path, options).await?;
            values.extend([(cpu, each), (rate, per_second), (p99, slow)]);
        }
    }
    if wanted("files") && kind.serves_files() {
        let (each, ..) = answers(&cache, origin, "/files/huge", options).await?;
        values.push((Figure::HugeFileCpu, each / 1e6 * (1 << 30) as f64 / HUGE as f64));
    }
    if wanted("compress") && kind.serves_files() {
        values.extend(beside_pages(&cache, options).await?);
    }
    Ok(values)
}

/// CPU for each in microseconds, answers per second, p99 in milliseconds.
async fn answers(cache: &Cache, origin: &Origin, path: &'static str, options: &Options) -> anyhow::Result<(f64, f64, f64)> {
    // Stored, and every connection's first request paid for.
    let load = Load { path, fields: "", connections: options.connections, seconds: options.seconds };
    client::run(cache.address, Load { seconds: 1, ..load }).await?;
    let (before, asked) = (cache.process.cpu(), origin.asked());
    let report = client::run(cache.address, load).await?;
    let cpu = (cache.process.cpu() - before).as_secs_f64();
    ensure!(origin.asked() == asked, "{} requests went to the origin", origin.asked() - asked);
    let answers = report.answers.max(1) as f64;
    Ok((cpu * 1e6 / answers, answers / report.took.as_secs_f64(), report.quantile(0.99).as_secs_f64() * 1e3))
}

/// Small files, asked for on eight connections while four ask for pages that are compressed.
async fn beside_pages(cache: &Cache, options: &Options) -> anyhow::Result<Values> {
    let seconds = options.seconds;
    let pages = Load { path: "/pages/page.html", fields: "Accept-Encoding: gzip\r\n", connections: 4, seconds: seconds + 1 };
    let pages = tokio::spawn(client::run(cache.address, pages));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let small = client::run(cache.address, Load { path: "/files/small", fields: "", connections: 8, seconds }).await?;
    let pages = pages.await??;
    let milliseconds = |share| small.quantile(share).as_secs_f64() * 1e3;
    Ok(vec![
        (Figure::BesideMedian, milliseconds(0.5)),
        (Figure::BesideP99, milliseconds(0.99)),
        (Figure::BesidePages, pages.answers as f64 / pages.took.as_secs_f64()),
    ])
}

async fn memory(cache: &Cache, origin: &Origin, options: &Options) -> anyhow::Result<Values> {
    let empty = cache.process.memory();
    let mut connection = Connection::open(cache.address).await?;
    for number in 0..options.objects {
        connection.ask(&client::request(&format!("/small/{number}"), "")).await?;
    }
    drop(connection);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let full = cache.process.memory();
    // All of them are there.
    let asked = origin.asked();
    let mut connection = Connection::open(cache.address).await?;
    for number in (0..options.objects).step_by(97) {
        connection.ask(&client::request(&format!("/small/{number}"), "")).await?;
    }
    ensure!(origin.asked() == asked, "{} objects were not kept", origin.asked() - asked);
    let each = full.saturating_sub(empty) as f64 / options.objects.max(1) as f64;
    Ok(vec![(Figure::MemoryEmpty, empty as f64 / 1e6), (Figure::MemoryFull, full as f64 / 1e6), (Figure::PerObject, each / 1e3)])
}
