//! WebSockets: how a tunnel is asked for, opened, refused, and what passes through it.

use std::net::SocketAddr;

use crate::support::{
    certs::ca,
    client::RawClient,
    edge::{EdgeBuilder, edge},
    origin::{Answer, OriginBuilder, origin},
};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// An edge whose one route goes to one upstream with these keys.
fn to(endpoint: SocketAddr, keys: &str) -> EdgeBuilder {
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
