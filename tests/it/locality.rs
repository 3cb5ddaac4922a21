//! Groups of endpoints by priority and zone: which ones take the traffic.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::support::{
    edge::{Edge, edge},
    origin::{Answer, Origin, origin},
    wire::RawRequest,
};

const CHECK: &str = "health_check: {http: {path: /health}, interval: 20ms, timeout: 2s, healthy_after: 1, unhealthy_after: 1}";

/// An endpoint that answers its name, and how its checks are answered.
struct Member {
    origin: Origin,
    well: Arc<AtomicBool>,
}

async fn member(name: &'static str) -> Member {
    let well = Arc::new(AtomicBool::new(true));
    let switch = well.clone();
    let script = move |request: &RawRequest| match request.target.as_str() {
        "/health" if !switch.load(Relaxed) => Answer::new(503, ""),
        _ => Answer::new(200, name),
    };
    Member { origin: origin().respond_with(script).spawn().await, well }
}

/// An edge over these endpoints with these options, and further keys of the upstream.
async fn over(members: &[(&Member, &str)], keys: &str) -> Edge {
    let listed: Vec<_> =
        members.iter().map(|(member, options)| format!("{{address: '{}', {options}}}", member.origin.addr())).collect();
    start("upstream: app", &format!("{{endpoints: [{}], {CHECK}, {keys}}}", listed.join(", "))).await
}

/// An edge with one route and one upstream, `app`.
async fn start(route: &str, upstream: &str) -> Edge {
    let edge = edge().route("all", route);
    let config = edge.config().replace("upstreams: {}", &format!("upstreams:\n  app: {upstream}"));
    edge.start_as(&config).await
}

/// So many requests, by the endpoint that answered.
async fn answers(edge: &Edge, requests: usize) -> BTreeMap<String, usize> {
    let mut client = edge.client().await;
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = client.get("example.com", "/").await;
        assert_eq!(response.status, 200);
        *counts.entry(response.text()).or_default() += 1;
    }
    counts
}

async fn alive(edge: &Edge) -> u64 {
    edge.admin_get("/stats").await.json()["upstreams"][0]["alive"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_group_takes_over_and_hands_back() {
    let (a, b, c) = (member("a").await, member("b").await, member("c").await);
    let edge = over(&[(&a, "priority: 0"), (&b, "priority: 0"), (&c, "priority: 1")], "").await;
    let even = BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]);
    assert_eq!(answers(&edge, 20).await, even);
    let stats = edge.admin_get("/stats").await.json();
    let priorities: Vec<_> =
        stats["upstreams"][0]["endpoints"].as_array().expect("a list").iter().map(|endpoint| &endpoint["priority"]).collect();
    assert_eq!(priorities, [0, 0, 1]);

    a.well.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 2);
    let counts = answers(&edge, 400).await;
    // 70 % stay with what is left of the first group: within five standard deviations.
    assert!(!counts.contains_key("a") && counts["b"].abs_diff(280) < 46, "{counts:?}");

    b.well.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 1);
    // One of three is available, and carries everything: no panic.
    assert_eq!(answers(&edge, 20).await, BTreeMap::from([("c".to_owned(), 20)]));

    a.well.store(true, Relaxed);
    b.well.store(true, Relaxed);
    crate::eventually!(alive(&edge).await == 3);
    let counts = answers(&edge, 20).await;
    assert!(!counts.contains_key("c") && counts["a"].abs_diff(10) <= 1, "{counts:?}");
}

#[tokio::test]
async fn a_retry_goes_on_to_the_next_group() {
    let broken = origin().respond_with(|_: &RawRequest| Answer::nothing().reset()).spawn().await;
    let spare = member("spare").await;
    let upstream = format!(
        "{{endpoints: ['{}', {{address: '{}', priority: 1}}], circuit_breaker: off}}",
        broken.addr(),
        spare.origin.addr()
    );
    let retry = "upstream: app\nretry: {attempts: 1, on: [reset]}";
    let edge = start(retry, &upstream).await;
    let response = edge.get("/").await;
    assert_eq!((response.status, response.text()), (200, "spare".to_owned()));
}

#[tokio::test]
async fn a_file_may_move_an_endpoint_to_another_group() {
    let (a, b) = (member("a").await, member("b").await);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("endpoints.yaml");
    let write = |first: &str, second: &str| {
        let list = format!(
            "- {{address: '{}', priority: {first}}}\n- {{address: '{}', priority: {second}}}\n",
            a.origin.addr(),
            b.origin.addr()
        );
        std::fs::write(directory.path().join("new"), list).expect("written");
        std::fs::rename(directory.path().join("new"), &path).expect("replaced");
    };
    write("0", "1");
    let edge = start("upstream: app", &format!("{{discover: {{file: {{path: '{}'}}}}}}", path.display())).await;
    crate::eventually!(alive(&edge).await == 2);
    assert_eq!(answers(&edge, 10).await, BTreeMap::from([("a".to_owned(), 10)]));
    write("1", "0");
    let first = async || edge.admin_get("/stats").await.json()["upstreams"][0]["endpoints"][0]["priority"] == 1;
    crate::eventually!(first().await);
    assert_eq!(answers(&edge, 10).await, BTreeMap::from([("b".to_owned(), 10)]));
}

#[tokio::test]
async fn a_zone_serves_what_it_can_and_the_rest_spills_over() {
    let (a, b, c, d) = (member("a").await, member("b").await, member("c").await, member("d").await);
    let zones = [(&a, "zone: near"), (&b, "zone: near"), (&c, "zone: far"), (&d, "weight: 1")];
    let edge = over(&zones, "locality: {zone: near}").await;
    let near = BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]);
    assert_eq!(answers(&edge, 20).await, near);
    let stats = edge.admin_get("/stats").await.json();
    assert_eq!(
        (&stats["upstreams"][0]["endpoints"][2]["zone"], &stats["upstreams"][0]["endpoints"][3]["zone"]),
        (&"far".into(), &().into())
    );

    a.well.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 3);
    let counts = answers(&edge, 600).await;
    // A third of what is available, where it was half of all: two thirds stay, within five standard deviations.
    assert!(counts["b"].abs_diff(400) < 58 && !counts.contains_key("a"), "{counts:?}");
    assert!(counts["c"].abs_diff(counts["d"]) <= 1, "in turn: {counts:?}");

    b.well.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 2);
    assert_eq!(answers(&edge, 20).await, BTreeMap::from([("c".to_owned(), 10), ("d".to_owned(), 10)]));

    a.well.store(true, Relaxed);
    b.well.store(true, Relaxed);
    crate::eventually!(alive(&edge).await == 4);
    let counts = answers(&edge, 20).await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "b"]);
}
