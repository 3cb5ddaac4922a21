//! The way to endpoints: protocols, TLS, strategies, connections kept and lost, and every timeout of it.

use std::{net::SocketAddr, time::Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{
    Gate,
    certs::ca,
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request},
    h2_origin::h2_origin,
    origin::{Answer, Origin, origin, refused_address},
};

/// An edge whose one route goes to one upstream with these keys.
fn to(endpoints: &[SocketAddr], keys: &str) -> EdgeBuilder {
    edge().upstream_with("app", endpoints, keys).route("all", "upstream: app")
}

/// Origins that answer with `a`, `b`, `c`…
async fn named(count: u8) -> (Vec<Origin>, Vec<SocketAddr>) {
    let mut origins = Vec::new();
    for index in 0..count {
        let name = char::from(b'a' + index).to_string();
        origins.push(origin().respond(200, &name).spawn().await);
    }
    let addresses = origins.iter().map(Origin::addr).collect();
    (origins, addresses)
}

/// Who answered each of so many requests on one connection.
async fn answers(edge: &Edge, count: usize) -> String {
    let mut client = edge.client().await;
    let mut names = String::new();
    for _ in 0..count {
        names += &client.get("example.com", "/").await.text();
    }
    names
}

fn count(names: &str, name: char) -> usize {
    names.chars().filter(|one| *one == name).count()
}

// Protocols and TLS.

#[tokio::test]
async fn http2_in_cleartext_to_the_endpoint() {
    let origin = h2_origin().respond(200, "h2c").spawn().await;
    let edge = to(&[origin.addr()], "connections: {protocol: h2c}").tls().start().await;
    let mut client = edge.client().await;
    for _ in 0..3 {
        let answer = client.exchange("POST /a HTTP/1.1\r\nhost: example.com\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "h2c"));
    }
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.text(), "h2c");
    let received = origin.next_request().await;
    assert_eq!((received.body.as_ref(), received.head.uri.authority().map(|a| a.as_str())), (&b"hi"[..], Some("example.com")));
    assert_eq!(origin.connections(), 1, "requests share a connection");
}

#[tokio::test]
async fn http2_over_tls_to_the_endpoint() {
    let ca = ca();
    let origin = h2_origin().respond(200, "h2").tls(&ca.server(&["app.test"])).spawn().await;
    let keys = format!("connections: {{protocol: h2}}\ntls: {{sni: app.test, ca: {:?}}}", ca.file());
    let edge = to(&[origin.addr()], &keys).start().await;
    assert_eq!(edge.get("/").await.text(), "h2");
}

#[tokio::test]
async fn http2_falls_back_where_the_endpoint_does_not_offer_it() {
    let ca = ca();
    let origin = origin().respond(200, "h1").tls(&ca.server(&["app.test"])).spawn().await;
    let keys = format!("connections: {{protocol: h2}}\ntls: {{sni: app.test, ca: {:?}}}", ca.file());
    let edge = to(&[origin.addr()], &keys).start().await;
    assert_eq!(edge.get("/").await.text(), "h1");
    assert_eq!(origin.next_request().await.version, "HTTP/1.1");
}

#[tokio::test]
async fn an_endpoint_is_verified_by_the_given_authority_and_name() {
    let (ca, stranger) = (ca(), ca());
    let origin = origin().respond(200, "secret").tls(&ca.server(&["app.test", "127.0.0.1"])).spawn().await;
    for (keys, verified) in [
        (format!("tls: {{sni: app.test, ca: {:?}}}", ca.file()), true),
        (format!("tls: {{ca: {:?}}}", ca.file()), true),
        ("tls: {sni: other.test, verify: false}".to_owned(), true),
        (format!("tls: {{sni: other.test, ca: {:?}}}", ca.file()), false),
        (format!("tls: {{sni: app.test, ca: {:?}}}", stranger.file()), false),
        ("tls: {sni: app.test}".to_owned(), false),
    ] {
        let edge = to(&[origin.addr()], &keys).start().await;
        let answer = edge.get("/").await;
        if verified {
            assert_eq!((answer.status, answer.text().as_str()), (200, "secret"), "{keys}");
        } else {
            assert_eq!(answer.status, 502, "{keys}");
            let log = edge.access_log().await;
            assert_eq!(log[0]["end"]["type"], "tls_certificate_error", "{keys}: {}", log[0]);
            assert_eq!(edge.metric("weir_proxy_errors_total", &[("type", "tls_certificate_error")]).await, Some(1.0));
        }
    }
}

#[tokio::test]
async fn an_endpoint_may_ask_for_a_certificate() {
    let (ca, clients) = (ca(), ca());
    let origin = origin().respond(200, "welcome").mutual_tls(&ca.server(&["app.test"]), &clients).spawn().await;
    let identity = clients.client("edge");
    let keys = format!("sni: app.test, ca: {:?}", ca.file());
    let shown = format!("tls: {{{keys}, client_cert: {:?}, client_key: {:?}}}", identity.cert_file, identity.key_file);
    assert_eq!(to(&[origin.addr()], &shown).start().await.get("/").await.text(), "welcome");
    let edge = to(&[origin.addr()], &format!("tls: {{{keys}}}")).start().await;
    assert_eq!(edge.get("/").await.status, 502);
    assert_eq!(origin.request_count(), 1);
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_is_a_502() {
    let origin = origin().spawn().await;
    let edge = to(&[origin.addr()], "tls: {sni: app.test}\nconnections: {connect_timeout: 500ms}").start().await;
    let status = edge.get("/").await.status;
    assert!([502, 504].contains(&status), "{status}");
    assert_eq!(origin.request_count(), 0);
}

// Connections.

#[tokio::test]
async fn requests_in_sequence_share_one_connection() {
    let origin = origin().respond(200, "a").spawn().await;
    let edge = to(&[origin.addr()], "").tls().start().await;
    assert_eq!(answers(&edge, 5).await, "aaaaa");
    assert_eq!(answers(&edge, 5).await, "aaaaa");
    assert_eq!(edge.tls_client().await.get("localhost", "/").await.text(), "a");
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.text(), "a");
    assert_eq!((origin.request_count(), origin.connections()), (12, 1));
}

#[tokio::test]
async fn a_reload_keeps_connections_whose_tls_is_as_it_was() {
    let ca = ca();
    let origin = origin().respond(200, "a").tls(&ca.server(&["app.test", "other.test"])).spawn().await;
    let builder = to(&[origin.addr()], &format!("tls: {{sni: app.test, ca: {:?}}}", ca.file()));
    let config = builder.config();
    let edge = builder.start().await;
    assert_eq!(edge.get("/").await.text(), "a");
    edge.reload(&config).await;
    assert_eq!((edge.get("/").await.text().as_str(), origin.connections()), ("a", 1));
    edge.reload(&config.replace("app.test", "other.test")).await;
    assert_eq!((edge.get("/").await.text().as_str(), origin.connections()), ("a", 2));
}

#[tokio::test]
async fn a_response_head_has_a_bound() {
    for (length, status) in [(200 << 10, 200), (300 << 10, 502)] {
        let head = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: 1\r\n\r\na", "x".repeat(length));
        let origin = origin().answer(Answer::raw(head)).spawn().await;
        let edge = to(&[origin.addr()], "").start().await;
        assert_eq!(edge.get("/").await.status, status, "{length} bytes");
    }
}

#[tokio::test]
async fn an_unused_connection_is_kept_for_its_idle_timeout() {
    let origin = origin().respond(200, "a").spawn().await;
    let edge = to(&[origin.addr()], "connections: {idle_timeout: 100ms}").start().await;
    assert_eq!(edge.get("/").await.text(), "a");
    crate::eventually!(origin.open_connections() == 0);
    assert_eq!(edge.get("/").await.text(), "a");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_pooled_connection_that_died_costs_no_request() {
    let dying = Answer::new(200, "a").close();
    let origin = origin().answer(dying).spawn().await;
    let edge = to(&[origin.addr()], "").start().await;
    assert_eq!(answers(&edge, 4).await, "aaaa");
    assert_eq!(origin.request_count(), 4);
}

#[tokio::test]
async fn a_failed_connect_is_tried_once_on_another_endpoint() {
    let (origins, addresses) = named(1).await;
    let edge = to(&[refused_address().await, addresses[0]], "").start().await;
    let mut client = edge.client().await;
    for _ in 0..4 {
        // Nothing was sent when a connect fails, so it may be tried again whatever the method.
        let answer = client.exchange("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(answer.text(), "a");
    }
    assert!(origins[0].requests().iter().all(|request| request.text() == "hi"));
    let log = edge.access_log_of(4).await;
    let retried: Vec<_> = log.iter().filter(|line| line["attempts"].as_array().is_some_and(|tries| tries.len() == 2)).collect();
    assert!(!retried.is_empty());
    assert!(retried.iter().all(|line| line["attempts"][0]["outcome"] == "connection_refused" && line["status"] == 200));
    let retries = edge.metric("weir_retries_total", &[("upstream", "app"), ("reason", "connection_refused")]).await;
    assert_eq!(retries, Some(retried.len() as f64));
}

#[tokio::test]
async fn when_all_refuse_it_is_a_502_after_two() {
    let addresses = [refused_address().await, refused_address().await, refused_address().await];
    let edge = to(&addresses, "").start().await;
    assert_eq!(edge.get("/").await.status, 502);
    let log = edge.access_log().await;
    assert_eq!(log[0]["attempts"].as_array().map(Vec::len), Some(2), "{}", log[0]);
    assert_eq!(log[0]["end"]["type"], "connection_refused");
}

#[tokio::test]
async fn a_failure_tells_a_client_that_is_still_sending() {
    let edge = to(&[refused_address().await], "").start().await;
    let mut client = edge.client().await;
    let size = 4 << 20;
    client.send(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n")).await;
    let answer = client.exchange(vec![b'x'; size]).await;
    assert_eq!((answer.status, answer.header("connection")), (502, Some("close")));
    assert!(client.is_closed().await);
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn an_upgrade_that_fails_is_over_at_once() {
    let edge = to(&[refused_address().await], "").start().await;
    let mut client = edge.client().await;
    let began = Instant::now();
    assert_eq!(client.exchange(UPGRADE).await.status, 502);
    assert!(client.is_closed().await);
    assert!(began.elapsed().as_secs() < 4, "nothing is waited for: {:?}", began.elapsed());
}

#[tokio::test]
async fn an_upgrade_that_is_answered_without_one_leaves_an_ordinary_connection() {
    let origin = origin().respond(200, "plain").spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "upstream: app")
        .route("fixed", "match: {path: /ws}\nrespond: {status: 404}")
        .route("off", "match: {path: /off}\nupstream: app\nwebsocket: false")
        .start()
        .await;
    let began = Instant::now();
    for (path, status) in [("/ws", 404), ("/off", 403), ("/other", 200)] {
        let mut client = edge.client().await;
        let answer = client.exchange(UPGRADE.replace("/ws", path)).await;
        assert_eq!(answer.status, status, "{path}");
        if answer.header("connection") != Some("close") {
            assert_eq!(client.get("x", "/").await.text(), "plain", "{path} left a connection that goes on");
        } else {
            assert!(client.is_closed().await);
        }
    }
    assert!(began.elapsed().as_secs() < 4, "nothing is waited for: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_handshake_is_part_of_the_connect() {
    let origin = origin().accept_then_hold().spawn().await;
    let edge = to(&[origin.addr()], "connections: {connect_timeout: 200ms}\ntls: {sni: app.test}").start().await;
    assert_eq!(edge.get("/").await.status, 504);
    assert_eq!(edge.access_log().await[0]["end"]["type"], "connection_timeout");
}

#[tokio::test]
async fn a_request_body_streams_as_it_comes() {
    let origin = origin().respond(200, "taken").spawn().await;
    let edge = to(&[origin.addr()], "").start().await;
    let mut client = edge.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfirst").await;
    // The endpoint has a connection, and so the request's beginning, while the client still has half of the body.
    crate::eventually!(origin.connections() == 1);
    assert_eq!(client.exchange("other").await.text(), "taken");
    assert_eq!(origin.next_request().await.text(), "firstother");
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_is_a_502_and_never_disguised() {
    let edge_to = async |origin: &Origin| to(&[origin.addr()], "").start().await;
    let early = origin().reset_after(0).spawn().await;
    assert_eq!(edge_to(&early).await.get("/").await.status, 502);
    let half = origin().half_header().spawn().await;
    assert_eq!(edge_to(&half).await.get("/").await.status, 502);
    let late = origin().reset_after(1000).spawn().await;
    let edge = edge_to(&late).await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.try_read_response().await.is_err(), "the response ends before its length says so");
    let log = edge.access_log().await;
    assert_eq!((&log[0]["status"], &log[0]["end"]["type"]), (&200.into(), &"http_response_incomplete".into()), "{}", log[0]);
}

// Timeouts.

/// An address that takes no connection and refuses none: its backlog is full.
pub fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("an address");
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        waiting.set_nonblocking(true).expect("nonblocking");
        // The first fills the backlog, the others stay under way.
        let _ = waiting.connect(&address);
        sockets.push(waiting);
    }
    (address.as_socket().expect("IP"), sockets)
}

#[tokio::test]
async fn a_connect_takes_no_longer_than_its_timeout() {
    let (hole, _sockets) = black_hole();
    let edge = to(&[hole], "connections: {connect_timeout: 200ms}").start().await;
    let began = Instant::now();
    let answer = edge.get("/").await;
    assert_eq!(answer.status, 504);
    assert!(began.elapsed().as_millis() >= 200);
    let log = edge.access_log().await;
    assert_eq!(log[0]["end"]["type"], "connection_timeout", "{}", log[0]);
}

#[tokio::test]
async fn a_connect_that_timed_out_is_tried_on_another_endpoint() {
    let (hole, _sockets) = black_hole();
    let (_origins, addresses) = named(1).await;
    let edge = to(&[hole, addresses[0]], "connections: {connect_timeout: 100ms}").start().await;
    assert_eq!(answers(&edge, 3).await, "aaa");
}

#[tokio::test]
async fn a_response_header_takes_no_longer_than_the_response_timeout() {
    let origin = origin().never_answer().spawn().await;
    let edge = to(&[origin.addr()], "connections: {response_timeout: 200ms}").start().await;
    let mut client = edge.client().await;
    assert_eq!(client.get("x", "/").await.status, 504);
    let log = edge.access_log().await;
    assert_eq!(log[0]["end"]["type"], "http_response_timeout", "{}", log[0]);
    // Not tried elsewhere: the endpoint may be at work on it.
    assert_eq!(origin.request_count(), 1);
    crate::eventually!(origin.open_connections() <= 1);
}

#[tokio::test]
async fn a_response_that_stalls_is_cut() {
    let stalling = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").hold();
    let origin = origin().answer(stalling).spawn().await;
    let edge = to(&[origin.addr()], "").listener("http: {body_idle_timeout: 200ms}").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.try_read_response().await.is_err());
    let log = edge.access_log().await;
    assert_eq!((&log[0]["status"], &log[0]["end"]["type"]), (&200.into(), &"connection_read_timeout".into()), "{}", log[0]);
}

#[tokio::test]
async fn a_route_bounds_the_exchange_unless_its_timeout_is_zero() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("bounded", "match: {path: /bounded}\nupstream: app\ntimeout: 200ms")
        .route("free", "upstream: app\ntimeout: 0s")
        .tls()
        .start()
        .await;
    let mut patient = edge.client().await;
    patient.send("GET /free HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.next_request().await;
    assert_eq!(edge.get("/bounded").await.status, 504);
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/bounded").await.status, 504);
    assert!(patient.is_open_now());
    gate.open();
    assert_eq!(patient.read_response().await.text(), "late");
}

#[tokio::test]
async fn a_route_cuts_a_response_that_takes_too_long() {
    let gate = Gate::new();
    let answer = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").wait(&gate).bytes("half");
    let origin = origin().answer(answer).spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\ntimeout: 200ms").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.try_read_response().await.is_err());
    gate.open();
}

#[tokio::test]
async fn a_stream_flows_as_it_comes() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = Answer::raw(head).bytes("5\r\nfirst\r\n").wait(&gate).bytes("6\r\nsecond\r\n0\r\n\r\n");
    let origin = origin().answer(answer).spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\ntimeout: 0s").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.read_head().await;
    // The first event is here while the origin still waits.
    assert_eq!(client.read_bytes(10).await, b"5\r\nfirst\r\n");
    gate.open();
    assert_eq!(client.read_bytes(16).await, b"6\r\nsecond\r\n0\r\n\r\n");
}

// Strategies.

#[tokio::test]
async fn round_robin_goes_in_turn() {
    let (_origins, addresses) = named(3).await;
    let edge = to(&addresses, "").start().await;
    let names = answers(&edge, 9).await;
    assert_eq!(names[..3].chars().collect::<std::collections::BTreeSet<_>>().len(), 3, "{names}");
    assert_eq!((&names[..3], &names[3..6]), (&names[3..6], &names[6..]));
}

#[tokio::test]
async fn round_robin_spreads_smoothly_by_weight() {
    let (_origins, addresses) = named(2).await;
    let (light, heavy) = (addresses[0], addresses[1]);
    let builder = to(&[light, heavy], "strategy: weighted_round_robin");
    let config = builder.config().replace(&format!("{:?}]", heavy.to_string()), &format!("{{address: \"{heavy}\", weight: 3}}]"));
    let edge = builder.start_as(&config).await;
    let names = answers(&edge, 12).await;
    assert_eq!((count(&names, 'a'), count(&names, 'b')), (3, 9), "{names}");
    assert!(!names.contains("aa") && !names.contains("bbbb"), "smoothly: {names}");
}

#[tokio::test]
async fn every_strategy_serves_and_uses_every_endpoint() {
    for strategy in ["random", "least_connections", "least_response_time", "power_of_two", "peak_ewma"] {
        let (_origins, addresses) = named(3).await;
        let edge = to(&addresses, &format!("strategy: {strategy}")).start().await;
        // The chance that random misses one of three in 60 requests is 3 × (2/3)^60, or one in 10^10.
        let names = answers(&edge, 60).await;
        assert_eq!(names.len(), 60, "{strategy}");
        if strategy != "least_response_time" && strategy != "peak_ewma" {
            assert!(['a', 'b', 'c'].iter().all(|name| names.contains(*name)), "{strategy}: {names}");
        }
    }
}

#[tokio::test]
async fn least_connections_avoids_the_busy() {
    let gate = Gate::new();
    let mut origins = Vec::new();
    for name in ["a", "b"] {
        let gate = gate.clone();
        let script = move |request: &crate::support::wire::RawRequest| match request.target.as_str() {
            "/hold" => Answer::nothing().wait(&gate).bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{name}")),
            _ => Answer::new(200, name),
        };
        origins.push(origin().respond_with(script).spawn().await);
    }
    let edge = to(&[origins[0].addr(), origins[1].addr()], "strategy: least_connections").start().await;
    let mut held = edge.client().await;
    held.send("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::eventually!(origins.iter().map(Origin::request_count).sum::<usize>() == 1);
    let free = if origins[0].request_count() == 1 { "b" } else { "a" };
    assert_eq!(answers(&edge, 6).await, free.repeat(6));
    gate.open();
    held.read_response().await;
    assert_eq!(answers(&edge, 6).await.replace(free, "").len(), 3, "in turn again");
}

#[tokio::test]
async fn ip_hash_keeps_a_client_on_its_endpoint() {
    let (_origins, addresses) = named(3).await;
    let edge = to(&addresses, "strategy: ip_hash").start().await;
    let mut used = String::new();
    for client in 1..=40 {
        let client = format!("127.0.0.{client}");
        let mut first = RawClient::connect_from(&client, edge.address("web")).await;
        let name = first.get("x", "/").await.text();
        let mut second = RawClient::connect_from(&client, edge.address("web")).await;
        assert_eq!((first.get("x", "/a").await.text(), second.get("y", "/b").await.text()), (name.clone(), name.clone()));
        used += &name;
    }
    assert!(['a', 'b', 'c'].iter().all(|name| used.contains(*name)), "{used}");
}

#[tokio::test]
async fn hashing_goes_by_its_key() {
    for strategy in ["consistent_hash: {key: 'header:x-user'}", "maglev: {key: 'query:user', table_size: 251}"] {
        let (_origins, addresses) = named(3).await;
        let edge = to(&addresses, &format!("strategy: {{{strategy}}}")).start().await;
        let mut client = edge.client().await;
        let mut used = String::new();
        for user in 0..40 {
            let request = format!("GET /?user={user} HTTP/1.1\r\nhost: x\r\nx-user: {user}\r\n\r\n");
            let name = client.exchange(&request).await.text();
            assert_eq!(client.exchange(&request).await.text(), name, "{strategy}");
            used += &name;
        }
        assert!(['a', 'b', 'c'].iter().all(|name| used.contains(*name)), "{strategy}: {used}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_endpoint() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = to(&[origin.addr()], "").tls().start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.next_request().await;
    let in_flight = "weir_upstream_requests_in_flight";
    crate::eventually!(edge.metric(in_flight, &[("upstream", "app")]).await, |count| *count == Some(1.0));
    client.reset();
    crate::eventually!(edge.metric(in_flight, &[("upstream", "app")]).await == Some(0.0));
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    let stream = h2.start(&H2Request::get("localhost", "/")).await.expect("a stream");
    origin.next_request().await;
    stream.reset(h2::Reason::CANCEL);
    crate::eventually!(edge.metric(in_flight, &[("upstream", "app")]).await == Some(0.0));
    gate.open();
}
