//! Rule 11: expectations (RFC 9110 section 10.1.1).

use crate::{
    setup::{bed, bed_with},
    support::origin::{Answer, origin},
};

const HEAD: &str = "POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn rfc9110_10_1_1_the_origin_s_100_reaches_a_client_that_waits() {
    let bed = bed_with(origin().continuing().respond(200, "ok"), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(HEAD).await;
    assert_eq!(client.read_head().await.start, "HTTP/1.1 100 Continue");
    client.send("hello").await;
    assert_eq!(client.read_response().await.text(), "ok");
    let received = bed.origin.next_request().await;
    assert_eq!((received.header("expect"), received.text().as_str()), (Some("100-continue"), "hello"));
    // And the connection goes on.
    assert_eq!(client.get("example.com", "/").await.status, 200);
}

#[tokio::test]
async fn rfc9110_10_1_1_a_client_may_send_its_body_without_waiting() {
    let bed = bed_with(origin().continuing().respond(200, "ok"), |edge| edge).await;
    let answer = bed.exchange(format!("{HEAD}hello")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(bed.origin.next_request().await.text(), "hello");
    let bed = crate::setup::bed().await;
    assert_eq!(bed.passes(format!("{HEAD}hello")).await.text(), "hello");
}

#[tokio::test]
async fn rfc9110_10_1_1_a_final_answer_instead_of_100_reaches_the_client() {
    let bed = bed_with(origin().ignoring_bodies().answer(Answer::new(403, "no").close()), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(HEAD).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.interim.len()), (403, 0));
    // The body was never sent, so nobody can know where a next request would begin.
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn rfc9110_10_1_1_any_other_expectation_is_417() {
    let bed = bed().await;
    for expectation in ["200-ok", "100-continue, 200-ok", "100", "", "100-continue;x=y"] {
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nexpect: {expectation}\r\n\r\nx");
        bed.refuses(request, 417, "bad_expectation").await;
    }
    bed.refuses(
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nexpect: x\r\ncontent-length: 1\r\n\r\nx",
        417,
        "bad_expectation",
    )
    .await;
    let any_case = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\nx";
    assert_eq!(bed.passes(any_case).await.text(), "x");
}

#[tokio::test]
async fn rfc9110_10_1_1_http_1_0_gets_no_100() {
    let bed = bed_with(origin().continuing().respond(200, "ok"), |edge| edge).await;
    let answer = bed.exchange("POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!((answer.status, answer.interim.len()), (200, 0));
    assert_eq!(bed.origin.next_request().await.header("expect"), None);
    // Not even when a service sends one unasked.
    let unasked = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let bed = bed_with(origin().respond_raw(unasked), |edge| edge).await;
    assert_eq!(bed.exchange("GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.interim.len(), 0);
    assert_eq!(bed.exchange("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.interim, [103]);
}
