//! What the API answers, resource by resource.

use super::*;
use crate::{
    observe::{Outcome, Tone, Topic, testing::outcome},
    types::Cause,
};

impl Admin {
    async fn read(&self, path: &str) -> Value {
        let answer = self.ask(&format!("GET {path}"), "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/json"), "{path}: {}", answer.head);
        answer.json()
    }
}

#[tokio::test]
async fn the_overview_says_what_is_wrong() {
    let admin = Admin::open().await;
    let overview = admin.read("/api/v1/overview").await;
    // The only endpoint of the only upstream is unhealthy.
    assert_eq!(overview["verdict"]["state"], "down", "{overview}");
    assert_eq!(overview["verdict"]["text"], "pool: none of 1 endpoints is available (127.0.0.1:9001: status 503)");
    assert!(overview["memory_bytes"].as_u64().unwrap() > 0 && overview["cpu_available"].as_u64().unwrap() > 0);
    admin.ready.store(false, Relaxed);
    let overview = admin.read("/api/v1/overview").await;
    assert_eq!(overview["verdict"]["causes"][0]["text"], "the edge takes no new traffic: it drains");
    let causes = overview["verdict"]["causes"].as_array().unwrap();
    assert_eq!((&overview["ready"], causes.len()), (&false.into(), 3));
    let container = (&causes[2]["subject"], causes[2]["text"].as_str());
    assert_eq!(container, (&"container web-1".into(), Some("label weir.route.web.match.path: `//` is no path")));
}

#[tokio::test]
async fn traffic_is_told_of_all_and_of_each() {
    let admin = Admin::open().await;
    let name = |text: &str| Some(text.parse().unwrap());
    for status in [200, 200, 404, 503] {
        admin.observer.finished(&Outcome { route: name("app"), status, ..outcome() });
    }
    let traffic = admin.read("/api/v1/overview").await["traffic"].clone();
    assert!(traffic["requests_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!((traffic["error_share"].as_f64(), traffic["client_error_share"].as_f64()), (Some(0.25), Some(0.25)));
    assert!(traffic["p50_ms"].as_f64().unwrap() > 0.0 && traffic["p99_ms"].as_f64() >= traffic["p50_ms"].as_f64());
    let routes = admin.read("/api/v1/routes").await;
    let [app, canary, ping] = &routes["routes"].as_array().unwrap()[..] else { panic!("{routes}") };
    assert_eq!((&app["requests"], &app["traffic"]["error_share"]), (&4.into(), &0.25.into()));
    assert_eq!((&app["hosts"][0], &app["path"], &app["does"]), (&"app.example".into(), &"<script>".into(), &"upstream".into()));
    assert_eq!(app["listeners"][0]["listener"], "web");
    assert_eq!((&canary["does"], &canary["upstreams"][1]["upstream"]), (&"split".into(), &"spare".into()));
    assert!((canary["upstreams"][1]["share"].as_f64().unwrap() - 0.05).abs() < 1e-9);
    assert_eq!((&ping["does"], &ping["requests"]), (&"respond".into(), &0.into()));
    let listeners = admin.read("/api/v1/listeners").await;
    assert_eq!((&listeners["listeners"][0]["name"], &listeners["listeners"][0]["tls"]), (&"edge".into(), &true.into()));
    assert!(listeners["listeners"][1]["requests_per_second"].as_f64().unwrap() > 0.0, "{listeners}");
}

#[tokio::test]
async fn upstreams_are_read_together_and_alone() {
    let admin = Admin::open().await;
    let all = admin.read("/api/v1/upstreams").await;
    let one = admin.read("/api/v1/upstreams/pool").await;
    // But for the rates, which go on between the two.
    let without_rates = |upstream: &Value| {
        let mut upstream = upstream.clone();
        for part in ["", "/endpoints/0"] {
            upstream.pointer_mut(part).unwrap()["requests_per_second"] = Value::Null;
        }
        upstream
    };
    assert_eq!(without_rates(&all["upstreams"][0]), without_rates(&one));
    assert_eq!((&one["strategy"], &one["alive"], &one["in_flight"]), (&"round_robin".into(), &0.into(), &2.into()));
    let endpoint = &one["endpoints"][0];
    for (key, value) in [("endpoint", Value::from("127.0.0.1:9001")), ("state", "unhealthy".into()), ("ejections", 4.into())] {
        assert_eq!(endpoint[key], value, "{key}");
    }
    assert!(endpoint["requests_per_second"].as_f64().unwrap() > 0.0);
    for name in ["nobody", "%3Cscript%3E", "pool%2F..", "%00"] {
        admin.ask(&format!("GET /api/v1/upstreams/{name}"), "").await.refuses(404, "not_found");
    }
    admin.ask("GET /api/v1/upstreams/%ff", "").await.refuses(400, "bad_request");
}

#[tokio::test]
async fn certificates_have_days_left() {
    let certificates = Admin::open().await.read("/api/v1/certificates").await;
    let [one] = &certificates["certificates"].as_array().unwrap()[..] else { panic!("{certificates}") };
    assert_eq!((&one["listener"], &one["name"]), (&"edge".into(), &"localhost".into()));
    assert!(one["days_left"].as_f64().unwrap() > 1.0 && one["file"].is_null());
}

#[tokio::test]
async fn errors_are_told_with_their_requests() {
    let admin = Admin::open().await;
    let path = "/<script>alert(1)</script>\u{202e}".to_owned();
    admin.observer.finished(&Outcome {
        path: path.as_str().into(),
        status: 502,
        cause: Some(Cause::ConnectionRefused),
        ..outcome()
    });
    let errors = admin.read("/api/v1/errors").await;
    let error = &errors["errors"][0];
    assert_eq!((&error["path"], &error["status"], &error["error"]), (&path.into(), &502.into(), &"connection_refused".into()));
}

/// Reads events from a stream until there is one of this name.
async fn event(stream: &mut TcpStream, read: &mut String, name: &str) -> Value {
    let wanted = format!("event: {name}\ndata: ");
    loop {
        if let Some((_, rest)) = read.split_once(&wanted)
            && let Some((data, rest)) = rest.split_once("\n\n")
        {
            let value = serde_json::from_str(&data.replace("\r\n", "")).unwrap_or_else(|error| panic!("{error}: {data}"));
            *read = rest.to_owned();
            return value;
        }
        let mut bytes = [0; 64 * 1024];
        let length = timeout(LONG, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(length > 0, "the stream ended: {read}");
        read.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
}

impl Admin {
    async fn subscribe(&self, fields: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /api/v1/events HTTP/1.0\r\nHost: {}\r\n{fields}\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

#[tokio::test]
async fn a_subscriber_gets_snapshots_and_each_change() {
    let mut admin = Admin::open().await;
    let timeline = admin.observer.timeline().clone();
    timeline.add(Topic::Configuration, Tone::Good, "before");
    let (mut stream, mut read) = (admin.subscribe("").await, String::new());
    let snapshot = event(&mut stream, &mut read, "snapshot").await;
    assert_eq!(snapshot["upstreams"][0]["name"], "pool");
    assert_eq!(snapshot["overview"]["verdict"]["state"], "down");
    assert_eq!(snapshot["routes"].as_array().unwrap().len(), 3);
    assert_eq!(event(&mut stream, &mut read, "change").await["text"], "before");
    timeline.add_of(&"pool".parse().unwrap(), Tone::Bad, "it\nburns");
    let change = event(&mut stream, &mut read, "change").await;
    assert_eq!((&change["text"], &change["upstream"], &change["tone"]), (&"it\nburns".into(), &"pool".into(), &"bad".into()));
    event(&mut stream, &mut read, "snapshot").await;
    // Who comes again gets what is new.
    let (mut again, mut read) = (admin.subscribe("Last-Event-ID: 1\r\n").await, String::new());
    assert_eq!(event(&mut again, &mut read, "change").await["text"], "it\nburns");
    // And the end of the listener is the end of every stream, at once.
    admin.stop.take();
    timeout(LONG, &mut admin.served).await.unwrap().unwrap();
    timeout(LONG, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

#[tokio::test]
async fn subscribers_are_bounded() {
    let admin = Admin::open().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = admin.subscribe("").await;
        event(&mut stream, &mut String::new(), "snapshot").await;
        streams.push(stream);
    }
    let answer = admin.ask("GET /api/v1/events", "").await;
    answer.refuses(503, "too_many_subscribers");
    assert!(answer.head.contains("retry-after: "));
    drop(streams.pop());
    // The place is free when the server has noticed.
    loop {
        let mut stream = admin.subscribe("").await;
        let mut head = [0; 12];
        timeout(LONG, stream.read_exact(&mut head)).await.unwrap().unwrap();
        if head.ends_with(b"200") {
            return;
        }
    }
}

#[tokio::test]
async fn history_is_kept_without_subscribers() {
    let admin = Admin::open().await;
    let history = admin.read("/api/v1/history").await;
    assert_eq!((&history["interval_seconds"], history["samples"].as_array().map(Vec::len)), (&5.into(), Some(0)));
    loop {
        let history = admin.read("/api/v1/history").await;
        if let Some(sample) = history["samples"].get(0) {
            assert!(sample["memory_bytes"].as_u64().unwrap() > 0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_document_knows_every_page_and_refers_to_nothing_that_is_not_there() {
    let admin = Admin::open().await;
    let document = admin.read("/api/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{upstream}", "pool");
        for method in methods.as_object().unwrap().keys().filter(|method| *method == "get") {
            let status = match &*path {
                // Never ends.
                "/api/v1/events" => 200,
                path => admin.ask(&format!("{} {path}", method.to_uppercase()), "").await.status,
            };
            assert_eq!(status, 200, "{method} {path}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    assert!(text.contains("#/components/schemas/"), "the types were not found");
}
