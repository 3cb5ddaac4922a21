//! Limits by client: how often (`rate_limit`) and how much at a time (`concurrency`), over real sockets.

use crate::support::{
    Gate,
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::H2Client,
    origin::{Answer, Origin, origin},
};

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn limited(origin: &Origin, filter: &str) -> EdgeBuilder {
    edge().upstream("app", &[origin.addr()]).route("all", &format!("upstream: app\nfilters:\n  - {filter}"))
}

async fn from(ip: &str, edge: &Edge) -> RawClient {
    RawClient::connect_from(ip, edge.address("web")).await
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge = limited(&origin, "rate_limit: {rate: 10/h, burst: 3}")
        .listener("filters: [cors: {origins: 'https://a.example'}]")
        .tls()
        .start()
        .await;
    let ask = "GET / HTTP/1.1\r\nhost: x\r\norigin: https://a.example\r\n\r\n";
    let mut client = edge.client().await;
    let first = client.exchange(ask).await;
    assert_eq!(
        (first.status, first.header("ratelimit"), first.header("ratelimit-policy")),
        (200, Some("\"10/h\";r=2;t=360"), Some("\"10/h\";q=3;w=1080"))
    );
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.header("ratelimit"), Some("\"10/h\";r=1;t=720"), "one client, whatever it speaks");
    assert_eq!(client.exchange(ask).await.status, 200);
    let refused = client.exchange(ask).await;
    assert_eq!((refused.status, refused.header("ratelimit")), (429, Some("\"10/h\";r=0;t=1080")));
    assert!(matches!(refused.header("retry-after"), Some("360" | "359" | "358")), "{:?}", refused.header("retry-after"));
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://a.example"), "a page can read why");
    let over_h2 = h2.get("localhost", "/").await;
    assert_eq!((over_h2.status.as_u16(), over_h2.header("retry-after").is_some()), (429, true));
    let mut upgrading = edge.client().await;
    assert_eq!(upgrading.exchange(UPGRADE).await.status, 429, "an upgrade is a request like any other");
    assert_eq!(from("127.0.0.2", &edge).await.get("x", "/").await.status, 200, "somebody else");
    assert_eq!(origin.request_count(), 4);
    crate::eventually!(edge.metric("weir_rate_limited_total", &[("route", "all")]).await, |count| *count == Some(3.0));
    let log = edge.access_log_of(7).await;
    let line = log.iter().find(|line| line["status"] == 429).expect("a refusal");
    assert_eq!((&line["end"]["type"], &line["end"]["reason"]), (&"http_request_denied".into(), &"rate_limited".into()));
}

#[tokio::test]
async fn a_host_is_counted_by_its_name_however_it_is_told() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge =
        limited(&origin, "rate_limit: {rate: 1/h, burst: 2, key: 'header:host'}").listener("http: {h2c: true}").start().await;
    let (mut client, mut h2) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    for host in ["a.test", "b.test"] {
        assert_eq!(h2.get(host, "/").await.status.as_u16(), 200, "{host}: HTTP/2 has it in no field");
        assert_eq!(client.get(&host.to_uppercase(), "/").await.status, 200, "{host}");
        assert_eq!(client.get(&format!("{host}:8080"), "/").await.status, 429, "{host} was asked for twice");
        assert_eq!(h2.get(host, "/").await.status.as_u16(), 429, "{host}");
    }
}

#[tokio::test]
async fn a_limit_of_a_listener_holds_where_no_route_serves() {
    let edge = edge()
        .route("one", "match: {path: /one}\nrespond: {body: one}")
        .listener("filters:\n  - rate_limit: {rate: 1/h, burst: 2, key: route}")
        .start()
        .await;
    let mut client = edge.client().await;
    assert_eq!(client.get("x", "/one").await.status, 200);
    assert_eq!(client.get("x", "/none").await.status, 404);
    assert_eq!(client.get("x", "/none").await.status, 429);
    assert_eq!(client.get("x", "/one").await.status, 429);
    crate::eventually!(edge.metric("weir_rate_limited_total", &[("route", "_none")]).await, |count| *count == Some(2.0));
}

#[tokio::test]
async fn a_reload_forgets_nobody() {
    let origin = origin().respond(200, "ok").spawn().await;
    let builder = limited(&origin, "rate_limit: {rate: 2/h, burst: 2}");
    let before = builder.config();
    let edge = builder.start().await;
    let mut client = edge.client().await;
    assert_eq!(client.get("x", "/").await.status, 200);
    assert_eq!(client.get("x", "/").await.status, 200);
    edge.reload(&before.replace("burst: 2", "burst: 3")).await;
    assert_eq!(client.get("x", "/").await.status, 200, "one more than before");
    assert_eq!(client.get("x", "/").await.status, 429);
}

#[tokio::test]
async fn places_are_held_until_the_response_is_through_or_the_client_is_gone() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = limited(&origin, "concurrency: {max: 2}").tls().start().await;
    let (mut one, mut other) = (edge.client().await, edge.client().await);
    one.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    other.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::eventually!(origin.request_count() == 2);
    let refused = edge.get("/").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.status, 429);
    let mut upgrading = edge.client().await;
    assert_eq!(upgrading.exchange(UPGRADE).await.status, 429);
    let mut third = from("127.0.0.2", &edge).await;
    third.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::eventually!(origin.request_count() == 3);
    drop(other);
    // The one that left makes room, and is the only one to.
    let in_flight = async || edge.metric("weir_http_requests_in_flight", &[("route", "all")]).await;
    crate::eventually!(in_flight().await, |count| *count == Some(2.0));
    let mut fourth = edge.client().await;
    fourth.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::eventually!(origin.request_count() == 4);
    assert_eq!(edge.get("/").await.status, 429);
    gate.open();
    assert_eq!(one.read_response().await.text(), "late");
    crate::eventually!(edge.get("/").await.status, |status| *status == 200);
    assert_eq!(one.get("x", "/").await.status, 200, "a place is a request's, not a connection's");
}

#[tokio::test]
async fn a_websocket_holds_its_place() {
    let origin = origin().answer(Answer::switch("websocket").hold()).respond(200, "ok").spawn().await;
    let edge = limited(&origin, "concurrency: {max: 1, key: route, status: 503}").start().await;
    let mut tunnel = edge.client().await;
    assert_eq!(tunnel.exchange(UPGRADE).await.status, 101);
    assert_eq!(edge.get("/").await.status, 503);
    drop(tunnel);
    crate::eventually!(edge.get("/").await.status, |status| *status == 200);
}
