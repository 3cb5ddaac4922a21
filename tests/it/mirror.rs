//! Copies of requests: they arrive as their requests were, and nothing that happens to them is felt.

use crate::support::{
    Gate,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request},
    origin::{Answer, Origin, origin, refused_address},
};

/// An edge that sends a copy of each request to `shadow`, with these further options of `mirror`.
fn mirroring(app: &Origin, shadow: std::net::SocketAddr, options: &str) -> EdgeBuilder {
    let filters = format!("filters:\n  - rewrite: {{strip_prefix: /v1}}\n  - mirror: {{upstream: shadow, {options}}}");
    edge().upstream("app", &[app.addr()]).upstream("shadow", &[shadow]).route("all", &format!("upstream: app\n{filters}"))
}

async fn copies(edge: &Edge, result: &str) -> f64 {
    let labels = [("filter", "route all"), ("upstream", "shadow"), ("result", result)];
    edge.metric("weir_mirrored_requests_total", &labels).await.unwrap_or(-1.0)
}

async fn app() -> Origin {
    origin().respond(200, "from the app").spawn().await
}

#[tokio::test]
async fn a_copy_is_what_was_forwarded_and_its_answer_is_nobodys() {
    let (app, shadow) = (app().await, origin().respond(500, "from the shadow").spawn().await);
    let edge = mirroring(&app, shadow.addr(), "timeout: 10s").tls().start().await;
    let mut h1 = edge.client().await;
    let length = h1.exchange("POST /v1/a?b=1 HTTP/1.1\r\nhost: x.example\r\ncookie: c=1\r\ncontent-length: 5\r\n\r\nhello").await;
    let chunked = h1
        .exchange("PUT /v1/a HTTP/1.1\r\nhost: x.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        .await;
    let nothing = h1.get("x.example", "/v1/none").await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    let over_h2 = h2.send(&H2Request::post("localhost", "/v1/h2", "hello")).await.unwrap();
    let h2_get = h2.get("localhost", "/v1/h2").await;
    assert_eq!([length.text(), chunked.text(), nothing.text(), over_h2.text(), h2_get.text()], ["from the app"; 5]);
    crate::eventually!(copies(&edge, "answered").await, |count| *count == 5.0);
    let (mut sent, mut copied) = (app.requests(), shadow.requests());
    assert_eq!(copied.len(), 5);
    sent.sort_by_key(|request| request.target.clone() + &request.method);
    copied.sort_by_key(|request| request.target.clone() + &request.method);
    for (sent, copied) in sent.iter().zip(&copied) {
        assert_eq!((&sent.method, &sent.target, &sent.body), (&copied.method, &copied.target, &copied.body));
        for name in ["host", "cookie", "content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto"] {
            assert_eq!(sent.header(name), copied.header(name), "{name} of {}", sent.target);
        }
    }
    assert!(shadow.connections() <= 5, "at most as many as there were copies at a time");
}

#[tokio::test]
async fn a_target_that_is_slow_or_gone_is_not_felt() {
    let (app, gate) = (app().await, Gate::new());
    let shadow = origin().slow(&gate, "late").spawn().await;
    let edge = mirroring(&app, shadow.addr(), "max_in_flight: 3").start().await;
    let mut client = edge.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("x", "/").await.text(), "from the app");
    }
    assert_eq!(copies(&edge, "dropped").await, 17.0, "three wait, and there is no room for more");
    gate.open();
    crate::eventually!(copies(&edge, "answered").await, |count| *count == 3.0);

    let edge = mirroring(&app, refused_address().await, "timeout: 5s").start().await;
    let mut client = edge.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    crate::eventually!(copies(&edge, "failed").await, |count| *count == 5.0);
    assert_eq!(edge.access_log_of(5).await.iter().filter(|line| line["status"] != 200).count(), 0);
}

#[tokio::test]
async fn a_copy_whose_body_lags_behind_or_never_ends_is_given_up() {
    let app = app().await;
    // It takes the connection and reads nothing.
    let stuck = origin().accept_then_hold().spawn().await;
    let edge = mirroring(&app, stuck.addr(), "max_lag: 64KiB").start().await;
    let mut client = edge.client().await;
    let body = vec![b'x'; 32 << 20];
    client.send(format!("POST /v1/a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;
    assert_eq!(client.read_response().await.text(), "from the app");
    assert_eq!(app.requests()[0].body.len(), body.len(), "the request itself is whole");
    crate::eventually!(copies(&edge, "dropped").await, |count| *count == 1.0);

    let shadow = origin().respond(200, "").spawn().await;
    let edge = mirroring(&app, shadow.addr(), "share: 100%").start().await;
    let mut client = edge.client().await;
    client.send("POST /v1/a HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").await;
    crate::eventually!(shadow.connections() == 1);
    client.reset();
    crate::eventually!(copies(&edge, "dropped").await, |count| *count == 1.0);
    assert_eq!(shadow.request_count(), 0, "half a body is no request");
}

#[tokio::test]
async fn a_request_that_is_tried_again_is_copied_once_and_an_upgrade_not_at_all() {
    // It breaks the connection as soon as it has seen a head.
    let first = origin().ignoring_bodies().answer(Answer::nothing().reset()).spawn().await;
    let closing = Answer::with_headers(200, &[("connection", "close")], "from the app").close();
    let (good, shadow) = (origin().answer(closing).spawn().await, origin().respond(200, "").spawn().await);
    let edge = edge()
        .upstream_with("app", &[first.addr(), good.addr()], "strategy: {consistent_hash: {key: path}}")
        .upstream("shadow", &[shadow.addr()])
        .route("all", "upstream: app\nretry: {attempts: 2}\nfilters:\n  - mirror: {upstream: shadow}")
        .start()
        .await;
    let mut path = 0;
    while first.request_count() == 0 {
        path += 1;
        let mut client = edge.client().await;
        client.send(format!("PUT /{path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n")).await;
        crate::eventually!(good.connections() >= path);
        client.send("3\r\nllo\r\n0\r\n\r\n").await;
        assert_eq!(client.read_response().await.text(), "from the app");
    }
    crate::eventually!(copies(&edge, "answered").await, |count| *count == path as f64);
    assert_eq!(shadow.requests().iter().map(|copy| copy.text()).collect::<Vec<_>>(), vec!["hello"; path]);

    let tunnel = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = mirroring(&tunnel, shadow.addr(), "share: 100%").start().await;
    let mut client = edge.client().await;
    client.send("GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert!(client.read_head().await.start.contains(" 101 "));
    client.send("ping").await;
    assert_eq!(client.read_bytes(4).await, b"ping");
    assert_eq!((shadow.request_count(), copies(&edge, "dropped").await), (path, 0.0));
}

#[tokio::test]
async fn a_share_of_nothing_copies_nothing_and_places_survive_a_reload() {
    let (app, gate) = (app().await, Gate::new());
    let shadow = origin().slow(&gate, "late").spawn().await;
    let builder = mirroring(&app, shadow.addr(), "max_in_flight: 1");
    let before = builder.config();
    let edge = builder.start().await;
    let mut client = edge.client().await;
    assert_eq!(client.get("x", "/").await.status, 200);
    crate::eventually!(shadow.request_count() == 1);
    edge.reload(&before.replace("strip_prefix: /v1", "strip_prefix: /v2")).await;
    assert_eq!(client.get("x", "/").await.status, 200);
    assert_eq!(copies(&edge, "dropped").await, 1.0, "the place of the copy under way is taken still");
    gate.open();
    crate::eventually!(copies(&edge, "answered").await, |count| *count == 1.0);
    edge.reload(&before.replace("max_in_flight: 1", "share: 0%")).await;
    for _ in 0..20 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    assert_eq!((shadow.request_count(), copies(&edge, "dropped").await), (1, 1.0));
}
