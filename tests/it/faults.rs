//! What clients see when endpoints fail: a correct response or a typed error, in time, and never one glued from two.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Gate,
    edge::{Edge, edge},
    origin::{Answer, Origin, OriginBuilder, origin, refused_address},
};
use crate::upstreams::black_hole;

/// An edge before these endpoints, whose only route has these keys.
async fn edge_before(endpoints: &[std::net::SocketAddr], route: &str) -> Edge {
    edge().upstream("app", endpoints).route("all", &format!("upstream: app\n{route}")).start().await
}

/// One endpoint that fails like this beside one that answers `good`, and as many requests as it takes to meet both.
async fn beside_a_good_one(bad: OriginBuilder, route: &str, request: &str) -> (Vec<(u16, String)>, Origin, Origin) {
    let (bad, good) = (bad.spawn().await, origin().respond(200, "good").spawn().await);
    let edge = edge_before(&[bad.addr(), good.addr()], route).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = edge.client().await.exchange(request).await;
        answers.push((answer.status, answer.text()));
    }
    (answers, bad, good)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 2\r\n\r\nhi";
const RETRY: &str = "retry: {}";

fn statuses(answers: &[(u16, String)]) -> Vec<u16> {
    answers.iter().map(|(status, _)| *status).collect()
}

/// The words of a line of the access log: status, type, and the outcome of each attempt.
fn told(line: &Value) -> (u64, String, Vec<String>) {
    let attempts = line["attempts"]
        .as_array()
        .map(|attempts| attempts.iter().map(|attempt| attempt["outcome"].to_string().trim_matches('"').to_owned()).collect());
    (line["status"].as_u64().unwrap(), line["end"]["type"].as_str().unwrap_or_default().to_owned(), attempts.unwrap_or_default())
}

#[tokio::test]
async fn a_status_is_retried_elsewhere_and_only_where_asked() {
    for status in [502, 503, 504] {
        let (answers, bad, good) = beside_a_good_one(origin().respond(status, "bad"), RETRY, GET).await;
        assert_eq!(statuses(&answers), [200; 4], "{status}");
        assert!(bad.request_count() >= 2 && good.request_count() == 4);
    }
    for (route, status) in [("", 503), (RETRY, 500), ("retry: {on: [connect]}", 503), ("retry: {attempts: 0}", 503)] {
        let (answers, bad, good) = beside_a_good_one(origin().respond(status, "bad"), route, GET).await;
        let mut seen = statuses(&answers);
        seen.sort_unstable();
        assert_eq!(seen, [200, 200, status, status], "{route}");
        assert_eq!((bad.request_count(), good.request_count()), (2, 2));
    }
}

#[tokio::test]
async fn the_last_try_speaks_for_itself() {
    let origins = [origin().respond(503, "one").spawn().await, origin().respond(503, "two").spawn().await];
    let edge = edge_before(&[origins[0].addr(), origins[1].addr()], "retry: {attempts: 1}").await;
    let answer = edge.get("/").await;
    assert!(answer.status == 503 && ["one", "two"].contains(&answer.text().as_str()), "the endpoint's own, whole: {answer:?}");
    assert_eq!(origins.map(|origin| origin.request_count()), [1, 1]);
    let line = edge.access_log().await.remove(0);
    assert_eq!((line["end"]["who"].as_str(), line["attempts"].as_array().unwrap().len()), (Some("upstream"), 2), "{line}");
}

#[tokio::test]
async fn what_must_happen_once_is_not_sent_twice() {
    for bad in [origin().respond(503, "bad"), origin().accept_then_close(), origin().answer(Answer::nothing().reset())] {
        let (answers, _, good) = beside_a_good_one(bad, RETRY, POST).await;
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 2, "{answers:?}");
        assert_eq!(good.request_count(), 2);
    }
    // Never sent is another matter.
    let good = origin().respond(200, "good").spawn().await;
    let edge = edge_before(&[refused_address().await, good.addr()], "").await;
    for _ in 0..4 {
        assert_eq!(edge.client().await.exchange(POST).await.text(), "good");
    }
    assert!(good.requests().iter().all(|request| request.text() == "hi"));
}

#[tokio::test]
async fn a_broken_connection_is_retried_while_nothing_was_answered() {
    for bad in [origin().accept_then_close(), origin().accept_then_reset(), origin().reset_after(0), origin().half_header()] {
        let (answers, ..) = beside_a_good_one(bad, RETRY, GET).await;
        assert!(answers.iter().all(|answer| *answer == (200, "good".into())), "{answers:?}");
    }
}

#[tokio::test]
async fn a_body_is_sent_again_whole_or_not_at_all() {
    let put =
        |length: usize| format!("PUT / HTTP/1.1\r\nhost: example.com\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
    // The filter counts the body anew for each try.
    let route = "retry: {}\nfilters: [{body_limit: {max: 70KiB}}]";
    let (answers, _, good) = beside_a_good_one(origin().respond(503, "bad"), route, &put(60 << 10)).await;
    assert_eq!(statuses(&answers), [200; 4]);
    assert!(good.requests().iter().all(|request| request.text().len() == 60 << 10));
    let (answers, _, good) = beside_a_good_one(origin().respond(503, "bad"), RETRY, &put(200 << 10)).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 503).count(), 2, "{answers:?}");
    assert!(good.requests().iter().all(|request| request.text().len() == 200 << 10));
}

#[tokio::test]
async fn each_try_has_its_time() {
    let route = "retry: {per_try_timeout: 1s}\ntimeout: 20s";
    let (answers, ..) = beside_a_good_one(origin().never_answer(), route, GET).await;
    assert_eq!(statuses(&answers), [200; 4]);

    let silent = origin().never_answer().spawn().await;
    let edge = edge_before(&[silent.addr()], "retry: {attempts: 1, per_try_timeout: 500ms}").await;
    assert_eq!(edge.get("/").await.status, 504);
    let (status, word, attempts) = told(&edge.access_log().await[0]);
    assert_eq!((status, word.as_str(), attempts.len()), (504, "http_response_timeout", 2));
    assert_eq!(silent.request_count(), 2, "the only endpoint there is may be asked again");
}

#[tokio::test]
async fn the_time_of_the_whole_bounds_all_tries() {
    let silent = origin().never_answer().spawn().await;
    let edge = edge_before(&[silent.addr()], "timeout: 500ms\nretry: {attempts: 10, per_try_timeout: 200ms}").await;
    let began = Instant::now();
    assert_eq!(edge.get("/").await.status, 504);
    assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
    assert!((2..=4).contains(&silent.request_count()), "{}", silent.request_count());
}

#[tokio::test]
async fn retries_do_not_amplify() {
    let origins = [origin().respond(503, "").spawn().await, origin().answer(Answer::nothing().reset()).spawn().await];
    let edge = edge_before(&[origins[0].addr(), origins[1].addr()], "retry: {attempts: 5}").await;
    let (clients, began) = (300, Instant::now());
    for _ in 0..clients {
        assert!(matches!(edge.get("/").await.status, 502 | 503));
    }
    let load: usize = origins.iter().map(Origin::request_count).sum();
    // 20 % of the requests, and 3 per second: over the ten seconds looked back on, which are counted whole, and those it took.
    let seconds = 10 + 2 + began.elapsed().as_secs() as usize;
    assert!((clients + 60..=clients + 60 + 3 * seconds).contains(&load), "{load} for {clients} in {seconds} s");
    let metrics = edge.admin_get("/metrics").await.text();
    assert!(metrics.contains("weir_retry_budget_exhausted_total{upstream=\"app\"}"), "{metrics}");
    assert!(metrics.contains("weir_retries_total{upstream=\"app\",reason=\"503\"}"), "{metrics}");
}

#[tokio::test]
async fn a_budget_can_be_closed() {
    let (bad, good) = (origin().respond(503, "").spawn().await, origin().respond(200, "").spawn().await);
    let edge = edge()
        .upstream_with("app", &[bad.addr(), good.addr()], "retry_budget: {ratio: 0%, min_per_second: 0}")
        .route("all", "upstream: app\nretry: {}")
        .start()
        .await;
    let mut seen = [edge.get("/").await.status, edge.get("/").await.status];
    seen.sort_unstable();
    assert_eq!(seen, [200, 503]);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_mended() {
    for length in [60, 30_000] {
        let (bad, good) = (origin().reset_after(length).spawn().await, origin().respond(200, "good").spawn().await);
        let edge = edge_before(&[bad.addr(), good.addr()], "retry: {attempts: 5}").await;
        let mut whole = 0;
        for _ in 0..4 {
            let mut client = edge.client().await;
            client.send(GET).await;
            // Cut off before the length that the head promised is what a client can tell.
            if let Ok(Some(answer)) = client.try_read_response().await {
                assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
                whole += 1;
            }
        }
        assert_eq!((whole, good.request_count()), (2, 2), "nobody asked twice");
        let broken = edge.access_log_of(4).await.iter().filter(|line| told(line).1 == "http_response_incomplete").count();
        assert_eq!(broken, 2);
    }
}

/// An edge before an origin that waits at the gate, with these limits.
async fn limited(gate: &Gate, limits: &str) -> (Edge, Origin) {
    let slow = origin().slow(gate, "done").spawn().await;
    let upstream = edge().upstream_with("app", &[slow.addr()], &format!("limits: {limits}"));
    (upstream.route("all", "upstream: app").start().await, slow)
}

#[tokio::test]
async fn beyond_the_limit_requests_wait_and_beyond_the_queue_they_are_refused() {
    let gate = Gate::new();
    let (edge, slow) = limited(&gate, "{max_requests: 1, max_queue: 1, queue_timeout: 20s}").await;
    let mut first = edge.client().await;
    first.send(GET).await;
    slow.next_request().await;
    let mut second = edge.client().await;
    second.send(GET).await;
    // Which of the later ones waits and which is refused is the scheduler's choice, but one of each there is.
    let mut third = edge.client().await;
    third.send(GET).await;
    let (refused, mut waiting) = tokio::select! {
        answer = second.read_response() => (answer, third),
        answer = third.read_response() => (answer, second),
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(slow.request_count(), 1, "nothing of the others has reached the endpoint");
    gate.pass_one();
    assert_eq!(first.read_response().await.text(), "done");
    slow.next_request().await;
    gate.pass_one();
    assert_eq!(waiting.read_response().await.text(), "done");
    let log = edge.access_log_of(3).await;
    let line = |reason: &str| log.iter().find(|line| line["end"]["reason"] == reason || reason.is_empty());
    assert_eq!(told(line("queue_full").unwrap_or(&log[0])).1, "connection_limit_reached", "{log:?}");
    let queued = log.iter().filter(|line| line["ms"]["queue"].as_f64().is_some_and(|queue| queue > 0.0)).count();
    assert_eq!(queued, 1, "{log:?}");
}

#[tokio::test]
async fn nobody_waits_longer_than_the_queue_allows() {
    let gate = Gate::new();
    let (edge, slow) = limited(&gate, "{max_requests: 1, queue_timeout: 50ms}").await;
    let mut first = edge.client().await;
    first.send(GET).await;
    slow.next_request().await;
    let late = edge.get("/").await;
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    // A client that goes away gives its place back.
    first.reset();
    let waiting = async { eventually!(edge.get("/").await.status, |status: &u16| *status == 200) };
    gate.open();
    waiting.await;
}

#[tokio::test]
async fn a_fallback_answers_for_an_upstream_that_does_not() {
    let fallback = "fallback: {body: sorry, content_type: text/plain}";
    let edge = edge_before(&[refused_address().await], fallback).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-type")), (503, "sorry", Some("text/plain")));
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), (Some("1"), Some("no-store")));
    let (status, word, _) = told(&edge.access_log().await[0]);
    assert_eq!((status, word.as_str()), (503, "connection_refused"));

    let origin = origin().respond(503, "my own").spawn().await;
    let edge = edge_before(&[origin.addr()], fallback).await;
    assert_eq!(edge.get("/").await.text(), "my own", "an endpoint's answer is an answer");
}

#[tokio::test]
async fn a_split_gives_each_upstream_its_share_of_requests() {
    let (web, next) = (origin().respond(200, "web").spawn().await, origin().respond(200, "next").spawn().await);
    let split = |web: u32, next: u32| format!("split: [{{upstream: web, weight: {web}}}, {{upstream: next, weight: {next}}}]");
    let edge = edge()
        .upstream("web", &[web.addr()])
        .upstream("next", &[next.addr()])
        .route("all", &split(1, 1))
        .route("closed", &format!("match: {{path: /closed}}\n{}", split(0, 1)))
        .start()
        .await;
    let mut client = edge.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("example.com", "/").await.status, 200);
    }
    // Fair coins leave 15 to 85 of 100 once in 10^12 runs.
    assert!((15..=85).contains(&web.request_count()), "{}", web.request_count());
    assert_eq!(web.request_count() + next.request_count(), 100);
    assert_eq!(client.get("example.com", "/closed").await.text(), "next");
    let line = edge.access_log_of(101).await.pop().unwrap();
    assert_eq!(line["upstream"], "next");
}

/// A 504 for one request on a route with a timeout of half a second, told as this type, and how long it took.
async fn times_out(endpoint: std::net::SocketAddr, word: &str) -> Duration {
    let upstream = edge().upstream_with("app", &[endpoint], "connections: {connect_timeout: 1h}");
    let edge = upstream.route("all", "upstream: app\ntimeout: 500ms").start().await;
    let began = Instant::now();
    assert_eq!(edge.get("/").await.status, 504);
    let took = began.elapsed();
    let (status, told_word, _) = told(&edge.access_log().await[0]);
    assert_eq!((status, told_word.as_str()), (504, word));
    assert!(took >= Duration::from_millis(490), "{took:?}");
    took
}

/// Sends its answer byte by byte, one every so often, for as long as anybody listens.
async fn dripping(head: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the runtime of the test.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let mut clock = tokio::time::interval(Duration::from_millis(50));
                while stream.write_all(b"x").await.is_ok() {
                    clock.tick().await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_header_that_drips_is_not_waited_for() {
    let took = times_out(dripping("HTTP/1.1 200 OK\r\nx-slow: ").await, "http_response_timeout").await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Nor by a try, when there is somebody else to ask.
    let good = origin().respond(200, "good").spawn().await;
    let slow = dripping("HTTP/1.1 200 OK\r\nx-slow: ").await;
    let edge = edge_before(&[slow, good.addr()], "timeout: 20s\nretry: {per_try_timeout: 1s}").await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.text(), "good");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_cut_when_its_time_is_over() {
    let edge = edge_before(&[dripping("HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n").await], "timeout: 1s").await;
    let mut client = edge.client().await;
    client.send(GET).await;
    assert!(!matches!(client.try_read_response().await, Ok(Some(_))), "it cannot be whole");
    let (status, word, _) = told(&edge.access_log().await[0]);
    assert_eq!((status, word.as_str()), (200, "http_response_timeout"));
}

#[tokio::test]
async fn a_body_may_take_longer_than_a_try() {
    let slow = dripping("HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n").await;
    let edge = edge_before(&[slow], "timeout: 20s\nretry: {per_try_timeout: 1s}").await;
    assert_eq!(edge.get("/").await.text(), "x".repeat(26), "1250 ms, at a steady pace");
}

#[tokio::test]
async fn a_black_hole_is_a_timeout_of_the_connection() {
    let (address, _sockets) = black_hole();
    // Bounded by the route: `connect_timeout` would outlast the patience of the test.
    times_out(address, "connection_timeout").await;
    // Beside an endpoint that answers, nobody notices.
    let good = origin().respond(200, "good").spawn().await;
    let edge = edge()
        .upstream_with("app", &[address, good.addr()], "connections: {connect_timeout: 200ms}")
        .route("all", "upstream: app")
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(edge.get("/").await.text(), "good");
    }
}

#[tokio::test]
async fn all_down_then_up_again() {
    // Bound and not listening: refused until it does.
    let starting = tokio::net::TcpSocket::new_v4().unwrap();
    starting.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let down = [refused_address().await, starting.local_addr().unwrap()];
    let edge = edge_before(&down, RETRY).await;
    assert_eq!(edge.get("/").await.status, 502);
    let (status, word, attempts) = told(&edge.access_log().await[0]);
    assert_eq!((status, word.as_str()), (502, "connection_refused"));
    assert_eq!(attempts.len(), 3, "one of them is asked again at the end: {attempts:?}");
    let back = starting.listen(16).unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = back.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nback").await;
        }
    });
    for _ in 0..4 {
        assert_eq!(edge.get("/").await.text(), "back", "at once, for everybody");
    }
    serving.abort();
}

#[tokio::test]
async fn an_endpoint_that_flaps_under_load_loses_nobody() {
    let good = origin().respond(200, "good").spawn().await;
    // Every other connection is cut, before or after the request.
    let flapping = origin()
        .accept_then_close()
        .then_serve()
        .respond_with(|request| match request.target.len() % 2 {
            0 => Answer::nothing().reset(),
            _ => Answer::new(200, "good").close(),
        })
        .spawn()
        .await;
    let budget = "retry_budget: {ratio: 100%}";
    let edge = edge().upstream_with("app", &[good.addr(), flapping.addr()], budget).route("all", "upstream: app\nretry: {}");
    let edge = edge.start().await;
    let load = (0..200).map(|index| {
        let edge = &edge;
        async move { edge.get(&format!("/{}", "x".repeat(index % 7))).await.text() }
    });
    let answers = futures_util::future::join_all(load).await;
    assert_eq!(answers.iter().filter(|answer| *answer == "good").count(), 200);
}
