//! A client that goes away cancels the upstream request, and the slow side sets the pace (`http.md` rule 16).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use h2::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    setup::{bed_of, get, h2},
    support::{
        Gate,
        client::RawClient,
        edge::{Edge, edge},
        h2_client::H2Request,
        h2_origin::h2_origin,
        origin::{Answer, origin},
    },
};

/// The one line that a request leaves whose client went away.
async fn is_logged_as_gone(edge: &Edge) {
    let line = edge.access_log().await.remove(0);
    assert_eq!(
        (line["end"]["who"].as_str(), line["end"]["type"].as_str()),
        (Some("client"), Some("connection_terminated")),
        "{line}"
    );
}

/// No request is counted as being served.
async fn none_in_flight(edge: &Edge) {
    eventually!(crate::setup::sample(edge, "weir_http_requests_in_flight{route=\"app\"}").await == 0);
}

#[tokio::test]
async fn rfc9112_9_6_http1_client_gone_before_the_answer() {
    for resets in [false, true] {
        let bed = bed_of(origin().never_answer(), "").await;
        let mut client = bed.client().await;
        client.send(get("/")).await;
        bed.origin.next_request().await;
        assert_eq!(bed.origin.open_connections(), 1);
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        // `never_answer` does not read either: it is the edge's close that counts, so ask the edge.
        is_logged_as_gone(&bed.edge).await;
        none_in_flight(&bed.edge).await;
    }
}

/// An origin that sends a head and then a megabyte at a time, as often as it is let, and knows when its peer is gone.
struct Pouring {
    address: SocketAddr,
    written: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

const PIECE: usize = 16 * 1024;

async fn pouring(total: usize) -> Pouring {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let (written, gone) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (counting, noting) = (written.clone(), gone.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (written, gone) = (counting.clone(), noting.clone());
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let mut left = total;
                while left > 0 {
                    let count = left.min(PIECE);
                    match stream.write(&[b'x'; PIECE][..count]).await {
                        Ok(count) => {
                            written.fetch_add(count, Relaxed);
                            left -= count;
                        }
                        Err(_) => break,
                    }
                }
                // Until the other side closes.
                while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
                gone.fetch_add(1, Relaxed);
            });
        }
    });
    Pouring { address, written, gone }
}

async fn edge_to(endpoint: SocketAddr, http: &str) -> Edge {
    let http = format!("http: {{h2c: true{}{http}}}", if http.is_empty() { "" } else { ", " });
    edge().listener(&http).upstream("app", &[endpoint]).route("app", "upstream: app").start().await
}

/// Waits until the origin writes no more, and says how much it could.
async fn stalled_at(written: &AtomicUsize) -> usize {
    // Silence has no event: no progress over 20 looks, 25 ms apart.
    let (mut last, mut same) = (0, 0);
    while same < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        let now = written.load(Relaxed);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
    }
    last
}

const LARGE: usize = 50 << 20;
/// What the kernel may hold in the buffers of two connections on loopback, and a little of ours.
const BOUND: usize = 16 << 20;

#[tokio::test]
async fn rule16_a_client_of_http1_that_does_not_read_bounds_what_is_read_for_it() {
    let origin = pouring(LARGE).await;
    let edge = edge_to(origin.address, "").await;
    let mut client = RawClient::connect(edge.address("web")).await;
    client.small_receive_buffer(64 * 1024);
    client.send(get("/")).await;
    let written = stalled_at(&origin.written).await;
    assert!(written < BOUND, "the origin could write {written} bytes while the client read none");
    // Once it reads, it gets everything.
    client.read_head().await;
    let mut left = LARGE;
    while left > 0 {
        let piece = client.read_some().await;
        assert!(!piece.is_empty(), "{left} bytes are missing");
        left -= piece.len();
    }
}

#[tokio::test]
async fn rule16_a_client_of_http2_that_does_not_read_bounds_what_is_read_for_it() {
    let origin = pouring(LARGE).await;
    let edge = edge_to(origin.address, "").await;
    let mut client = h2(&edge).await;
    let response = client.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    let written = stalled_at(&origin.written).await;
    assert!(written < BOUND, "the origin could write {written} bytes while the client read none");
    let (body, _) = crate::support::h2_client::collect(&mut response.into_body()).await.expect("the rest");
    assert_eq!(body.len(), LARGE);
}

#[tokio::test]
async fn rule16_an_origin_that_does_not_read_bounds_what_is_read_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let edge = edge_to(listener.local_addr().expect("an address"), "").await;
    let mut client = edge.client().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGE}\r\n\r\n")).await;
    let (origin, _) = listener.accept().await.expect("a connection");
    let mut sent = 0;
    // A piece that is not taken within a second says that nothing more is.
    while sent < LARGE {
        let piece = tokio::time::timeout(std::time::Duration::from_secs(1), client.try_send([b'x'; PIECE])).await;
        if piece.is_err() {
            break;
        }
        sent += PIECE;
    }
    assert!(sent < BOUND, "the client could send {sent} bytes while the origin read none");
    drop(origin);
}

#[tokio::test]
async fn rule16_a_client_of_http1_gone_within_the_answer_cancels_it() {
    let origin = pouring(LARGE).await;
    let edge = edge_to(origin.address, "").await;
    for (round, resets) in [(1, false), (2, true)] {
        let mut client = edge.client().await;
        client.send(get("/")).await;
        client.read_head().await;
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        eventually!(origin.gone.load(Relaxed) == round);
    }
    assert!(origin.written.load(Relaxed) < 2 * BOUND);
    is_logged_as_gone(&edge).await;
}

#[tokio::test]
async fn rfc9113_5_4_2_a_stream_that_is_reset_cancels_its_request_and_no_other() {
    let origin = pouring(LARGE).await;
    let edge = edge_to(origin.address, "").await;
    let mut client = h2(&edge).await;
    // Before the answer is read, and within it.
    let first = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    let kept = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    eventually!(origin.written.load(Relaxed) > 0);
    first.reset(Reason::CANCEL);
    eventually!(origin.gone.load(Relaxed) == 1);
    is_logged_as_gone(&edge).await;
    let (body, _) = crate::support::h2_client::collect(&mut kept.head().await.expect("a head").into_body()).await.expect("whole");
    assert_eq!(body.len(), LARGE, "the other stream is not affected");
    none_in_flight(&edge).await;
}

#[tokio::test]
async fn rfc9113_8_7_an_http2_upstream_gets_a_reset() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let origin =
        h2_origin().respond_with(move |_| crate::support::h2_origin::H2Answer::new(200, "late").wait(&waiting)).spawn().await;
    let edge = edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("app", "upstream: app")
        .start()
        .await;
    let mut client = h2(&edge).await;
    let stream = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    origin.next_request().await;
    stream.reset(Reason::CANCEL);
    eventually!(origin.cancelled() == 1);
    let mut http1 = edge.client().await;
    http1.send(get("/")).await;
    origin.next_request().await;
    drop(http1);
    eventually!(origin.cancelled() == 2);
}

#[tokio::test]
async fn rule16_an_upload_that_breaks_off_is_not_passed_on_as_whole() {
    let bed = bed_of(origin().respond(200, "ok"), "").await;
    for request in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut client = bed.client().await;
        client.send(request).await;
        drop(client);
    }
    let mut client = h2(&bed.edge).await;
    let mut upload = client.open(&H2Request { method: http::Method::POST, ..H2Request::get("x", "/") }).await.expect("a stream");
    upload.send("half", false);
    eventually!(bed.origin.connections() >= 1);
    upload.reset(Reason::CANCEL);
    assert_eq!(bed.edge.access_log_of(3).await.len(), 3);
    eventually!(bed.origin.open_connections() == 0);
    assert_eq!(bed.origin.request_count(), 0, "{:?}", bed.origin.requests());
}

#[tokio::test]
async fn rule16_a_slow_reader_is_timed_out() {
    let origin = pouring(LARGE).await;
    let edge = edge_to(origin.address, "body_idle_timeout: 200ms").await;
    let mut client = RawClient::connect(edge.address("web")).await;
    client.small_receive_buffer(64 * 1024);
    client.send(get("/")).await;
    let line = edge.access_log().await.remove(0);
    assert_eq!((line["status"].as_u64(), line["end"]["who"].as_str()), (Some(200), Some("client")), "{line}");
    eventually!(origin.gone.load(Relaxed) == 1);
    let (rest, _) = client.read_to_end().await;
    assert!(rest.len() < LARGE, "it was cut");

    let mut client = h2(&edge).await;
    let response = client.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    let line = edge.access_log_of(2).await.remove(1);
    assert_eq!((line["status"].as_u64(), line["end"]["who"].as_str()), (Some(200), Some("client")), "{line}");
    eventually!(origin.gone.load(Relaxed) == 2);
    assert!(crate::support::h2_client::collect(&mut response.into_body()).await.is_err(), "the stream was reset");
}

#[tokio::test]
async fn rule16_a_slow_answer_is_not_a_slow_reader() {
    let gate = Gate::new();
    let answer = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").wait(&gate).bytes("lf");
    let bed = bed_of(origin().answer(answer), "body_idle_timeout: 200ms").await;
    let mut client = bed.client().await;
    client.send(get("/")).await;
    client.read_head().await;
    assert_eq!(client.read_to_close().await, b"ha", "an endpoint that is silent for as long is cut");
    let line = bed.log_line(0).await;
    assert_eq!((line["end"]["who"].as_str(), line["end"]["type"].as_str()), (Some("upstream"), Some("connection_read_timeout")));
    // Over HTTP/2, and with time enough.
    let http = "http: {h2c: true, body_idle_timeout: 20s}";
    let edge = edge().listener(http).upstream("app", &[bed.origin.addr()]).route("app", "upstream: app").start().await;
    let mut http2 = h2(&edge).await;
    let response = http2.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    gate.open();
    assert_eq!(crate::support::h2_client::collect(&mut response.into_body()).await.expect("whole").0, "half");
}
