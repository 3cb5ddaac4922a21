//! Rule 4: what a header block is made of (RFC 9112 sections 2.2 and 5).

use crate::{
    setup::{bed, bed_of, bed_with, frames_for, h2, send_h2},
    support::{
        h2_client::H2Request,
        h2_origin::{H2Answer, h2_origin},
        h2_raw::{get_fields, kind},
        origin::origin,
    },
};

fn with(line: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: example.com\r\n{line}\r\n\r\n")
}

#[tokio::test]
async fn rfc9112_5_2_folded_lines_are_refused() {
    let bed = bed().await;
    for line in ["x: a\r\n b", "x: a\r\n\tb", "x: a\r\n : b", "x:\r\n a", "transfer-encoding:\r\n chunked"] {
        bed.refuses(with(line), 400, "obs_fold").await;
    }
    let first = "GET / HTTP/1.1\r\n host: example.com\r\n\r\n";
    bed.refuses(first, 400, "obs_fold").await;
}

#[tokio::test]
async fn rfc9112_2_2_lines_end_in_crlf() {
    let bed = bed().await;
    bed.refuses("GET / HTTP/1.1\nhost: example.com\n\n", 400, "bare_lf").await;
    bed.refuses("GET / HTTP/1.1\r\nhost: example.com\n\r\n", 400, "bare_lf").await;
    bed.refuses("GET / HTTP/1.1\r\nhost: example.com\r\n\n", 400, "bare_lf").await;
    bed.refuses(with("x: a\nb: c"), 400, "bare_lf").await;
    bed.refuses(with("x: a\n\ncontent-length: 5"), 400, "bare_lf").await;
    bed.refuses(with("x: a\rb"), 400, "bare_cr").await;
    bed.refuses(with("x: a\rcontent-length: 5"), 400, "bare_cr").await;
    bed.refuses("GET /\r HTTP/1.1\r\nhost: example.com\r\n\r\n", 400, "bad_target").await;
}

#[tokio::test]
async fn rfc9112_2_2_one_empty_line_may_come_first() {
    let bed = bed().await;
    let received = bed.passes(format!("\r\n{}", with("x: y"))).await;
    assert_eq!((received.method.as_str(), received.header("x")), ("GET", Some("y")));
    bed.refuses(format!("\r\n\r\n{}", with("x: y")), 400, "leading_garbage").await;
    bed.refuses(format!("\n{}", with("x: y")), 400, "bare_lf").await;
}

#[tokio::test]
async fn rfc9110_5_5_values_hold_no_control_characters() {
    let bed = bed().await;
    bed.refuses(with("x: a\0b"), 400, "nul_byte").await;
    for control in ["\u{1}", "\u{8}", "\u{b}", "\u{1b}", "\u{7f}"] {
        bed.refuses(with(&format!("x: a{control}b")), 400, "bad_field_value").await;
    }
    // Tabs inside and bytes above ASCII are allowed, and arrive as they were.
    let mut request = with("x: a\tb \u{e9}").into_bytes();
    let received = bed.passes(&request).await;
    assert!(received.raw.windows(6).any(|window| window == "b \u{e9}\r\n".as_bytes()));
    let at = request.iter().position(|byte| *byte == 0xc3).unwrap();
    request[at] = 0xff;
    assert!(bed.passes(&request).await.raw.contains(&0xff));
}

#[tokio::test]
async fn rfc9112_5_1_no_space_before_the_colon() {
    let bed = bed().await;
    for line in ["content-length : 5", "transfer-encoding\t: chunked", "x : y"] {
        bed.refuses(with(line), 400, "space_before_colon").await;
    }
    bed.refuses("GET / HTTP/1.1\r\nhost : example.com\r\n\r\n", 400, "space_before_colon").await;
}

#[tokio::test]
async fn rfc9110_5_1_names_are_tokens() {
    let bed = bed().await;
    for line in [": a", "no colon", "a\"b: c", "a(b): c", "a/b: c", "a@b: c", "\u{e9}: c", "a;b: c", "a=b", "{a}: b", "a\u{1}: b"]
    {
        bed.refuses(with(line), 400, "bad_field_name").await;
    }
    let received = bed.passes(with("!#$%&'*+-.^`|~09az: v")).await;
    assert_eq!(received.header("!#$%&'*+-.^`|~09az"), Some("v"));
}

#[tokio::test]
async fn rfc9110_5_1_names_with_an_underscore_are_dropped() {
    let bed = bed().await;
    let received =
        bed.passes(with("x_user: admin\r\nX_Forwarded_For: 1.2.3.4\r\ncontent_length: 7\r\n_: 1\r\nx-kept: yes")).await;
    assert!(!received.headers.names().iter().any(|name| name.contains('_')), "{:?}", received.headers);
    assert_eq!(received.header("x-kept"), Some("yes"));
}

/// What services could take for a field that Weir sets itself does not go on, whatever the listener says of other names.
#[tokio::test]
async fn rfc9110_5_1_a_listener_may_forward_names_with_an_underscore() {
    let bed = bed_of(origin().respond(200, "ok"), "underscore_fields: forward").await;
    let forged = [
        ("x_forwarded_for", "1.2.3.4"),
        ("x.real-ip", "1.2.3.4"),
        ("x_client_cert_subject", "CN=root"),
        ("content_length", "7"),
        ("transfer_encoding", "chunked"),
        ("x_request_id", "1"),
    ];
    let mut request = H2Request::get("example.com", "/").header("api_key", "secret").header("download_uri", "/x");
    let mut lines = "API_KEY: secret\r\ndownload_uri: /x".to_owned();
    for (name, value) in forged {
        request = request.header(name, value);
        lines += &format!("\r\n{name}: {value}");
    }
    let by_one = bed.passes(with(&lines)).await;
    assert_eq!(send_h2(&bed.edge, &request).await.status, 200);
    for received in [by_one, bed.origin.next_request().await] {
        let odd: Vec<&str> = received.headers.names().into_iter().filter(|name| name.contains(['_', '.'])).collect();
        assert_eq!(odd.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>(), ["api_key", "download_uri"]);
        assert_eq!((received.header("api_key"), received.header("x-forwarded-for")), (Some("secret"), Some("127.0.0.1")));
    }
    let dropped = bed.edge.metric("weir_dropped_fields_total", &[("listener", "web"), ("reason", "lookalike")]).await;
    assert_eq!(dropped, Some(12.0));
    assert_eq!(bed.edge.metric("weir_dropped_fields_total", &[("reason", "underscore")]).await, None);
}

#[tokio::test]
async fn rfc9110_5_1_fields_that_are_dropped_are_counted() {
    let bed = bed().await;
    assert_eq!(bed.edge.metric("weir_dropped_fields_total", &[]).await, None);
    bed.passes(with("api_key: 1\r\nx_y: 2\r\nx_forwarded_for: 3\r\nx-z: 4")).await;
    for (reason, count) in [("underscore", 2.0), ("lookalike", 1.0)] {
        let labels = [("listener", "web"), ("reason", reason)];
        assert_eq!(bed.edge.metric("weir_dropped_fields_total", &labels).await, Some(count), "{reason}");
    }
}

#[tokio::test]
async fn rfc9110_5_1_a_listener_may_refuse_names_with_an_underscore() {
    let bed = bed_of(origin().respond(200, "ok"), "underscore_fields: refuse").await;
    for line in ["api_key: 1", "X_Forwarded_For: 1.2.3.4", "X.Forwarded.For: 1.2.3.4"] {
        bed.refuses(with(line), 400, "underscore_field").await;
    }
    bed.passes(with("x-y: 1\r\nx.y: 1")).await;
    let frames = frames_for(&bed.edge, &get_fields("http", "example.com", "/", &[("api_key", "1")])).await;
    assert!(frames.iter().any(|frame| frame.kind == kind::HEADERS), "{frames:?}");
    let line = bed.log_line(4).await;
    assert_eq!((line["http"].as_str(), line["end"]["reason"].as_str()), (Some("2"), Some("underscore_field")), "{line}");
    assert_eq!(bed.origin.request_count(), 1);
}

/// A client reads a name as what it is: only what belongs to the endpoint's connection goes.
#[tokio::test]
async fn rfc9110_7_6_1_every_other_field_of_a_response_reaches_the_client() {
    let kept = [("x_und", "1"), ("x.dot", "2"), ("x_forwarded_for", "3"), ("x.forwarded.for", "4"), ("x-forwarded-for", "5")];
    let mut all = kept.to_vec();
    all.extend([("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5")]);
    let over_h2 = h2_origin()
        .respond_with(move |_| kept.iter().fold(H2Answer::new(200, "ok"), |answer, (name, value)| answer.header(name, value)))
        .spawn()
        .await;
    let bed = bed_with(origin().respond_headers(200, &all, "ok"), |edge| {
        edge.listener("http: {h2c: true}")
            .upstream_with("two", &[over_h2.addr()], "connections: {protocol: h2c}")
            .route("two", "match: {path: /two}\nupstream: two")
    })
    .await;
    let (mut one, mut two) = (bed.client().await, h2(&bed.edge).await);
    for path in ["/", "/two"] {
        let (by_one, by_two) = (one.get("example.com", path).await, two.get("example.com", path).await);
        for (name, value) in kept {
            assert_eq!((by_one.header(name), by_two.header(name)), (Some(value), Some(value)), "{name} of {path}");
        }
        for name in ["x-hop", "keep-alive"] {
            assert_eq!((by_one.header(name), by_two.header(name)), (None, None), "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn rfc9110_5_1_names_that_pass_for_those_of_a_proxy_are_dropped() {
    let bed = bed().await;
    let forged = "X.Forwarded.For: 1.2.3.4\r\nx-forwarded~proto: https\r\nX.Real-IP: 1.2.3.4\r\nclient.cert: x\r\n";
    let received = bed.passes(with(&format!("{forged}x.kept: yes\r\nfor.warded: yes"))).await;
    let odd: Vec<&str> = received.headers.names().into_iter().filter(|name| name.contains(['.', '~'])).collect();
    assert_eq!(odd.len(), 2, "x.kept and for.warded: {odd:?}");
}

#[tokio::test]
async fn rfc9110_5_3_repeated_fields_keep_their_order_and_their_values() {
    let bed = bed().await;
    let received = bed.passes(with("x-a: 1\r\nx-b:2\r\nX-A:  3  \r\nx-empty:\r\ncookie: a=b\r\ncookie: c=d")).await;
    assert_eq!(received.headers.all("x-a"), ["1", "3"]);
    assert_eq!((received.header("x-b"), received.header("x-empty")), (Some("2"), Some("")));
    assert_eq!(received.headers.all("cookie"), ["a=b", "c=d"]);
}
