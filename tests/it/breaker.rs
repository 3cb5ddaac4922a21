//! The circuit breaker, the panic threshold and slow start, on an edge with real endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use serde_json::Value;

use crate::support::{
    Gate,
    edge::{Edge, edge},
    origin::{Answer, Origin, origin, refused_address},
};

/// An origin that answers 200 with its name, or 500 while it is broken.
async fn breakable(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let answer = move |_: &_| if seen.load(Relaxed) { Answer::new(500, "broken") } else { Answer::new(200, name) };
    (origin().respond_with(answer).spawn().await, broken)
}

/// `/stats` of the upstream `app`.
async fn app(edge: &Edge) -> Value {
    edge.admin_get("/stats").await.json()["upstreams"][0].clone()
}

/// What `/stats` says of an endpoint.
async fn endpoint(edge: &Edge, origin: &Origin) -> Value {
    let app = app(edge).await;
    let address = origin.addr().to_string();
    let found = app["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["endpoint"] == *address);
    found.unwrap_or_else(|| panic!("{address} is not in {app}")).clone()
}

async fn get(edge: &Edge, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        // On a connection of its own: Weir closes one on which it had to answer for an endpoint.
        statuses.push(edge.get("/").await.status);
    }
    statuses
}

#[tokio::test]
async fn a_failing_endpoint_leaves_after_five_failures_and_returns() {
    let ((one, _), (other, broken)) = (breakable("one").await, breakable("other").await);
    let edge = edge()
        .upstream_with("app", &[one.addr(), other.addr()], "circuit_breaker: {recovery_timeout: 50ms}")
        .route("all", "upstream: app")
        .start()
        .await;
    broken.store(true, Relaxed);
    let statuses = get(&edge, 10).await;
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 5, "{statuses:?}");
    let state = endpoint(&edge, &other).await;
    assert_eq!(state["ejections"], 1);
    assert_eq!(state["reason"], "5 failures in a row, the last one a server error");

    // Each time out ends with one probe that fails; nearly all requests never see the broken endpoint.
    eventually!(
        {
            get(&edge, 1).await;
            endpoint(&edge, &other).await["ejections"].as_u64()
        },
        |ejections| ejections.is_some_and(|ejections| ejections >= 2)
    );
    assert_eq!(endpoint(&edge, &other).await["reason"], "it was tried again and failed: a server error");

    broken.store(false, Relaxed);
    eventually!(
        {
            get(&edge, 1).await;
            endpoint(&edge, &other).await["state"].clone()
        },
        |state| *state == "healthy"
    );
    assert_eq!(endpoint(&edge, &other).await["reason"], "answers again");
    let before = other.request_count();
    get(&edge, 10).await;
    assert_eq!(other.request_count() - before, 5, "its share of the traffic");

    let metrics = edge.admin_get("/metrics").await.text();
    let labels = format!(r#"{{upstream="app",endpoint="{}",to="closed"}}"#, other.addr());
    assert!(metrics.contains(&format!("weir_circuit_breaker_transitions_total{labels} 1")), "{metrics}");
    edge.stop().await;
}

#[tokio::test]
async fn only_so_many_probes_at_a_time() {
    let gate = Gate::new();
    let (arrived, held) = (Arc::new(AtomicUsize::new(0)), gate.clone());
    let answer = {
        let arrived = arrived.clone();
        move |_: &_| match arrived.fetch_add(1, Relaxed) {
            0 => Answer::new(500, ""),
            _ => Answer::nothing().wait(&held).bytes("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nprobe"),
        }
    };
    let (one, other) = (origin().respond(200, "one").spawn().await, origin().respond_with(answer).spawn().await);
    let breaker = "circuit_breaker: {failure_threshold: 1, recovery_timeout: 1ms, half_open_requests: 2}";
    let edge = edge().upstream_with("app", &[one.addr(), other.addr()], breaker).route("all", "upstream: app").start().await;
    eventually!(
        {
            get(&edge, 1).await;
            arrived.load(Relaxed)
        },
        |arrived| *arrived == 1
    );

    // The two probes wait at the gate. Whatever comes meanwhile goes elsewhere, or it would wait as well.
    let clients: Vec<_> = futures_util::future::join_all((0..16).map(|_| edge.client())).await;
    let requests = clients.into_iter().map(|mut client| async move { client.get("example.com", "/").await.text() });
    let answers = futures_util::future::join_all(requests);
    let probes = async {
        eventually!(arrived.load(Relaxed), |arrived| *arrived == 3);
        assert_eq!(endpoint(&edge, &other).await["state"], "half_open");
        eventually!(one.request_count() >= 14);
        assert_eq!(arrived.load(Relaxed), 3);
        gate.open();
    };
    let (answers, ()) = tokio::join!(answers, probes);
    assert_eq!(answers.iter().filter(|answer| *answer == "probe").count(), 2, "{answers:?}");
    eventually!(endpoint(&edge, &other).await["state"].clone(), |state| *state == "healthy");
    edge.stop().await;
}

/// As in a rolling restart: one is back sooner than its circuit knows when the next one goes.
#[tokio::test]
async fn whom_all_others_fail_is_served_by_one_that_would_be_left_alone_for_an_hour() {
    let mut one = origin().answer(Answer::new(200, "one").close()).spawn().await;
    let broken = Arc::new(AtomicBool::new(true));
    let seen = broken.clone();
    let answer = move |_: &_| Answer::new(if seen.load(Relaxed) { 500 } else { 200 }, "other").close();
    let mut other = origin().respond_with(answer).spawn().await;
    let breaker = "circuit_breaker: {failure_threshold: 1, recovery_timeout: 1h}";
    let edge = edge().upstream_with("app", &[one.addr(), other.addr()], breaker).route("all", "upstream: app").start().await;
    eventually!(get(&edge, 1).await[0], |status| *status == 500);
    assert_eq!(endpoint(&edge, &other).await["state"], "open");
    broken.store(false, Relaxed);
    let before = other.request_count();
    assert_eq!(get(&edge, 8).await, [200; 8]);
    assert_eq!(other.request_count(), before, "while there is another one, it is left alone");

    one.stop_listening().await;
    assert_eq!(get(&edge, 8).await, [200; 8], "it is the only one left, and answers");
    assert_eq!(endpoint(&edge, &other).await["state"], "healthy", "the first answer shortened its time out");

    // When it does not answer, nothing is gained and nothing lost.
    other.stop_listening().await;
    let statuses = get(&edge, 4).await;
    assert!(statuses.iter().all(|status| [502, 503].contains(status)), "{statuses:?}");
    edge.stop().await;
}

#[tokio::test]
async fn refused_connections_count_and_off_is_off() {
    let one = origin().respond(200, "one").spawn().await;
    let addresses = [one.addr(), refused_address().await];
    let edge = edge()
        .upstream("app", &addresses)
        .upstream_with("off", &addresses, "circuit_breaker: off")
        .route("all", "upstream: app")
        .route("off", "match: {path: /off}\nupstream: 'off'")
        .start()
        .await;
    assert_eq!(get(&edge, 20).await, [200; 20], "another endpoint answers");
    let mut client = edge.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("example.com", "/off").await.status, 200);
    }
    let stats = edge.admin_get("/stats").await.json();
    let state = |upstream: usize| {
        let endpoint = &stats["upstreams"][upstream]["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["endpoint"] == *addresses[1].to_string())
            .unwrap();
        (endpoint["state"].clone(), endpoint["errors"].as_u64().unwrap())
    };
    assert_eq!(state(0), ("open".into(), 5));
    let (condition, errors) = state(1);
    assert!(condition == "healthy" && errors >= 9, "{condition} {errors}");
    edge.stop().await;
}

#[tokio::test]
async fn a_pool_that_panics_uses_all_and_says_so() {
    let ((one, broken), (other, also)) = (breakable("one").await, breakable("other").await);
    let addresses = [one.addr(), other.addr()];
    // With no cap both leave; with the panic threshold both are used all the same.
    let keys = |threshold: &str| {
        format!(
            "circuit_breaker: {{failure_threshold: 1, recovery_timeout: 1h, max_ejected: 100%}}\npanic_threshold: {threshold}"
        )
    };
    let panics = edge().upstream_with("app", &addresses, &keys("50%")).route("all", "upstream: app").start().await;
    let refuses = edge().upstream_with("app", &addresses, &keys("0%")).route("all", "upstream: app").start().await;
    broken.store(true, Relaxed);
    also.store(true, Relaxed);
    assert_eq!(get(&panics, 6).await, [500; 6]);
    assert_eq!(get(&refuses, 6).await, [500, 500, 503, 503, 503, 503]);
    for (edge, panic) in [(&panics, true), (&refuses, false)] {
        let app = app(edge).await;
        assert_eq!((&app["panic"], &app["alive"]), (&panic.into(), &0.into()), "{app}");
        let line = format!("weir_upstream_panic{{upstream=\"app\"}} {}", u8::from(panic));
        assert!(edge.admin_get("/metrics").await.text().contains(&line));
    }
    // What is well again serves at once, although its circuit is open.
    broken.store(false, Relaxed);
    also.store(false, Relaxed);
    assert_eq!(get(&panics, 4).await, [200; 4]);
    panics.stop().await;
    refuses.stop().await;
}

#[tokio::test]
async fn when_all_are_down_the_client_is_told_why() {
    let addresses = [refused_address().await, refused_address().await];
    let edge = edge().upstream("app", &addresses).route("all", "upstream: app").start().await;
    // Not 503: somebody is always asked, before circuits open and after.
    assert_eq!(get(&edge, 30).await, [502; 30]);
    let app = app(&edge).await;
    let open = app["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["state"] == "open").count();
    assert_eq!(open, 1, "{app}");
    edge.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_back_starts_slowly() {
    let ((one, _), (other, broken)) = (breakable("one").await, breakable("other").await);
    let keys = "circuit_breaker: {failure_threshold: 1, recovery_timeout: 1ms, half_open_requests: 1}\nslow_start: 1h";
    let edge = edge().upstream_with("app", &[one.addr(), other.addr()], keys).route("all", "upstream: app").start().await;
    broken.store(true, Relaxed);
    eventually!(get(&edge, 1).await[0] == 500);
    broken.store(false, Relaxed);
    eventually!(
        {
            get(&edge, 1).await;
            endpoint(&edge, &other).await["state"].clone()
        },
        |state| *state == "healthy"
    );
    let before = other.request_count();
    get(&edge, 44).await;
    // A tenth of a weight against a whole one: one in eleven.
    let share = other.request_count() - before;
    assert!((3..=5).contains(&share), "{share} of 44");
    edge.stop().await;
}
