//! Who is charged with a failure: what a client does never counts against an endpoint, and an attempt that was given up is told.

use std::{net::SocketAddr, time::Duration};

use h2::Reason;
use serde_json::{Value, json};

use crate::support::{
    Gate,
    certs::{Ca, ca},
    edge::{Edge, edge},
    h2_client::{Exchange, H2Client, H2Request},
    h2_origin::{H2Answer, H2Origin, h2_origin},
    origin::{Answer, Origin, origin},
};

/// What endpoints speak.
const ENDPOINTS: [&str; 4] = ["h1", "h1 over TLS", "h2c", "h2 over TLS"];

enum Endpoint {
    H1(Origin),
    H2(H2Origin),
}

impl Endpoint {
    /// One that answers a whole request once the gate lets it pass.
    async fn waiting(kind: &str, ca: &Ca, gate: &Gate) -> Self {
        let identity = ca.server(&["app.test"]);
        match kind {
            "h1" => Self::H1(origin().slow(gate, "done").spawn().await),
            "h1 over TLS" => Self::H1(origin().slow(gate, "done").tls(&identity).spawn().await),
            kind => {
                let gate = gate.clone();
                let origin = h2_origin().respond_with(move |_| H2Answer::new(200, "done").wait(&gate));
                let origin = if kind == "h2c" { origin } else { origin.tls(&identity) };
                Self::H2(origin.spawn().await)
            }
        }
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::H1(origin) => origin.addr(),
            Self::H2(origin) => origin.addr(),
        }
    }

    async fn next_request(&self) {
        match self {
            Self::H1(origin) => drop(origin.next_request().await),
            Self::H2(origin) => drop(origin.next_request().await),
        }
    }
}

/// An edge before this endpoint.
async fn before(kind: &str, endpoint: SocketAddr, ca: &Ca, http: &str, route: &str) -> Edge {
    let mut keys = String::new();
    if kind.ends_with("TLS") {
        keys += &format!("\ntls: {{sni: app.test, ca: {:?}}}", ca.file());
    }
    match kind {
        "h2c" => keys += "\nconnections: {protocol: h2c}",
        "h2 over TLS" => keys += "\nconnections: {protocol: h2}",
        _ => {}
    }
    let http = format!("http: {{h2c: true{http}}}");
    let edge = edge().listener(&http).upstream_with("app", &[endpoint], &keys);
    edge.route("app", &format!("upstream: app\n{route}")).start().await
}

/// The line of the one request, which ended like this, and whose one attempt on this endpoint came to this.
async fn ended(edge: &Edge, endpoint: SocketAddr, end: (&str, &str, &str), outcome: Value, stage: &str) {
    let line = edge.access_log().await.remove(0);
    let (who, word, reason) = end;
    assert_eq!((&line["end"]["who"], &line["end"]["type"]), (&json!(who), &json!(word)), "{line}");
    assert_eq!(line["end"]["reason"].as_str().unwrap_or_default(), reason, "{line}");
    assert_eq!(line["endpoint"], endpoint.to_string(), "{line}");
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["outcome"], &attempts[0]["stage"]), (1, &outcome, &json!(stage)), "{line}");
    assert!(attempts[0]["ms"].as_f64().unwrap() > 0.0, "{line}");
    let code = outcome.as_str().map_or_else(|| outcome.to_string(), str::to_owned);
    let labels = [("endpoint", &*endpoint.to_string()), ("code", &*code)];
    assert_eq!(edge.metric("weir_upstream_requests_total", &labels).await, Some(1.0), "{code}");
}

/// Nothing is held against the endpoint.
async fn is_innocent(edge: &Edge) {
    let stats = edge.admin_get("/stats").await.json();
    let endpoint = &stats["upstreams"][0]["endpoints"][0];
    assert_eq!((&endpoint["state"], &endpoint["errors"]), (&json!("healthy"), &json!(0)), "{endpoint}");
}

const GONE: (&str, &str, &str) = ("client", "connection_terminated", "client_gone");
const TIMEOUT: (&str, &str, &str) = ("weir", "http_response_timeout", "timeout");

fn put(length: usize) -> String {
    format!("PUT /up HTTP/1.1\r\nhost: example.com\r\ncontent-length: {length}\r\n\r\n")
}

/// A PUT over HTTP/2 whose body has begun.
async fn put_h2(edge: &Edge) -> (H2Client, Exchange) {
    let mut client = H2Client::connect(edge.address("web")).await;
    let request = H2Request { method: http::Method::PUT, ..H2Request::get("example.com", "/up") };
    let mut exchange = client.open(&request).await.unwrap();
    exchange.send("begun", false);
    (client, exchange)
}

#[tokio::test]
async fn rfc9110_15_5_9_while_the_request_is_not_whole_an_endpoint_owes_no_answer() {
    for kind in ENDPOINTS {
        let (ca, gate) = (ca(), Gate::new());
        let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
        let edge = before(kind, endpoint.addr(), &ca, "", "timeout: 300ms").await;
        let mut client = edge.client().await;
        client.send(put(4_000_000)).await;
        let mut clock = tokio::time::interval(Duration::from_millis(40));
        for _ in 0..15 {
            clock.tick().await;
            let _ = client.try_send([b'x'; 1000]).await;
        }
        assert_eq!(client.read_response().await.status, 504, "{kind}");
        // What it might still send is waited for.
        drop(client);
        ended(&edge, endpoint.addr(), TIMEOUT, json!("abandoned"), "sending").await;
        is_innocent(&edge).await;
    }
}

#[tokio::test]
async fn rfc9110_15_5_9_nor_to_a_client_of_http2() {
    for kind in ENDPOINTS {
        let (ca, gate) = (ca(), Gate::new());
        let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
        let edge = before(kind, endpoint.addr(), &ca, "", "timeout: 300ms").await;
        let (_client, exchange) = put_h2(&edge).await;
        let (mut sending, response) = exchange.split();
        let feeding = async {
            let mut clock = tokio::time::interval(Duration::from_millis(40));
            while sending.send_data("x".into(), false).is_ok() {
                clock.tick().await;
            }
        };
        tokio::select! {
            answer = response => assert_eq!(answer.unwrap().status(), 504, "{kind}"),
            () = feeding => {}
        }
        ended(&edge, endpoint.addr(), TIMEOUT, json!("abandoned"), "sending").await;
        is_innocent(&edge).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_leaves_an_attempt_in_the_log() {
    for kind in ENDPOINTS {
        for way in ["close", "reset", "half-close", "h2 reset"] {
            let (ca, gate) = (ca(), Gate::new());
            let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
            let edge = before(kind, endpoint.addr(), &ca, "", "").await;
            let connected = async || edge.metric("weir_upstream_requests_in_flight", &[]).await == Some(1.0);
            if way == "h2 reset" {
                let (_client, exchange) = put_h2(&edge).await;
                eventually!(connected().await);
                // The head goes on when the connection is there.
                tokio::task::yield_now().await;
                exchange.reset(Reason::CANCEL);
                ended_by_leaving(&edge, endpoint.addr()).await;
                continue;
            }
            let mut client = edge.client().await;
            client.send(put(1000) + "begun").await;
            eventually!(connected().await);
            match way {
                "close" => drop(client),
                "reset" => client.reset(),
                _ => client.half_close().await,
            }
            ended_by_leaving(&edge, endpoint.addr()).await;
        }
    }
}

/// A client left while it sent, or while the connection for that was opened, which a test cannot see.
async fn ended_by_leaving(edge: &Edge, endpoint: SocketAddr) {
    ended(edge, endpoint, GONE, json!("abandoned"), "sending").await;
    is_innocent(edge).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_leaves_an_attempt_in_the_log() {
    for kind in ENDPOINTS {
        for way in ["close", "reset", "half-close", "h2 reset"] {
            let (ca, gate) = (ca(), Gate::new());
            let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
            let edge = before(kind, endpoint.addr(), &ca, "", "").await;
            if way == "h2 reset" {
                let mut client = H2Client::connect(edge.address("web")).await;
                let exchange = client.start(&H2Request::get("example.com", "/")).await.unwrap();
                endpoint.next_request().await;
                exchange.reset(Reason::CANCEL);
                ended(&edge, endpoint.addr(), GONE, json!("abandoned"), "waiting").await;
                is_innocent(&edge).await;
                continue;
            }
            let mut client = edge.client().await;
            client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
            endpoint.next_request().await;
            match way {
                "close" => drop(client),
                "reset" => client.reset(),
                _ => client.half_close().await,
            }
            ended(&edge, endpoint.addr(), GONE, json!("abandoned"), "waiting").await;
            is_innocent(&edge).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_response_is_told_with_its_status_and_stage() {
    for h2 in [false, true] {
        let gate = Gate::new();
        let half = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").wait(&gate);
        let origin = origin().answer(half).spawn().await;
        let edge = before("h1", origin.addr(), &ca(), "", "").await;
        if h2 {
            let mut client = H2Client::connect(edge.address("web")).await;
            let exchange = client.start(&H2Request::get("example.com", "/")).await.unwrap();
            let (mut sending, response) = exchange.split();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "hello");
            sending.send_reset(Reason::CANCEL);
            ended(&edge, origin.addr(), GONE, json!(200), "receiving").await;
        } else {
            let mut client = edge.client().await;
            client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
            client.read_head().await;
            client.reset();
            ended(&edge, origin.addr(), GONE, json!(200), "receiving").await;
        }
        is_innocent(&edge).await;
    }
}

#[tokio::test]
async fn bodies_that_are_silent_or_malformed_are_the_clients() {
    let chunked = "PUT /up HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
    for kind in ENDPOINTS {
        for (more, status, reason) in [("", 408, "body_timeout"), ("no size\r\n", 400, "bad_chunk")] {
            let (ca, gate) = (ca(), Gate::new());
            let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
            let edge = before(kind, endpoint.addr(), &ca, ", body_idle_timeout: 300ms", "").await;
            let mut client = edge.client().await;
            client.send(chunked).await;
            eventually!(edge.metric("weir_upstream_requests_in_flight", &[]).await == Some(1.0));
            if !more.is_empty() {
                client.send(more).await;
            }
            assert_eq!(client.read_response().await.status, status, "{kind}");
            ended(&edge, endpoint.addr(), ("client", "http_request_error", reason), json!("abandoned"), "sending").await;
            is_innocent(&edge).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_disconnected_and_named() {
    let body = "x".repeat(32 << 20);
    let origin = origin().respond(200, &body).spawn().await;
    let edge = before("h1", origin.addr(), &ca(), ", body_idle_timeout: 300ms", "").await;
    let mut client = edge.client().await;
    client.small_receive_buffer(64 * 1024);
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    let end = ("client", "connection_write_timeout", "client_not_reading");
    ended(&edge, origin.addr(), end, json!(200), "receiving").await;
    is_innocent(&edge).await;
}

#[tokio::test]
async fn a_slow_upload_does_not_make_an_endpoint_look_slow() {
    for kind in ENDPOINTS {
        let (ca, gate) = (ca(), Gate::new());
        gate.open();
        let endpoint = Endpoint::waiting(kind, &ca, &gate).await;
        let edge = before(kind, endpoint.addr(), &ca, "", "").await;
        let mut client = edge.client().await;
        client.send(put(6)).await;
        let mut clock = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..6 {
            clock.tick().await;
            client.send("x").await;
        }
        assert_eq!(client.read_response().await.text(), "done", "{kind}");
        let stats = edge.admin_get("/stats").await.json();
        let average = stats["upstreams"][0]["endpoints"][0]["average_ms"].as_f64().unwrap();
        assert!(average > 0.0 && average < 400.0, "{kind}: {average} ms");
    }
}

#[tokio::test]
async fn the_routes_timeout_counts_where_its_time_was_the_endpoints() {
    let silent = origin().never_answer().spawn().await;
    let edge = before("h1", silent.addr(), &ca(), "", "timeout: 300ms").await;
    assert_eq!(edge.get("/").await.status, 504);
    let line = edge.access_log().await.remove(0);
    assert_eq!(line["end"], json!({"who": "weir", "phase": "request", "type": "http_response_timeout", "reason": "timeout"}));
    assert_eq!(line["attempts"][0]["outcome"], "http_response_timeout", "{line}");
    let stats = edge.admin_get("/stats").await.json();
    assert_eq!(stats["upstreams"][0]["endpoints"][0]["errors"], 1, "{stats}");

    // All but a little of it was the client's.
    let edge = before("h1", silent.addr(), &ca(), "", "timeout: 500ms").await;
    let mut client = edge.client().await;
    client.send(put(1)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.send("x").await;
    assert_eq!(client.read_response().await.status, 504);
    ended(&edge, silent.addr(), TIMEOUT, json!("abandoned"), "waiting").await;
    is_innocent(&edge).await;
}

#[tokio::test]
async fn silence_of_both_sides_is_nobodys_failure() {
    let half = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").hold();
    let early = origin().answer(half).ignoring_bodies().spawn().await;
    for h2 in [false, true] {
        let edge = before("h1", early.addr(), &ca(), ", body_idle_timeout: 300ms", "").await;
        let end = ("weir", "connection_read_timeout", "idle");
        if h2 {
            let (_client, exchange) = put_h2(&edge).await;
            let (_sending, response) = exchange.split();
            let _body = response.await.unwrap().into_body();
            ended(&edge, early.addr(), end, json!(200), "receiving").await;
        } else {
            let mut client = edge.client().await;
            client.send(put(1000) + "begun").await;
            client.read_head().await;
            ended(&edge, early.addr(), end, json!(200), "receiving").await;
        }
        is_innocent(&edge).await;
    }
}

#[tokio::test]
async fn a_drain_that_cuts_tells_the_attempt() {
    let silent = origin().never_answer().spawn().await;
    let edge = before("h1", silent.addr(), &ca(), "", "").await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    silent.next_request().await;
    let log = edge.file("access.log");
    assert!(!edge.server.stop_within(Duration::from_millis(100)).await, "it is cut");
    let line: Value = serde_json::from_str(std::fs::read_to_string(log).unwrap().trim()).unwrap();
    assert_eq!((&line["end"]["who"], &line["end"]["reason"]), (&json!("weir"), &json!("shutdown_grace")), "{line}");
    assert_eq!((&line["attempts"][0]["outcome"], &line["attempts"][0]["stage"]), (&json!("abandoned"), &json!("waiting")));
}
