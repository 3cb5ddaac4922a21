//! The filter without a network: keys, answers, fields, and what a reload keeps.

use std::net::IpAddr;

use crate::{
    filter::{
        Chains, FilterSpec, Kept,
        tests_support::{Exchange, compile, refused},
    },
    types::{Code, Problems},
};

fn from(ip: &str) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.client.ip = ip.parse::<IpAddr>().unwrap();
    exchange
}

/// Admitted, or refused.
fn passes(chain: &crate::filter::Chain, mut exchange: Exchange) -> bool {
    exchange.request(chain).is_ok()
}

#[test]
fn over_the_limit_the_answer_is_429_and_says_when_to_come_back() {
    let chain = compile(r#"[{"rate_limit": {"rate": "6/m", "burst": 2}}]"#);
    let mut first = from("192.0.2.1");
    first.request(&chain).unwrap();
    let fields = first.response(&chain, 200);
    assert_eq!(fields["ratelimit-policy"], r#""6/m";q=2;w=20"#);
    assert_eq!(fields["ratelimit"], r#""6/m";r=1;t=10"#);
    assert!(passes(&chain, from("192.0.2.1")));
    let mut third = from("192.0.2.1");
    let (reply, reason) = third.request(&chain).unwrap_err();
    assert_eq!((reply.status.as_u16(), reason), (429, "rate_limited"));
    assert_eq!((reply.headers[0].0.as_str(), reply.headers[0].1.to_str().unwrap()), ("retry-after", "10"));
    assert_eq!(third.response(&chain, 429)["ratelimit"], r#""6/m";r=0;t=20"#);
    assert!(passes(&chain, from("192.0.2.2")), "somebody else");
}

#[test]
fn two_limits_are_told_beside_each_other() {
    let chain = compile(r#"[{"rate_limit": {"rate": "10/s"}}, {"rate_limit": {"rate": "100/h", "burst": 50}}]"#);
    let mut exchange = Exchange::default();
    exchange.request(&chain).unwrap();
    let fields = exchange.response(&chain, 200);
    let all: Vec<_> = fields.get_all("ratelimit-policy").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(all, [r#""100/h";q=50;w=1800"#, r#""10/s";q=10;w=1"#]);
    let silent = compile(r#"[{"rate_limit": {"rate": "10/s", "headers": false}}]"#);
    let mut exchange = Exchange::default();
    exchange.request(&silent).unwrap();
    assert!(exchange.response(&silent, 200).is_empty());
}

#[test]
fn keys_tell_clients_apart() {
    let one = |key: &str| compile(&format!(r#"[{{"rate_limit": {{"rate": "1/h", "key": {key}}}}}]"#));
    let with = |name: &'static str, value: &str, ip: &str| {
        let mut exchange = from(ip);
        exchange.set(name, value);
        exchange
    };
    let chain = one(r#""client_ip""#);
    assert!(passes(&chain, from("2001:db8::1")) && !passes(&chain, from("2001:db8::ffff:1")), "an IPv6 network is one client");
    assert!(passes(&chain, from("2001:db8:0:1::1")), "another network");
    assert!(passes(&chain, from("192.0.2.1")) && !passes(&chain, from("::ffff:192.0.2.1")), "one address in two forms");
    let chain = one(r#""header:X-Key""#);
    assert!(passes(&chain, with("x-key", "a", "192.0.2.1")) && !passes(&chain, with("x-key", "a", "192.0.2.2")));
    assert!(passes(&chain, with("x-key", "b", "192.0.2.1")));
    assert!(passes(&chain, from("192.0.2.1")) && !passes(&chain, from("192.0.2.1")), "without the field by address");
    assert!(passes(&chain, from("192.0.2.2")));
    let chain = one(r#""cookie:session""#);
    assert!(passes(&chain, with("cookie", "a=1; session=s", "192.0.2.1")));
    assert!(!passes(&chain, with("cookie", "session=s; a=2", "192.0.2.2")));
    let chain = one(r#""route""#);
    assert!(passes(&chain, from("192.0.2.1")) && !passes(&chain, from("192.0.2.2")));
    let chain = one(r#"["client_ip", "header:x-key"]"#);
    assert!(passes(&chain, with("x-key", "a", "192.0.2.1")) && passes(&chain, with("x-key", "a", "192.0.2.2")));
    assert!(passes(&chain, with("x-key", "b", "192.0.2.1")) && !passes(&chain, with("x-key", "b", "192.0.2.1")));
}

#[test]
fn a_reload_keeps_what_was_counted_and_takes_the_new_rate() {
    let kept = Kept::default();
    let problems = Problems::default();
    let load = |filters: &str| {
        let specs: Vec<FilterSpec> = serde_json::from_str(filters).unwrap();
        Chains::compile(&Default::default(), &kept, Default::default(), &problems.root())
            .build("route r", &specs, &problems.root())
            .unwrap()
    };
    let before = load(r#"[{"rate_limit": {"rate": "2/h", "burst": 2}}]"#);
    assert!(passes(&before, from("192.0.2.1")));
    let same = load(r#"[{"request_id": {}}, {"rate_limit": {"rate": "2/h", "burst": 2}}]"#);
    assert!(passes(&same, from("192.0.2.1")) && !passes(&same, from("192.0.2.1")));
    let more = load(r#"[{"rate_limit": {"rate": "2/h", "burst": 3}}]"#);
    assert!(passes(&more, from("192.0.2.1")) && !passes(&more, from("192.0.2.1")), "one more, not three");
    let other = load(r#"[{"rate_limit": {"rate": "2/h", "burst": 2, "key": "route"}}]"#);
    assert!(passes(&other, from("192.0.2.1")), "another key counts anew");
}

#[test]
fn mistakes_are_named() {
    let said = |options: &str| {
        let problems = refused(&format!(r#"[{{"rate_limit": {options}}}]"#));
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].code, problems[0].path.to_string(), problems[0].message.clone())
    };
    let (code, path, message) = said(r#"{"rate": "0/s"}"#);
    assert_eq!((code, path.as_str()), (Code::BadValue, "filters[0].rate_limit.rate"));
    assert!(message.contains("zero"), "{message}");
    assert!(said(r#"{"rate": "10MB/s"}"#).2.contains("bytes"));
    assert!(said(r#"{"rate": "1/d", "burst": 1000}"#).2.contains("burst of 1000"));
    assert_eq!(said(r#"{"rate": "1/s", "key": []}"#).1, "filters[0].rate_limit.key");
    assert_eq!(said(r#"{"rate": "1/s", "max_keys": 4000000000}"#).1, "filters[0].rate_limit.max_keys");
    for store in ["localhost", "http://localhost", "redis://user:hunter2@:x", "redis://:hunter2@"] {
        let (_, path, message) = said(&format!(r#"{{"rate": "1/s", "store": "{store}"}}"#));
        assert_eq!(path, "filters[0].rate_limit.store", "{store}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
