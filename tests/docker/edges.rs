//! Two edges and a Redis: one limit for both, and none of them needs it to answer.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    demo::Demo,
    engine::{answers, docker, make_images_of, until},
    support::{certs::tls, client::RawClient},
};

/// The limit of the route `login`: so many at once, and one more for each of these.
const BURST: u32 = 20;
const EACH: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn two_edges_hold_a_visitor_to_one_limit_for_as_long_as_there_is_a_redis() {
    if !answers().await {
        return;
    }
    make_images_of("edges").await;
    // By a field instead of the address, which is the same for all who come through a published port.
    let visitors = |conf: String| {
        assert!(conf.contains("rate: 10/m, burst: 20, key: client_ip,"));
        conf.replace("key: client_ip,", "key: 'header:x-visitor',")
    };
    let services = ["edge", "edge-2", "redis", "users"];
    let demo = Box::pin(Demo::start_of(&["compose.yaml", "compose.edges.yaml"], &services, visitors)).await;
    let edges = [demo.https, demo.published("edge-2", "8443").await];
    let redis = demo.containers("redis").await.remove(0);
    Box::pin(shared(edges)).await;
    Box::pin(what_is_asked_of_both_at_once_is_counted_once(edges)).await;
    Box::pin(a_redis_that_stops_is_not_noticed(edges, &redis)).await;
    Box::pin(without_it_each_counts_for_itself(edges)).await;
    docker(&["start", &redis]).await;
    Box::pin(shared(edges)).await;
    Box::pin(what_is_asked_of_both_at_once_is_counted_once(edges)).await;
    eprintln!("edges: one limit, two limits while Redis was gone, and one again");
}

/// Somebody who has not asked before.
fn stranger() -> String {
    static STRANGERS: AtomicU32 = AtomicU32::new(0);
    format!("visitor-{}", STRANGERS.fetch_add(1, Relaxed))
}

/// Visits on one connection, and how many of them were admitted; anything but 200 and 429 is a failure. `None` where
/// there is no edge yet.
async fn visits(edge: SocketAddr, visitor: &str, count: u32) -> Option<u32> {
    let mut client = RawClient::try_connect_tls(edge, &tls().sni("localhost").alpn("http/1.1")).await.ok()?;
    let mut admitted = 0;
    for _ in 0..count {
        let request = format!("GET /login HTTP/1.1\r\nhost: localhost\r\nx-visitor: {visitor}\r\n\r\n");
        client.try_send(request).await.ok()?;
        let answer = client.try_read_response().await.ok()??;
        assert!([200, 429].contains(&answer.status), "{} {}", answer.status, answer.text());
        admitted += u32::from(answer.status == 200);
    }
    Some(admitted)
}

/// What is given back to a visitor in this time, at most.
fn refilled(time: Duration) -> u32 {
    time.as_secs().div_euclid(EACH.as_secs()) as u32
}

/// Waits until what a visitor has spent at either edge is missing at the other.
async fn shared(edges: [SocketAddr; 2]) {
    for [one, other] in [edges, [edges[1], edges[0]]] {
        let left = async || {
            let (visitor, began) = (stranger(), Instant::now());
            let spent = visits(one, &visitor, BURST).await?;
            let more = visits(other, &visitor, 3).await?;
            Some((spent, more.saturating_sub(refilled(began.elapsed()))))
        };
        until("the other edge refusing", left, |found| *found == Some((BURST, 0))).await;
    }
}

/// Both edges are asked by several clients each at the same time: what one of them admitted, and how many that may be
/// together at the most.
async fn flood(edges: [SocketAddr; 2]) -> ([u32; 2], u32) {
    let (visitor, began, mut clients) = (stranger(), Instant::now(), JoinSet::new());
    for client in 0..8 {
        let (place, visitor) = (client % 2, visitor.clone());
        clients.spawn(async move { (place, visits(edges[place], &visitor, 8).await.expect("an edge")) });
    }
    let mut admitted = [0; 2];
    for (place, count) in clients.join_all().await {
        admitted[place] += count;
    }
    (admitted, refilled(began.elapsed()))
}

async fn what_is_asked_of_both_at_once_is_counted_once(edges: [SocketAddr; 2]) {
    let mut rounds = 0;
    let round = async || {
        let (admitted, more) = flood(edges).await;
        let both: u32 = admitted.iter().sum();
        assert!((BURST..=2 * (BURST + more)).contains(&both), "{admitted:?}");
        rounds += 1;
        (admitted, more)
    };
    // An edge that waited for Redis for 3 ms, on a machine that is busy with something else, has decided by itself.
    let once = |(admitted, more): &([u32; 2], u32)| (BURST..=BURST + more).contains(&admitted.iter().sum());
    let (admitted, more) = until("one count for both", round, once).await;
    eprintln!("edges: {admitted:?} admitted at once, of {BURST} and {more} more, in round {rounds}");
}

/// Nobody is refused, or waits for longer than a moment, while it goes: each of these has not asked before.
async fn a_redis_that_stops_is_not_noticed(edges: [SocketAddr; 2], redis: &str) {
    let stopped = AtomicBool::new(false);
    let stopping = async {
        docker(&["stop", "--time", "10", redis]).await;
        stopped.store(true, Relaxed);
    };
    let visiting = async {
        let mut took = Vec::new();
        while !stopped.load(Relaxed) || took.len() < 100 {
            for edge in edges {
                let began = Instant::now();
                assert_eq!(visits(edge, &stranger(), 1).await, Some(1));
                took.push(began.elapsed());
            }
        }
        took
    };
    let ((), mut took) = tokio::join!(stopping, visiting);
    took.sort();
    // With a TLS handshake each, on a machine that may have something else to do.
    let (usual, longest) = (took[took.len() / 2], took[took.len() - 1]);
    assert!(usual < Duration::from_millis(200) && longest < Duration::from_secs(2), "{usual:?}, at the most {longest:?}");
    eprintln!("edges: {} visits while Redis stopped took {usual:?}, at the most {longest:?}", took.len());
}

async fn without_it_each_counts_for_itself(edges: [SocketAddr; 2]) {
    let (admitted, more) = flood(edges).await;
    for own in admitted {
        assert!((BURST..=BURST + more).contains(&own), "{admitted:?} of {BURST} each, and {more} more");
    }
}
