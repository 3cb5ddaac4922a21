//! What the log says of a request that the gate refused: enough to find the client, or the page that sends it.

use serde_json::{Value, json};

use crate::{
    setup::{bed, bed_of, frames_for, h2_bed},
    support::{h2_raw::get_fields, origin::origin},
};

/// What a line says of the request.
fn said(line: &Value) -> Value {
    json!([line["http"], line["method"], line["host"], line["path"], line["user_agent"]])
}

#[tokio::test]
async fn a_refused_http1_request_is_logged_as_far_as_it_was_read() {
    let bed = bed().await;
    let lines = "Host: A.example:80\r\nUser-Agent: curl/8\r\n";
    for (index, (request, reason, want)) in [
        (
            format!("GET /page\\x?q=secret HTTP/1.1\r\n{lines}\r\n"),
            "backslash",
            json!(["1.1", "GET", "a.example", "/page\\x", "curl/8"]),
        ),
        (
            format!("POST /a/../b HTTP/1.1\r\n{lines}Content-Length: x\r\n\r\n"),
            "bad_content_length",
            json!(["1.1", "POST", "a.example", "/b", "curl/8"]),
        ),
        ("GET /b HTTP/1.1\r\nUser-Agent: x\r\n\r\n".to_owned(), "missing_host", json!(["1.1", "GET", null, "/b", "x"])),
        ("BREW /pot\r\n\r\n".to_owned(), "http_09", json!([null, "BREW", null, "/pot", null])),
        (
            format!("GET /a b\u{1b}[2J HTTP/1.0\r\n{lines}\r\n"),
            "bad_target",
            json!(["1.0", "GET", "a.example", "/a b\u{1b}[2J", "curl/8"]),
        ),
        (
            format!("GET /long HTTP/1.1\r\n{lines}X: {}\r\n\r\n", "x".repeat(40_000)),
            "header_too_large",
            json!(["1.1", "GET", "a.example", "/long", "curl/8"]),
        ),
        ("\u{16}\u{3}\u{1}\u{0}".to_owned(), "tls_on_cleartext", json!([null, null, null, null, null])),
    ]
    .into_iter()
    .enumerate()
    {
        bed.exchange(request).await;
        let line = bed.log_line(index).await;
        assert_eq!(line["end"]["reason"], reason, "{line}");
        assert_eq!(said(&line), want, "{reason}");
    }
    // Nothing of the query, and no control byte as it came.
    let text = std::fs::read_to_string(bed.edge.file("access.log")).unwrap();
    assert!(!text.contains("secret") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(bed.origin.connections(), 0);
}

#[tokio::test]
async fn a_refused_http2_request_is_logged_as_far_as_it_was_read() {
    let bed = h2_bed().await;
    let fields = get_fields("http", "A.example:80", "/page\\x?q=secret", &[("user-agent", "curl/8")]);
    frames_for(&bed.edge, &fields).await;
    let line = bed.log_line(0).await;
    assert_eq!(line["end"]["reason"], "backslash");
    assert_eq!(said(&line), json!(["2", "GET", "a.example", "/page\\x", "curl/8"]));
    assert!(!line.to_string().contains("secret"));
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_logged_as_far_as_it_came() {
    let bed = bed_of(origin(), "header_timeout: 200ms").await;
    let mut client = bed.client().await;
    client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\nUser-Agent: snail/1\r\nX: ").await;
    assert_eq!(client.read_response().await.status, 408);
    assert_eq!(said(&bed.log_line(0).await), json!(["1.1", "GET", "a.example", "/slow", "snail/1"]));
}
