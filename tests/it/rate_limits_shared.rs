//! One limit for several edges, counted in a real Redis, which is slow, goes away and comes back.

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use crate::support::{
    client::RawClient,
    edge::{Edge, edge},
    redis::{Redis, redis},
    wire::RawResponse,
};

/// Lists the buckets.
const BUCKETS: &str = "KEYS weir:route*";

async fn sharing(redis: &Redis, options: &str) -> Edge {
    let filter = format!("rate_limit: {{{options}, store: '{}'}}", redis.url());
    edge().route("all", &format!("respond: {{body: ok}}\nfilters:\n  - {filter}")).start().await
}

/// The address of somebody who has not asked before.
fn stranger() -> String {
    static STRANGERS: AtomicU16 = AtomicU16::new(0);
    let [high, low] = STRANGERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("127.1.{high}.{low}")
}

/// Waits until the edge has asked the store and had an answer.
async fn connected(edge: &Edge, redis: &Redis) {
    crate::eventually!({
        let before = redis.command(BUCKETS).await;
        from(&stranger(), edge).await;
        redis.command(BUCKETS).await != before
    });
}

async fn answer(ip: &str, edge: &Edge) -> RawResponse {
    RawClient::connect_from(ip, edge.address("web")).await.get("x", "/").await
}

async fn from(ip: &str, edge: &Edge) -> u16 {
    answer(ip, edge).await.status
}

#[tokio::test]
async fn edges_that_share_a_store_admit_together_what_one_would() {
    let Some(redis) = redis().await else { return };
    let (a, b) = (sharing(&redis, "rate: 1/h, burst: 10").await, sharing(&redis, "rate: 1/h, burst: 10").await);
    let mut ip;
    // An edge that a busy machine gives no answer in 3 ms decides by itself: then another client tries the same.
    crate::eventually!(
        {
            connected(&a, &redis).await;
            connected(&b, &redis).await;
            ip = stranger();
            let mut admitted = [0, 0];
            for _ in 0..10 {
                admitted[0] += u32::from(from(&ip, &a).await == 200);
                admitted[1] += u32::from(from(&ip, &b).await == 200);
            }
            // What is told is what all have left.
            let refused = answer(&ip, &a).await;
            (admitted, refused.status, refused.header("ratelimit").map(str::to_owned))
        },
        |(admitted, status, told)| (*admitted, *status, told.as_deref()) == ([5, 5], 429, Some("\"1/h\";r=0;t=36000"))
    );
    assert_eq!(from(&stranger(), &a).await, 200);
    let keys = redis.command(BUCKETS).await;
    assert!(keys.contains("weir:route all, rate_limit client_ip") && !keys.contains(&ip), "{keys}");
}

#[tokio::test]
async fn while_the_store_says_nothing_each_edge_counts_on_by_itself() {
    let Some(mut redis) = redis().await else { return };
    let edge = sharing(&redis, "rate: 1/h, burst: 40").await;
    connected(&edge, &redis).await;
    for _ in 0..10 {
        assert_eq!(from("127.0.0.1", &edge).await, 200);
    }
    let store = redis.url().replace("redis://", "");
    let up = async || edge.metric("weir_rate_limit_store_up", &[("store", &store)]).await;
    crate::eventually!(up().await == Some(1.0));
    // Slow: it holds its connections and answers nobody.
    redis.pause();
    let mut client = edge.client().await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(client.get("x", "/").await.status, 200, "nobody is refused for it");
        took.push(began.elapsed());
    }
    took.sort();
    // Three wait 3 ms, and nobody after them; the rest is for what this machine does meanwhile.
    assert!(took[10] < Duration::from_secs(1), "{took:?}");
    assert_eq!(up().await, Some(0.0));
    redis.resume();
    connected(&edge, &redis).await;
    // Gone.
    redis.kill();
    for _ in 0..10 {
        assert_eq!(from("127.0.0.1", &edge).await, 200);
    }
    assert_eq!(up().await, Some(0.0));
    assert_eq!(from("127.0.0.1", &edge).await, 429, "of forty, counted along on this edge all the time");
    // Back, and it knows nothing: what this edge knows still counts.
    redis.restart().await;
    connected(&edge, &redis).await;
    assert_eq!(from("127.0.0.1", &edge).await, 429);
}

#[tokio::test]
async fn without_a_store_from_the_start_the_edge_starts_and_limits_by_itself() {
    let Some(mut redis) = redis().await else { return };
    redis.kill();
    let edge = sharing(&redis, "rate: 1/h, burst: 2").await;
    assert_eq!([from("127.0.0.1", &edge).await, from("127.0.0.1", &edge).await, from("127.0.0.1", &edge).await], [200, 200, 429]);
    redis.restart().await;
    connected(&edge, &redis).await;
}

#[tokio::test]
async fn many_at_once_over_two_edges_are_counted_exactly() {
    let Some(redis) = redis().await else { return };
    let (a, b) =
        (sharing(&redis, "rate: 1/h, burst: 100, key: route").await, sharing(&redis, "rate: 1/h, burst: 100, key: route").await);
    // The first requests find the stores connected: one each is taken, or asked for again.
    crate::eventually!(from("127.0.0.9", &a).await == 200 && redis.command(BUCKETS).await != "*0\r\n");
    connected_by_count(&b, &redis).await;
    let before = taken(&redis).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..20 {
        let mut client = if task % 2 == 0 { a.client().await } else { b.client().await };
        tasks.spawn(async move {
            let mut admitted = 0;
            for _ in 0..10 {
                admitted += u32::from(client.get("x", "/").await.status == 200);
            }
            admitted
        });
    }
    let admitted: u32 = tasks.join_all().await.into_iter().sum();
    // On a machine that is too busy to answer in 3 ms, an edge decides by itself: never more than two edges would alone.
    assert!((100 - before..=200).contains(&admitted), "{admitted} admitted, {before} before");
}

/// Every request moves the time in the bucket by an hour.
async fn taken(redis: &Redis) -> u32 {
    let bucket = redis
        .command("EVAL \"local k = redis.call('KEYS', 'weir:route*') return #k > 0 and redis.call('PTTL', k[1]) or 0\" 0")
        .await;
    bucket.trim_start_matches(':').trim().parse::<u64>().expect("milliseconds").div_ceil(3_600_000).try_into().expect("few")
}

async fn connected_by_count(edge: &Edge, redis: &Redis) {
    crate::eventually!({
        let before = taken(redis).await;
        from("127.0.0.9", edge).await;
        taken(redis).await > before
    });
}
