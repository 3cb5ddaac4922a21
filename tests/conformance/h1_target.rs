//! Rules 2 and 3: which resource a request is for (RFC 9112 section 3, RFC 9110 section 7).

use serde_json::Value;

use crate::{
    setup::{Bed, bed, bed_with, get},
    support::{client::RawClient, edge::edge, h2_origin::h2_origin, origin::origin},
};

fn hosts(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|host| format!("host: {host}\r\n")).collect();
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

#[tokio::test]
async fn rfc9112_3_2_exactly_one_host() {
    let bed = bed().await;
    bed.refuses(hosts(&[]), 400, "missing_host").await;
    bed.refuses(hosts(&["example.com", "example.com"]), 400, "duplicate_host").await;
    bed.refuses(hosts(&["example.com", "evil.example"]), 400, "duplicate_host").await;
}

#[tokio::test]
async fn rfc9110_7_2_a_host_is_a_uri_host_and_a_port() {
    let bed = bed().await;
    for host in [
        "",
        "a b",
        "a,b",
        "user@example.com",
        "example.com:x",
        "example.com:99999",
        "example.com:80:80",
        "[::1",
        "::1",
        "[::1]x",
        "a/b",
        "http://example.com",
        "exa\tmple.com",
        "a?b",
        "a#b",
        "a\\b",
        "a%00b",
        "\u{e9}.example",
        "a..b",
        ".",
    ] {
        bed.refuses(hosts(&[host]), 400, "bad_host").await;
    }
    for host in
        ["example.com", "example.com:", "EXAMPLE.com:8080", "[::1]:80", "192.0.2.1", "a-b.example", "xn--bcher-kva.example"]
    {
        // What is forwarded is what the client said.
        assert_eq!(bed.passes(hosts(&[host])).await.headers.all("host"), [host]);
    }
}

#[tokio::test]
async fn rfc9112_3_2_2_the_absolute_form_must_agree_with_host() {
    let bed = bed().await;
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for (target, host, origin_form) in [
        ("http://example.com/a?b", "example.com", "/a?b"),
        ("HTTP://EXAMPLE.com:80/a", "example.com", "/a"),
        ("http://example.com", "example.com:80", "/"),
        ("http://example.com?q", "example.com", "/?q"),
    ] {
        let received = bed.passes(get(target, host)).await;
        assert_eq!((received.target.as_str(), received.header("host")), (origin_form, Some(host)));
    }
    bed.refuses(get("http://evil.example/a", "example.com"), 400, "host_mismatch").await;
    bed.refuses(get("http://example.com:81/a", "example.com"), 400, "host_mismatch").await;
    bed.refuses("GET http://example.com/a HTTP/1.1\r\n\r\n", 400, "missing_host").await;
    for target in
        ["http://user@example.com/", "http:///a", "http:/a", "example.com/a", "example.com:80", "ftp://example.com/", "a"]
    {
        bed.refuses(get(target, "example.com"), 400, "bad_target").await;
    }
    bed.refuses(get("https://example.com/a", "example.com"), 421, "misdirected").await;
}

#[tokio::test]
async fn rfc9112_3_2_4_the_asterisk_form_is_for_options() {
    let bed = bed().await;
    let with = |method: &str| format!("{method} * HTTP/1.1\r\nhost: example.com\r\n\r\n");
    bed.refuses(with("GET"), 400, "bad_target").await;
    bed.refuses(with("POST"), 400, "bad_target").await;
    assert_eq!(bed.passes(with("OPTIONS")).await.target, "*");
    let absolute = "OPTIONS http://example.com HTTP/1.1\r\nhost: example.com\r\n\r\n";
    assert_eq!(bed.passes(absolute).await.target, "*");
}

#[tokio::test]
async fn rfc9112_3_2_what_no_target_may_hold_is_refused() {
    let bed = bed().await;
    for (target, reason) in [
        ("/a b", "bad_target"),
        ("/a\tb", "bad_target"),
        ("/a\u{7f}", "bad_target"),
        ("/\u{e9}", "bad_target"),
        ("/a?b=\u{e9}", "bad_target"),
        ("/a?b c", "bad_target"),
        ("/a?b\0c", "nul_byte"),
        ("/\0", "nul_byte"),
        ("/%00", "nul_in_target"),
        ("/a?b=%00", "nul_in_target"),
        ("/a#b", "fragment"),
        ("/a?b#c", "fragment"),
        ("/a\\b", "backslash"),
        ("/a/..%5cb", "ambiguous_path"),
        ("/%5c..%5cb", "ambiguous_path"),
        ("/%", "bad_escape"),
        ("/%zz", "bad_escape"),
        ("/..", "path_above_root"),
        ("/a/../../b", "path_above_root"),
        ("/%2e%2e/b", "path_above_root"),
        ("/a/%2E./..%2fb", "ambiguous_path"),
        ("/..;/admin", "ambiguous_path"),
        ("/a//../b", "ambiguous_path"),
        ("/a%2f..%2fb", "ambiguous_path"),
    ] {
        bed.refuses(get(target), 400, reason).await;
    }
}

#[tokio::test]
async fn rfc9110_4_2_routes_match_the_canonical_path_and_the_client_s_own_is_forwarded() {
    let open = origin().respond(200, "open").spawn().await;
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.upstream("open", &[open.addr()])
            .route("secret", "match: {path: /secret/*}\nrespond: {status: 403}")
            .route("open", "match: {path: /open/*}\nupstream: open")
    })
    .await;
    for path in
        ["/secret/x", "//secret/x", "/./secret/x", "/open/../secret/x", "/%73ecret/x", "/open/%2e%2e/secret/x", "/secret//"]
    {
        assert_eq!(bed.exchange(get(path)).await.status, 403, "{path}");
    }
    for path in ["/open/a%2Fb", "/open/./a", "//open//b", "/secret/../open/c", "/o%70en/%7eu?x=%41&y=a%2fb", "/open/%c3%a9"] {
        assert_eq!(bed.exchange(get(path)).await.text(), "open", "{path}");
        assert_eq!(open.next_request().await.target, path);
    }
    // An encoded slash or backslash is a byte of its segment, not a separator.
    for path in ["/open%2f..a", "/open%5c..a", "/open%5Csecret"] {
        assert_eq!(bed.exchange(get(path)).await.text(), "ok", "{path}");
        assert_eq!(bed.origin.next_request().await.target, path);
    }
    let log = bed.edge.access_log_of(16).await;
    let line = log.iter().find(|line| line["route"] == "open" && line["path"] == "/open/~u");
    assert!(line.is_some(), "the log has the canonical path: {log:?}");
    assert_eq!(log.iter().filter(|line| line["path"] == "/secret/x").count(), 6);
}

/// The few bytes that no URI may hold and that do not go on as they are.
fn as_browsers_write(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = path.replace('<', "%3C").replace('>', "%3E").replace('`', "%60");
    let query = query.map(|query| query.replace('<', "%3C").replace('>', "%3E").replace('"', "%22"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

/// Whatever the gate lets through, everything that reads targets must take, too.
#[tokio::test]
async fn rfc9110_4_2_what_browsers_send_passes_everything_that_reads_targets() {
    let bed = bed_with(origin().respond_headers(200, &[("cache-control", "max-age=60")], "ok"), |edge| {
        edge.route("rewritten", "match: {path: /rw/*}\nupstream: app\nfilters: [{rewrite: {strip_prefix: /rw}}]")
            .route("mirrored", "match: {path: /mirror/*}\nupstream: app\nfilters: [{mirror: {upstream: app}}]")
            .route("asked", "match: {path: /asked/*}\nupstream: app\nfilters: [{forward_auth: {upstream: app, path: /verify}}]")
            .route("cached", "match: {path: /cached/*}\nupstream: app\nfilters: [cache]")
            .route("found", "match: {query: {q: 'a\\b\"<>|'}}\nrespond: {body: found}")
            .route("moved", "match: {path: /moved/*}\nredirect: {to: 'https://{host}/new{path}{query}'}")
    })
    .await;
    let query = "?q=a\\\"<>`{|}^b";
    let written = "?q=a\\%22%3C%3E`{|}^b";
    assert_eq!(bed.passes(get(&format!("/rw/%5C`{query}"))).await.target, format!("/%5C%60{written}"));
    bed.exchange(get(&format!("/mirror/x{query}"))).await;
    for _ in 0..2 {
        assert_eq!(bed.origin.next_request().await.target, format!("/mirror/x{written}"));
    }
    assert_eq!(bed.exchange(get(&format!("/asked/x{query}"))).await.status, 200);
    assert_eq!(bed.origin.next_request().await.header("x-forwarded-uri"), Some(&*format!("/asked/x{written}")));
    assert_eq!(bed.origin.next_request().await.target, format!("/asked/x{written}"));
    bed.passes(get(&format!("/cached/x{query}"))).await;
    assert!(bed.exchange(get(&format!("/cached/x{written}"))).await.header("age").is_some());
    assert_eq!(bed.exchange(get("/?q=a\\b\"<>|")).await.text(), "found");
    let location = "https://example.com/new/%5C%60?q=a%5C%22%3C%3E%60%7B%7C%7D%5Eb";
    assert_eq!(bed.exchange(get(&format!("/moved/%5C`{query}"))).await.header("location"), Some(location));
}

/// Whatever the gate lets through, everything behind it must take too, and leave as it is.
#[tokio::test]
async fn rfc9110_7_7_a_target_is_forwarded_byte_for_byte() {
    let bed = bed().await;
    let mut client = bed.client().await;
    for byte in (0x21..0x7f_u8).map(char::from) {
        for target in [format!("/a{byte}b"), format!("/a?b{byte}c")] {
            if target.contains('#') || target.contains("a\\") || target.contains("a%b") {
                continue;
            }
            assert_eq!(client.get("example.com", &target).await.status, 200, "{target}");
            assert_eq!(bed.origin.next_request().await.target, as_browsers_write(&target));
        }
    }
    for target in ["/?q=a\\b", "/?q={\"a\":1}", "/?q=<b>", "/?q=a|b{}^`[]'", "/a%5Cb", "/`"] {
        assert_eq!(client.get("example.com", target).await.status, 200, "{target}");
        assert_eq!(bed.origin.next_request().await.target, as_browsers_write(target));
    }
    for target in ["/?", "/a?", "/a??b", "/a?b?c", "/a?x=50%", "/a?x=%5c", "/a;b=c,d/@:!$&'()*+", "/%7e%41%2f%3f%23", "/a/"] {
        assert_eq!(client.get("example.com", target).await.status, 200, "{target}");
        assert_eq!(bed.origin.next_request().await.target, target);
    }
}

#[tokio::test]
async fn rfc9110_9_methods_are_tokens_and_trace_and_connect_are_not_allowed() {
    let bed = bed().await;
    for request in [
        get("/").replace("GET", "TRACE"),
        "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n".to_owned(),
        get("/").replace("GET", "CONNECT"),
    ] {
        let answer = bed.refuses(request, 405, "method_not_allowed").await;
        assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    bed.refuses(get("/").replace("GET", "G(T"), 400, "bad_method").await;
    bed.refuses(get("/").replace("GET", "G\u{e9}T"), 400, "bad_method").await;
    bed.refuses(get("/").replace("GET", " GET"), 400, "leading_garbage").await;
    bed.refuses(get("/").replace("GET", &"M".repeat(33)), 501, "method_too_long").await;
    // Methods are case-sensitive: this is one that we do not know, like the others.
    for method in ["PROPFIND", "QUERY", "get", "x-my!method", "PATCH", "DELETE"] {
        assert_eq!(bed.passes(get("/").replace("GET", method)).await.method, method);
    }
}

#[tokio::test]
async fn rfc9110_2_5_only_http_1_on_an_http_1_connection() {
    let bed = bed().await;
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"] {
        bed.refuses(get("/").replace("HTTP/1.1", version), 505, "bad_version").await;
    }
    bed.refuses("GET /\r\nhost: example.com\r\n\r\n", 400, "http_09").await;
    bed.refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http2_preface").await;
    for version in ["HTTP/1", "HTTP/1.10", "http/1.1", "HTTP/ 1.1", "HTTP/1.1 ", "HTTP/x.y", "HTTPS/1.1"] {
        let mut client = bed.client().await;
        assert_eq!(client.exchange(get("/").replace("HTTP/1.1", version)).await.status, 400, "{version}");
        assert!(client.is_closed().await);
    }
    assert_eq!(bed.origin.request_count(), 0);
    // A later minor version is understood as 1.1, and an earlier one is spoken to in ours (RFC 9110 section 2.5).
    for target in ["/a", "http://example.com/a"] {
        let received = bed.passes(get(target).replace("HTTP/1.1", "HTTP/1.2")).await;
        assert_eq!((received.target.as_str(), received.version.as_str()), ("/a", "HTTP/1.1"));
    }
    let received = bed.passes(get("/").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(received.version, "HTTP/1.1");
}

#[tokio::test]
async fn rfc9112_3_the_request_line_has_two_spaces() {
    let bed = bed().await;
    for line in ["GET", "GET ", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/\tHTTP/1.1", "GET / / HTTP/1.1"] {
        let mut client = bed.client().await;
        let answer = client.exchange(format!("{line}\r\nhost: example.com\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{line:?}");
        assert!(client.is_closed().await);
    }
    assert_eq!(bed.origin.request_count(), 0);
}

/// A certificate for one name must not serve requests for another that has its own.
#[tokio::test]
async fn rfc9110_15_5_20_sni_and_host_of_different_certificates_are_misdirected() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.tls_with("self_signed: [other.test]")).await;
    let ask = async |bed: &Bed, sni: &str, host: &str| {
        let tls = bed.edge.trust().sni(sni).alpn("http/1.1");
        RawClient::connect_tls(bed.edge.address("edge"), &tls).await.get(host, "/").await.status
    };
    assert_eq!(ask(&bed, "example.com", "example.com").await, 200);
    assert_eq!(ask(&bed, "example.com", "www.example.com").await, 200);
    assert_eq!(ask(&bed, "example.com", "other.test").await, 421);
    assert_eq!(bed.origin.request_count(), 2);
}

/// HTTP/1.0 has no Host (RFC 1945): health checks of load balancers leave it out.
#[tokio::test]
async fn rfc1945_5_a_request_that_names_no_host_belongs_to_routes_for_every_host() {
    let over_h2 = h2_origin().respond(200, "over h2").spawn().await;
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.upstream_with("two", &[over_h2.addr()], "connections: {protocol: h2c}")
            .route("named", "match: {host: [example.com, '*.example.com']}\nrespond: {status: 403}")
            .route("two", "match: {path: /two}\nupstream: two")
            .route("moved", "match: {path: /moved}\nredirect: {to: 'https://{host}/new'}")
            .route("there", "match: {path: /there}\nredirect: {to: 'https://www.example.com/new'}")
            .route("told", "match: {path: /told}\nupstream: app\nfilters: [{headers: {request: {set: {x-for: 'h={host}'}}}}]")
            .route("as", "match: {path: /as}\nupstream: app\nfilters: [{headers: {request: {set: {host: in.example}}}}]")
            .route("cached", "match: {path: /cached}\nupstream: app\nfilters: [cache]")
            .tls()
    })
    .await;
    let endpoint = bed.origin.addr().to_string();
    for request in ["OPTIONS / HTTP/1.0\r\n\r\n", "GET /x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n"]
    {
        let received = bed.passes(request).await;
        assert_eq!((received.version.as_str(), received.headers.all("host")), ("HTTP/1.1", vec![endpoint.as_str()]));
        assert_eq!(received.header("x-forwarded-host"), None);
        assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    let line = bed.log_line(0).await;
    assert_eq!(
        (&line["host"], &line["method"], &line["path"], &line["http"]),
        (&Value::Null, &"OPTIONS".into(), &"/".into(), &"1.0".into())
    );
    let ask = |path: &str| format!("GET {path} HTTP/1.0\r\n\r\n");
    assert_eq!(bed.exchange(ask("/two")).await.text(), "over h2");
    let authority = over_h2.next_request().await.head.uri.authority().map(ToString::to_string);
    assert_eq!(authority, Some(over_h2.addr().to_string()));
    assert_eq!(bed.passes(ask("/told")).await.header("x-for"), Some("h="));
    assert_eq!(bed.passes(ask("/as")).await.headers.all("host"), ["in.example"]);
    for _ in 0..2 {
        // Under no URL is there anything to keep.
        assert_eq!(bed.passes(ask("/cached")).await.target, "/cached");
    }
    assert_eq!(bed.exchange(ask("/there")).await.status, 308);
    let nowhere = bed.exchange(ask("/moved")).await;
    assert_eq!((nowhere.status, nowhere.header("location")), (400, None));
    // A host in the target alone is one, which an HTTP/1.1 endpoint is told in its place.
    let received = bed.passes("GET http://Other.test:80/x HTTP/1.0\r\n\r\n").await;
    assert_eq!((received.target.as_str(), received.headers.all("host")), ("/x", vec!["other.test:80"]));
    assert_eq!(received.header("x-forwarded-host"), Some("other.test:80"));
    assert_eq!(bed.exchange("GET http://example.com/ HTTP/1.0\r\n\r\n").await.status, 403);
    // Over TLS, where a server name was asked for, it contradicts none.
    assert_eq!(bed.edge.tls_client().await.exchange(ask("/x")).await.status, 200);
}

#[tokio::test]
async fn rfc1945_5_a_request_that_names_no_host_cannot_be_sent_to_https() {
    let clear = origin().respond(200, "secure").spawn().await;
    let edge = edge().upstream("app", &[clear.addr()]).route("all", "upstream: app").tls();
    let config = edge.config().replacen("127.0.0.1:0\n", "127.0.0.1:0\n    redirect_to_https: true\n", 1);
    let edge = edge.start_as(&config).await;
    let answer = edge.client().await.exchange("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("location")), (400, None));
    assert_eq!(edge.access_log().await[0]["end"]["reason"], "missing_host");
    let answer = edge.client().await.exchange("GET /a?q=\\\"`^ HTTP/1.0\r\nHost: example.com\r\n\r\n").await;
    let location = format!("https://example.com:{}/a?q=%5C%22%60%5E", edge.address("edge").port());
    assert_eq!((answer.status, answer.header("location")), (308, Some(&*location)));
}
