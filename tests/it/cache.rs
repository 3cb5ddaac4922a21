//! The filter `cache` among the others, under load, and over its life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Gate,
    client::RawClient,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request, sip},
    h2_origin::{H2Answer, H2Received, h2_origin},
    origin::{Answer, Origin, OriginBuilder, origin},
    wire::{RawRequest, RawResponse},
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=600"), ("content-type", "text/plain")];

/// Answers with their number, fresh for long.
fn counting() -> OriginBuilder {
    let count = AtomicUsize::new(0);
    origin().respond_with(move |_| Answer::with_headers(200, FRESH, format!("answer {}", count.fetch_add(1, SeqCst) + 1)))
}

/// An edge with these filters before one origin.
async fn behind(filters: &str, origin: &Origin) -> Edge {
    edge().tls().upstream("app", &[origin.addr()]).route("all", &format!("upstream: app\nfilters: [{filters}]")).start().await
}

fn status(response: &RawResponse) -> &str {
    response.header("cache-status").expect("a cache says what it did")
}

fn is_hit(response: &RawResponse) -> bool {
    status(response).starts_with("weir; hit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_a_time_make_one_request() {
    let gate = Gate::new();
    let answer =
        Answer::nothing().wait(&gate).bytes("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 6\r\n\r\nshared");
    let origin = origin().answer(answer).spawn().await;
    let edge = Arc::new(behind("{cache: {lock_timeout: 1h}}", &origin).await);
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(edge.client().await);
    }
    // Connected before: the time in which a fetch is waited for has an end, and a busy machine takes long to connect so many.
    for client in &mut clients {
        client.send("GET /popular HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    }
    // All are in flight before the origin says a word.
    crate::eventually!(edge.metric("weir_http_requests_in_flight", &[("route", "all")]).await, |count: &Option<f64>| *count
        == Some(1000.0));
    gate.open();
    let mut hits = 0;
    for client in &mut clients {
        let response = client.read_response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "shared"));
        hits += usize::from(is_hit(&response));
    }
    assert_eq!((origin.request_count(), hits), (1, 999));
    let counted = edge.metric("weir_cache_requests_total", &[("route", "all"), ("status", "hit")]).await;
    assert_eq!(counted, Some(999.0));
}

#[tokio::test]
async fn what_cannot_be_stored_makes_nobody_wait() {
    let gate = Gate::new();
    let first = AtomicBool::new(true);
    let held = gate.clone();
    let origin = origin()
        .respond_with(move |_| {
            let answer = Answer::raw("HTTP/1.1 200 OK\r\ncache-control: private\r\ncontent-length: 3\r\n\r\n");
            // The body of the first never comes: whoever waited for it would not be answered.
            if first.swap(false, SeqCst) { answer.wait(&held).bytes("own") } else { answer.bytes("own") }
        })
        .spawn()
        .await;
    let edge = behind("{cache: {lock_timeout: 1h}}", &origin).await;
    let mut leader = edge.client().await;
    leader.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    for _ in 0..5 {
        let response = edge.get("/").await;
        assert_eq!((response.text().as_str(), is_hit(&response)), ("own", false));
    }
    let remembered = edge.get("/").await;
    assert_eq!(status(&remembered), "weir; fwd=bypass; detail=private");
    gate.open();
    assert_eq!(leader.read_response().await.text(), "own");
}

#[tokio::test]
async fn what_is_asked_about_each_time_is_asked_about_at_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let fields: &[_] = &[("cache-control", "no-cache"), ("etag", "\"one\"")];
    let unchanged = "HTTP/1.1 304 Not Modified\r\ncache-control: no-cache\r\netag: \"one\"\r\n\r\n";
    let origin = origin()
        .respond_with(move |request| match request.header("if-none-match") {
            None => Answer::with_headers(200, fields, "body"),
            Some(_) => Answer::nothing().wait(&held).bytes(unchanged),
        })
        .spawn()
        .await;
    let edge = behind("{cache: {lock_timeout: 1h}}", &origin).await;
    assert_eq!(edge.get("/").await.text(), "body");
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = edge.client().await;
        client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        clients.push(client);
    }
    // None of them waits for what another is told.
    crate::eventually!(origin.request_count() == 6);
    gate.open();
    for client in &mut clients {
        let response = client.read_response().await;
        assert_eq!((response.text().as_str(), status(&response)), ("body", "weir; fwd=stale; fwd-status=304; stored"));
    }
}

#[tokio::test]
async fn a_fetch_that_takes_too_long_is_not_waited_for() {
    let gate = Gate::new();
    let (first, held) = (AtomicBool::new(true), gate.clone());
    let origin = origin()
        .respond_with(move |_| match first.swap(false, SeqCst) {
            true => Answer::nothing().wait(&held).bytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow"),
            false => Answer::with_headers(200, FRESH, "fast"),
        })
        .spawn()
        .await;
    let edge = behind("{cache: {lock_timeout: 50ms}}", &origin).await;
    let mut leader = edge.client().await;
    leader.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    assert_eq!(edge.get("/").await.text(), "fast");
    gate.open();
    assert_eq!(leader.read_response().await.text(), "slow");
}

/// An origin whose first answer never comes before the gate opens, and whose others do at once.
async fn second_answers(gate: &Gate) -> Origin {
    let (first, held) = (AtomicBool::new(true), gate.clone());
    let script = move |_: &RawRequest| match first.swap(false, SeqCst) {
        true => Answer::nothing().wait(&held),
        false => Answer::with_headers(200, FRESH, "second"),
    };
    origin().respond_with(script).spawn().await
}

#[tokio::test]
async fn a_leader_that_goes_away_leaves_the_fetch_to_another() {
    let gate = Gate::new();
    let origin = second_answers(&gate).await;
    let edge = behind("{cache: {lock_timeout: 1h}}", &origin).await;
    let mut leader = edge.client().await;
    leader.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    let mut follower = edge.client().await;
    follower.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    drop(leader);
    assert_eq!(follower.read_response().await.text(), "second");
    assert!(is_hit(&edge.get("/").await));
}

#[tokio::test]
async fn a_leader_that_resets_its_stream_does_so_too() {
    let gate = Gate::new();
    let origin = second_answers(&gate).await;
    let edge = behind("{cache: {lock_timeout: 1h}}", &origin).await;
    let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    let leader = client.start(&H2Request::get("localhost", "/")).await.unwrap();
    origin.next_request().await;
    let follower = client.start(&H2Request::get("localhost", "/")).await.unwrap();
    leader.reset(h2::Reason::CANCEL);
    assert_eq!(follower.response().await.unwrap().text(), "second");
    assert_eq!(client.get("localhost", "/").await.text(), "second");
}

#[tokio::test]
async fn a_leader_that_resets_its_stream_amid_the_body_costs_one_more_request() {
    let gate = Gate::new();
    let (first, held) = (AtomicBool::new(true), gate.clone());
    let origin = origin()
        .respond_with(move |_| {
            let half = Answer::raw("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 8\r\n\r\nhalf");
            if first.swap(false, SeqCst) { half.wait(&held) } else { half.bytes("half") }
        })
        .spawn()
        .await;
    let edge = behind("{cache: {lock_timeout: 1h}}", &origin).await;
    let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    let (mut sending, leader) = client.start(&H2Request::get("localhost", "/")).await.unwrap().split();
    let mut body = leader.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    let mut followers = Vec::new();
    for _ in 0..20 {
        followers.push(client.start(&H2Request::get("localhost", "/")).await.unwrap());
    }
    crate::eventually!(edge.metric("weir_http_requests_in_flight", &[("route", "all")]).await, |count: &Option<f64>| *count
        == Some(21.0));
    sending.send_reset(h2::Reason::CANCEL);
    let (mut hits, began) = (0, Instant::now());
    for follower in followers {
        let answer = follower.response().await.unwrap();
        assert_eq!(answer.text(), "halfhalf");
        hits += usize::from(answer.header("cache-status").unwrap().starts_with("weir; hit"));
    }
    assert_eq!((origin.request_count(), hits), (2, 19));
    assert!(began.elapsed() < Duration::from_secs(5), "before the fetch is too old to be waited for");
}

#[tokio::test]
async fn hits_over_http_2_and_1_share_what_is_stored() {
    let origin = counting().spawn().await;
    let edge = behind("{cache: {}}", &origin).await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    let first = h2.get("localhost", "/").await;
    assert_eq!((first.text().as_str(), first.header("cache-status")), ("answer 1", Some("weir; fwd=uri-miss; stored")));
    let second = h2.send(&H2Request::get("localhost", "/")).await.unwrap();
    assert_eq!(second.text(), "answer 1");
    assert!(second.header("cache-status").unwrap().starts_with("weir; hit"));
    let mut h1 = edge.tls_client().await;
    let third = h1.get("localhost", "/").await;
    assert_eq!((third.text().as_str(), is_hit(&third)), ("answer 1", true));
    let mut head = H2Request::get("localhost", "/");
    head.method = http::Method::HEAD;
    let head = h2.send(&head).await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, Some("8"), 0));
    let part = h2.send(&H2Request::get("localhost", "/").header("range", "bytes=0-1")).await.unwrap();
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "an"));
    // Over cleartext it is another URL.
    assert_eq!(edge.client().await.get("localhost", "/").await.text(), "answer 2");
}

/// A fill asks for all of it, whatever the client asked for.
#[tokio::test]
async fn what_is_fetched_for_the_store_does_not_reach_who_asked_for_a_head() {
    let count = AtomicUsize::new(0);
    let origin = origin()
        .respond_with(move |_| {
            let tag = format!("\"{}\"", count.fetch_add(1, SeqCst) + 1);
            // Stale from the start: the endpoint is asked each time, and has another one.
            Answer::with_headers(200, &[("cache-control", "max-age=0"), ("etag", &tag)], "a body")
        })
        .spawn()
        .await;
    let edge = behind("{cache: {}}", &origin).await;
    let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    let known = client.send(&H2Request::get("localhost", "/").header("if-none-match", "\"1\"")).await.unwrap();
    assert_eq!((known.status.as_u16(), known.text().as_str()), (304, ""));
    let mut head = H2Request::get("localhost", "/");
    head.method = http::Method::HEAD;
    let head = client.send(&head).await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.text().as_str()), (200, Some("6"), ""));
    assert!(origin.requests().iter().all(|request| request.method == "GET"), "both were fills");
    let log = edge.access_log_of(2).await;
    assert!(log.iter().all(|line| line["bytes_out"] == 0), "{log:?}");
    assert_eq!(client.get("localhost", "/").await.text(), "a body");
}

#[tokio::test]
async fn who_takes_a_hit_slowly_gets_all_of_it_over_http_2() {
    let origin = origin().answer(Answer::with_headers(200, FRESH, vec![7; 8 << 20])).spawn().await;
    let edge = edge().listener("http: {h2c: true, body_idle_timeout: 1500ms}").upstream("app", &[origin.addr()]);
    let edge = edge.route("all", "upstream: app\nfilters: [{cache: {max_object: 16MiB}}]").start().await;
    let mut client = H2Client::connect(edge.address("web")).await;
    client.get("localhost", "/").await;
    let began = Instant::now();
    let response = client.start(&H2Request::get("localhost", "/")).await.unwrap().head().await.unwrap();
    assert!(response.headers()["cache-status"].to_str().unwrap().starts_with("weir; hit"));
    assert_eq!(sip(&mut response.into_body()).await.unwrap(), 8 << 20);
    assert!(began.elapsed() > Duration::from_millis(1500), "it took longer than a pause may");
}

#[tokio::test]
async fn filters_of_the_response_see_hits_too() {
    let body = "compress me ".repeat(200);
    let long = body.clone();
    let origin = origin().respond_with(move |_| Answer::with_headers(200, FRESH, &long)).spawn().await;
    let filters = "{security_headers: {}}, {cors: {origins: [\"https://app.example\"]}}, \
                   {headers: {response: {set: {x-from: \"{endpoint}\", x-route: \"{route}\"}}}}, {compress: {}}, {cache: {}}";
    let edge = behind(filters, &origin).await;
    let ask = "GET / HTTP/1.1\r\nhost: example.com\r\naccept-encoding: gzip\r\norigin: https://app.example\r\n\r\n";
    for hit in [false, true] {
        let response = edge.client().await.exchange(ask).await;
        assert_eq!(is_hit(&response), hit);
        assert_eq!(response.header("content-encoding"), Some("gzip"));
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!((response.header("x-content-type-options"), response.header("x-route")), (Some("nosniff"), Some("all")));
        assert_eq!(response.header("x-from").is_some(), !hit, "no endpoint has sent a hit");
    }
    // What is stored is what the endpoint sent.
    let plain = edge.get("/").await;
    assert_eq!((is_hit(&plain), plain.header("content-encoding"), plain.text()), (true, None, body));
    assert_eq!(origin.request_count(), 1);
}

#[tokio::test]
async fn pages_of_ones_own_take_the_place_of_errors_that_are_stored() {
    let origin = origin().respond_headers(404, FRESH, "the service's own").spawn().await;
    let builder = edge().upstream("app", &[origin.addr()]).route(
        "all",
        "upstream: app\nfilters: [{error_pages: {intercept: true, pages: [{status: 404, json: page.json}]}}, {cache: {}}]",
    );
    std::fs::write(builder.file("page.json"), "{\"page\": {status}}").unwrap();
    let edge = builder.start().await;
    for hit in [false, true] {
        let ask = "GET / HTTP/1.1\r\nhost: example.com\r\naccept: application/json\r\n\r\n";
        let answer = edge.client().await.exchange(ask).await;
        assert_eq!((answer.status, answer.text().as_str(), is_hit(&answer)), (404, "{\"page\": 404}", hit));
    }
    assert_eq!(origin.request_count(), 1);
}

#[tokio::test]
async fn filters_that_refuse_refuse_hits_too() {
    let origin = origin().respond_headers(200, &[("cache-control", "public, max-age=600")], "paid").spawn().await;
    let filters = "{cache: {}}, {api_key: {keys: {ops: \"0123456789abcdef\"}}}, {rate_limit: {rate: 3/h, burst: 3}}";
    let edge = behind(filters, &origin).await;
    let with = "GET / HTTP/1.1\r\nhost: example.com\r\nx-api-key: 0123456789abcdef\r\n\r\n";
    assert_eq!(edge.client().await.exchange(with).await.status, 200);
    let hit = edge.client().await.exchange(with).await;
    assert_eq!((hit.text().as_str(), is_hit(&hit)), ("paid", true));
    assert_eq!(edge.get("/").await.status, 401);
    assert_eq!(edge.client().await.exchange(with).await.status, 200);
    assert_eq!(edge.client().await.exchange(with).await.status, 429);
}

#[tokio::test]
async fn answers_to_who_was_admitted_by_name_are_theirs() {
    let origin = counting().spawn().await;
    let keys = "{api_key: {keys: {ops: \"0123456789abcdef\", dev: \"fedcba9876543210\"}}}, {cache: {}}";
    let edge = behind(keys, &origin).await;
    for (key, text) in [("0123456789abcdef", "answer 1"), ("fedcba9876543210", "answer 2"), ("0123456789abcdef", "answer 3")] {
        let ask = format!("GET / HTTP/1.1\r\nhost: example.com\r\nx-api-key: {key}\r\n\r\n");
        let answer = edge.client().await.exchange(ask).await;
        assert_eq!((answer.text().as_str(), status(&answer)), (text, "weir; fwd=uri-miss; detail=authorization"));
    }
}

#[tokio::test]
async fn cookies_of_sessions_are_neither_stored_nor_sent_with_hits() {
    let (one, two) = (counting().spawn().await, counting().spawn().await);
    let edge = edge()
        .upstream_with("app", &[one.addr(), two.addr()], "sticky: {}")
        .route("all", "upstream: app\nfilters: [{cache: {}}]")
        .start()
        .await;
    assert!(edge.get("/").await.header("set-cookie").is_some());
    let hit = edge.get("/").await;
    assert_eq!((is_hit(&hit), hit.header("set-cookie")), (true, None));
    assert_eq!(one.request_count() + two.request_count(), 1);
}

#[tokio::test]
async fn bodies_over_the_bound_pass_and_are_not_stored() {
    let large = "x".repeat(100_000);
    let chunked = Answer::raw(format!(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    ));
    for (answer, first) in [
        (Answer::with_headers(200, FRESH, &large), "weir; fwd=uri-miss; detail=too_large"),
        (chunked, "weir; fwd=uri-miss; stored"),
    ] {
        let origin = origin().answer(answer).spawn().await;
        let edge = behind("{cache: {max_object: 64KiB}}", &origin).await;
        let response = edge.get("/").await;
        assert_eq!((response.text().len(), status(&response)), (100_000, first));
        let again = edge.get("/").await;
        assert_eq!((again.text().len(), is_hit(&again)), (100_000, false));
        // It is remembered, so that a part of it is fetched as a part.
        let part = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: example.com\r\nrange: bytes=0-0\r\n\r\n").await;
        assert!(!is_hit(&part));
        assert_eq!(origin.requests()[2].header("range"), Some("bytes=0-0"));
        let taken = edge.metric("weir_cache_bytes", &[("tier", "memory")]).await;
        assert_eq!(taken, Some(0.0));
    }
}

#[tokio::test]
async fn the_bound_holds_over_sockets() {
    let origin = origin().respond_with(|_| Answer::with_headers(200, FRESH, "y".repeat(50_000))).spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "upstream: app\nfilters: [{cache: {}}]")
        .yaml("cache: {memory: 2MiB}")
        .start()
        .await;
    let mut client = edge.client().await;
    for number in 0..200 {
        assert_eq!(client.get("example.com", &format!("/{number}")).await.status, 200);
        if number % 20 == 0 {
            let taken = edge.metric("weir_cache_bytes", &[("tier", "memory")]).await.unwrap();
            assert!(taken <= f64::from(2 << 20), "{taken}");
        }
    }
    let taken = edge.metric("weir_cache_bytes", &[("tier", "memory")]).await.unwrap();
    assert!(taken > 1.5e6 && taken <= f64::from(2 << 20), "{taken}");
    assert_eq!(edge.metric("weir_cache_max_bytes", &[("tier", "memory")]).await, Some(f64::from(2 << 20)));
    assert!(is_hit(&edge.get("/199").await));
}

#[tokio::test]
async fn web_sockets_and_deadlines_store_nothing() {
    let gate = Gate::new();
    let half =
        Answer::raw("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 8\r\n\r\nhalf").wait(&gate).bytes("half");
    let origin = origin().answer(half).respond_headers(200, FRESH, "whole").spawn().await;
    let edge =
        edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\ntimeout: 2s\nfilters: [{cache: {}}]").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    assert!(client.try_read_response().await.is_err(), "cut by the deadline");
    gate.open();
    let whole = edge.get("/").await;
    assert_eq!((whole.text().as_str(), is_hit(&whole)), ("whole", false));
    let tunnel = crate::support::origin::origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = behind("{cache: {ttl: 1h}}", &tunnel).await;
    let upgrade = "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for _ in 0..2 {
        let mut client = edge.client().await;
        client.send(upgrade).await;
        let head = client.read_head().await;
        assert!(head.start.contains("101"), "{}", head.start);
    }
    assert_eq!(tunnel.request_count(), 2);
}

#[tokio::test]
async fn own_errors_are_never_stored_and_retries_go_on_as_before() {
    let dead = crate::support::origin::refused_address().await;
    let gone = edge().upstream("app", &[dead]).route("all", "upstream: app\nfilters: [{cache: {ttl: 1h}}]").start().await;
    for _ in 0..2 {
        let answer = gone.get("/").await;
        assert_eq!((answer.status, answer.header("cache-status")), (502, None));
    }
    assert_eq!(gone.metric("weir_cache_entries", &[]).await, Some(0.0));
    let broken = origin().respond(503, "no").spawn().await;
    let good = counting().spawn().await;
    let edge = edge()
        .upstream("app", &[broken.addr(), good.addr()])
        .route("all", "upstream: app\nretry: {attempts: 2, on: [503]}\nfilters: [{cache: {stale_if_error: 1h}}]")
        .start()
        .await;
    for path in ["/1", "/2", "/3", "/1", "/2", "/3"] {
        assert_eq!(edge.get(path).await.status, 200);
    }
    assert_eq!(good.request_count(), 3);
}

#[tokio::test]
async fn a_stale_answer_is_sent_only_when_no_other_endpoint_has_a_new_one() {
    let down = Arc::new(AtomicBool::new(false));
    let stale = &[("cache-control", "max-age=60, stale-if-error=600"), ("age", "100")];
    let failing = |down: Arc<AtomicBool>| {
        origin().respond_with(
            move |_| if down.load(SeqCst) { Answer::new(503, "no") } else { Answer::with_headers(200, stale, "old") },
        )
    };
    let (one, two) = (failing(down.clone()).spawn().await, failing(down.clone()).spawn().await);
    let edge = edge()
        .upstream("app", &[one.addr(), two.addr()])
        .route("all", "upstream: app\nretry: {attempts: 2, on: [503]}\nfilters: [{cache: {}}]")
        .start()
        .await;
    assert_eq!(edge.get("/").await.text(), "old");
    down.store(true, SeqCst);
    let before = one.request_count() + two.request_count();
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    assert_eq!(status(&answer), "weir; fwd=stale; fwd-status=503; detail=stale_if_error");
    assert_eq!(one.request_count() + two.request_count() - before, 3, "all tries were made");
    let log = edge.access_log_of(2).await;
    assert_eq!(
        (&log[1]["cache"], &log[1]["status"], log[1]["attempts"].as_array().unwrap().len()),
        (&"stale".into(), &200.into(), 3)
    );
}

#[tokio::test]
async fn what_is_stored_survives_reloads_of_all_but_its_route() {
    let origin = counting().spawn().await;
    let builder = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\nfilters: [{cache: {}}]");
    let config = builder.config();
    let edge = builder.start().await;
    edge.get("/").await;
    edge.reload(&format!("{config}\ncache: {{memory: 8MiB}}")).await;
    assert!(is_hit(&edge.get("/").await));
    assert_eq!(edge.metric("weir_cache_max_bytes", &[("tier", "memory")]).await, Some(f64::from(8 << 20)));
    edge.reload(&config.replace("filters: [{cache: {}}]", "filters: []")).await;
    let plain = edge.get("/").await;
    assert_eq!((plain.text().as_str(), plain.header("cache-status")), ("answer 2", None));
    assert_eq!(edge.metric("weir_cache_bytes", &[]).await, None);
    edge.reload(&config).await;
    assert_eq!(edge.get("/").await.text(), "answer 3", "it was given up with its last route");
}

#[tokio::test]
async fn the_api_shows_and_purges() {
    let origin = counting().spawn().await;
    let edge = behind("{cache: {}}", &origin).await;
    for path in ["/a/1", "/a/2?x=1&y=2", "/b", "/b"] {
        edge.get(path).await;
    }
    let contents = edge.admin_get("/api/v1/cache").await.json();
    assert_eq!((&contents["enabled"], &contents["entries"], &contents["stored"]), (&true.into(), &3.into(), &3.into()));
    assert_eq!((&contents["requests"]["miss"], &contents["requests"]["hit"]), (&3.into(), &1.into()));
    assert!(contents["memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(contents["memory_max_bytes"], 256 << 20);
    let purge = async |query: &str| {
        let answer = edge.admin_send("DELETE", &format!("/api/v1/cache{query}"), "").await;
        (answer.status, answer.json()["purged"].as_u64())
    };
    assert_eq!(purge("?url=http://EXAMPLE.com:80/x/../b").await, (200, Some(1)));
    assert_eq!(edge.get("/b").await.text(), "answer 4");
    assert_eq!(purge("?url=http%3A%2F%2Fexample.com%2Fa%2F2%3Fx%3D1%26y%3D2").await, (200, Some(1)));
    assert_eq!(purge("?prefix=http://example.com/a/").await, (200, Some(1)));
    assert_eq!(purge("?prefix=http://example.com/a/").await, (200, Some(0)));
    for wrong in ["?url=/b", "?url=http://a/&prefix=http://a/", "?path=/b", "?url=http://a%20b/"] {
        assert_eq!(purge(wrong).await.0, 400, "{wrong}");
    }
    assert!(is_hit(&edge.get("/b").await), "a mistake purges nothing");
    assert_eq!(purge("").await, (200, Some(1)));
    let address = edge.admin_address();
    let strange = format!("DELETE /api/v1/cache HTTP/1.1\r\nhost: {address}\r\n\r\n");
    assert_eq!(RawClient::connect(address).await.exchange(strange).await.status, 401, "it takes the token");
}

#[tokio::test]
async fn one_update_at_a_time_runs_behind_stale_answers() {
    let gate = Gate::new();
    let (first, held) = (AtomicBool::new(true), gate.clone());
    let origin = origin()
        .respond_with(move |_| match first.swap(false, SeqCst) {
            true => {
                Answer::with_headers(200, &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "100")], "old")
            }
            false => Answer::nothing()
                .wait(&held)
                .bytes("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 3\r\n\r\nnew"),
        })
        .spawn()
        .await;
    let edge = behind("{cache: {}}", &origin).await;
    edge.get("/").await;
    for _ in 0..20 {
        let stale = edge.get("/").await;
        assert_eq!(stale.text(), "old");
        assert!(status(&stale).ends_with("detail=updating"));
    }
    crate::eventually!(origin.request_count(), |count: &usize| *count == 2);
    gate.open();
    crate::eventually!(edge.get("/").await.text(), |text: &String| text == "new");
    assert_eq!(origin.request_count(), 2);
    let log = edge.access_log_of(21).await;
    assert_eq!((&log[0]["cache"], &log[1]["cache"]), (&"miss".into(), &"updating".into()));
    let attempts = edge.metric("weir_upstream_requests_total", &[("upstream", "app"), ("code", "200")]).await;
    assert_eq!(attempts, Some(2.0), "what no client waited for counts at the endpoint");
    assert_eq!(log.iter().filter(|line| line["attempts"].as_array().is_some_and(|tries| !tries.is_empty())).count(), 1);
}

#[tokio::test]
async fn an_edge_stops_while_an_update_hangs() {
    let origin = origin()
        .respond_headers(200, &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "100")], "old")
        .never_answer()
        .spawn()
        .await;
    let edge = behind("{cache: {}}", &origin).await;
    edge.get("/").await;
    assert_eq!(edge.get("/").await.text(), "old");
    crate::eventually!(origin.request_count(), |count: &usize| *count == 2);
    tokio::time::timeout(Duration::from_secs(10), edge.stop()).await.expect("nobody waits for it");
}

#[tokio::test]
async fn endpoints_over_http_2_are_cached_and_validated() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move |request: &H2Received| {
        let number = count.fetch_add(1, SeqCst) + 1;
        match request.header("if-none-match") {
            Some(_) => H2Answer::new(304, "").header("cache-control", "max-age=600").header("etag", "\"1\""),
            None => H2Answer::new(200, format!("answer {number}"))
                .header("cache-control", "max-age=60")
                .header("age", "100")
                .header("etag", "\"1\""),
        }
    };
    let origin = h2_origin().respond_with(answer).spawn().await;
    let edge = edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("all", "upstream: app\nfilters: [{cache: {}}]")
        .start()
        .await;
    let mut client = H2Client::connect(edge.address("web")).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = client.get("example.com", "/").await;
        assert_eq!(answer.text(), "answer 1");
        seen.push(answer.header("cache-status").unwrap().to_owned());
    }
    assert_eq!(seen[0], "weir; fwd=uri-miss; stored");
    assert_eq!(seen[1], "weir; fwd=stale; fwd-status=304; stored");
    assert!(seen[2].starts_with("weir; hit; ttl="), "{}", seen[2]);
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn what_one_client_is_sent_does_not_keep_others_from_the_store() {
    let count = AtomicUsize::new(0);
    let origin = origin()
        .respond_with(move |request| {
            let text = format!("answer {}", count.fetch_add(1, SeqCst) + 1);
            match request.header("authorization") {
                Some(_) => Answer::with_headers(200, &[("cache-control", "private, max-age=60")], text),
                None => Answer::with_headers(200, FRESH, text),
            }
        })
        .spawn()
        .await;
    let edge = behind("{cache: {}}", &origin).await;
    edge.get("/").await;
    let named = "GET / HTTP/1.1\r\nhost: example.com\r\nauthorization: Bearer a\r\n\r\n";
    assert_eq!(edge.client().await.exchange(named).await.text(), "answer 2");
    let other = edge.get("/").await;
    assert_eq!((other.text().as_str(), is_hit(&other)), ("answer 1", true));
}

#[tokio::test]
async fn what_is_on_the_disk_outlives_the_edge() {
    let directory = tempfile::tempdir().unwrap();
    let origin = counting().spawn().await;
    let disk = format!("cache: {{memory: 8MiB, disk: {{path: {:?}, max: 64MiB}}}}", directory.path());
    let start = async || {
        let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\nfilters: [{cache: {}}]").yaml(&disk);
        edge.start().await
    };
    let edge = start().await;
    assert_eq!(edge.get("/").await.text(), "answer 1");
    crate::eventually!(
        edge.admin_get("/api/v1/cache").await.json()["disk"]["entries"].clone(),
        |count: &serde_json::Value| *count == 1
    );
    assert!(edge.metric("weir_cache_bytes", &[("tier", "disk")]).await.unwrap() > 0.0);
    edge.stop().await;
    let edge = start().await;
    crate::eventually!(
        edge.admin_get("/api/v1/cache").await.json()["disk"]["entries"].clone(),
        |count: &serde_json::Value| *count == 1
    );
    let hit = edge.get("/").await;
    assert_eq!((hit.text().as_str(), is_hit(&hit)), ("answer 1", true));
    let part = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: example.com\r\nrange: bytes=0-2\r\n\r\n").await;
    assert_eq!((part.status, part.text().as_str()), (206, "ans"));
    assert_eq!(edge.admin_send("DELETE", "/api/v1/cache?url=http://example.com/", "").await.json()["purged"], 1);
    assert_eq!(edge.get("/").await.text(), "answer 2");
}
