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

/// Three edges: the authority looks for proofs at the first one alone.
async fn three(front: &Front, ca: &std::path::Path, storage: &str, ports: Ports, hosts: &[&str]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for ports in [ports, Ports::free(), Ports::free()] {
        edges.push(Setting::at(&front.directory(), ca, storage, ports, hosts));
    }
    let [one, two, three] = <[Setting; 3]>::try_from(edges).expect("three");
    // Together, so that they want to order together.
    let (one, two, three) = tokio::join!(Edge::start(one), Edge::start(two), Edge::start(three));
    vec![one, two, three]
}

async fn share(pebble: Pebble, storage: &str) {
    const HOSTS: [&str; 4] = ["a.test", "b.test", "c.test", "d.test"];
    let (ports, ca, root) = (pebble.ports, pebble.ca.pem().to_owned(), pebble.root().await);
    let front = Front::of(pebble).await;
    let files = TempDir::new().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let edges = three(&front, &ca_file, storage, ports, &HOSTS).await;
    for host in HOSTS {
        for edge in &edges {
            edge.holds(host).await;
            edge.get(host, &root).await;
        }
    }
    assert_eq!((front.asked(NEW_ORDER), front.asked("sign-me-up")), (4, 1), "one order for each name, and one account");
}

#[tokio::test]
async fn edges_that_share_a_directory_make_one_order_for_each_name() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    share(pebble, storage.path().to_str().unwrap()).await;
}

#[tokio::test]
async fn edges_that_share_a_redis_make_one_order_for_each_name() {
    let (Some(pebble), Some(redis)) = (pebble(Options::default()).await, redis().await) else { return };
    share(pebble, &redis.url()).await;
}

async fn die(pebble: Pebble, storage: &str) {
    let (ports, ca) = (pebble.ports, pebble.ca.pem().to_owned());
    let front = Front::of(pebble).await;
    let files = TempDir::new().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let setting = |ports| Setting::at(&front.directory(), &ca_file, storage, ports, &["a.test"]);
    // In the middle of its order.
    front.stop_after(Some(6));
    let mut dying = Edge::start(setting(Ports::free())).await;
    within("the order", front.stopped()).await;
    let waiting = Edge::start(setting(ports)).await;
    front.stop_after(None);
    dying.kill().await;
    let died = Instant::now();
    waiting.holds("a.test").await;
    assert!(died.elapsed().as_secs() < 12, "it had the lock for {:?} after it had died", died.elapsed());
}

#[tokio::test]
async fn an_edge_that_dies_blocks_the_others_for_seconds() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    die(pebble, storage.path().to_str().unwrap()).await;
}

#[tokio::test]
async fn an_edge_that_dies_blocks_the_others_for_seconds_in_a_redis() {
    let (Some(pebble), Some(redis)) = (pebble(Options::default()).await, redis().await) else { return };
    die(pebble, &redis.url()).await;
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
