//! Sessions that stay with an endpoint by a signed cookie.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::support::{
    client::RawClient,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    origin::{Answer, Origin, origin},
    wire::RawResponse,
};

/// An origin that answers 200 with its name, or 500 while it is broken.
async fn breakable(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let answer = move |_: &_| if seen.load(Relaxed) { Answer::new(500, "broken") } else { Answer::new(200, name) };
    (origin().respond_with(answer).spawn().await, broken)
}

/// An edge over these, which leaves an endpoint alone after one failure until a health check passes.
async fn sticky(origins: &[&Origin], keys: &str) -> Edge {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.addr()).collect();
    let keys = format!("circuit_breaker: {{failure_threshold: 1, recovery_timeout: 20ms, max_ejected: 100%}}\n{keys}");
    edge().tls().upstream_with("app", &addresses, &keys).route("all", "upstream: app").start().await
}

/// The `name=value` of what sets the cookie, and its attributes.
fn set(answer: &RawResponse) -> Option<(String, String)> {
    let (cookie, attributes) = answer.header("set-cookie")?.split_once("; ").expect("attributes");
    Some((cookie.to_owned(), attributes.to_owned()))
}

async fn with(client: &mut RawClient, cookie: &str) -> RawResponse {
    client.exchange(format!("GET / HTTP/1.1\r\nhost: localhost\r\ncookie: a=b; {cookie}\r\n\r\n")).await
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_whatever_the_others_do() {
    let ((a, _), (b, broken), (c, _)) = (breakable("a").await, breakable("b").await, breakable("c").await);
    let edge = sticky(&[&a, &b, &c], "sticky: {}").await;
    let mut client = edge.client().await;
    // In turn, so one of the first three answers comes from it.
    let (first, cookie) = loop {
        let answer = client.get("localhost", "/").await;
        let (cookie, attributes) = set(&answer).expect("a new client gets a cookie");
        assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        assert!(answer.header("cache-control").is_none());
        if answer.text() == "a" {
            break (answer, cookie);
        }
    };
    assert!(!first.header("set-cookie").unwrap().contains(&a.addr().port().to_string()), "no address in the clear");
    for round in 0..3 {
        broken.store(round == 1, Relaxed);
        // Others go round, and one of them finds what is broken.
        let statuses: Vec<_> = [edge.get("/").await.status, edge.get("/").await.status, edge.get("/").await.status].into();
        assert_eq!(statuses.contains(&500), round == 1, "{statuses:?}");
        for _ in 0..4 {
            let answer = with(&mut client, &cookie).await;
            assert_eq!((answer.text().as_str(), set(&answer)), ("a", None));
        }
        if round == 1 {
            broken.store(false, Relaxed);
            eventually!(edge.get("/").await.text(), |name| name == "b");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_session_moves_when_its_endpoint_fails_and_stays_moved() {
    let ((a, down), (b, _)) = (breakable("a").await, breakable("b").await);
    let edge = sticky(&[&a, &b], "sticky: {}").await;
    let mut client = edge.client().await;
    let first = client.get("localhost", "/").await;
    let answer = if first.text() == "a" { first } else { client.get("localhost", "/").await };
    assert_eq!(answer.text(), "a");
    let (cookie, _) = set(&answer).unwrap();
    down.store(true, Relaxed);
    assert_eq!(with(&mut client, &cookie).await.status, 500, "what an endpoint answers is not retried by itself");
    let moved = with(&mut edge.client().await, &cookie).await;
    assert_eq!(moved.text(), "b");
    let (cookie, _) = set(&moved).expect("the cookie names the other one now");
    down.store(false, Relaxed);
    eventually!(edge.get("/").await.text(), |name| name == "a");
    let mut client = edge.client().await;
    for _ in 0..4 {
        let answer = with(&mut client, &cookie).await;
        assert_eq!((answer.text().as_str(), set(&answer)), ("b", None));
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_session_moves_within_one_request_when_its_endpoint_cannot_be_reached() {
    let mut a = origin().answer(Answer::new(200, "a").close()).spawn().await;
    let b = origin().respond(200, "b").spawn().await;
    let edge = sticky(&[&a, &b], "sticky: {cookie: session, ttl: 1m}").await;
    let mut client = edge.client().await;
    let first = client.get("localhost", "/").await;
    let answer = if first.text() == "a" { first } else { client.get("localhost", "/").await };
    assert_eq!(answer.text(), "a");
    let (cookie, attributes) = set(&answer).unwrap();
    assert!(cookie.starts_with("session=") && attributes.contains("Max-Age=60;"), "{cookie} {attributes}");
    a.stop_listening().await;
    let moved = with(&mut edge.client().await, &cookie).await;
    assert_eq!((moved.status, moved.text().as_str()), (200, "b"));
    assert_ne!(set(&moved).expect("a new cookie").0, cookie);
    edge.stop().await;
}

#[tokio::test]
async fn cookies_of_others_count_for_nothing_unless_the_secret_is_shared() {
    let ((a, _), (b, _)) = (breakable("a").await, breakable("b").await);
    let shared = "sticky: {secret: 0123456789abcdef}";
    let (one, other, stranger) =
        (sticky(&[&a, &b], shared).await, sticky(&[&b, &a], shared).await, sticky(&[&a, &b], "sticky: {}").await);
    let answer = one.get("/").await;
    let (cookie, name) = (set(&answer).unwrap().0, answer.text());
    let (mut client, mut strange) = (other.client().await, stranger.client().await);
    for _ in 0..4 {
        let answer = with(&mut client, &cookie).await;
        assert_eq!((answer.text(), set(&answer)), (name.clone(), None));
        assert!(set(&with(&mut strange, &cookie).await).is_some());
        assert!(set(&with(&mut client, &format!("{cookie}0")).await).is_some(), "forged");
    }
    for edge in [one, other, stranger] {
        edge.stop().await;
    }
}

#[tokio::test]
async fn over_tls_the_cookie_is_secure_and_http2_keeps_it_too() {
    let ((a, _), (b, _)) = (breakable("a").await, breakable("b").await);
    let edge = sticky(&[&a, &b], "sticky: {}").await;
    let answer = edge.tls_client().await.get("localhost", "/").await;
    let (cookie, attributes) = set(&answer).unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    let fresh = h2.get("localhost", "/").await;
    assert!(fresh.header("set-cookie").unwrap().ends_with("; Secure"));
    for _ in 0..4 {
        let kept = h2.send(&H2Request::get("localhost", "/").header("cookie", &cookie)).await.expect("an answer");
        assert_eq!((kept.text(), kept.header("set-cookie")), (answer.text(), None));
    }
    edge.stop().await;
}

#[tokio::test]
async fn without_the_key_there_is_no_cookie() {
    let (a, _) = breakable("a").await;
    let edge = sticky(&[&a], "").await;
    assert!(edge.get("/").await.header("set-cookie").is_none());
    edge.stop().await;
}
