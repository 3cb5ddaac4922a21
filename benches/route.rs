//! What finding a route costs: it must stay flat from ten routes to ten thousand, and allocate nothing.
//!
//! The allocations of one look-up are counted first and must be none; then criterion measures the time.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use serde_json::json;
use weir::{
    route::Table,
    types::{Client, RequestHead, Scheme},
};

#[path = "counting/mod.rs"]
mod counting;
#[path = "parts/routes.rs"]
mod routes;

use self::{counting::allocations, routes::table};

fn find(c: &mut Criterion) {
    let client = Client {
        ip: [192, 0, 2, 1].into(),
        port: 1,
        scheme: Scheme::Http,
        listener: "web".parse().expect("a name"),
        tls: None,
        whereabouts: Default::default(),
    };
    let mut fields = HeaderMap::new();
    fields.insert("x-channel", "beta".parse().expect("a value"));
    let mut group = c.benchmark_group("find");
    let mut measure = |what: &str, count: usize, table: &Table, host: String, path: String| {
        let head = RequestHead { method: "GET", host: &host, path: &path, query: Some("debug=1"), fields: &fields };
        let name = table.find(&head, &client).expect("a route").route.name.clone();
        assert_eq!(name.as_str(), format!("r{}", count / 2), "the route that was meant");
        let before = allocations();
        black_box(table.find(black_box(&head), &client));
        assert_eq!(allocations(), before, "{what} of {count} allocates");
        group.bench_function(BenchmarkId::new(what, count), |b| {
            b.iter(|| black_box(table.find(black_box(&head), &client)));
        });
    };
    for count in [10, 100, 10_000] {
        let middle = count / 2;
        let hosts = table(count, |i| json!({"host": format!("s{i}.example.com")}));
        measure("exact_host", count, &hosts, format!("s{middle}.example.com"), "/a/b".into());
        let wildcards = table(count, |i| json!({"host": format!("*.s{i}.example.com")}));
        measure("wildcard_host", count, &wildcards, format!("a.b.s{middle}.example.com"), "/a/b".into());
        let prefixes = table(count, |i| json!({"host": "example.com", "path": format!("/api/v{i}/*")}));
        measure("prefix", count, &prefixes, "example.com".into(), format!("/api/v{middle}/users/7"));
        let predicates = table(count, |i| {
            json!({"host": "example.com", "path": format!("/api/v{i}/*"), "method": ["GET", "POST"],
                   "headers": {"x-channel": "beta"}, "query": {"debug": "1"}, "client_ip": "192.0.2.0/24"})
        });
        measure("predicates", count, &predicates, "example.com".into(), format!("/api/v{middle}/users/7"));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = find
}
criterion_main!(benches);
