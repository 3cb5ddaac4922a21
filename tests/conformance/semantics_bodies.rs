//! What has a body, a date and trailers (RFC 9110 sections 6.4, 6.5, 6.6.1 and 15.2).

use crate::{
    setup::{bed_of, get, h2, send_h2},
    support::{
        edge::{Edge, edge},
        h2_client::H2Request,
        h2_origin::{H2Answer, H2Origin, h2_origin},
        origin::{Answer, origin},
    },
};

/// An edge from HTTP/2 (and 1) to HTTP/2.
pub async fn h2_to_h2(origin: &H2Origin) -> Edge {
    edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("app", "upstream: app")
        .start()
        .await
}

fn head_of(path: &str) -> H2Request {
    let mut request = H2Request::get("example.com", path);
    request.method = http::Method::HEAD;
    request
}

#[tokio::test]
async fn rfc9110_9_3_2_head_has_the_fields_of_get_and_no_body() {
    let bed = bed_of(origin().respond_headers(200, &[("etag", "\"1\"")], "twelve bytes"), "").await;
    let mut client = bed.client().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        let answer = client.read_head_response().await;
        assert_eq!((answer.status, answer.header("content-length"), answer.header("etag")), (200, Some("12"), Some("\"1\"")));
    }
    // The connection is in step: the next response is where it should be.
    assert_eq!(client.exchange(get("/")).await.text(), "twelve bytes");
    let answer = send_h2(&bed.edge, &head_of("/")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length"), answer.body.len()), (200, Some("12"), 0));
}

#[tokio::test]
async fn rfc9110_9_3_2_head_of_a_chunked_response() {
    let raw = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let bed = bed_of(origin().respond_raw(raw).respond_raw(raw).respond(200, "ok"), "").await;
    let mut client = bed.client().await;
    client.send("HEAD / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.status, 200);
    assert_eq!(send_h2(&bed.edge, &head_of("/")).await.status, 200);
    assert_eq!(client.exchange(get("/")).await.text(), "ok");
}

#[tokio::test]
async fn rfc9110_6_4_1_204_and_304_end_with_their_head() {
    let no_content = "HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n";
    let with_length = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";
    let not_modified = "HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\netag: \"1\"\r\n\r\n";
    for (raw, status) in [(no_content, 204), (with_length, 204), (not_modified, 304)] {
        let bed = bed_of(origin().respond_raw(raw).respond_raw(raw).respond(200, "ok"), "").await;
        let mut client = bed.client().await;
        let answer = client.exchange(get("/")).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{raw}");
        assert_eq!(answer.header("transfer-encoding"), None, "{raw}");
        assert!(status != 204 || answer.header("content-length").is_none(), "RFC 9110 section 8.6: {raw}");
        let answer = send_h2(&bed.edge, &H2Request::get("example.com", "/")).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{raw}");
        assert_eq!(client.exchange(get("/")).await.text(), "ok", "{raw}");
    }
}

#[tokio::test]
async fn rfc9110_6_4_1_a_body_where_none_may_be_reaches_nobody() {
    // The bytes behind such a head could be taken for the response to the next request.
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for head in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n"] {
        let bed = bed_of(origin().respond_raw(format!("{head}{poison}")).respond(200, "ok"), "").await;
        let mut client = bed.client().await;
        assert!([204, 304].contains(&client.exchange(get("/1")).await.status));
        assert_eq!(bed.exchange(get("/2")).await.text(), "ok", "{head}");
    }
}

#[tokio::test]
async fn rfc9110_6_6_1_every_response_has_one_date() {
    // One that the origin sent is replaced, not kept: Pingora's sessions write their own and cannot be told otherwise.
    let with_date = origin().respond_headers(200, &[("date", "Sun, 06 Nov 1994 08:49:37 GMT")], "").respond(200, "");
    let bed = bed_of(with_date, "").await;
    assert_eq!(bed.exchange(get("/")).await.headers.all("date").len(), 1);
    let answer = bed.exchange(get("/")).await;
    let dates = answer.headers.all("date");
    assert_eq!(dates.len(), 1, "{dates:?}");
    let age = std::time::SystemTime::now().duration_since(httpdate::parse_http_date(dates[0]).expect("a date"));
    assert!(age.is_ok_and(|age| age.as_secs() < 60), "{dates:?}");
    let answer = send_h2(&bed.edge, &H2Request::get("example.com", "/")).await;
    assert_eq!(answer.headers.get_all("date").iter().count(), 1);
    // What Weir answers by itself has one too.
    let edge = edge().start().await;
    assert_eq!(edge.get("/").await.headers.all("date").len(), 1);
    let refused = edge.client().await.exchange("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((refused.status, refused.headers.all("date").len()), (400, 1));
}

#[tokio::test]
async fn rfc9110_6_5_trailers_pass_between_http2() {
    let origin =
        h2_origin().respond_with(|_| H2Answer::new(200, "body").trailers(&[("grpc-status", "0"), ("x-sum", "7")])).spawn().await;
    let edge = h2_to_h2(&origin).await;
    let request = H2Request::post("example.com", "/", "in").header("te", "trailers");
    let answer = send_h2(&edge, &request).await;
    assert_eq!((answer.text().as_str(), answer.trailer("grpc-status"), answer.trailer("x-sum")), ("body", Some("0"), Some("7")));
    assert_eq!(origin.next_request().await.header("te"), Some("trailers"), "rule 7: told on when the client said so");
    // The client of HTTP/1 loses them, which RFC 9110 section 6.5.1 allows, and gets the whole body.
    assert_eq!(edge.get("/").await.text(), "body");
}

#[tokio::test]
async fn rfc9110_6_5_trailers_without_a_body_pass_too() {
    // A gRPC answer of trailers alone after an empty body.
    let origin = h2_origin().respond_with(|_| H2Answer::grpc("", 12)).spawn().await;
    let edge = h2_to_h2(&origin).await;
    let answer = send_h2(&edge, &H2Request::post("example.com", "/", "in").header("te", "trailers")).await;
    assert_eq!((answer.status.as_u16(), answer.trailer("grpc-status")), (200, Some("12")));
}

#[tokio::test]
async fn rfc9110_6_5_a_chunked_response_with_trailers_is_complete_for_all() {
    let bed = bed_of(origin().answer(Answer::chunked(200, &["ab", "c"], &[("x-sum", "3")])), "").await;
    assert_eq!(bed.exchange(get("/")).await.text(), "abc");
    assert_eq!(send_h2(&bed.edge, &H2Request::get("example.com", "/")).await.text(), "abc");
    assert_eq!(bed.exchange(get("/")).await.text(), "abc", "the upstream connection is in step");
}

#[tokio::test]
async fn rfc8297_early_hints_pass_to_http1() {
    let hinted = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let bed = bed_of(origin().respond_raw(hinted), "").await;
    let mut client = bed.client().await;
    client.send(get("/")).await;
    let early = client.read_head().await;
    assert!(early.start.contains("103"), "{early:?}");
    assert_eq!(early.headers.get("link"), Some("</a.css>; rel=preload"));
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    // A client of HTTP/2 gets the final response at least.
    assert_eq!(h2(&bed.edge).await.get("example.com", "/").await.text(), "ok");
    // And a client of HTTP/1.0, which knows no interim responses, nothing but the final one (RFC 9110 section 15.2).
    let answer = bed.exchange("GET / HTTP/1.0\r\nhost: example.com\r\n\r\n").await;
    assert_eq!((answer.status, answer.interim.len()), (200, 0));
}

#[tokio::test]
async fn rfc9112_7_1_a_client_of_http_1_0_gets_no_chunks() {
    let bed = bed_of(origin().answer(Answer::chunked(200, &["ab", "c"], &[])), "").await;
    for request in ["GET / HTTP/1.0\r\nhost: x\r\n\r\n", "GET / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n"] {
        let mut client = bed.client().await;
        let answer = client.exchange(request).await;
        assert_eq!((answer.text().as_str(), answer.header("transfer-encoding")), ("abc", None), "{request}");
        assert!(client.is_closed().await, "the end of the body is the close");
    }
}
