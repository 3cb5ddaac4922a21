//! Several edges with one storage.

use std::time::Instant;

use rustls::{HandshakeKind, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    edge::{Edge, Setting},
    front::{Front, NEW_ORDER},
    pebble::{Options, Pebble, Ports, pebble},
    support::{certs::tls, redis::redis, within},
};

/// Three edges, at the first of which alone the authority looks for proofs.
async fn share(pebble: Pebble, storage: Option<&str>) {
    const HOSTS: [&str; 4] = ["a.test", "b.test", "c.test", "d.test"];
    let front = Front::of(pebble).await;
    let first = shared(&front, storage, &HOSTS);
    let setting = || Setting { ports: Ports::free(), ..first.clone() };
    // Together, so that they want to order together.
    let (one, two, three) = tokio::join!(Edge::start(first.clone()), Edge::start(setting()), Edge::start(setting()));
    for host in HOSTS {
        for edge in [&one, &two, &three] {
            edge.holds(host).await;
            edge.get(host, &front.root).await;
        }
    }
    assert_eq!((front.asked(NEW_ORDER), front.asked("sign-me-up")), (4, 1), "one order for each name, and one account");
}

/// With this Redis, or else one directory.
fn shared(front: &Front, redis: Option<&str>, hosts: &[&str]) -> Setting {
    let setting = front.setting("shared", hosts);
    match redis {
        Some(redis) => setting.with(&format!("storage: '{redis}'")),
        None => setting,
    }
}

#[tokio::test]
async fn edges_that_share_a_directory_make_one_order_for_each_name() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    share(pebble, None).await;
}

#[tokio::test]
async fn edges_that_share_a_redis_make_one_order_for_each_name() {
    let (Some(pebble), Some(redis)) = (pebble(Options::default()).await, redis().await) else { return };
    share(pebble, Some(&redis.url())).await;
}

async fn die(pebble: Pebble, redis: Option<&str>) {
    let front = Front::of(pebble).await;
    let setting = shared(&front, redis, &["a.test"]);
    // In the middle of its order.
    front.stop_after(Some(6));
    let mut dying = Edge::start(Setting { ports: Ports::free(), ..setting.clone() }).await;
    within("the order", front.stopped()).await;
    let waiting = Edge::start(setting).await;
    front.stop_after(None);
    dying.kill().await;
    let died = Instant::now();
    waiting.holds("a.test").await;
    assert!(died.elapsed().as_secs() < 12, "it had the lock for {:?} after it had died", died.elapsed());
}

#[tokio::test]
async fn an_edge_that_dies_blocks_the_others_for_seconds() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    die(pebble, None).await;
}

#[tokio::test]
async fn an_edge_that_dies_blocks_the_others_for_seconds_in_a_redis() {
    let (Some(pebble), Some(redis)) = (pebble(Options::default()).await, redis().await) else { return };
    die(pebble, Some(&redis.url())).await;
}

#[tokio::test]
async fn a_session_goes_on_at_another_edge() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let setting = |ports| Setting { ports, ..Setting::of(&pebble, storage.path(), &["a.test"]) };
    let one = Edge::start(setting(pebble.ports)).await;
    one.holds("a.test").await;
    let mut other = Edge::start(setting(Ports::free())).await;
    other.holds("a.test").await;
    let client = tls().root(&pebble.root().await).config();
    let visit = async |edge: &Edge| {
        let stream = within("a connection", TcpStream::connect(edge.address())).await.expect("it accepts");
        let name = ServerName::try_from("a.test").expect("a name");
        let mut stream = within("a handshake", TlsConnector::from(client.clone()).connect(name, stream)).await.expect("TLS");
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("this is a.test"), "{answer}");
        resumed
    };
    assert!(!visit(&one).await);
    assert!(visit(&other).await, "with the ticket of the first one");
    // Nor is a session lost when an edge starts again.
    other.kill().await;
    other.restart().await;
    assert!(visit(&other).await);
}
