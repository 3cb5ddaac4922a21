//! Orders through the admin API: what they change, what they answer, and what they refuse.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{
    client::RawClient,
    edge::{Edge, edge, edge_from},
    origin::{Origin, origin},
};

/// Two origins behind one upstream.
async fn pair() -> (Edge, Origin, Origin) {
    let (one, other) = (origin().respond(200, "one").spawn().await, origin().respond(200, "other").spawn().await);
    let edge = edge().upstream("app", &[one.addr(), other.addr()]).route("all", "upstream: app").start().await;
    (edge, one, other)
}

/// Which origins answer.
async fn answers(edge: &Edge) -> Vec<String> {
    let mut client = edge.client().await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        let text = client.get("example.com", "/").await.text();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen.sort();
    seen
}

fn path(address: SocketAddr) -> String {
    format!("/api/v1/upstreams/app/endpoints/{address}")
}

async fn order(edge: &Edge, method: &str, path: &str, body: Value) -> (u16, Value) {
    let answer = edge.admin_send(method, path, &body.to_string()).await;
    (answer.status, answer.json())
}

async fn state(edge: &Edge, address: SocketAddr) -> Value {
    let upstream: Value = edge.admin_get("/api/v1/upstreams/app").await.json();
    let found = upstream["endpoints"].as_array().unwrap().iter().find(|one| one["endpoint"] == address.to_string()).cloned();
    found.unwrap_or(Value::Null)
}

#[tokio::test]
async fn an_endpoint_drains_is_disabled_and_comes_back() {
    let (edge, one, _other) = pair().await;
    assert_eq!(answers(&edge).await, ["one", "other"]);
    for (word, condition) in [("draining", "draining"), ("disabled", "disabled")] {
        let (status, answer) = order(&edge, "PATCH", &path(one.addr()), json!({"state": word})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["notes"][0].as_str().unwrap().contains("lost when the process ends"), "{answer}");
        assert_eq!(answers(&edge).await, ["other"]);
        assert_eq!(state(&edge, one.addr()).await["state"], condition);
    }
    let overrides: Value = edge.admin_get("/api/v1/overrides").await.json();
    assert_eq!(overrides["overrides"][0]["change"]["set_mode"]["mode"], "disabled", "{overrides}");
    order(&edge, "PATCH", &path(one.addr()), json!({"state": "enabled"})).await;
    assert_eq!(answers(&edge).await, ["one", "other"]);
    assert_eq!(edge.admin_get("/api/v1/overrides").await.json()["overrides"], json!([]));
    // And the timeline tells it.
    let timeline = edge.server.observer().timeline().after(0);
    let told: Vec<&str> = timeline.iter().map(|event| event.text.as_str()).collect();
    assert!(told.contains(&"takes no new requests: it drains") && told.contains(&"takes requests again"), "{told:?}");
    edge.stop().await;
}

#[tokio::test]
async fn endpoints_come_go_and_weigh_something_else() {
    let (edge, one, other) = pair().await;
    let third = origin().respond(200, "third").spawn().await;
    let endpoints = "/api/v1/upstreams/app/endpoints";
    let (status, answer) = order(&edge, "POST", endpoints, json!({"address": third.addr().to_string(), "weight": 2})).await;
    assert_eq!((status, &answer["generation"]), (201, &2.into()), "{answer}");
    assert_eq!(answers(&edge).await, ["one", "other", "third"]);
    assert_eq!(state(&edge, third.addr()).await["weight"], 2);
    let (status, _) = order(&edge, "POST", endpoints, json!({"address": one.addr().to_string()})).await;
    assert_eq!(status, 409, "it is there already");
    let (status, _) = order(&edge, "DELETE", &path(third.addr()), json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(answers(&edge).await, ["one", "other"]);
    order(&edge, "DELETE", &path(one.addr()), json!({})).await;
    assert_eq!(answers(&edge).await, ["other"]);
    assert_eq!(order(&edge, "DELETE", &path(one.addr()), json!({})).await.0, 404, "it is gone");
    let (status, _) = order(&edge, "PATCH", &path(other.addr()), json!({"weight": 7, "state": "draining"})).await;
    let now = state(&edge, other.addr()).await;
    assert_eq!((status, &now["weight"], &now["state"]), (200, &7.into(), &"draining".into()));
    order(&edge, "PATCH", &path(other.addr()), json!({"weight": null})).await;
    assert_eq!(state(&edge, other.addr()).await["weight"], 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_strategy_changes_and_changes_back() {
    let (edge, _one, _other) = pair().await;
    let upstream = "/api/v1/upstreams/app";
    for (strategy, kind) in
        [(json!("random"), "random"), (json!({"maglev": {"table_size": 251}}), "maglev"), (json!(null), "round_robin")]
    {
        let (status, answer) = order(&edge, "PATCH", upstream, json!({"strategy": strategy})).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(edge.admin_get(upstream).await.json()["strategy"], kind);
    }
    for bad in [
        json!({}),
        json!({"strategy": "rundom"}),
        json!({"strategy": {"maglev": {"size": 1}}}),
        json!({"strategy": "random", "x": 1}),
    ] {
        let (status, answer) = order(&edge, "PATCH", upstream, bad.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &"bad_request".into()), "{bad}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_said() {
    let (edge, one, _other) = pair().await;
    let known = path(one.addr());
    for (method, path, body, status) in [
        ("PATCH", &*known, json!({}), 400),
        ("PATCH", &known, json!({"state": "gone"}), 400),
        ("PATCH", &known, json!({"weight": 0}), 400),
        ("PATCH", &known, json!({"weight": 65_536}), 400),
        ("PATCH", &known, json!([]), 400),
        ("PATCH", &known, json!([null, null]), 400),
        ("PATCH", &known, json!({"state": null, "weight": null}), 400),
        ("PATCH", "/api/v1/upstreams/nobody/endpoints/127.0.0.1:1", json!({"weight": null}), 404),
        ("PATCH", "/api/v1/upstreams/nobody", json!({"strategy": null}), 404),
        ("PATCH", "/api/v1/upstreams/app/endpoints/127.0.0.1:1", json!({"weight": 2}), 404),
        ("PATCH", "/api/v1/upstreams/app/endpoints/nonsense", json!({"weight": 2}), 404),
        ("PATCH", "/api/v1/upstreams/nobody/endpoints/127.0.0.1:1", json!({"weight": 2}), 404),
        ("DELETE", "/api/v1/upstreams/%3Cscript%3E/endpoints/127.0.0.1:1", json!({}), 404),
        ("POST", "/api/v1/upstreams/nobody/endpoints", json!({"address": "127.0.0.1:1"}), 404),
        ("POST", "/api/v1/upstreams/app/endpoints", json!({"address": "somewhere"}), 400),
        ("POST", "/api/v1/config/rollback", json!({}), 409),
        ("POST", "/api/v1/config/reload", json!({"probation": "2h"}), 400),
        ("POST", "/api/v1/config/reload", json!({"when": "now"}), 400),
        ("PUT", "/api/v1/overrides", json!({}), 405),
    ] {
        let answer = edge.admin_send(method, path, &body.to_string()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert!(answer.json()["detail"].is_string());
    }
    assert_eq!(edge.admin_get("/api/v1/overrides").await.json()["overrides"], json!([]));
    edge.stop().await;
}

/// A request with a configuration as its body.
async fn post(edge: &Edge, method: &str, path: &str, fields: &str, body: &str) -> (u16, Value) {
    let (address, length) = (edge.admin_address(), body.len());
    let token = edge.server.admin_token().unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/yaml\r\n\
         {fields}content-length: {length}\r\n\r\n{body}",
        token.expose()
    );
    let answer = RawClient::connect(address).await.exchange(request).await;
    (answer.status, answer.json())
}

fn answering(word: &str) -> String {
    format!(
        "admin: {{address: '127.0.0.1:0'}}\nlisteners: {{web: {{address: '127.0.0.1:0'}}}}\n\
         routes: [{{name: all, respond: {{body: {word}}}}}]\n"
    )
}

#[tokio::test]
async fn a_configuration_is_posted_checked_applied_and_taken_back() {
    let (edge, _one, _other) = pair().await;
    let config = edge.admin_get("/api/v1/config").await;
    assert_eq!(config.header("etag"), Some("\"1\""));
    assert!(config.json()["yaml"].as_str().unwrap().contains("upstreams:"), "{}", config.text());

    let (status, checked) = post(&edge, "POST", "/api/v1/config/check", "", &answering("new")).await;
    assert_eq!((status, &checked["valid"]), (200, &true.into()), "{checked}");
    let (status, checked) = post(&edge, "POST", "/api/v1/config/check", "", "routes: 7").await;
    assert_eq!((status, &checked["valid"]), (200, &false.into()));
    assert!(checked["diagnostics"][0]["line"].is_number(), "{checked}");

    let (status, refused) = post(&edge, "PUT", "/api/v1/config", "", "listeners: [").await;
    assert_eq!((status, &refused["code"]), (422, &"invalid_configuration".into()));
    assert_eq!(refused["problems"][0]["code"], "E0101", "{refused}");
    let (status, refused) = post(&edge, "PUT", "/api/v1/config", "if-match: \"7\"\r\n", &answering("new")).await;
    assert_eq!((status, &refused["code"]), (412, &"other_generation".into()), "{refused}");
    assert_eq!(answers(&edge).await, ["one", "other"], "everything is as it was");

    let (status, applied) = post(&edge, "PUT", "/api/v1/config", "if-match: \"1\"\r\n", &answering("new")).await;
    assert_eq!((status, &applied["generation"]), (200, &2.into()), "{applied}");
    assert_eq!(answers(&edge).await, ["new"]);
    assert_eq!(edge.admin_get("/api/v1/config").await.json()["origin"], "posted");
    let (status, _) = order(&edge, "POST", "/api/v1/config/rollback", json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(answers(&edge).await, ["one", "other"]);
    edge.stop().await;
}

#[tokio::test]
async fn no_answer_shows_a_secret_of_the_configuration() {
    let edge = edge().admin("token: s3cr3t-s3cr3t-s3cr3t").route("all", "respond: {body: x}").start().await;
    for page in ["/api/v1/config", "/api/v1/overview", "/api/v1/upstreams", "/api/v1/routes", "/api/v1/openapi.json"] {
        assert_eq!(edge.admin_get(page).await.status, 401, "{page}");
        let answer = edge.admin_send("GET", page, "").await;
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.text().contains("s3cr3t"), "{page}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_dashboard_is_a_page_without_secrets_and_can_be_closed() {
    let edge = edge().admin("token: s3cr3t-s3cr3t-s3cr3t").route("all", "respond: {body: x}").start().await;
    let page = edge.admin_get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text().contains("s3cr3t") && !page.text().contains("http://"), "nothing from elsewhere");
    assert_eq!(edge.admin_get("/dashboard/main.js").await.status, 200);
    let address = edge.admin_address();
    let elsewhere = RawClient::connect(address).await.get(&format!("evil.example:{}", address.port()), "/").await;
    assert_eq!(elsewhere.status, 421, "a name that was made to resolve to us");
    let closed = edge_from(&answering("x").replacen("'127.0.0.1:0'}", "'127.0.0.1:0', dashboard: false}", 1)).await;
    assert_eq!((closed.admin_get("/").await.status, closed.admin_get("/dashboard/main.js").await.status), (404, 404));
    assert_eq!(closed.admin_get("/api/v1/overview").await.status, 200);
    edge.stop().await;
    closed.stop().await;
}
