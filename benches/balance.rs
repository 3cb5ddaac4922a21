//! What choosing an endpoint costs: each strategy over 3, 100 and 10,000 endpoints, all healthy, and with
//! one in ten unhealthy. `cargo bench --bench balance`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::{balance::StrategySpec, endpoint::HealthStatus};

#[path = "parts/upstream.rs"]
mod upstream;

use self::upstream::upstream;

fn select(c: &mut Criterion) {
    for strategy in StrategySpec::KINDS {
        let mut group = c.benchmark_group(format!("select/{strategy}"));
        for size in [3, 100, 10_000] {
            let upstream = upstream(strategy, size);
            let mut client = 0u32;
            let mut select = || {
                client = client.wrapping_add(1);
                upstream.select(black_box(&client.to_be_bytes()), &[])
            };
            group.bench_function(BenchmarkId::new("healthy", size), |b| b.iter(&mut select));
            for endpoint in upstream.endpoints().iter().step_by(10) {
                endpoint.set_health(HealthStatus::Unhealthy, "bench");
            }
            group.bench_function(BenchmarkId::new("one_in_ten_unhealthy", size), |b| b.iter(&mut select));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_millis(800));
    targets = select
}
criterion_main!(benches);
