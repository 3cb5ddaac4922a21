//! What choosing an endpoint costs: each strategy over 3, 100 and 10,000 endpoints, all healthy, and with
//! one in ten unhealthy. `cargo bench --bench balance`.

use std::{hint::black_box, net::SocketAddr, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::{
    balance::StrategySpec,
    discovery::{ListedEndpoint, Target},
    endpoint::{EndpointRegistry, HealthStatus},
    types::{Address, Problems},
    upstream::{Upstream, UpstreamSpec},
};

fn upstream(strategy: &str, endpoints: u32) -> Arc<Upstream> {
    let mut spec: UpstreamSpec = serde_yaml::from_str("endpoints: []").expect("a valid spec");
    let name = format!("{strategy}: {{}}");
    let deserializer = serde_yaml::Deserializer::from_str(&name);
    spec.strategy = serde_yaml::with::singleton_map::deserialize(deserializer).expect("a strategy without options");
    let address = |index: u32| SocketAddr::from((std::net::Ipv4Addr::from(0x7f00_0001 + index), 80));
    spec.endpoints = (0..endpoints)
        .map(|index| ListedEndpoint { weight: (index % 3 + 1) as u16, ..Target::from(Address::from(address(index))).into() })
        .collect();
    let upstream =
        Upstream::compile(&"pool".parse().expect("a name"), &spec, &EndpointRegistry::default(), &Problems::default().root());
    let upstream = upstream.expect("a valid upstream");
    upstream.publish();
    upstream
}

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
