//! What each filter costs a request that passes it: nanoseconds, and allocations.
//!
//! `cargo bench --bench filter`. One iteration is the request pass and the response pass of one request through a chain of one
//! filter, over fields as a browser sends them, and the end of what the filter keeps. "no filters" is what a route without any
//! pays. "jwt" is a token of 300 to 600 bytes, verified each time and remembered. What waits for others (`forward_auth`, a store
//! of `rate_limit`, `mirror`) or answers (`static_files`) is not here.

use std::net::Ipv4Addr;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use weir::{geo::GeoIpSpec, types::Problems};

#[path = "counting/mod.rs"]
mod counting;
#[path = "parts/passing.rs"]
mod passing;
#[path = "../tests/it/support/tokens.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod tokens;

use self::{
    counting::allocations,
    passing::{Exchange, KEY, chain},
};

fn example(name: &str) -> String {
    format!("{}/conf/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn cases() -> Vec<(&'static str, Value)> {
    vec![
        ("no filters", json!([])),
        ("request_id", json!([{"request_id": {}}])),
        ("ip_access", json!([{"ip_access": {"allow": ["192.0.2.0/24", "10.0.0.0/8"], "deny": ["192.0.2.66"]}}])),
        ("rewrite, prefix", json!([{"rewrite": {"strip_prefix": "/v1", "add_prefix": "/api"}}])),
        ("rewrite, regex", json!([{"rewrite": {"regex": "^/v1/customers/([0-9]+)", "replace": "/c/$1"}}])),
        ("headers, fixed", json!([{"headers": {"request": {"set": {"x-edge": "weir"}}, "response": {"remove": ["server"]}}}])),
        (
            "headers, variables",
            json!([{"headers": {"request": {"set": {"x-client": "{client_ip}"}}, "response": {"set": {"x-by": "{endpoint}"}}}}]),
        ),
        ("body_limit", json!([{"body_limit": {"max": "10MiB"}}])),
        ("cors", json!([{"cors": {"origins": "https://app.example.com"}}])),
        ("security_headers", json!([{"security_headers": {}}])),
        ("user_agent", json!([{"user_agent": {"deny": ["GPTBot", "curl"]}}])),
        ("rate_limit", json!([{"rate_limit": {"rate": "1000000000/s", "burst": 1000000}}])),
        ("rate_limit, no headers", json!([{"rate_limit": {"rate": "1000000000/s", "burst": 1000000, "headers": false}}])),
        (
            "rate_limit, cookie and address",
            json!([{"rate_limit": {"rate": "1000000000/s", "burst": 1000000, "headers": false, "key": ["cookie:session", "client_ip"]}}]),
        ),
        ("concurrency", json!([{"concurrency": {"max": 100}}])),
        ("maintenance", json!([{"maintenance": {"file": "/run/there-is-none.html"}}])),
        ("api_key", json!([{"api_key": {"keys": {"mobile": KEY}, "forward_key": true}}])),
        ("basic_auth, remembered", json!([{"basic_auth": {"users": example("users.htpasswd"), "forward_password": true}}])),
        ("geo", json!([{"geo": {"deny": ["FR"], "header": "x-country"}}])),
        ("fault, for others", json!([{"fault": {"header": "x-chaos", "abort": {}}}])),
        ("error_pages", json!([{"error_pages": {"pages": [{"status": "5xx", "html": example("errors/sorry.html")}]}}])),
        ("cache, what it adds to the chain", json!([{"cache": {"ttl": "60s"}}])),
        ("compress, the head", json!([{"compress": {}}])),
    ]
}

fn filters(c: &mut Criterion) {
    const ROUNDS: usize = 1000;
    for (name, filters) in cases() {
        let (chain, mut exchange) = (chain(filters), Exchange::new());
        if name == "geo" {
            let spec: GeoIpSpec = serde_json::from_value(json!({"database": example("countries.mmdb")})).expect("a database");
            exchange.countries = spec.compile(&Problems::default().root()).map(|geoip| geoip as _);
        }
        exchange.introduce(&chain);
        exchange.pass(&chain);
        let before = allocations();
        (0..ROUNDS).for_each(|_| exchange.pass(&chain));
        let each = (allocations() - before) as f64 / ROUNDS as f64;
        eprintln!("{name}: {each} allocations");
        c.bench_function(&format!("filter/{name}"), |b| b.iter(|| exchange.pass(&chain)));
    }
}

/// Tokens, signed in each way.
fn jwt(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    for algorithm in ["HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"] {
        let issuer = tokens::issuer(algorithm, "2026-11");
        let file = directory.path().join(algorithm);
        std::fs::write(&file, tokens::key_set(&[&issuer])).expect("a file");
        let claims =
            json!({"iss": "https://issuer.example", "aud": "api", "sub": "4711", "scope": "read write", "tenant": "acme"});
        let mut exchange = Exchange::new();
        let bearer = format!("Bearer {}", issuer.token(claims));
        exchange.request.insert("authorization", bearer.parse().expect("a value"));
        for (name, cache) in [("verified", "0"), ("remembered", "5m")] {
            let options = json!({"keys": {"file": file}, "issuer": "https://issuer.example", "audience": "api", "scopes": "read",
                "claims_to_headers": {"x-user": "sub"}, "forward_token": true, "cache": cache});
            let chain = chain(json!([{"jwt": options}]));
            exchange.pass(&chain);
            c.bench_function(&format!("filter/jwt, {algorithm}, {name}"), |b| b.iter(|| exchange.pass(&chain)));
        }
    }
}

/// Four threads on one filter: each with a client of its own, and all with the same key.
fn contention(c: &mut Criterion) {
    for (name, key) in [("a key each", "client_ip"), ("one key for all", "route")] {
        // A bucket of a second: a thread may be put aside for longer than one of a millisecond takes to fill.
        let chain = chain(json!([{"rate_limit": {"rate": "1000000000/s", "burst": 1000000000, "headers": false, "key": key}}]));
        c.bench_function(&format!("filter/rate_limit, 4 threads, {name}"), |b| {
            b.iter_custom(|iterations| {
                let started = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for thread in 0..4 {
                        let chain = &chain;
                        scope.spawn(move || {
                            let mut exchange = Exchange::new();
                            exchange.client.ip = Ipv4Addr::new(192, 0, 2, thread).into();
                            (0..iterations).for_each(|_| exchange.pass(chain));
                        });
                    }
                });
                started.elapsed()
            });
        });
    }
}

criterion_group!(benches, filters, jwt, contention);
criterion_main!(benches);
