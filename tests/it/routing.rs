//! Which route takes a request, and what its action does, through a whole edge.

use crate::support::{
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request},
    origin::{origin, refused_address},
};

/// An edge whose routes answer with their own name: `(name, match)` each.
async fn routes(routes: &[(&str, &str)]) -> Edge {
    named(edge(), routes).start().await
}

fn named(mut builder: EdgeBuilder, routes: &[(&str, &str)]) -> EdgeBuilder {
    for (name, condition) in routes {
        builder = builder.route(name, &format!("match: {condition}\nrespond: {{body: {name}}}"));
    }
    builder
}

/// The route that takes this request; its 404 when none does.
async fn taken(edge: &Edge, line: &str, fields: &str) -> String {
    let mut client = edge.client().await;
    let answer = client.exchange(format!("{line} HTTP/1.1\r\n{fields}\r\n")).await;
    if answer.status == 200 { answer.text() } else { answer.status.to_string() }
}

async fn by_host(edge: &Edge, host: &str) -> String {
    taken(edge, "GET /", &format!("host: {host}\r\n")).await
}

async fn by_path(edge: &Edge, path: &str) -> String {
    taken(edge, &format!("GET {path}"), "host: example.com\r\n").await
}

#[tokio::test]
async fn by_host_exact_then_the_longest_wildcard_then_any() {
    let edge = routes(&[
        ("any", "{}"),
        ("wild", "{host: '*.example.com'}"),
        ("longer", "{host: '*.api.example.com'}"),
        ("exact", "{host: [a.api.example.com, other.test]}"),
    ])
    .await;
    for (host, route) in [
        ("a.api.example.com", "exact"),
        ("A.API.Example.COM:8080", "exact"),
        ("other.test", "exact"),
        ("b.api.example.com", "longer"),
        ("x.y.api.example.com", "longer"),
        ("api.example.com", "wild"),
        ("example.com", "any"),
        ("badexample.com", "any"),
        ("127.0.0.1", "any"),
    ] {
        assert_eq!(by_host(&edge, host).await, route, "{host}");
    }
}

#[tokio::test]
async fn no_route_is_404() {
    let edge = routes(&[("only", "{host: example.com, path: /a}")]).await;
    assert_eq!(by_host(&edge, "example.com").await, "404");
    assert_eq!(by_path(&edge, "/a").await, "only");
    assert_eq!(by_host(&edge, "example.org").await, "404");
    let log = edge.access_log_of(3).await;
    assert_eq!((&log[0]["status"], &log[0]["end"]["type"]), (&404.into(), &"destination_not_found".into()));
}

#[tokio::test]
async fn by_path_exact_then_the_longest_prefix_then_expressions_then_all() {
    let edge = routes(&[
        ("all", "{path: /*}"),
        ("regex", "{path_regex: '^/v[0-9]+/x$'}"),
        ("prefix", "{path: /api/*}"),
        ("longer", "{path: /api/v1/*}"),
        ("exact", "{path: /api/v1/users}"),
    ])
    .await;
    for (path, route) in [
        ("/api/v1/users", "exact"),
        ("/api/v1/users?x=1", "exact"),
        ("/api/v1/users/", "longer"),
        ("/api/v1", "longer"),
        ("/api/v1x", "prefix"),
        ("/api", "prefix"),
        ("/api/", "prefix"),
        ("/apis", "all"),
        ("/v12/x", "regex"),
        ("/v12/x/", "all"),
        ("/", "all"),
        // The canonical form decides.
        ("/%61pi/v1/users", "exact"),
        ("/x/../api", "prefix"),
        ("//api", "prefix"),
    ] {
        assert_eq!(by_path(&edge, path).await, route, "{path}");
    }
}

#[tokio::test]
async fn by_method_header_and_query() {
    let edge = routes(&[
        ("rest", "{}"),
        ("post", "{path: /m, method: [POST, PUT]}"),
        ("header", "{path: /h, headers: {x-channel: beta}}"),
        ("two", "{path: /h, headers: {x-channel: beta, x-any: {present: true}}}"),
        ("expression", "{path: /h, headers: {x-re: {regex: '^v[12]$'}}}"),
        ("absent", "{path: /absent, headers: {x-any: {present: false}}}"),
        ("query", "{path: /q, query: {debug: '1'}}"),
    ])
    .await;
    let host = "host: example.com\r\ncontent-length: 0\r\n";
    for (line, fields, route) in [
        ("POST /m", "", "post"),
        ("PUT /m", "", "post"),
        ("GET /m", "", "rest"),
        ("GET /h", "X-Channel: beta\r\n", "header"),
        ("GET /h", "X-Channel: beta2\r\n", "rest"),
        ("GET /h", "X-Channel: beta\r\nX-Any: 1\r\n", "two"),
        ("GET /h", "X-Re: v2\r\n", "expression"),
        ("GET /h", "X-Re: v3\r\n", "rest"),
        ("GET /absent", "", "absent"),
        ("GET /absent", "X-Any: \r\n", "rest"),
        ("GET /q?debug=1", "", "query"),
        ("GET /q?a=b&d%65bug=%31", "", "query"),
        ("GET /q?debug=12", "", "rest"),
        ("GET /q", "", "rest"),
    ] {
        assert_eq!(taken(&edge, line, &format!("{host}{fields}")).await, route, "{line} {fields}");
    }
}

#[tokio::test]
async fn by_the_clients_address() {
    let edge = routes(&[("rest", "{}"), ("office", "{client_ip: [127.0.0.8/30, '::1']}")]).await;
    for (client, route) in [("127.0.0.1", "rest"), ("127.0.0.7", "rest"), ("127.0.0.8", "office"), ("127.0.0.11", "office")] {
        let mut client = RawClient::connect_from(client, edge.address("web")).await;
        assert_eq!(client.get("example.com", "/").await.text(), route);
    }
}

#[tokio::test]
async fn by_the_address_that_a_trusted_proxy_tells() {
    let edge = edge().listener("trusted_proxies: [127.0.0.2]");
    let edge = named(edge, &[("rest", "{}"), ("far", "{client_ip: 192.0.2.0/24}")]).start().await;
    let request = "GET / HTTP/1.1\r\nhost: example.com\r\nx-forwarded-for: 192.0.2.9\r\n\r\n";
    let mut stranger = edge.client().await;
    assert_eq!(stranger.exchange(request).await.text(), "rest");
    let mut proxy = RawClient::connect_from("127.0.0.2", edge.address("web")).await;
    assert_eq!(proxy.exchange(request).await.text(), "far");
}

#[tokio::test]
async fn by_listener_and_the_same_over_http2() {
    let edge = named(edge().tls(), &[("clear", "{listener: web}"), ("secure", "{listener: [edge]}")]).start().await;
    assert_eq!(edge.get("/").await.text(), "clear");
    assert_eq!(edge.tls_client().await.get("localhost", "/").await.text(), "secure");
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.text(), "secure");
}

#[tokio::test]
async fn http2_requests_are_routed_by_the_same_rules() {
    let edge = named(
        edge().tls(),
        &[
            ("rest", "{}"),
            ("host", "{host: a.example.com}"),
            ("path", "{path: /api/*}"),
            ("many", "{path: /x, method: POST, headers: {x-a: '1'}, query: {q: '2'}}"),
        ],
    )
    .start()
    .await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust().sni("a.example.com")).await;
    assert_eq!(h2.get("a.example.com", "/").await.text(), "host");
    assert_eq!(h2.get("example.com", "/api/x").await.text(), "path");
    let many = H2Request::post("example.com", "/x?q=2", "").header("x-a", "1");
    assert_eq!(h2.send(&many).await.expect("a response").text(), "many");
    assert_eq!(h2.get("example.com", "/x?q=2").await.text(), "rest");
}

#[tokio::test]
async fn more_conditions_win_and_then_the_file_decides() {
    let edge = routes(&[
        ("first", "{path: /a}"),
        ("second", "{path: /a}"),
        ("query", "{path: /a, query: {x: '1'}}"),
        ("headers", "{path: /a, headers: {x-a: '1'}}"),
        ("method", "{path: /a, method: GET}"),
    ])
    .await;
    for (line, fields, route) in [
        ("POST /a", "", "first"),
        ("POST /a?x=1", "", "query"),
        ("POST /a?x=1", "x-a: 1\r\n", "headers"),
        ("GET /a?x=1", "x-a: 1\r\n", "method"),
    ] {
        let fields = format!("host: example.com\r\ncontent-length: 0\r\n{fields}");
        assert_eq!(taken(&edge, line, &fields).await, route, "{line}");
    }
}

#[tokio::test]
async fn a_route_that_refuses_leaves_the_request_to_less_specific_ones() {
    let edge = routes(&[
        ("any", "{}"),
        ("wild", "{host: '*.example.com', path: /api/*}"),
        ("host", "{host: a.example.com, path: /api/*, method: DELETE}"),
        ("exact", "{host: a.example.com, path: /api/x, method: PUT}"),
    ])
    .await;
    let fields = "host: a.example.com\r\ncontent-length: 0\r\n";
    for (line, route) in [("PUT /api/x", "exact"), ("DELETE /api/x", "host"), ("GET /api/x", "wild"), ("GET /else", "any")] {
        assert_eq!(taken(&edge, line, fields).await, route, "{line}");
    }
}

#[tokio::test]
async fn a_redirect_fills_its_target_and_keeps_to_its_status() {
    let edge = edge()
        .route("old", "match: {path: /old/*}\nredirect: {to: 'https://{host}/new{path}{query}'}")
        .route("plain", "match: {path: /plain}\nredirect: {to: '/there', status: 302}")
        .start()
        .await;
    let answer = edge.get("/old/a/b?c=d").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://example.com/new/a/b?c=d")));
    let answer = edge.get("/plain").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("/there")));
}

#[tokio::test]
async fn a_redirect_goes_where_a_rewrite_points_and_to_no_host_of_the_clients() {
    let edge = edge()
        .route("posts", "match: {path: /blog/*}\nfilters: [{rewrite: {regex: '^/blog/([0-9]+)/.*', replace: '/posts/$1'}}]\nredirect: {to: 'https://{host}{path}{query}'}")
        .route("key", "match: {path: /key/*}\nfilters: [{api_key: {from: 'query:key', keys: {a: only-for-this-test-0}}}]\nredirect: {to: '/new{path}'}")
        .route("open", "match: {path: /open/*}\nfilters: [{rewrite: {regex: '^/open(.*)', replace: '/$1'}}]\nredirect: {to: '{path}'}")
        .route("slash", "match: {path: /slash/*}\nredirect: {to: '/{path}'}")
        .tls()
        .start()
        .await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    for (path, location) in [
        ("/blog/12/a-title?x=1", "https://localhost/posts/12?x=1"),
        ("/blog/about", "https://localhost/about"),
        ("/key/a?key=only-for-this-test-0", "/new/a"),
        ("/open/evil.test", "/evil.test"),
        ("/slash/evil.test", "/evil.test"),
    ] {
        let answer = edge.client().await.get("localhost", path).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{path}");
        let answer = h2.get("localhost", path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some(location)), "{path} over HTTP/2");
    }
}

#[tokio::test]
async fn a_fixed_response_has_its_status_body_and_type() {
    let edge = edge()
        .route("ping", "match: {path: /ping}\nrespond: {body: \"pong\\n\"}")
        .route("json", "match: {path: /json}\nrespond: {status: 418, body: '{}', content_type: application/json}")
        .start()
        .await;
    let mut client = edge.client().await;
    let answer = client.get("example.com", "/ping").await;
    let kind = answer.header("content-type");
    assert_eq!((answer.status, answer.text().as_str(), kind), (200, "pong\n", Some("text/plain; charset=utf-8")));
    let answer = client.get("example.com", "/json").await;
    let kind = answer.header("content-type");
    assert_eq!((answer.status, answer.text().as_str(), kind), (418, "{}", Some("application/json")));
    client.send("HEAD /ping HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.header("content-length"), Some("5"));
}

#[tokio::test]
async fn what_a_route_answers_or_tries_is_the_same_over_http2() {
    let (silent, first, second) = (
        origin().never_answer().spawn().await,
        origin().respond(502, "down").spawn().await,
        origin().respond(200, "up").spawn().await,
    );
    let edge = edge()
        .upstream("gone", &[refused_address().await])
        .upstream("silent", &[silent.addr()])
        .upstream("pair", &[first.addr(), second.addr()])
        .route("json", "match: {path: /json}\nrespond: {status: 418, body: '{}', content_type: application/json}")
        .route("none", "match: {path: /none}\nrespond: {status: 404}")
        .route("sorry", "match: {path: /sorry}\nupstream: gone\nfallback: {body: sorry, content_type: text/plain}")
        .route("late", "match: {path: /late}\nupstream: silent\ntimeout: 100ms")
        .route("again", "match: {path: /again}\nupstream: pair\nretry: {on: [502]}")
        .route(
            "share",
            "match: {path: /share}\nsplit: [{upstream: gone, weight: 0}, {upstream: pair, weight: 1}]\nretry: {on: [502]}",
        )
        .tls()
        .start()
        .await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    for (path, status, kind, body) in [
        ("/json", 418, Some("application/json"), Some("{}")),
        ("/none", 404, Some("text/plain; charset=utf-8"), None),
        ("/sorry", 503, Some("text/plain"), Some("sorry")),
        ("/late", 504, Some("text/plain; charset=utf-8"), None),
        ("/again", 200, None, Some("up")),
        ("/share", 200, None, Some("up")),
    ] {
        let one = edge.client().await.get("localhost", path).await;
        let two = h2.get("localhost", path).await;
        assert_eq!((one.status, one.header("content-type")), (status, kind), "{path}");
        assert_eq!((two.status.as_u16(), two.header("content-type")), (status, kind), "{path} over HTTP/2");
        assert_eq!(one.header("cache-control"), two.header("cache-control"), "{path}");
        assert_eq!(one.header("retry-after"), two.header("retry-after"), "{path}");
        if let Some(body) = body {
            assert_eq!((one.text().as_str(), two.text().as_str()), (body, body), "{path}");
        }
    }
}

#[tokio::test]
async fn a_fixed_response_leaves_the_connection_usable_behind_a_request_body() {
    let edge = routes(&[("all", "{}")]).await;
    let mut client = edge.client().await;
    for _ in 0..3 {
        let answer = client.exchange("POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "all"));
    }
}

#[tokio::test]
async fn an_upstream_gets_the_request_as_the_client_sent_it() {
    let origin = origin().respond_headers(201, &[("x-from", "origin")], "made").spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await;
    let mut client = edge.client().await;
    let request = "POST /a//b/%7Ec/d?x=%20&y HTTP/1.1\r\nhost: Example.com:81\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\nhi";
    let answer = client.exchange(request).await;
    assert_eq!((answer.status, answer.header("x-from"), answer.text().as_str()), (201, Some("origin"), "made"));
    let received = origin.next_request().await;
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/a//b/%7Ec/d?x=%20&y"));
    assert_eq!((received.header("host"), received.header("x-mine")), (Some("Example.com:81"), Some("1")));
    assert_eq!((received.text().as_str(), received.header("x-forwarded-for")), ("hi", Some("127.0.0.1")));
}

#[tokio::test]
async fn cleartext_is_sent_to_the_tls_listeners_port() {
    let clear = origin().respond(200, "secure").spawn().await;
    let edge = edge().upstream("app", &[clear.addr()]).route("all", "upstream: app").tls();
    let config = edge.config().replacen("127.0.0.1:0\n", "127.0.0.1:0\n    redirect_to_https: true\n", 1);
    let edge = edge.start_as(&config).await;
    let port = edge.address("edge").port();
    for host in ["example.com", "example.com:8080"] {
        let answer = edge.client().await.get(host, "/a?b=c").await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(&*format!("https://example.com:{port}/a?b=c"))));
    }
    assert_eq!(edge.tls_client().await.get("localhost", "/").await.text(), "secure");
    assert_eq!(clear.request_count(), 1);
}

#[tokio::test]
async fn what_a_trusted_proxy_took_over_tls_is_not_redirected() {
    let edge = edge().route("all", "respond: {body: hello}").tls();
    let keys = "127.0.0.1:0\n    redirect_to_https: true\n    trusted_proxies: [127.0.0.2]\n";
    let config = edge.config().replacen("127.0.0.1:0\n", keys, 1);
    let edge = edge.start_as(&config).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: https\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
    for (peer, status) in [("127.0.0.1", 308), ("127.0.0.2", 200)] {
        let mut client = RawClient::connect_from(peer, edge.address("web")).await;
        assert_eq!(client.exchange(request).await.status, status, "{peer}");
    }
}
