//! Rule 1: where a message ends (RFC 9112 sections 6 and 7).

use crate::setup::bed;

/// A POST with these framing fields and whatever follows its head.
fn post(fields: &str, rest: &str) -> String {
    format!("POST /p HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n{rest}")
}

fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

#[tokio::test]
async fn rfc9112_6_1_te_with_cl_is_refused() {
    let bed = bed().await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: example.com\r\n\r\n";
    for fields in [
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "Content-Length: 0\r\nTRANSFER-ENCODING: CHUNKED\r\n",
        "content-length: 4\r\nx: y\r\ntransfer-encoding:\tchunked \r\n",
    ] {
        bed.refuses(post(fields, smuggled), 400, "te_and_cl").await;
    }
}

#[tokio::test]
async fn rfc9112_6_1_the_only_coding_is_chunked_once() {
    let bed = bed().await;
    for value in ["gzip", "gzip, chunked", "identity", "chunked, gzip", "xchunked", "chunked;x=y"] {
        bed.refuses(post(&format!("transfer-encoding: {value}\r\n"), "0\r\n\r\n"), 501, "unknown_transfer_coding").await;
    }
    for value in ["chunked, chunked", "\"chunked\"", "chun ked", "chunked\u{b}"] {
        let reason = if value.contains('\u{b}') { "bad_field_value" } else { "bad_transfer_encoding" };
        bed.refuses(post(&format!("transfer-encoding: {value}\r\n"), "0\r\n\r\n"), 400, reason).await;
    }
    let twice = "transfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    bed.refuses(post(twice, "0\r\n\r\n"), 400, "bad_transfer_encoding").await;
}

#[tokio::test]
async fn rfc9112_6_1_te_in_http_1_0_is_refused() {
    let bed = bed().await;
    let request = "POST / HTTP/1.0\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    bed.refuses(request, 400, "te_on_http10").await;
}

#[tokio::test]
async fn rfc9110_8_6_a_content_length_is_one_number() {
    let bed = bed().await;
    for value in ["", "-1", "+1", "0x1", "1 1", "1, 1", "1,2", "1;1", "1.0", "a", "9223372036854775808", "18446744073709551617"] {
        bed.refuses(post(&format!("content-length: {value}\r\n"), "x"), 400, "bad_content_length").await;
    }
    for second in ["1", "2"] {
        let fields = format!("content-length: 1\r\ncontent-length: {second}\r\n");
        bed.refuses(post(&fields, "x"), 400, "duplicate_content_length").await;
    }
    let received = bed.passes(post("content-length: 0005\r\n", "hello")).await;
    assert_eq!(received.text(), "hello");
    assert_eq!(received.headers.all("content-length").len(), 1);
}

#[tokio::test]
async fn rfc9112_6_2_a_body_of_declared_length_arrives_as_it_was() {
    let bed = bed().await;
    let received = bed.passes(post("content-length: 12\r\n", "0\r\n\r\nGET / \r\n")).await;
    assert_eq!((received.header("content-length"), received.text().as_str()), (Some("12"), "0\r\n\r\nGET / \r"));
    assert_eq!(received.header("transfer-encoding"), None);
    let received = bed.passes(post("content-length: 0\r\n", "")).await;
    assert_eq!((received.header("content-length"), received.text().as_str()), (Some("0"), ""));
}

#[tokio::test]
async fn rfc9112_6_3_a_request_without_framing_has_no_body() {
    let bed = bed().await;
    let mut client = bed.client().await;
    // What stands where a body would is the next request, and is judged as one.
    let answer = client.exchange(post("", "x=1&y=2 \r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(bed.origin.next_request().await.text(), "");
    assert_eq!(client.read_response().await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(bed.origin.request_count(), 1);
}

#[tokio::test]
async fn rfc9112_7_1_malformed_chunks_are_refused() {
    let bed = bed().await;
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloxx\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "8000000000000000\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
    ] {
        bed.refuses_body(chunked(body), 400, "bad_chunk").await;
    }
}

#[tokio::test]
async fn rfc9112_7_1_chunks_reach_the_origin_as_one_body() {
    let bed = bed().await;
    let received = bed.passes(chunked("5\r\nhello\r\n00b\r\n\r\n0\r\n\r\nGET \r\n0\r\n\r\n")).await;
    assert_eq!(received.text(), "hello\r\n0\r\n\r\nGET ");
    assert_eq!((received.header("transfer-encoding"), received.header("content-length")), (Some("chunked"), None));
    let received = bed.passes(post("TrAnSfEr-EnCoDiNg: CHUNKED\r\n", "1\r\nx\r\n0\r\n\r\n")).await;
    assert_eq!(received.headers.all("transfer-encoding"), ["chunked"]);
}

#[tokio::test]
async fn rfc9112_7_1_1_chunk_extensions_are_read_strictly_and_dropped() {
    let bed = bed().await;
    for extension in [";a", ";a=b", ";a=\"b;\\\"c\"", ";a;b=c;d"] {
        let received = bed.passes(chunked(&format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n"))).await;
        assert_eq!(received.text(), "hello");
        assert!(!String::from_utf8_lossy(&received.raw).contains(";a"), "{extension} was passed on");
    }
    // CVE-2025-22871 and its kin: a line feed alone in an extension ends the line for some and not for others.
    for extension in [";", "; a", ";a ", ";a=", ";=b", ";a=\"b", ";a\nx", ";\n", ";a=\"b\nc\"", ";a\r;b", ";a=b c", ";\0"] {
        bed.refuses_body(chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n")), 400, "bad_chunk").await;
    }
}

#[tokio::test]
async fn rfc9112_7_1_1_chunks_that_are_almost_all_framing_are_refused() {
    let bed = bed().await;
    let padded = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(20);
    bed.refuses_body(chunked(&(padded + "0\r\n\r\n")), 400, "chunk_overhead").await;
    let bytes = "1\r\nx\r\n".repeat(10_000) + "0\r\n\r\n";
    assert_eq!(bed.passes(chunked(&bytes)).await.body.len(), 10_000);
}

#[tokio::test]
async fn rfc9112_7_1_2_trailers_are_checked() {
    let bed = bed().await;
    for trailer in [
        "content-length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: x",
        "x-forwarded-for: 1.2.3.4",
        "cookie: a=b",
    ] {
        bed.refuses_body(chunked(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n")), 400, "bad_trailer").await;
    }
    for trailer in ["no colon", "x : y", " x: y", "x: y\n", "x: \0", ": y", "x: y\r\n folded"] {
        bed.refuses_body(chunked(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n")), 400, "bad_trailer").await;
    }
    let many = "x: y\r\n".repeat(101);
    bed.refuses_body(chunked(&format!("5\r\nhello\r\n0\r\n{many}\r\n")), 431, "trailers_too_large").await;
}

#[tokio::test]
async fn rfc9112_7_1_2_the_body_before_a_trailer_arrives() {
    let bed = bed().await;
    let mut client = bed.client().await;
    let answer = client.exchange(chunked("5\r\nhello\r\n0\r\nx-checksum: 1\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(bed.origin.next_request().await.text(), "hello");
    // The connection is where the next request begins.
    assert_eq!(client.get("example.com", "/next").await.status, 200);
    assert_eq!(bed.origin.next_request().await.target, "/next");
}

#[tokio::test]
async fn rfc9112_11_2_a_request_within_a_body_is_never_a_request() {
    let bed = bed().await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: example.com\r\n\r\n";
    let by_length = post(&format!("content-length: {}\r\n", inner.len()), inner);
    let by_chunks = chunked(&format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    for request in [by_length, by_chunks] {
        let mut client = bed.client().await;
        client.send(request + "GET /after HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        assert_eq!((client.read_response().await.status, client.read_response().await.status), (200, 200));
        assert_eq!(bed.origin.next_request().await.text(), inner);
        assert_eq!(bed.origin.next_request().await.target, "/after");
    }
    assert_eq!(bed.origin.request_count(), 4);
}

#[tokio::test]
async fn rfc9112_8_a_body_that_breaks_off_is_no_request() {
    let bed = bed().await;
    let requests = [post("content-length: 10\r\n", "hello"), chunked("5\r\nhello\r\n"), chunked("5\r\nhel")];
    for (index, request) in requests.into_iter().enumerate() {
        let mut client = bed.client().await;
        client.send(request).await;
        client.half_close().await;
        // Whatever is answered, the connection ends, and the origin does not take it for the whole.
        let _ = client.read_to_close().await;
        let line = bed.log_line(index).await;
        assert_ne!(line["status"], 200, "{line}");
    }
    assert_eq!(bed.origin.request_count(), 0);
}
