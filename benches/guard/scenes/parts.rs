//! The parts of a request's way, each alone.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use weir::{
    gate::{Limits, admit_h1, head},
    observe::{AccessLog, AccessLogFormat, AccessLogSpec, Metrics},
    route::Table,
    types::{Ratio, RequestHead},
};

#[path = "../../parts/browser.rs"]
mod browser;
#[path = "../../parts/outcome.rs"]
mod outcome;
#[path = "../../parts/passing.rs"]
mod passing;
#[path = "../../parts/routes.rs"]
mod routes;
#[path = "../../parts/upstream.rs"]
mod upstream;

use self::{
    browser::BROWSER,
    outcome::{name, outcome},
    passing::{Exchange, chain},
    routes::table,
    upstream::upstream,
};
use super::Round;

/// The head of a browser, from bytes to what policy works on.
pub fn gate() -> Round {
    let (limits, bytes) = (Limits::default(), Bytes::from_static(BROWSER));
    Box::new(move || {
        let end = head::scan(black_box(&bytes), &limits, &mut 0).expect("sound").expect("whole");
        let parsed = head::parse(&bytes[..end], &limits).expect("sound");
        black_box(admit_h1(&parsed, false).expect("admitted"));
        black_box(parsed.request(parsed.target, &bytes).expect("a request"));
    })
}

/// One of a thousand hosts.
pub fn route_host() -> Round {
    find(table(1000, |index| json!({"host": format!("s{index}.example.com")})), "s500.example.com", "/a/b")
}

/// One of a thousand prefixes, with everything else that a route can ask for.
pub fn route_predicates() -> Round {
    let table = table(1000, |index| {
        json!({"host": "example.com", "path": format!("/api/v{index}/*"), "method": ["GET", "POST"],
               "headers": {"x-channel": "beta"}, "query": {"debug": "1"}, "client_ip": "192.0.2.0/24"})
    });
    find(table, "example.com", "/api/v500/users/7")
}

fn find(table: Table, host: &'static str, path: &'static str) -> Round {
    let (client, mut fields) = (Exchange::new().client, HeaderMap::new());
    fields.insert("x-channel", "beta".parse().expect("a value"));
    Box::new(move || {
        let head = RequestHead { method: "GET", host, path, query: Some("debug=1"), fields: &fields };
        let found = table.find(black_box(&head), &client).expect("a route");
        assert_eq!(found.route.name.as_str(), "r500", "the route that was meant");
    })
}

/// One of a hundred endpoints, for one client after another.
pub fn select(strategy: &str) -> Round {
    let (upstream, mut client) = (upstream(strategy, 100), 0u32);
    Box::new(move || {
        client += 1;
        black_box(upstream.select(&client.to_be_bytes(), &[]).expect("an endpoint"));
    })
}

/// A route without filters.
pub fn filters_none() -> Round {
    pass(json!([]))
}

/// A route with filters as many have them.
pub fn filters_common() -> Round {
    pass(json!([
        {"request_id": {}},
        {"ip_access": {"allow": ["192.0.2.0/24"]}},
        {"rate_limit": {"rate": "1000000000/s", "burst": 1000000}},
        {"rewrite": {"strip_prefix": "/v1"}},
        {"headers": {"request": {"set": {"x-client": "{client_ip}"}}, "response": {"remove": ["server"]}}},
        {"security_headers": {}},
        {"compress": {}},
    ]))
}

fn pass(filters: Value) -> Round {
    let (chain, mut exchange) = (chain(filters), Exchange::new());
    exchange.introduce(&chain);
    Box::new(move || exchange.pass(&chain))
}

/// The line of a request, up to the queue.
pub fn log_json() -> Round {
    let spec = AccessLogSpec { path: "/dev/null".into(), format: AccessLogFormat::Json, sample: Ratio::percent(100) };
    let (log, outcome) = (AccessLog::open(&spec, Arc::default()).expect("/dev/null opens"), outcome());
    Box::new(move || log.finished(&outcome))
}

/// What metrics count of a request.
pub fn metrics() -> Round {
    let (metrics, outcome) = (Metrics::new(), outcome());
    let route = name("api");
    Box::new(move || {
        let _running = metrics.request(Some(&route));
        metrics.finished(&outcome);
    })
}
