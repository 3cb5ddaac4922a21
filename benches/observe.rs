//! What observing one finished request costs it.
//!
//! `cargo bench --bench observe`. The metrics are counted by one thread and by four at once on the same route and
//! endpoint, which is the worst case: every addition is to a cache line that the others want.

use std::{sync::Arc, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::{
    observe::{AccessLog, AccessLogFormat, AccessLogSpec, Metrics},
    types::Ratio,
};

#[path = "parts/outcome.rs"]
mod outcome;

use self::outcome::{name, outcome};

/// Metrics that know a thousand routes and endpoints, as those of a large edge do.
fn large() -> Metrics {
    let metrics = Metrics::new();
    for number in 0..1000 {
        let mut one = outcome();
        one.route = Some(name(&format!("route-{number}")));
        one.attempts[0].endpoint = format!("10.0.1.{number}:9001").into();
        metrics.finished(&one);
    }
    metrics
}

fn metrics(c: &mut Criterion) {
    let (metrics, outcome) = (large(), outcome());
    c.bench_function("metrics/finished", |b| b.iter(|| metrics.finished(&outcome)));
    c.bench_function("metrics/finished, 4 threads on one route", |b| {
        b.iter_custom(|iterations| {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..iterations).for_each(|_| metrics.finished(&outcome)));
                }
            });
            started.elapsed()
        });
    });
    let route = name("api");
    c.bench_function("metrics/request guard", |b| b.iter(|| metrics.request(Some(&route))));
    c.bench_function("metrics/render 1000 routes, 1000 endpoints", |b| b.iter(|| metrics.render()));
}

fn access_log(c: &mut Criterion) {
    let outcome = outcome();
    let spec = |path: &str, format, sample| AccessLogSpec { path: path.into(), format, sample };
    for (label, spec) in [
        ("json", spec("/dev/null", AccessLogFormat::Json, Ratio::percent(100))),
        ("combined", spec("/dev/null", AccessLogFormat::Combined, Ratio::percent(100))),
        ("not sampled", spec("/dev/null", AccessLogFormat::Json, Ratio::percent(0))),
        ("off", spec("off", AccessLogFormat::Json, Ratio::percent(100))),
    ] {
        let log = AccessLog::open(&spec, Arc::default()).expect("/dev/null opens");
        c.bench_function(&format!("access log/{label}"), |b| b.iter(|| log.finished(&outcome)));
    }
}

criterion_group!(benches, metrics, access_log);
criterion_main!(benches);
