//! A limit that edges share through a Redis over TLS: whom it is believed depends on the environment of the process.

use std::path::Path;

use crate::{
    child::{Run, Weir, command, write},
    support::{certs::ca, client::RawClient, edge::edge, redis::redis_over_tls},
};

/// An edge with one limit in this store, whose system trusts these authorities.
async fn sharing(store: &str, trusted: &Path, limit: &str) -> Run {
    let filter = format!("rate_limit: {{rate: 1/h, {limit}, store: '{store}'}}");
    let edge = edge().route("all", &format!("respond: {{body: ok}}\nfilters:\n  - {filter}"));
    let config = write(&edge);
    let weir = Weir::of(command().env("SSL_CERT_FILE", trusted).arg("run").arg("--config").arg(config));
    Run::started(weir, edge).await
}

#[tokio::test]
async fn edges_share_a_limit_over_tls() {
    let authority = ca();
    let Some(redis) = redis_over_tls(&authority.server(&["127.0.0.1"])).await else { return };
    let sharing = async || sharing(&redis.url(), &authority.file(), "burst: 1").await;
    let (one, other) = (sharing().await, sharing().await);
    for edge in [&one, &other] {
        edge.weir.err.line_with("connected to the store").await;
    }
    let mut clients = (1..).map(|number: u16| [number.to_be_bytes()[0], number.to_be_bytes()[1]]);
    eventually!(
        {
            // Somebody new, whom each edge would admit by itself. On a busy machine a store is too slow for its edge now and then.
            let [high, low] = clients.next().expect("another client");
            let from = async |edge: &Run| {
                let mut client = RawClient::connect_from(&format!("127.1.{high}.{low}"), edge.address("web")).await;
                client.get("example.com", "/").await.status
            };
            [from(&one).await, from(&other).await]
        },
        |statuses| *statuses == [200, 429]
    );
}

#[tokio::test]
async fn a_store_that_the_system_does_not_trust_is_told_nothing() {
    let (authority, other) = (ca(), ca());
    let Some(redis) = redis_over_tls(&authority.server(&["127.0.0.1"])).await else { return };
    let edge = sharing(&redis.url(), &other.file(), "burst: 4, key: route").await;
    edge.weir.err.line_with("cannot be used").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(edge.get("/").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429], "it counts by itself");
    assert_eq!(redis.command("KEYS *").await, "*0\r\n");
}
