//! What filters do to real requests and responses, over HTTP/1, HTTP/2, upgrades and Weir's own answers.

use crate::support::{
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request},
    h2_origin::h2_origin,
    origin::{Answer, Origin, origin, refused_address},
};

/// An edge whose one route has these filters, one to a line, and goes to this origin.
pub(super) fn filtered(origin: &Origin, filters: &str) -> EdgeBuilder {
    edge().upstream("app", &[origin.addr()]).route("all", &format!("upstream: app\nfilters:\n{}", list(filters)))
}

pub(super) fn list(filters: &str) -> String {
    filters.lines().map(|filter| format!("  - {filter}\n")).collect()
}

pub(super) async fn h2(edge: &Edge) -> H2Client {
    H2Client::connect_tls(edge.address("edge"), &edge.trust()).await
}

async fn echoing() -> Origin {
    origin().respond_headers(200, &[("x-secret", "1"), ("x-kept", "1")], "hello").spawn().await
}

#[tokio::test]
async fn request_id_is_made_sent_on_answered_and_logged() {
    let origin = echoing().await;
    let edge = filtered(&origin, "request_id").tls().start().await;
    let mut client = edge.client().await;
    let answer = client.exchange("GET / HTTP/1.1\r\nhost: x\r\nX-Request-Id: mine\r\n\r\n").await;
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert_eq!((id.len(), id == "mine"), (36, false));
    assert_eq!(origin.next_request().await.headers.all("x-request-id"), [id.as_str()]);
    let over_h2 = h2(&edge).await.get("localhost", "/").await;
    let other = over_h2.header("x-request-id").expect("an id").to_owned();
    assert_eq!(origin.next_request().await.header("x-request-id"), Some(other.as_str()));
    assert_ne!(id, other);
    let log = edge.access_log_of(2).await;
    assert_eq!((&log[0]["request_id"], &log[1]["request_id"]), (&id.into(), &other.into()));
}

#[tokio::test]
async fn request_id_may_be_trusted() {
    let origin = echoing().await;
    let edge = filtered(&origin, "request_id: {header: x-trace, trust: true}").start().await;
    let mut client = edge.client().await;
    let answer = client.exchange("GET / HTTP/1.1\r\nhost: x\r\nX-Trace: mine-1\r\n\r\n").await;
    assert_eq!(answer.header("x-trace"), Some("mine-1"));
    assert_eq!(origin.next_request().await.header("x-trace"), Some("mine-1"));
    let unusable = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\nX-Trace: {}\r\n\r\n", "x".repeat(129))).await;
    assert_eq!(unusable.header("x-trace").map(str::len), Some(36));
    assert_eq!(edge.access_log_of(1).await[0]["request_id"], "mine-1");
}

#[tokio::test]
async fn headers_are_removed_set_and_added_both_ways() {
    let origin = echoing().await;
    let filter = "headers: {request: {set: {x-edge: weir, x-client: '{client_ip}', x-host: '{host}', x-route: '{route}'}, add: {x-many: [b, c]}, \
                  remove: [x-debug]}, response: {set: {x-kept: '2'}, add: {x-served-by: '{endpoint} {{v1}}'}, remove: [x-secret]}}";
    let edge = filtered(&origin, filter).tls().start().await;
    let mut client = edge.client().await;
    let answer = client.exchange("GET / HTTP/1.1\r\nhost: x.test\r\nX-Debug: 1\r\nX-Edge: me\r\nX-Many: a\r\n\r\n").await;
    let served_by = format!("{} {{v1}}", origin.addr());
    assert_eq!((answer.header("x-secret"), answer.headers.all("x-kept")), (None, vec!["2"]));
    assert_eq!(answer.header("x-served-by"), Some(served_by.as_str()));
    let sent = origin.next_request().await;
    assert_eq!(
        (sent.header("x-debug"), sent.headers.all("x-edge"), sent.headers.all("x-many")),
        (None, vec!["weir"], vec!["a", "b", "c"])
    );
    assert_eq!(
        (sent.header("x-client"), sent.header("x-host"), sent.header("x-route")),
        (Some("127.0.0.1"), Some("x.test"), Some("all"))
    );
    let answer = h2(&edge).await.send(&H2Request::get("localhost", "/").header("x-debug", "1")).await.expect("a response");
    assert_eq!((answer.header("x-secret"), answer.header("x-served-by")), (None, Some(served_by.as_str())));
    let sent = origin.next_request().await;
    assert_eq!((sent.header("x-debug"), sent.header("x-host")), (None, Some("localhost")));
}

#[tokio::test]
async fn a_host_that_is_set_is_the_one_that_the_endpoint_is_asked_for() {
    let (origin, over_h2) = (echoing().await, h2_origin().respond(200, "hello").spawn().await);
    let stripped = "match: {path: /v1/*}\nupstream: two\nfilters: [{rewrite: {strip_prefix: /v1}}]";
    let set = "{headers: {request: {set: {host: 'inside.test:81'}}}}";
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .upstream_with("two", &[over_h2.addr()], "connections: {protocol: h2c}")
        .route("plain", &format!("match: {{path: /plain}}\nupstream: app\nfilters: [{set}]"))
        .route("moved", &format!("match: {{path: /moved}}\nupstream: app\nfilters: [{set}, {{rewrite: {{add_prefix: /x}}}}]"))
        .route("two", &format!("match: {{path: /two}}\nupstream: two\nfilters: [{set}]"))
        .route("left", "match: {path: /left}\nupstream: app")
        .route("stripped", stripped)
        .tls()
        .start()
        .await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for (path, host) in [("/plain", "inside.test:81"), ("/moved", "inside.test:81"), ("/left", "localhost")] {
        assert_eq!(client.get("localhost", path).await.status, 200, "{path}");
        assert_eq!(origin.next_request().await.headers.all("host"), [host], "{path}");
        assert_eq!(h2.get("localhost", path).await.status, 200, "{path}");
        let received = origin.next_request().await;
        assert_eq!(
            (received.headers.all("host"), received.header("x-forwarded-host")),
            (vec![host], Some("localhost")),
            "{path} over HTTP/2"
        );
    }
    assert_eq!(client.get("localhost", "/two").await.status, 200);
    assert_eq!(h2.get("localhost", "/two").await.status, 200);
    for _ in 0..2 {
        let received = over_h2.next_request().await;
        assert_eq!(received.head.uri.authority().map(http::uri::Authority::as_str), Some("inside.test:81"));
    }
    assert_eq!(client.get("localhost", "/v1/a?b").await.status, 200);
    assert_eq!(h2.get("localhost", "/v1/a?b").await.status, 200, "a path that was rewritten keeps its host");
    for _ in 0..2 {
        let received = over_h2.next_request().await;
        let authority = received.head.uri.authority().map(http::uri::Authority::as_str);
        assert_eq!((authority, received.head.uri.path_and_query().unwrap().as_str()), (Some("localhost"), "/a?b"));
        assert_eq!(received.header("host"), None);
    }
}

#[tokio::test]
async fn rewrite_changes_what_is_forwarded_and_nothing_else() {
    let origin = echoing().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("prefix", "match: {path: /v1/*}\nupstream: app\nfilters: [{rewrite: {strip_prefix: /v1, add_prefix: /api}}]")
        .route("regex", "match: {path: /u/*}\nupstream: app\nfilters: [{rewrite: {regex: '^/u/([0-9]+)', replace: '/users/$1'}}]")
        .tls()
        .start()
        .await;
    let mut client = edge.client().await;
    for (path, forwarded) in
        [("/v1/a?b=c", "/api/a?b=c"), ("/v1", "/api"), ("/v1/", "/api/"), ("/u/12/x?y", "/users/12/x?y"), ("/u/z", "/u/z")]
    {
        assert_eq!(client.get("x", path).await.status, 200, "{path}");
        assert_eq!(origin.next_request().await.target, forwarded, "{path}");
    }
    h2(&edge).await.get("localhost", "/v1/h2").await;
    assert_eq!(origin.next_request().await.target, "/api/h2");
    assert_eq!(edge.access_log_of(1).await[0]["path"], "/v1/a", "the log has the client's path");
}

#[tokio::test]
async fn ip_access_goes_by_the_clients_address() {
    let origin = echoing().await;
    let edge = filtered(&origin, "ip_access: {allow: [127.0.0.0/24], deny: [127.0.0.9]}").tls().start().await;
    for (client, status) in [("127.0.0.1", 200), ("127.0.0.9", 403), ("127.0.1.1", 403)] {
        let mut client = RawClient::connect_from(client, edge.address("web")).await;
        assert_eq!(client.get("x", "/").await.status, status);
        let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(client.exchange(upgrade).await.status, status, "an upgrade is a request like any other");
    }
    assert_eq!(h2(&edge).await.get("localhost", "/").await.status, 200);
    assert_eq!(origin.request_count(), 3);
    crate::eventually!(edge.metric("weir_rejected_requests_total", &[("reason", "ip_denied")]).await, |count| *count
        == Some(4.0));
    let log = edge.access_log_of(7).await;
    let denied = log.iter().find(|line| line["status"] == 403).expect("a refusal");
    assert_eq!((&denied["end"]["type"], &denied["end"]["reason"]), (&"http_request_denied".into(), &"ip_denied".into()));
    assert_eq!((&denied["route"], &denied["upstream"]), (&"all".into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn ip_access_takes_a_range_of_ipv4_addresses_in_either_form() {
    let origin = echoing().await;
    let edge = filtered(&origin, "ip_access: {deny: ['::ffff:127.0.0.8/125']}").start().await;
    for (client, status) in [("127.0.0.1", 200), ("127.0.0.9", 403)] {
        let mut client = RawClient::connect_from(client, edge.address("web")).await;
        assert_eq!(client.get("x", "/").await.status, status);
    }
}

#[tokio::test]
async fn body_limit_by_declared_length_forwards_nothing() {
    let origin = echoing().await;
    let edge = filtered(&origin, "body_limit: {max: 10B}").tls().start().await;
    let mut client = edge.client().await;
    for (length, status) in [(10, 200), (11, 413)] {
        let body = "x".repeat(length);
        let answer = client.exchange(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        assert_eq!(answer.status, status, "{length}");
    }
    let mut h2 = h2(&edge).await;
    assert_eq!(h2.send(&H2Request::post("localhost", "/", "x".repeat(10))).await.expect("a response").status, 200);
    let long = H2Request::post("localhost", "/", "x".repeat(11)).header("content-length", "11");
    assert_eq!(h2.send(&long).await.expect("a response").status, 413);
    assert_eq!(origin.request_count(), 2);
    crate::eventually!(edge.metric("weir_rejected_requests_total", &[("reason", "body_too_large")]).await, |count| *count
        == Some(2.0));
}

#[tokio::test]
async fn body_limit_of_an_undeclared_length_ends_the_request_where_it_is_passed() {
    let origin = echoing().await;
    let edge = filtered(&origin, "body_limit: {max: 10B}").tls().start().await;
    let mut client = edge.client().await;
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}0\r\n\r\n");
    assert_eq!(client.exchange(chunked("5\r\nhello\r\n5\r\nhello\r\n")).await.status, 200);
    let answer = client.exchange(chunked("5\r\nhello\r\n6\r\nhello!\r\n")).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    let mut h2 = h2(&edge).await;
    let answer = h2.send(&H2Request::post("localhost", "/", "x".repeat(11))).await.expect("a response");
    assert_eq!(answer.status, 413);
    assert_eq!(origin.request_count(), 1, "no more than the first arrived whole");
}

#[tokio::test]
async fn body_limit_ends_a_request_to_an_endpoint_that_speaks_http2_as_well() {
    let origin = h2_origin().respond(200, "hello").spawn().await;
    let edge = edge()
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("all", "upstream: app\nfilters: [{body_limit: {max: 10B}}]")
        .tls()
        .start()
        .await;
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}0\r\n\r\n");
    let mut client = edge.client().await;
    assert_eq!(client.exchange(chunked("5\r\nhello\r\n5\r\nhello\r\n")).await.status, 200);
    let answer = client.exchange(chunked("5\r\nhello\r\n6\r\nhello!\r\n")).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    let mut h2 = h2(&edge).await;
    // Of no declared length, and not over yet when the limit is.
    let mut exchange = h2.open(&H2Request::post("localhost", "/", "")).await.expect("a stream");
    exchange.send("hello", false);
    exchange.send("hello!", false);
    assert_eq!(exchange.response().await.expect("a response").status, 413);
    assert_eq!(origin.requests().len(), 1, "no more than the first arrived whole");
}

const CORS: &str =
    "cors: {origins: ['https://app.test'], methods: [GET, PUT], headers: [x-token], credentials: true, max_age: 1h}";

#[tokio::test]
async fn cors_answers_preflights_and_marks_responses() {
    let origin = origin().respond_headers(200, &[("access-control-allow-origin", "*")], "hello").spawn().await;
    let edge = filtered(&origin, CORS).tls().start().await;
    let mut client = edge.client().await;
    let preflight = client
        .exchange("OPTIONS /a HTTP/1.1\r\nhost: x\r\norigin: https://app.test\r\naccess-control-request-method: PUT\r\naccess-control-request-headers: x-token\r\n\r\n")
        .await;
    assert_eq!(preflight.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    assert_eq!(origin.request_count(), 0);
    let answer = client.exchange("GET / HTTP/1.1\r\nhost: x\r\norigin: https://app.test\r\n\r\n").await;
    assert_eq!(answer.headers.all("access-control-allow-origin"), ["https://app.test"], "in place of the upstream's own");
    let stranger = client.exchange("GET / HTTP/1.1\r\nhost: x\r\norigin: https://evil.test\r\n\r\n").await;
    assert_eq!((stranger.status, stranger.headers.all("access-control-allow-origin").len()), (200, 0));
    let request = H2Request::get("localhost", "/").header("origin", "https://app.test");
    let answer = h2(&edge).await.send(&request).await.expect("a response");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
}

#[tokio::test]
async fn cors_lets_pages_of_subdomains_read_the_fields_that_it_names() {
    let fields = [("x-total", "12"), ("access-control-expose-headers", "x-own")];
    let origin = origin().respond_headers(200, &fields, "hello").spawn().await;
    let filter = "cors: {origins: 'https://*.app.test', credentials: true, expose_headers: [x-total, x-request-id]}";
    let edge = filtered(&origin, filter).tls().start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for (page, admitted) in [("https://pr-1.app.test", true), ("https://app.test", false), ("https://app.test.evil.test", false)]
    {
        let told = if admitted { (Some(page), Some("x-total, x-request-id")) } else { (None, Some("x-own")) };
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\norigin: {page}\r\n\r\n")).await;
        let seen = (answer.header("access-control-allow-origin"), answer.header("access-control-expose-headers"));
        assert_eq!(seen, told, "{page}");
        let answer = h2.send(&H2Request::get("localhost", "/").header("origin", page)).await.expect("a response");
        let seen = (answer.header("access-control-allow-origin"), answer.header("access-control-expose-headers"));
        assert_eq!(seen, told, "{page} over HTTP/2");
        let preflight = format!("OPTIONS / HTTP/1.1\r\nhost: x\r\norigin: {page}\r\naccess-control-request-method: GET\r\n\r\n");
        let answer = client.exchange(preflight).await;
        let seen = (answer.status, answer.header("access-control-expose-headers"));
        assert_eq!(seen, (if admitted { 204 } else { 403 }, None), "{page}");
    }
}

#[tokio::test]
async fn weirs_own_answers_pass_the_response_filters() {
    let filters = format!(
        "request_id\nheaders: {{response: {{set: {{x-edge: weir}}}}}}\n{CORS}\nip_access: {{deny: [127.0.0.9]}}\nbody_limit: {{max: 1B}}"
    );
    let edge = edge()
        .upstream("gone", &[refused_address().await])
        .route("gone", &format!("upstream: gone\nfilters:\n{}", list(&filters)))
        .route("fixed", &format!("match: {{path: /fixed}}\nrespond: {{status: 404}}\nfilters:\n{}", list(&filters)))
        .tls()
        .start()
        .await;
    let fields = "host: x\r\norigin: https://app.test\r\n";
    let marked = |answer: &crate::support::wire::RawResponse| {
        ["x-edge", "x-request-id", "access-control-allow-origin"].iter().all(|name| answer.header(name).is_some())
    };
    for (client, line, more, status) in [
        ("127.0.0.1", "GET /", "", 502),
        ("127.0.0.1", "GET /fixed", "", 404),
        ("127.0.0.9", "GET /", "", 403),
        ("127.0.0.1", "POST /", "content-length: 2\r\n", 413),
    ] {
        let mut client = RawClient::connect_from(client, edge.address("web")).await;
        let body = if more.is_empty() { "" } else { "hi" };
        let answer = client.exchange(format!("{line} HTTP/1.1\r\n{fields}{more}\r\n{body}")).await;
        assert_eq!((answer.status, marked(&answer)), (status, true), "{line}: {:?}", answer.headers);
    }
    let request = H2Request::get("localhost", "/").header("origin", "https://app.test");
    let answer = h2(&edge).await.send(&request).await.expect("a response");
    assert_eq!((answer.status.as_u16(), answer.header("x-edge")), (502, Some("weir")));
}

#[tokio::test]
async fn filters_see_websocket_upgrades() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let filters =
        format!("request_id\nheaders: {{request: {{set: {{x-edge: weir}}}}, response: {{set: {{x-edge: weir}}}}}}\n{CORS}");
    let edge = filtered(&origin, &filters).start().await;
    let mut client = edge.client().await;
    let answer = client
        .exchange("GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\norigin: https://app.test\r\n\r\n")
        .await;
    assert_eq!((answer.status, answer.header("upgrade"), answer.header("x-edge")), (101, Some("websocket"), Some("weir")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
    let sent = origin.next_request().await;
    assert_eq!((sent.header("x-edge"), sent.header("x-request-id")), (Some("weir"), answer.header("x-request-id")));
    client.send([0x81, 0x05, b'h', 0xff, 0x00]).await;
    assert_eq!(client.read_bytes(5).await, [0x81, 0x05, b'h', 0xff, 0x00], "bytes of the tunnel are no one's business");
}

#[tokio::test]
async fn filters_run_in_order_in_and_in_reverse_out() {
    let origin = echoing().await;
    let mark =
        |value: &str| format!("headers: {{request: {{add: {{x-way: in-{value}}}}}, response: {{add: {{x-way: out-{value}}}}}}}");
    let filters = [mark("1"), mark("2"), mark("3")].join("\n");
    let edge = filtered(&origin, &filters).start().await;
    let answer = edge.get("/").await;
    assert_eq!(answer.headers.all("x-way"), ["out-3", "out-2", "out-1"]);
    assert_eq!(origin.next_request().await.headers.all("x-way"), ["in-1", "in-2", "in-3"]);
}

#[tokio::test]
async fn a_filter_that_answers_ends_the_way_in_and_the_way_out_begins_there() {
    let origin = echoing().await;
    let mark = |value: &str| format!("headers: {{response: {{add: {{x-way: out-{value}}}}}}}");
    let filters = [mark("before"), "ip_access: {deny: [127.0.0.1]}".to_owned(), mark("behind")].join("\n");
    let edge = filtered(&origin, &filters).start().await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, origin.request_count()), (403, 0));
    assert!(answer.headers.all("x-way").contains(&"out-before"), "{:?}", answer.headers);
}

#[tokio::test]
async fn listeners_have_filters_for_what_no_route_serves_and_for_our_own_answers_too() {
    let origin = echoing().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "match: {path: /app}\nupstream: app\nfilters:\n  - headers: {request: {add: {x-order: route}}, response: {set: {x-last: route, x-route: '{route}'}}}")
        .route("chosen", "match: {headers: {x-order: listener}, path: /chosen}\nrespond: {body: 'by header'}")
        .listener("filters:\n  - chain: standard\n  - headers: {request: {add: {x-order: listener}}, response: {set: {x-last: listener, x-listener: '{route}'}}}")
        .yaml("filter_chains:\n  standard:\n    - ip_access: {deny: [127.0.0.9]}\n    - cors: {origins: 'https://app.example'}\n")
        .tls()
        .start()
        .await;
    let mut client = edge.client().await;
    let answer = client.exchange("GET /app HTTP/1.1\r\nhost: x\r\norigin: https://app.example\r\n\r\n").await;
    assert_eq!(answer.headers.all("x-last"), ["listener"], "the listener has the last word on responses");
    assert_eq!((answer.header("x-route"), answer.header("x-listener")), (Some("all"), Some("all")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(origin.next_request().await.headers.all("x-order"), ["listener", "route"], "and the first on requests");
    let missing = client.exchange("GET /no HTTP/1.1\r\nhost: x\r\norigin: https://app.example\r\n\r\n").await;
    assert_eq!((missing.status, missing.header("x-last")), (404, Some("listener")));
    assert_eq!(missing.header("access-control-allow-origin"), Some("https://app.example"), "on errors, too");
    assert_eq!(client.get("x", "/chosen").await.text(), "by header", "a field that a listener sets is there to be matched");
    let over_h2 = h2(&edge).await.get("localhost", "/no").await;
    assert_eq!((over_h2.status.as_u16(), over_h2.header("x-last")), (404, Some("listener")));
    for target in ["/app", "/no"] {
        let mut denied = RawClient::connect_from("127.0.0.9", edge.address("web")).await;
        assert_eq!(denied.get("x", target).await.status, 403, "{target}");
        let upgrade = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let mut denied = RawClient::connect_from("127.0.0.9", edge.address("web")).await;
        assert_eq!(denied.exchange(upgrade).await.status, 403, "upgrades are requests like any other");
    }
    assert_eq!(origin.request_count(), 1);
}
