//! Health checks by the gRPC health checking protocol, against an origin that speaks HTTP/2.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use crate::support::{
    edge::{Edge, edge},
    h2_origin::{H2Answer, h2_origin},
};

async fn health(edge: &Edge) -> String {
    let stats = edge.admin_get("/stats").await.json();
    let endpoint = &stats["upstreams"][0]["endpoints"][0];
    format!("{}: {}", endpoint["state"].as_str().expect("a state"), endpoint["reason"].as_str().expect("a reason"))
}

#[tokio::test]
async fn only_serving_is_healthy_and_the_reason_is_told() {
    const UNIMPLEMENTED: u8 = 100;
    let answer = Arc::new(AtomicU8::new(1));
    let asked = answer.clone();
    let origin = h2_origin()
        .respond_with(move |_| match asked.load(Ordering::Relaxed) {
            UNIMPLEMENTED => H2Answer::new(200, "").header("content-type", "application/grpc").header("grpc-status", "12"),
            status => H2Answer::grpc(vec![0, 0, 0, 0, 2, 8, status], 0),
        })
        .spawn()
        .await;
    let keys = "connections: {protocol: h2c}\npanic_threshold: 0%\n\
                health_check: {grpc: {service: greeter}, interval: 20ms, healthy_after: 1, unhealthy_after: 1}";
    let edge = edge().upstream_with("app", &[origin.addr()], keys).route("app", "upstream: app").start().await;

    eventually!(health(&edge).await == "healthy: passed");
    let request = origin.next_request().await;
    assert_eq!((request.head.method.as_str(), request.head.uri.path()), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!((request.header("content-type"), request.header("te")), (Some("application/grpc"), Some("trailers")));
    assert_eq!(&request.body[..], b"\0\0\0\0\x09\x0a\x07greeter");

    answer.store(2, Ordering::Relaxed);
    eventually!(health(&edge).await == "unhealthy: NOT_SERVING");
    assert_eq!(edge.get("/").await.status, 503);
    answer.store(1, Ordering::Relaxed);
    eventually!(health(&edge).await == "healthy: passed");
    answer.store(UNIMPLEMENTED, Ordering::Relaxed);
    eventually!(health(&edge).await.starts_with("unhealthy: UNIMPLEMENTED: the endpoint does not serve grpc.health.v1"));
}
