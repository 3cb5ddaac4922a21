//! Active health checks: endpoints leave and return, and the traffic follows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::support::{
    certs::ca,
    edge::{Edge, edge},
    origin::{Answer, Origin, origin},
    wire::RawRequest,
};

/// What a check finds, switched by the test.
type Switch = Arc<AtomicBool>;

/// An origin that answers its name, and `/health` by `good` or `bad`.
async fn checked(name: &str, switch: &Switch, good: Answer, bad: Answer) -> Origin {
    let (name, switch) = (name.to_owned(), switch.clone());
    let script = move |request: &RawRequest| match request.target.as_str() {
        "/health" if switch.load(Relaxed) => good.clone(),
        "/health" => bad.clone(),
        _ => Answer::new(200, &name),
    };
    origin().respond_with(script).spawn().await
}

fn on() -> Switch {
    Arc::new(AtomicBool::new(true))
}

const QUICK: &str = "interval: 20ms, timeout: 2s, healthy_after: 2, unhealthy_after: 2";

async fn watched(endpoints: &[&Origin], check: &str) -> Edge {
    let addresses: Vec<_> = endpoints.iter().map(|origin| origin.addr()).collect();
    edge()
        .upstream_with("app", &addresses, &format!("health_check: {{{check}, {QUICK}}}"))
        .route("all", "upstream: app")
        .start()
        .await
}

async fn alive(edge: &Edge) -> u64 {
    edge.admin_get("/stats").await.json()["upstreams"][0]["alive"].as_u64().expect("a number")
}

async fn six(edge: &Edge) -> String {
    let mut client = edge.client().await;
    let mut names = String::new();
    for _ in 0..6 {
        names += &client.get("example.com", "/").await.text();
    }
    names
}

/// Takes the second of two endpoints out and brings it back, by this check and these answers.
async fn leaves_and_returns(check: &str, good: Answer, bad: Answer) {
    let switch = on();
    let one = checked("a", &on(), good.clone(), bad.clone()).await;
    let two = checked("b", &switch, good, bad).await;
    let edge = watched(&[&one, &two], check).await;
    assert_eq!(alive(&edge).await, 2);
    let names = six(&edge).await;
    assert!(names.contains('a') && names.contains('b'), "{check}: {names}");

    switch.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 1);
    assert_eq!(six(&edge).await, "aaaaaa", "{check}");
    let stats = edge.admin_get("/stats").await.json();
    let endpoint = &stats["upstreams"][0]["endpoints"][1];
    assert_eq!((&endpoint["alive"], &endpoint["state"]), (&false.into(), &"unhealthy".into()), "{endpoint}");
    assert!(!endpoint["reason"].as_str().expect("a reason").is_empty());
    let address = two.addr().to_string();
    let labels = [("upstream", "app"), ("endpoint", address.as_str())];
    let state = [labels.as_slice(), &[("state", "unhealthy")]].concat();
    assert_eq!(edge.metric("weir_upstream_endpoint_state", &state).await, Some(1.0));

    switch.store(true, Relaxed);
    crate::eventually!(alive(&edge).await == 2);
    let names = six(&edge).await;
    assert!(names.contains('a') && names.contains('b'), "{check}: {names}");
    for result in ["pass", "fail"] {
        let counted =
            edge.metric("weir_upstream_health_checks_total", &[labels.as_slice(), &[("result", result)]].concat()).await;
        assert!(counted.is_some_and(|counted| counted >= 2.0), "{result}: {counted:?}");
    }
}

#[tokio::test]
async fn by_status() {
    leaves_and_returns("http: {path: /health}", Answer::new(200, "fine"), Answer::new(503, "no")).await;
    leaves_and_returns("http: {path: /health, status: [204, 299]}", Answer::new(204, ""), Answer::new(200, "")).await;
    leaves_and_returns("http: {path: /health, status: [2xx, 300-302]}", Answer::new(302, ""), Answer::new(304, "")).await;
}

#[tokio::test]
async fn by_text_in_the_body() {
    leaves_and_returns("http: {path: /health, body: all fine}", Answer::new(200, "is all fine."), Answer::new(200, "broken"))
        .await;
    let check = "http: {path: /health, body_regex: '^up for [0-9]+ s$'}";
    leaves_and_returns(check, Answer::new(200, "up for 7 s"), Answer::new(200, "up for ever")).await;
}

#[tokio::test]
async fn by_another_method_and_port_with_fields() {
    let switch = on();
    let app = origin().respond(200, "a").spawn().await;
    let asked = switch.clone();
    let script = move |request: &RawRequest| {
        let right =
            request.method == "HEAD" && request.header("x-check") == Some("yes") && request.header("user-agent") == Some("me");
        Answer::new(if right && asked.load(Relaxed) { 204 } else { 500 }, "")
    };
    let health = origin().respond_with(script).spawn().await;
    let check = format!(
        "http: {{method: HEAD, path: /up, port: {}, headers: {{X-Check: 'yes', user-agent: me}}, status: 204}}",
        health.addr().port()
    );
    let edge = watched(&[&app], &check).await;
    let address = app.addr().to_string();
    let labels = [("upstream", "app"), ("endpoint", address.as_str()), ("result", "pass")];
    crate::eventually!(edge.metric("weir_upstream_health_checks_total", &labels).await.is_some_and(|passed| passed >= 2.0));
    assert_eq!(alive(&edge).await, 1);
    switch.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 0);
}

#[tokio::test]
async fn by_members_of_a_json_body() {
    let check = "http: {path: /health, json: {status: ok}}";
    leaves_and_returns(check, Answer::new(200, r#"{"status":"ok","n":1}"#), Answer::new(200, r#"{"status":"failing"}"#)).await;
    leaves_and_returns(check, Answer::new(200, r#"{"status":"ok"}"#), Answer::new(200, "not JSON")).await;
}

#[tokio::test]
async fn by_a_connection_that_breaks() {
    leaves_and_returns("http: {path: /health}", Answer::new(200, ""), Answer::nothing().reset()).await;
}

#[tokio::test]
async fn checks_name_the_configured_host() {
    let origin = checked("a", &on(), Answer::new(200, ""), Answer::new(500, "")).await;
    let _edge = watched(&[&origin], "http: {path: /health, host: app.internal}").await;
    let request = origin.next_request().await;
    assert_eq!((request.target.as_str(), request.header("host")), ("/health", Some("app.internal")));
}

#[tokio::test]
async fn a_check_that_hangs_has_failed() {
    let switch = on();
    let origin = checked("a", &switch, Answer::new(200, ""), Answer::nothing().hold()).await;
    let edge = edge()
        .upstream_with(
            "app",
            &[origin.addr()],
            "health_check: {http: {path: /health}, interval: 20ms, timeout: 100ms, unhealthy_after: 1}",
        )
        .route("all", "upstream: app")
        .start()
        .await;
    assert_eq!(edge.get("/").await.status, 200);
    switch.store(false, Relaxed);
    crate::eventually!(alive(&edge).await == 0);
}

#[tokio::test]
async fn tcp_checks_only_connect() {
    let (one, mut two) = (origin().respond(200, "a").spawn().await, origin().respond(200, "b").spawn().await);
    let edge = watched(&[&one, &two], "tcp: {}").await;
    crate::eventually!(two.connections() >= 2);
    assert_eq!(alive(&edge).await, 2);
    two.stop_listening().await;
    crate::eventually!(alive(&edge).await == 1);
    assert_eq!(six(&edge).await, "aaaaaa");
    assert_eq!(two.request_count(), 0);
}

#[tokio::test]
async fn checks_of_tls_endpoints_use_tls() {
    let ca = ca();
    let origin = origin().respond(200, "a").tls(&ca.server(&["app.test"])).spawn().await;
    let check = format!("health_check: {{http: {{path: /health}}, {QUICK}}}");
    let good = format!("tls: {{sni: app.test, ca: {:?}}}\n{check}", ca.file());
    let edge_with =
        async |keys: &str| edge().upstream_with("app", &[origin.addr()], keys).route("all", "upstream: app").start().await;
    let verified = edge_with(&good).await;
    origin.next_request().await;
    assert_eq!(verified.get("/").await.text(), "a");
    let refused = edge_with(&good.replace("app.test", "other.test")).await;
    crate::eventually!(alive(&refused).await == 0);
}

#[tokio::test]
async fn without_any_healthy_endpoint_it_is_503_unless_panic_takes_them_all() {
    let switch = on();
    let origin = checked("a", &switch, Answer::new(200, ""), Answer::new(500, "")).await;
    let check = format!("health_check: {{http: {{path: /health}}, {QUICK}}}");
    let edge = edge()
        .upstream_with("strict", &[origin.addr()], &format!("{check}\npanic_threshold: 0%"))
        .upstream_with("lenient", &[origin.addr()], &check)
        .route("strict", "match: {path: /strict}\nupstream: strict")
        .route("lenient", "match: {path: /lenient}\nupstream: lenient")
        .start()
        .await;
    let down = async |edge: &Edge| {
        let stats = edge.admin_get("/stats").await.json();
        let upstreams = stats["upstreams"].as_array().expect("upstreams").clone();
        upstreams.iter().all(|upstream| upstream["endpoints"][0]["alive"] == false)
    };
    switch.store(false, Relaxed);
    crate::eventually!(down(&edge).await);
    let answer = edge.get("/strict").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let log = edge.access_log().await;
    assert_eq!((&log[0]["end"]["type"], &log[0]["attempts"]), (&"destination_unavailable".into(), &serde_json::json!([])));
    assert_eq!(edge.get("/lenient").await.text(), "a", "better all than none");
    switch.store(true, Relaxed);
    crate::eventually!(edge.get("/strict").await.text() == "a");
}
