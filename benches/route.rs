//! What finding a route costs: it must stay flat from ten routes to ten thousand, and allocate nothing.
//!
//! The allocations of one look-up are counted first and must be none; then criterion measures the time.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use serde_json::{Value, json};
use weir::{
    filter::Chains,
    route::{Route, RouteSpec, Table},
    types::{Client, Problems, RequestHead, Scheme},
};

#[path = "counting/mod.rs"]
mod counting;

use self::counting::allocations;

fn table(count: usize, matches: impl Fn(usize) -> Value) -> Table {
    let problems = Problems::default();
    let at = problems.root().key("routes");
    let routes = (0..count).map(|index| {
        let spec = json!({"name": format!("r{index}"), "match": matches(index), "respond": {"status": 204}});
        let spec: RouteSpec = serde_json::from_value(spec).expect("a route");
        Route::compile(index, &spec, &BTreeMap::new(), &Chains::default(), &at.index(index)).expect("compiles")
    });
    let table = Table::build(routes.collect::<Vec<Arc<Route>>>(), &at);
    assert!(problems.take().is_empty(), "no route shadows another");
    table
}

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
