//! A limit that edges share through a Redis over TLS: whom it is believed depends on the environment of the process.

use std::path::Path;

use crate::{
    child::{Run, Weir, command, write},
    support::{certs::ca, edge::edge, redis::redis_over_tls},
};

/// An edge with one limit in this store, whose system trusts these authorities.
async fn sharing(store: &str, trusted: &Path) -> Run {
    let filter = format!("rate_limit: {{rate: 1/h, burst: 4, key: route, store: '{store}'}}");
    let edge = edge().route("all", &format!("respond: {{body: ok}}\nfilters:\n  - {filter}"));
    let config = write(&edge);
    let weir = Weir::of(command().env("SSL_CERT_FILE", trusted).arg("run").arg("--config").arg(config));
    Run::started(weir, edge).await
}

#[tokio::test]
async fn edges_share_a_limit_over_tls() {
    let authority = ca();
    let Some(redis) = redis_over_tls(&authority.server(&["127.0.0.1"])).await else { return };
    let edges = [sharing(&redis.url(), &authority.file()).await, sharing(&redis.url(), &authority.file()).await];
    for edge in &edges {
        edge.weir.err.line_with("connected to the store").await;
    }
    let mut admitted = [0, 0];
    for _ in 0..4 {
        for (edge, admitted) in edges.iter().zip(&mut admitted) {
            *admitted += usize::from(edge.get("/").await.status == 200);
        }
    }
    assert_eq!(admitted, [2, 2]);
}

#[tokio::test]
async fn a_store_that_the_system_does_not_trust_is_told_nothing() {
    let (authority, other) = (ca(), ca());
    let Some(redis) = redis_over_tls(&authority.server(&["127.0.0.1"])).await else { return };
    let edge = sharing(&redis.url(), &other.file()).await;
    edge.weir.err.line_with("cannot be used").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(edge.get("/").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429], "it counts by itself");
    assert_eq!(redis.command("KEYS *").await, "*0\r\n");
}
