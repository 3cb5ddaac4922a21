//! WebSockets: how a tunnel is asked for, opened and refused.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};

use crate::{
    support::{
        Gate,
        certs::ca,
        client::RawClient,
        edge::{Edge, EdgeBuilder, edge},
        h2_origin::h2_origin,
        origin::{Answer, OriginBuilder, origin, refused_address},
    },
    upstreams::black_hole,
};

pub const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
pub const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// An edge whose one route goes to one upstream with these keys.
pub fn to(endpoint: SocketAddr, keys: &str) -> EdgeBuilder {
    edge().upstream_with("app", &[endpoint], keys).route("all", "upstream: app")
}

/// An endpoint whose 101 is there before it is asked for, and which echoes.
fn hasty() -> OriginBuilder {
    origin().hasty(SWITCH).answer(Answer::nothing().echo())
}

/// Opens tunnels one after the other, and fails with the numbers of those that are none.
async fn all_echo(mut connect: impl AsyncFnMut() -> RawClient) {
    let mut broken = Vec::new();
    for number in 0..40 {
        let mut client = connect().await;
        assert_eq!(client.exchange(UPGRADE).await.status, 101);
        let message = format!("message {number:2}");
        let sent = client.try_send(&message).await;
        if sent.is_err() || client.read_some().await != message.as_bytes() {
            broken.push(number);
        }
    }
    assert!(broken.is_empty(), "closed behind their 101: {broken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_opens_however_quick_the_endpoint_is() {
    let origin = hasty().spawn().await;
    let edge = to(origin.addr(), "").tls().start().await;
    all_echo(async || edge.client().await).await;
    all_echo(async || edge.tls_client().await).await;
    assert_eq!(origin.connections(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_opens_however_quick_the_endpoint_is_behind_tls() {
    let authority = ca();
    let origin = hasty().tls(&authority.server(&["app.test"])).spawn().await;
    let edge = to(origin.addr(), "tls: {sni: app.test, verify: false}").start().await;
    all_echo(async || edge.client().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_made_over_http1_where_an_endpoint_speaks_both() {
    let authority = ca();
    let origin = hasty().tls_offering(&authority.server(&["app.test"]), &[b"h2", b"http/1.1"]).spawn().await;
    let edge = to(origin.addr(), "connections: {protocol: h2}\ntls: {sni: app.test, verify: false}").start().await;
    all_echo(async || edge.client().await).await;
}

#[tokio::test]
async fn what_follows_a_101_at_once_belongs_to_the_tunnel() {
    for origin in [origin().answer(Answer::switch("websocket").bytes("welcome")), hasty_with("welcome")] {
        let origin = origin.spawn().await;
        let edge = to(origin.addr(), "").start().await;
        for _ in 0..10 {
            let mut client = edge.client().await;
            client.send(UPGRADE).await;
            assert!(client.read_head().await.start.contains(" 101 "));
            assert_eq!(client.read_bytes(7).await, b"welcome");
            client.send("hello").await;
            assert_eq!(client.read_bytes(5).await, b"hello");
        }
    }
}

fn hasty_with(greeting: &str) -> OriginBuilder {
    origin().hasty(format!("{SWITCH}{greeting}")).answer(Answer::nothing().echo())
}

#[tokio::test]
async fn a_slow_101_is_waited_for() {
    let gate = Gate::new();
    let origin = origin().answer(Answer::nothing().wait(&gate).bytes(SWITCH).echo()).spawn().await;
    let edge = to(origin.addr(), "").start().await;
    let mut client = edge.client().await;
    client.send(UPGRADE).await;
    origin.next_request().await;
    // Longer than an answer is held back at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    gate.open();
    assert_eq!(client.read_response().await.status, 101);
    client.send("hello").await;
    assert_eq!(client.read_bytes(5).await, b"hello");
}

#[tokio::test]
async fn a_silent_tunnel_stays() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = to(origin.addr(), "connections: {response_timeout: 1s}").start().await;
    let mut client = edge.client().await;
    assert_eq!(client.exchange(UPGRADE).await.status, 101);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.send("still here").await;
    assert_eq!(client.read_bytes(10).await, b"still here");
}

#[tokio::test]
async fn an_upgrade_that_is_not_answered_takes_no_longer_than_the_response_timeout() {
    let origin = origin().never_answer().spawn().await;
    let edge = to(origin.addr(), "connections: {response_timeout: 200ms}").start().await;
    let mut client = edge.client().await;
    assert_eq!(client.exchange(UPGRADE).await.status, 504);
    assert_eq!(edge.access_log().await[0]["end"]["type"], "http_response_timeout");
}

#[tokio::test]
async fn an_endpoint_that_goes_away_instead_of_an_answer_is_a_502() {
    for origin in [origin().answer(Answer::nothing().close()), origin().answer(Answer::nothing().reset())] {
        let origin = origin.spawn().await;
        let edge = to(origin.addr(), "").start().await;
        assert_eq!(edge.client().await.exchange(UPGRADE).await.status, 502);
        assert_eq!(edge.access_log().await[0]["end"]["type"], "connection_terminated");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_before_and_behind_the_101() {
    let silent = origin().never_answer().spawn().await;
    let edge = to(silent.addr(), "").start().await;
    let mut client = edge.client().await;
    client.send(UPGRADE).await;
    silent.next_request().await;
    drop(client);
    assert_eq!(edge.access_log().await[0]["end"]["reason"], "client_gone");
    let origin = hasty().spawn().await;
    let edge = to(origin.addr(), "").start().await;
    let mut client = edge.client().await;
    assert_eq!(client.exchange(UPGRADE).await.status, 101);
    drop(client);
    crate::eventually!(origin.open_connections() == 0);
}

#[tokio::test]
async fn refused_upgrades_leave_no_connections_and_those_of_others_alone() {
    let refusals =
        ["content-length: 3\r\n\r\nno.", "content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n3\r\nno.\r\n0\r\n\r\n"];
    for refusal in refusals {
        let refusal = format!("HTTP/1.1 400 Bad Request\r\n{refusal}");
        let script = move |request: &crate::support::wire::RawRequest| match request.header("upgrade") {
            Some(_) => Answer::raw(&refusal),
            None => Answer::new(200, "ok"),
        };
        let origin = origin().respond_with(script).spawn().await;
        let edge = to(origin.addr(), "").start().await;
        assert_eq!(edge.get("/").await.status, 200);
        for _ in 0..10 {
            let mut client = edge.client().await;
            assert_eq!(client.exchange(UPGRADE).await.status, 400);
            // The client's own connection goes on.
            assert_eq!(client.get("x", "/").await.status, 200);
        }
        let mut both = [edge.client().await, edge.client().await];
        for client in &mut both {
            client.send(UPGRADE).await;
        }
        for client in &mut both {
            assert_eq!(client.read_response().await.status, 400);
        }
        // One that all the others share, and one for each upgrade, which ends with it.
        assert_eq!(origin.connections(), 13);
        crate::eventually!(origin.open_connections() == 1);
    }
}

#[tokio::test]
async fn an_upgrade_is_tried_on_another_endpoint_and_bounded_like_any_connect() {
    let origin = hasty().spawn().await;
    let edge = edge().upstream("app", &[refused_address().await, origin.addr()]).route("all", "upstream: app").start().await;
    all_echo(async || edge.client().await).await;
    let (hole, _sockets) = black_hole();
    let silent = crate::support::origin::origin().accept_then_hold().spawn().await;
    for (endpoint, keys) in [(hole, ""), (silent.addr(), "tls: {sni: app.test}\n")] {
        let edge = to(endpoint, &format!("{keys}connections: {{connect_timeout: 200ms}}")).start().await;
        assert_eq!(edge.client().await.exchange(UPGRADE).await.status, 504);
        assert_eq!(edge.access_log().await[0]["end"]["type"], "connection_timeout");
    }
}

#[tokio::test]
async fn a_tunnel_to_an_endpoint_that_asks_for_a_certificate() {
    let (authority, clients) = (ca(), ca());
    let origin =
        origin().answer(Answer::switch("websocket")).mutual_tls(&authority.server(&["app.test"]), &clients).spawn().await;
    let identity = clients.client("edge");
    let keys = format!("sni: app.test, ca: {:?}", authority.file());
    let shown = format!("tls: {{{keys}, client_cert: {:?}, client_key: {:?}}}", identity.cert_file, identity.key_file);
    all_echo_through(&to(origin.addr(), &shown).start().await).await;
    let strange = to(origin.addr(), &format!("tls: {{sni: app.test, ca: {:?}}}", clients.file())).start().await;
    assert_eq!(strange.client().await.exchange(UPGRADE).await.status, 502);
    assert_eq!(strange.access_log().await[0]["end"]["type"], "tls_certificate_error");
}

async fn all_echo_through(edge: &Edge) {
    all_echo(async || edge.client().await).await;
}

#[tokio::test]
async fn a_tunnel_over_ipv6_and_over_a_unix_socket() {
    let listener = TcpListener::bind("[::1]:0").await.expect("bind");
    let origin = hasty().spawn_on(listener);
    all_echo_through(&to(origin.addr(), "").start().await).await;
    let builder = edge().upstream("app", &[]).route("all", "upstream: app");
    let path = builder.file("app.sock");
    let serving = tokio::spawn(hasty_unix(UnixListener::bind(&path).expect("bind")));
    let config = builder.config().replace("endpoints: []", &format!("endpoints: [\"unix:{}\"]", path.display()));
    all_echo_through(&builder.start_as(&config).await).await;
    serving.abort();
}

/// Sends its 101 at once, reads a head, then echoes.
async fn hasty_unix(listener: UnixListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        stream.write_all(SWITCH.as_bytes()).await.expect("sent");
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_http2_gets_the_request_without_its_upgrade() {
    let origin = h2_origin().respond(200, "no tunnel").spawn().await;
    let edge = to(origin.addr(), "connections: {protocol: h2c}").start().await;
    for _ in 0..2 {
        assert_eq!(edge.client().await.exchange(UPGRADE).await.text(), "no tunnel");
    }
    assert_eq!(origin.connections(), 1, "a stream among others");
}
