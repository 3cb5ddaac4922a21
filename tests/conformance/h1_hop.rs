//! Rules 7 to 9: what an intermediary takes away, adds and counts (RFC 9110 section 7.6).

use crate::{
    setup::{bed, bed_with},
    support::origin::{Answer, origin},
};

fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n")
}

#[tokio::test]
async fn rfc9110_7_6_the_origin_gets_exactly_this() {
    let bed = bed().await;
    let request = "GET /a?b HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\nConnection: keep-alive\r\nX-Mine: 1\r\n\r\n";
    let received = bed.passes(request).await;
    let mut lines: Vec<String> = received.head().to_ascii_lowercase().lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "get /a?b http/1.1");
    lines.sort();
    assert_eq!(
        lines,
        [
            "",
            "accept: */*",
            "host: example.com",
            "via: 1.1 weir",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: example.com",
            "x-forwarded-proto: http",
            "x-mine: 1",
            "x-real-ip: 127.0.0.1",
        ]
    );
}

#[tokio::test]
async fn rfc9110_7_6_1_fields_of_the_connection_stay_on_it() {
    let bed = bed().await;
    let received = bed
        .passes(with(
            "connection: keep-alive, x-hop, X-Other\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nx-hop: 1\r\n\
             x-other: 2\r\nte: gzip\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nproxy-authorization: Basic eA==\r\n\
             proxy: http://evil\r\nx-end: 3\r\n",
        ))
        .await;
    for name in
        ["keep-alive", "proxy-connection", "x-hop", "x-other", "te", "upgrade", "http2-settings", "proxy-authorization", "proxy"]
    {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!(received.header("x-end"), Some("3"));
}

#[tokio::test]
async fn rfc9110_7_6_1_connection_cannot_nominate_what_the_message_stands_on() {
    let bed = bed().await;
    let received = bed
        .passes(
            "POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 2\r\nauthorization: Bearer x\r\ncookie: a=b\r\nrange: bytes=0-1\r\n\
             x-request-id: 7\r\nconnection: host, content-length, authorization, cookie, range, via, x-forwarded-for, x-forwarded-host\r\n\
             connection: x-real-ip, x-forwarded-proto, x-request-id, , \r\n\r\nhi",
        )
        .await;
    for (name, value) in [
        ("host", "example.com"),
        ("content-length", "2"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("range", "bytes=0-1"),
        ("x-request-id", "7"),
        ("via", "1.1 weir"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        assert_eq!(received.headers.all(name), [value], "{name}");
    }
    assert_eq!(received.text(), "hi");
    let received = bed
        .passes("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: transfer-encoding\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        .await;
    assert_eq!((received.header("transfer-encoding"), received.text().as_str()), (Some("chunked"), "x"));
}

/// A client that nominates a field which a filter sets must not get rid of it.
#[tokio::test]
async fn rfc9110_7_6_1_nominations_are_followed_before_filters_run() {
    let bed = bed_with(origin().respond(200, "filtered"), |edge| {
        edge.route("filtered", "match: {path: /f}\nupstream: app\nfilters: [{headers: {request: {set: {x-user: anonymous}}}}]")
    })
    .await;
    let received = bed.passes("GET /f HTTP/1.1\r\nhost: a\r\nx-user: root\r\nconnection: x-user\r\n\r\n").await;
    assert_eq!(received.headers.all("x-user"), ["anonymous"]);
}

#[tokio::test]
async fn rfc9110_7_6_1_fields_of_the_origin_s_connection_stay_on_it() {
    let fields = [
        ("connection", "x-hop, keep-alive, content-type, set-cookie, content-length, date"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("proxy-connection", "close"),
        ("proxy-authenticate", "Basic"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("content-type", "text/plain"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("x-end", "1"),
    ];
    let bed = bed_with(origin().respond_headers(200, &fields, "ok"), |edge| edge).await;
    let mut client = bed.client().await;
    let answer = client.get("example.com", "/").await;
    for name in ["keep-alive", "x-hop", "proxy-connection", "proxy-authenticate", "te", "upgrade"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.headers.all("set-cookie"), ["a=b", "c=d"]);
    assert_eq!((answer.header("content-type"), answer.header("x-end")), (Some("text/plain"), Some("1")));
    assert_ne!(answer.header("connection"), Some("close"));
    assert_eq!(client.get("example.com", "/").await.status, 200);
}

#[tokio::test]
async fn rfc9110_7_6_1_an_interim_response_has_fields_of_its_connection_too() {
    let interim = "HTTP/1.1 103 Early Hints\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
                   content-length: 5\r\nlink: </a.css>\r\n\r\n";
    let bed =
        bed_with(origin().respond_raw(format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(with("")).await;
    let head = client.read_head().await;
    assert_eq!((head.start.as_str(), head.headers.names()), ("HTTP/1.1 103 Early Hints", vec!["link"]));
    assert_eq!(client.read_response().await.text(), "ok");
}

#[tokio::test]
async fn rfc9112_2_3_the_version_is_our_own() {
    for old in ["200 OK\r\ncontent-length: 2\r\n\r\nok", "304 Not Modified\r\n\r\n", "200 OK\r\n\r\nok"] {
        let bed = bed_with(origin().answer(Answer::raw(format!("HTTP/1.0 {old}")).close()), |edge| edge).await;
        let mut client = bed.client().await;
        for _ in 0..2 {
            let answer = client.get("example.com", "/").await;
            assert_eq!(
                (answer.version.as_str(), answer.text().as_str()),
                ("HTTP/1.1", if answer.status == 200 { "ok" } else { "" })
            );
        }
    }
}

/// TE promises that trailers go on to the client, which they do not through HTTP/1 here.
#[tokio::test]
async fn rfc9110_10_1_4_te_stays_where_trailers_do() {
    let bed = bed().await;
    for te in ["trailers", "trailers, deflate;q=0.5", "deflate"] {
        assert_eq!(bed.passes(with(&format!("te: {te}\r\nconnection: te\r\n"))).await.header("te"), None);
    }
}

#[tokio::test]
async fn rfc9110_7_6_3_via_is_appended_with_the_version_received() {
    let bed = bed().await;
    let received = bed.passes(with("via: 1.1 elsewhere, 2 other\r\n")).await;
    assert_eq!(received.headers.all("via"), ["1.1 elsewhere, 2 other", "1.1 weir"]);
    let received = bed.passes(with("").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(received.headers.all("via"), ["1.0 weir"]);
}

#[tokio::test]
async fn rfc9110_7_6_3_a_loop_ends_with_508() {
    let bed = bed().await;
    let passes = |count: usize| format!("via: {}\r\n", vec!["1.1 weir"; count].join(", "));
    assert_eq!(bed.passes(with(&passes(7))).await.headers.all("via").len(), 2);
    let requests = bed.origin.request_count();
    let answer = bed.exchange(with(&passes(8))).await;
    assert_eq!((answer.status, answer.header("cache-control")), (508, Some("no-store")));
    assert_eq!(bed.origin.request_count(), requests);
    let line = bed.log_line(1).await;
    assert_eq!((&line["end"]["reason"], &line["end"]["type"]), (&"loop_detected".into(), &"proxy_loop_detected".into()));
    eventually!(bed.rejected("loop_detected").await == 1);
}

/// An edge that forwards to itself, which is how loops happen.
#[tokio::test]
async fn rfc9110_7_6_3_an_edge_that_forwards_to_itself_stops() {
    let front = bed().await;
    let one =
        bed_with(origin(), |edge| edge.upstream("self", &[front.address()]).route("loop", "match: {path: /x}\nupstream: self"))
            .await;
    let hops = one.exchange("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(hops.status, 200);
    assert_eq!(front.origin.next_request().await.headers.all("via"), ["1.1 weir", "1.1 weir"]);
}

#[tokio::test]
async fn rfc9110_7_6_2_max_forwards_of_options_is_counted_down_and_answered() {
    let bed = bed().await;
    let options = |value: &str| format!("OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: {value}\r\n\r\n");
    for (value, left) in [("1", "0"), ("10", "9"), ("007", "6"), ("255", "254"), ("70000", "254")] {
        assert_eq!(bed.passes(options(value)).await.headers.all("max-forwards"), [left], "{value}");
    }
    let requests = bed.origin.request_count();
    let answer = bed.exchange(options("0")).await;
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    assert!(answer.header("allow").unwrap().contains("OPTIONS"));
    assert_eq!(bed.origin.request_count(), requests);
    for value in ["", "-1", "x", "1, 2"] {
        bed.refuses(options(value), 400, "bad_max_forwards").await;
    }
    // Other methods have no use for it, and it is not ours to change.
    assert_eq!(bed.passes(with("max-forwards: 0\r\n")).await.headers.all("max-forwards"), ["0"]);
}
