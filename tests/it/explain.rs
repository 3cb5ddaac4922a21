//! What is explained is what happens.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{
    client::RawClient,
    edge::{Edge, edge},
    origin::{Origin, origin},
    wire::RawResponse,
};

const TOKEN: &str = "correct-horse-battery-staple";

/// Something of everything that decides where a request goes. Every endpoint says its own name.
async fn rich() -> (Edge, Vec<Origin>) {
    let (edge, origins, _) = rich_with_config().await;
    (edge, origins)
}

async fn rich_with_config() -> (Edge, Vec<Origin>, String) {
    let mut origins = Vec::new();
    for _ in 0..6 {
        origins.push(origin().respond(200, "ok").spawn().await);
    }
    let at = |range: std::ops::Range<usize>| origins[range].iter().map(Origin::addr).collect::<Vec<_>>();
    let builder = edge()
        .admin(&format!("token: {TOKEN}"))
        .upstream("turns", &at(0..2))
        .upstream_with("hashed", &at(1..4), "strategy: {consistent_hash: {key: 'header:x-user'}}")
        .upstream_with("maglev", &at(2..5), "strategy: {maglev: {key: path}}")
        .upstream_with("idle", &at(3..6), "strategy: least_connections")
        .upstream_with("sticky", &at(0..3), "sticky: {secret: '0123456789abcdef0123456789abcdef'}")
        .route("beta", "match: {host: a.test, path: /v1/*, headers: {x-channel: beta}}\nupstream: hashed")
        .route("v1", "match: {host: [a.test, '*.a.test'], path: /v1/*}\nfilters: [request_id, {rewrite: {strip_prefix: /v1}}]\nupstream: turns")
        .route("deep", "match: {host: a.test, path: /v1/deep/*, method: [GET, POST]}\nupstream: maglev")
        .route("exact", "match: {path: /exact}\nupstream: idle")
        .route("debug", "match: {path: /exact, query: {debug: '1'}}\nrespond: {status: 202, body: debug}")
        .route("regex", "match: {path_regex: '^/r[0-9]+$'}\nupstream: maglev")
        .route("never", "match: {host: a.test, client_ip: 192.0.2.0/24}\nrespond: {body: never}")
        .route("moved", "match: {path: /old/*}\nredirect: {to: 'https://{host}/new{path}{query}', status: 302}")
        .route("wild", "match: {host: '*.b.test', headers: {x-flag: {present: true}}}\nupstream: sticky")
        .route("rest", "match: {host: b.test}\nupstream: sticky")
        .route("shut", "match: {path: /shut/*}\nfilters: [{ip_access: {deny: [0.0.0.0/0]}}]\nupstream: turns");
    let config = builder.config();
    (builder.start().await, origins, config)
}

#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    host: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = prop::sample::select(vec!["a.test", "x.a.test", "b.test", "y.z.b.test", "c.test", "A.TEST:8080", "bad host", ""]);
    let path = prop::sample::select(vec![
        "/v1",
        "/v1/",
        "/v1/x",
        "/v1/deep",
        "/v1/deep/er",
        "/v1x",
        "/exact",
        "/exact/",
        "/r12",
        "/rx",
        "/old/y",
        "/old",
        "/",
        "/shut/x",
        "/a/../v1/%78",
        "/%zz",
        "/v1//x",
        "/v1/%2e%2e/exact",
        "*",
    ]);
    let query = prop::sample::select(vec!["", "?debug=1", "?d%65bug=1&x", "?debug=0", "?"]);
    let method = prop::sample::select(vec!["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "get"]);
    let field = prop::sample::select(vec![
        ("x-channel", "beta".to_owned()),
        ("x-channel", "Beta".to_owned()),
        ("x-flag", String::new()),
        ("x-user", "ann".to_owned()),
        ("x-user", "bob".to_owned()),
        ("connection", "x-channel".to_owned()),
        ("x_channel", "beta".to_owned()),
        ("x-forwarded-for", "192.0.2.7".to_owned()),
        ("max-forwards", "0".to_owned()),
        ("expect", "nonsense".to_owned()),
        ("content-length", "0".to_owned()),
    ]);
    (method, host, path, query, prop::collection::vec(field, 0..4)).prop_map(|(method, host, path, query, fields)| Asked {
        method,
        host,
        target: format!("{path}{query}"),
        fields,
    })
}

impl Asked {
    /// As the API takes it. Fields of one name stay in order.
    fn described(&self) -> Value {
        let mut headers = json!({"host": self.host, "x-weir-explain": TOKEN});
        for (name, value) in &self.fields {
            let values = headers.as_object_mut().unwrap().entry(*name).or_insert_with(|| json!([]));
            values.as_array_mut().unwrap().push(json!(value));
        }
        json!({"method": self.method, "url": self.target, "headers": headers, "listener": "web"})
    }

    async fn send(&self, edge: &Edge) -> RawResponse {
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let Self { method, host, target, .. } = self;
        let request = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-weir-explain: {TOKEN}\r\n{fields}\r\n");
        let mut client = edge.client().await;
        match *method {
            "HEAD" => {
                client.send(request).await;
                client.read_head_response().await
            }
            _ => client.exchange(request).await,
        }
    }
}

async fn explained(edge: &Edge, described: &Value) -> Value {
    let answer = edge.admin_send("POST", "/api/v1/explain", &described.to_string()).await;
    assert_eq!(answer.status, 200, "{}: {}", described, answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

/// The part of what the response tells.
fn told(response: &RawResponse, key: &str) -> Option<String> {
    let field = response.header("x-weir-explain")?;
    let value = field.split("; ").find_map(|part| part.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    value.filter(|value| value != "none")
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let (edge, _origins, config) = rich_with_config().await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let (mut routes, mut picks) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..600 {
        let asked = asked().new_tree(&mut runner).unwrap().current();
        let said = explained(&edge, &asked.described()).await;
        let got = asked.send(&edge).await;
        let context = || format!("{asked:?}\nsaid {said:#}\ngot {got:?}");
        let filtered = said["route"] == "shut";
        if let (Some(status), false) = (said["answer"]["status"].as_u64(), filtered) {
            assert_eq!(u64::from(got.status), status, "{}", context());
            assert_eq!(said["answer"]["location"].as_str(), got.header("location"), "{}", context());
        }
        if said["gate"]["admitted"] == true {
            assert_eq!(told(&got, "route").as_deref(), said["route"].as_str(), "{}", context());
            assert_eq!(told(&got, "path").as_deref(), said["path"].as_str(), "{}", context());
            assert_eq!(told(&got, "listener").as_deref(), Some("web"), "{}", context());
        } else {
            assert_eq!(got.header("x-weir-explain"), None, "{}", context());
        }
        if let (Some(upstream), false) = (said["upstreams"].get(0), filtered) {
            assert_eq!(told(&got, "upstream").as_deref(), upstream["upstream"].as_str(), "{}", context());
            assert_eq!(told(&got, "endpoint").as_deref(), upstream["pick"]["endpoint"].as_str(), "{}", context());
            assert_eq!(upstream["pick"]["certain"], true, "{}", context());
            picks += 1;
        }
        routes.extend(said["route"].as_str().map(str::to_owned));
    }
    assert!(routes.len() >= 10 && picks > 100, "the requests are of all kinds: {routes:?}, {picks}");
    replayed(&edge, &config, 600).await;
}

/// The log of an edge, replayed by its own configuration, shows no difference.
async fn replayed(edge: &Edge, config: &str, requests: usize) {
    edge.access_log_of(requests).await;
    let loaded = weir::config::parse_str("test.yaml", config, &edge.file(""), &|_| None);
    let (problems, registries) = (weir::types::Problems::default(), weir::snapshot::Registries::default());
    let now = std::time::SystemTime::now();
    let snapshot = weir::snapshot::compile(loaded.spec.unwrap(), 1, &registries, now, &problems).expect("it runs");
    let mut replay = weir::explain::replay::Replay::new(&snapshot, 10);
    for line in std::fs::read(edge.file("access.log")).unwrap().split(|byte| *byte == b'\n') {
        replay.line(line);
    }
    let report = replay.report();
    assert_eq!((report.different, report.foreign, report.lines), (0, 0, requests as u64), "{report}");
    assert!(report.same > 100 && report.assumed > 10 && report.unrouted > 10, "{report}");
}

#[tokio::test]
async fn a_session_is_explained_too() {
    let (edge, _origins) = rich().await;
    let first = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: b.test\r\n\r\n").await;
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..3 {
        let described = json!({"url": "http://b.test/", "listener": "web", "headers": {"cookie": &cookie}});
        let pick = explained(&edge, &described).await["upstreams"][0]["pick"].clone();
        let got = edge
            .client()
            .await
            .exchange(format!("GET / HTTP/1.1\r\nhost: b.test\r\ncookie: {cookie}\r\nx-weir-explain: {TOKEN}\r\n\r\n"))
            .await;
        assert_eq!((pick["by"].as_str(), pick["endpoint"].as_str()), (Some("session"), told(&got, "endpoint").as_deref()));
        assert_eq!(told(&got, "session").as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn a_description_that_makes_no_sense_is_refused() {
    let (edge, _origins) = rich().await;
    for (body, words) in [
        ("{}", "url"),
        ("{\"url\": \"http://a.test/\", \"colour\": 1}", "colour"),
        ("{\"url\": \"\"}", "is not a URL"),
        ("{\"url\": \"http://a.test/\", \"listener\": \"wbe\"}", "did you mean `web`?"),
    ] {
        let answer = edge.admin_send("POST", "/api/v1/explain", body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.status);
        assert!(answer.text().contains(words), "{body}: {}", answer.text());
    }
    let mut client = RawClient::connect(edge.admin_address()).await;
    let request =
        "POST /api/v1/explain HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let host = edge.admin_address().to_string();
    assert_eq!(client.exchange(request.replace("localhost", &host)).await.status, 401, "for who has the token");
}

async fn ask(edge: &Edge, token: &str, target: &str) -> RawResponse {
    edge.client().await.exchange(format!("GET {target} HTTP/1.1\r\nhost: a.test\r\nx-weir-explain: {token}\r\n\r\n")).await
}

#[tokio::test]
async fn a_request_with_the_token_is_told_why() {
    let (edge, origins) = rich().await;
    let got = ask(&edge, TOKEN, "/v1/x?y").await;
    assert_eq!((got.status, told(&got, "route").as_deref(), told(&got, "upstream").as_deref()), (200, Some("v1"), Some("turns")));
    assert_eq!(told(&got, "filters").as_deref(), Some("request_id,rewrite"));
    assert_eq!(told(&got, "strategy").as_deref(), Some("round_robin"));
    assert_eq!(told(&got, "client").as_deref(), Some("127.0.0.1"));
    let endpoint = told(&got, "endpoint").unwrap();
    assert_eq!(told(&got, "attempts").as_deref(), Some(&*format!("{endpoint} 200")));
    let timing = got.header("server-timing").unwrap();
    for name in
        ["listener-filters;dur=", "route;dur=", "filters;dur=", "queue;dur=", "connect;dur=", "first-byte;dur=", "total;dur="]
    {
        assert!(timing.contains(name), "{timing}");
    }
    let received = origins.iter().flat_map(|origin| origin.requests()).next().expect("it was forwarded");
    assert_eq!(received.headers.get("x-weir-explain"), None, "it goes no further");
    let own = ask(&edge, TOKEN, "/old/y").await;
    assert_eq!((own.status, told(&own, "route").as_deref()), (302, Some("moved")));
    assert_eq!(ask(&edge, TOKEN, "/none").await.header("x-weir-explain").map(|told| told.contains("route=none")), Some(true));
    drop(edge.access_log_of(3).await);
    let log = std::fs::read_to_string(edge.file("access.log")).unwrap();
    assert!(!log.contains(TOKEN), "{log}");
}

#[tokio::test]
async fn everybody_else_is_told_nothing() {
    let (edge, origins) = rich().await;
    for token in ["", "correct", "correct-horse-battery-stapl", "correct-horse-battery-staple2", "[hidden]"] {
        let got = ask(&edge, token, "/v1/x").await;
        assert_eq!((got.status, got.header("x-weir-explain"), got.header("server-timing")), (200, None, None), "{token}");
    }
    let twice = edge
        .client()
        .await
        .exchange(format!("GET /v1/x HTTP/1.1\r\nhost: a.test\r\nx-weir-explain: no\r\nx-weir-explain: {TOKEN}\r\n\r\n"))
        .await;
    assert_eq!(twice.header("x-weir-explain"), None);
    assert!(origins.iter().flat_map(|origin| origin.requests()).all(|request| request.headers.get("x-weir-explain").is_none()));

    // Where no token is configured nobody can know one.
    let origin =
        origin().respond_headers(200, &[("x-weir-explain", "forged"), ("server-timing", "db;dur=1")], "ok").spawn().await;
    let edge = edge_without_token(&origin).await;
    for token in ["", edge.server.admin_token().unwrap().expose()] {
        let got = ask(&edge, token, "/").await;
        assert_eq!((got.header("x-weir-explain"), got.header("server-timing")), (None, Some("db;dur=1")));
    }
}

async fn edge_without_token(origin: &Origin) -> Edge {
    edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await
}
