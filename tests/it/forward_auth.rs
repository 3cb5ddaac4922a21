//! A service that is asked about every request, and what becomes of the request.

use crate::{
    filters::{filtered, h2},
    support::{
        Gate,
        edge::{Edge, EdgeBuilder, edge},
        h2_client::H2Request,
        h2_origin::{H2Answer, h2_origin},
        origin::{Answer, Origin, origin, refused_address},
    },
};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

/// What a client sends to be taken for somebody else.
const SPOOFED: &[&str] = &["x-user", "X-USER", "x_user", "X-User", "x.user", "X~User"];

/// An edge whose one route asks this service.
fn guarded(app: &Origin, auth: &Origin, options: &str) -> EdgeBuilder {
    guarded_with(app, auth, options, "")
}

/// The same with further keys of the upstream that is asked.
fn guarded_with(app: &Origin, auth: &Origin, options: &str, keys: &str) -> EdgeBuilder {
    filtered(app, &filter(options)).upstream_with("auth", &[auth.addr()], keys)
}

fn filter(options: &str) -> String {
    format!("forward_auth: {{upstream: auth, path: '/verify?app=1', response_headers: [x-user, remote-groups]{options}}}")
}

/// A service that knows who sends the cookie `ann`.
async fn knows_ann() -> Origin {
    origin()
        .respond_with(|request| match request.header("cookie") {
            Some("s=ann") => Answer::with_headers(
                202,
                &[("x-user", "ann"), ("remote-groups", "staff"), ("remote-groups", "ops"), ("x-other", "1")],
                "ok",
            ),
            Some("s=guest") => Answer::new(200, ""),
            _ => Answer::with_headers(401, &[("www-authenticate", "Bearer"), ("content-type", "text/x")], "who are you?"),
        })
        .spawn()
        .await
}

#[tokio::test]
async fn a_request_goes_on_with_what_the_service_said_of_it() {
    let (app, auth) = (origin().respond(200, "hello").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, "").tls().start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for _ in 0..3 {
        let head = "POST /a/../b%20c?d=e&f HTTP/1.1\r\nhost: x.test:8080\r\ncookie: s=ann\r\nuser-agent: me\r\nx-debug: 1\r\n\
                    x-forwarded-for: 6.6.6.6\r\nx-forwarded-uri: /public\r\nX-Original-URL: http://evil/\r\ncontent-length: 4\r\n\r\nbody";
        assert_eq!(client.exchange(head).await.text(), "hello");
        let asked = auth.next_request().await;
        assert_eq!((asked.method.as_str(), asked.target.as_str(), asked.body.len()), ("GET", "/verify?app=1", 0));
        let mut told: Vec<_> = asked.headers.0.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
        told.sort();
        let expected = [
            ("cookie", "s=ann"),
            ("host", "x.test:8080"),
            ("user-agent", "me"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "x.test:8080"),
            ("x-forwarded-method", "POST"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-uri", "/b%20c?d=e&f"),
            ("x-original-method", "POST"),
            ("x-original-url", "http://x.test:8080/b%20c?d=e&f"),
            ("x-real-ip", "127.0.0.1"),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value)));
        let sent = app.next_request().await;
        assert_eq!((sent.header("x-user"), sent.headers.all("remote-groups")), (Some("ann"), vec!["staff", "ops"]));
        assert_eq!((sent.header("x-other"), sent.body.as_slice(), sent.header("cookie")), (None, &b"body"[..], Some("s=ann")));
        // Over HTTP/2 cookies may come in pieces.
        let request = H2Request::post("localhost", "/p?q", "body").header("cookie", "s=ann");
        assert_eq!(h2.send(&request).await.expect("a response").text(), "hello");
        let asked = auth.next_request().await;
        assert_eq!(
            (asked.header("x-forwarded-proto"), asked.header("x-original-url")),
            (Some("https"), Some("https://localhost/p?q"))
        );
        assert_eq!((asked.header("x-forwarded-method"), asked.header("host")), (Some("POST"), Some("localhost")));
        let sent = app.next_request().await;
        assert_eq!((sent.header("x-user"), sent.body.as_slice()), (Some("ann"), &b"body"[..]));
    }
    assert_eq!(auth.connections(), 1, "the connection is used again");
}

#[tokio::test]
async fn nobody_says_in_place_of_the_service_who_they_are() {
    let (app, auth) = (origin().respond(200, "").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, "").tls().start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    let users = |sent: &crate::support::wire::RawRequest| {
        let passes = |name: &&(String, String)| name.0.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-") == "x-user";
        sent.headers.0.iter().filter(passes).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    for (cookie, is) in [("s=ann", vec!["ann"]), ("s=guest", vec![])] {
        for name in SPOOFED {
            let head = format!(
                "GET / HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n{name}: root\r\n{name}: root\r\nRemote.Groups: wheel\r\n"
            );
            for more in ["", UPGRADE, "connection: x-user\r\n"] {
                assert_eq!(client.exchange(format!("{head}{more}\r\n")).await.status, 200, "{name} {more}");
                let sent = app.next_request().await;
                assert_eq!(
                    (users(&sent), sent.header("remote.groups")),
                    (is.iter().map(|is| (*is).to_owned()).collect(), None),
                    "{name}"
                );
            }
            let request = H2Request::get("localhost", "/").header("cookie", cookie).header(&name.to_lowercase(), "root");
            assert_eq!(h2.send(&request).await.expect("a response").status, 200, "{name}");
            assert_eq!(users(&app.next_request().await), is, "{name}");
        }
    }
    assert!(auth.requests().iter().all(|asked| asked.header("x-user").is_none()), "nor does the service hear of it");
}

#[tokio::test]
async fn a_refusal_is_the_answer_of_the_service() {
    let (app, auth) = (origin().respond(200, "secret").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, "").tls().start().await;
    let mut h2 = h2(&edge).await;
    for upgrade in ["", UPGRADE] {
        let mut client = edge.client().await;
        for request in ["GET / HTTP/1.1\r\nhost: x\r\n", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n"] {
            if request.starts_with("POST") && !upgrade.is_empty() {
                continue;
            }
            let body = if request.starts_with("POST") { "body" } else { "" };
            let answer = client.exchange(format!("{request}{upgrade}\r\n{body}")).await;
            assert_eq!((answer.status, answer.text().as_str()), (401, "who are you?"));
            assert_eq!((answer.header("www-authenticate"), answer.headers.all("content-type")), (Some("Bearer"), vec!["text/x"]));
            assert_eq!(answer.headers.all("cache-control"), ["no-store"]);
        }
    }
    let answer = h2.get("localhost", "/").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str(), answer.header("www-authenticate")),
        (401, "who are you?", Some("Bearer"))
    );
    let mut client = edge.client().await;
    client.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.header("content-length"), Some("12"));
    assert_eq!(app.request_count(), 0);
    let denied = edge.metric("weir_rejected_requests_total", &[("reason", "forward_auth_denied")]).await;
    assert!(denied >= Some(4.0), "{denied:?}");
}

#[tokio::test]
async fn redirects_and_cookies_of_a_refusal_reach_the_client_as_they_are() {
    let app = origin().respond(200, "secret").spawn().await;
    let fields = [
        ("location", "https://login.test/?rd=https%3A%2F%2Fx%2F"),
        ("set-cookie", "csrf=1; Path=/; HttpOnly"),
        ("set-cookie", "state=2"),
        ("cache-control", "max-age=3600"),
        ("connection", "x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
    ];
    let auth =
        origin().respond_headers(302, &fields, "<a>").respond_headers(307, &fields[..1], "").respond(403, "").spawn().await;
    let edge = guarded(&app, &auth, "").start().await;
    let mut client = edge.client().await;
    let answer = client.get("x", "/").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some(fields[0].1)));
    assert_eq!(answer.headers.all("set-cookie"), [fields[1].1, fields[2].1]);
    assert_eq!((answer.headers.all("cache-control"), answer.text().as_str()), (vec!["no-store"], "<a>"));
    for gone in ["x-private", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(client.get("x", "/").await.status, 307);
    let bare = client.get("x", "/").await;
    assert_eq!((bare.status, bare.text().starts_with("403 Forbidden\nrequest ")), (403, true), "the standard text");
    assert_eq!(app.request_count(), 0);
}

#[tokio::test]
async fn without_a_verdict_nobody_comes_in_or_everybody_without_a_name() {
    let app = origin().respond(200, "secret").spawn().await;
    let named = [("x-user", "root")];
    let large = "x".repeat(70_000);
    let broken = [
        ("500", origin().respond_headers(500, &named, "oops")),
        ("503", origin().respond_headers(503, &named, "")),
        ("304", origin().respond_headers(304, &named, "")),
        ("101", origin().respond_headers(101, &[("upgrade", "x"), ("connection", "upgrade")], "")),
        ("100 and nothing", origin().answer(Answer::raw("HTTP/1.1 100 Continue\r\n\r\n").close())),
        ("garbage", origin().respond_raw("SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        ("half a header", origin().half_header()),
        ("a reset", origin().reset_after(0)),
        ("too large", origin().respond_headers(403, &named, &large)),
        ("half a body", origin().answer(Answer::raw("HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nhalf").close())),
        ("two lengths", origin().respond_raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")),
        ("silence", origin().never_answer()),
    ];
    for (what, auth) in broken {
        let auth = auth.spawn().await;
        for (options, status) in [(", timeout: 300ms", 503), (", timeout: 300ms, on_error: allow", 200)] {
            let edge = guarded_with(&app, &auth, options, "circuit_breaker: false").tls().start().await;
            let before = app.request_count();
            for upgrade in ["", UPGRADE] {
                let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx-user: root\r\n{upgrade}\r\n");
                let answer = edge.client().await.exchange(request).await;
                assert_eq!((answer.status, answer.header("x-user")), (status, None), "{what}{options}");
            }
            assert_eq!(h2(&edge).await.get("localhost", "/").await.status, status, "{what}{options}");
            assert_eq!(app.request_count() - before, if status == 200 { 3 } else { 0 }, "{what}{options}");
            if status == 503 {
                let counted = edge.metric("weir_rejected_requests_total", &[("reason", "forward_auth_unavailable")]).await;
                assert_eq!(counted, Some(3.0), "{what}");
            }
        }
    }
    assert!(app.requests().iter().all(|sent| sent.header("x-user").is_none()));
}

/// How many requests were refused for want of a verdict.
async fn unavailable(edge: &Edge) -> f64 {
    edge.metric("weir_rejected_requests_total", &[("reason", "forward_auth_unavailable")]).await.unwrap_or_default()
}

#[tokio::test]
async fn cookies_of_a_verdict_prolong_sessions() {
    let app = origin()
        .respond_with(|request| match request.header("upgrade") {
            Some(_) => Answer::switch("websocket"),
            None => Answer::with_headers(200, &[("set-cookie", "own=1")], "hello"),
        })
        .spawn()
        .await;
    let auth = origin().respond_headers(200, &[("set-cookie", "s=1; Secure"), ("set-cookie", "t=2")], "").spawn().await;
    for (options, cookies) in [("", vec!["s=1; Secure", "t=2"]), (", set_cookies: false", vec![])] {
        let edge = guarded(&app, &auth, options)
            .route("own", &format!("match: {{path: /own}}\nrespond: {{body: own}}\nfilters:\n  - {}", filter(options)))
            .tls()
            .start()
            .await;
        let mut client = edge.client().await;
        let both: Vec<_> = ["own=1"].into_iter().chain(cookies.clone()).collect();
        assert_eq!(client.get("x", "/").await.headers.all("set-cookie"), both);
        assert_eq!(client.get("x", "/own").await.headers.all("set-cookie"), cookies);
        let over_h2 = h2(&edge).await.get("localhost", "/").await;
        assert_eq!(over_h2.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), both);
        let answer = client.exchange(format!("GET /ws HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n")).await;
        assert_eq!((answer.status, answer.headers.all("set-cookie")), (101, cookies));
        client.send("ping").await;
        assert_eq!(client.read_bytes(4).await, b"ping");
    }
}

#[tokio::test]
async fn browsers_are_sent_to_the_login_and_back() {
    let (app, auth) = (origin().respond(200, "hello").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, ", login: '/oauth2/sign_in?rd={url}&to={uri}'").tls().start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    let answer = client.exchange("GET /a?b=c&d HTTP/1.1\r\nhost: x:81\r\naccept: text/html\r\n\r\n").await;
    let location = "/oauth2/sign_in?rd=http%3A%2F%2Fx%3A81%2Fa%3Fb%3Dc%26d&to=%2Fa%3Fb%3Dc%26d";
    assert_eq!((answer.status, answer.header("location"), answer.text().as_str()), (302, Some(location), ""));
    assert_eq!(answer.headers.all("cache-control"), ["no-store"]);
    let answer = h2.send(&H2Request::get("localhost", "/").header("accept", "text/html")).await.expect("a response");
    assert_eq!(answer.header("location"), Some("/oauth2/sign_in?rd=https%3A%2F%2Flocalhost%2F&to=%2F"));
    let upgrade = format!("GET /ws HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n{UPGRADE}\r\n");
    assert_eq!(client.exchange(upgrade).await.status, 401, "nobody looks at a WebSocket");
    assert_eq!(edge.client().await.get("x", "/").await.status, 401);
    assert_eq!(app.request_count(), 0);
}

#[tokio::test]
async fn a_question_holds_no_injected_line() {
    let (app, auth) = (origin().respond(200, "").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, ", request_headers: all").tls().start().await;
    let target = "/a%0D%0AX-User:%20root?b%0d%0aX-User:%20root";
    let mut client = edge.client().await;
    let head = format!("GET {target} HTTP/1.1\r\nhost: x\r\ncookie: s=ann\r\nx-note: %0d%0a\r\n\r\n");
    assert_eq!(client.exchange(head).await.status, 200);
    let asked = auth.next_request().await;
    assert_eq!(
        (asked.header("x-forwarded-uri"), asked.header("x-user"), asked.header("x-note")),
        (Some(target), None, Some("%0d%0a"))
    );
    let refused = "GET / HTTP/1.1\r\nhost: x\r\ncookie: s=ann\rX-User: root\r\n\r\n";
    assert_eq!(edge.client().await.exchange(refused).await.status, 400);
    assert_eq!((auth.request_count(), app.request_count()), (1, 1));
}

#[tokio::test]
async fn one_endpoint_of_the_service_is_enough() {
    let (app, auth) = (origin().respond(200, "hello").spawn().await, knows_ann().await);
    let edge = filtered(&app, &filter(""))
        .upstream_with("auth", &[refused_address().await, auth.addr()], "retry_budget: {ratio: 100%}\ncircuit_breaker: off")
        .start()
        .await;
    let mut client = edge.client().await;
    for _ in 0..6 {
        let answer = client.exchange("GET / HTTP/1.1\r\nhost: x\r\ncookie: s=ann\r\n\r\n").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((auth.request_count(), unavailable(&edge).await), (6, 0.0));
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_and_requests_are_refused_at_once() {
    let app = origin().respond(200, "hello").spawn().await;
    let auth = origin().respond(500, "").spawn().await;
    let keys = "circuit_breaker: {failure_threshold: 2, max_ejected: 100%, recovery_timeout: 1h}\npanic_threshold: 0%";
    let edge = guarded_with(&app, &auth, "", keys).start().await;
    for _ in 0..5 {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    }
    assert_eq!((auth.request_count(), app.request_count()), (2, 0));
    let log = edge.access_log_of(5).await;
    assert!(log.iter().all(|line| line["end"]["reason"] == "forward_auth_unavailable"), "{log:?}");
}

#[tokio::test]
async fn a_slow_verdict_holds_nobody_else_and_the_route_decides_how_long() {
    let app = origin().respond(200, "hello").spawn().await;
    let gate = Gate::new();
    let waits = gate.clone();
    let auth = origin()
        .respond_with(move |request| match request.header("cookie") {
            Some(_) => Answer::new(200, ""),
            None => Answer::nothing().wait(&waits).bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        })
        .spawn()
        .await;
    let edge = guarded(&app, &auth, ", timeout: 20s")
        .route(
            "short",
            &format!("match: {{path: /short}}\ntimeout: 200ms\nupstream: app\nfilters:\n  - {}", filter(", timeout: 20s")),
        )
        .tls()
        .start()
        .await;
    let (mut slow, mut h2) = (edge.client().await, h2(&edge).await);
    slow.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let waiting = h2.start(&H2Request::get("localhost", "/")).await.expect("a stream");
    for _ in 0..2 {
        auth.next_request().await;
    }
    for _ in 0..20 {
        let answer = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: x\r\ncookie: a\r\n\r\n").await;
        assert_eq!(answer.text(), "hello");
        assert_eq!(h2.send(&H2Request::get("localhost", "/").header("cookie", "a")).await.expect("a response").status, 200);
    }
    assert_eq!(edge.get("/short").await.status, 504, "the route's timeout");
    assert!(slow.is_open_now());
    gate.open();
    assert_eq!(slow.read_response().await.text(), "hello");
    assert_eq!(waiting.response().await.expect("a response").text(), "hello");
}

#[tokio::test]
async fn limits_of_the_upstream_bound_the_questions_under_way() {
    let app = origin().respond(200, "hello").spawn().await;
    let gate = Gate::new();
    let auth = origin().slow(&gate, "").spawn().await;
    let edge = guarded_with(&app, &auth, "", "limits: {max_requests: 1, max_queue: 0}").start().await;
    let mut first = edge.client().await;
    first.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    auth.next_request().await;
    assert_eq!(edge.get("/").await.status, 503);
    gate.open();
    assert_eq!(first.read_response().await.status, 200);
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!((auth.request_count(), unavailable(&edge).await), (2, 1.0));
}

#[tokio::test]
async fn filters_before_it_answer_without_a_question_and_those_behind_it_see_what_was_said() {
    let (app, auth) = (origin().respond(200, "hello").spawn().await, knows_ann().await);
    let behind = "headers: {request: {remove: [remote-groups]}, response: {set: {x-behind: '1'}}}";
    let filters = ["cors: {origins: 'https://a.test'}", "rate_limit: {rate: 2/m, burst: 2}", &filter(""), behind].join("\n");
    let edge = filtered(&app, &filters).upstream("auth", &[auth.addr()]).start().await;
    let mut client = edge.client().await;
    let preflight = "OPTIONS / HTTP/1.1\r\nhost: x\r\norigin: https://a.test\r\naccess-control-request-method: GET\r\n\r\n";
    assert_eq!((client.exchange(preflight).await.status, auth.request_count()), (204, 0));
    let refused = client.exchange("GET / HTTP/1.1\r\nhost: x\r\norigin: https://a.test\r\n\r\n").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://a.test")));
    assert_eq!((refused.header("x-behind"), refused.header("ratelimit").is_some()), (None, true));
    let admitted = client.exchange("GET / HTTP/1.1\r\nhost: x\r\ncookie: s=ann\r\n\r\n").await;
    assert_eq!((admitted.status, admitted.header("x-behind")), (200, Some("1")));
    let sent = app.next_request().await;
    assert_eq!((sent.header("x-user"), sent.header("remote-groups")), (Some("ann"), None));
    assert_eq!((client.get("x", "/").await.status, auth.request_count()), (429, 2));
}

#[tokio::test]
async fn a_service_that_speaks_http2_is_asked_before_a_route_is_chosen() {
    let app = origin().respond(200, "hello").spawn().await;
    let auth = h2_origin()
        .respond_with(|request| match request.header("cookie") {
            Some("s=ann") => H2Answer::new(200, "").header("x-user", "ann"),
            _ => H2Answer::new(403, "no"),
        })
        .spawn()
        .await;
    let edge = edge()
        .upstream("app", &[app.addr()])
        .upstream_with("auth", &[auth.addr()], "connections: {protocol: h2c}")
        .route("ann", "match: {headers: {x-user: ann}}\nupstream: app")
        .listener(&format!("filters:\n  - {}", filter(", host: auth.test")))
        .start()
        .await;
    for _ in 0..3 {
        let mut client = edge.client().await;
        let known = client.exchange("GET /a HTTP/1.1\r\nhost: x\r\ncookie: s=ann\r\n\r\n").await;
        assert_eq!(known.text(), "hello");
        let asked = auth.next_request().await;
        assert_eq!((asked.head.uri.authority().unwrap().as_str(), asked.head.uri.path()), ("auth.test", "/verify"));
        assert_eq!(asked.header("x-forwarded-uri"), Some("/a"));
        let spoofed = client.exchange("GET /a HTTP/1.1\r\nhost: x\r\nx-user: ann\r\n\r\n").await;
        assert_eq!((spoofed.status, spoofed.text().as_str()), (403, "no"));
        auth.next_request().await;
    }
    assert_eq!((auth.connections(), app.request_count()), (1, 3));
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_another_host_opens_no_door() {
    let (app, auth) = (origin().respond(200, "hello").spawn().await, knows_ann().await);
    let edge = guarded(&app, &auth, "").listener("trusted_proxies: [127.0.0.1]").start().await;
    let head = "GET / HTTP/1.1\r\nhost: inner.test\r\nx-forwarded-for: 6.6.6.6, 192.0.2.7\r\nx-forwarded-proto: https\r\n\
                x-forwarded-host: public.test\r\nx-forwarded-uri: /public\r\nx-forwarded-method: OPTIONS\r\n\r\n";
    edge.client().await.exchange(head).await;
    let asked = auth.next_request().await;
    assert_eq!((asked.header("x-forwarded-host"), asked.header("host")), (Some("inner.test"), Some("inner.test")));
    assert_eq!((asked.headers.all("x-forwarded-for"), asked.header("x-forwarded-proto")), (vec!["192.0.2.7"], Some("https")));
    assert_eq!((asked.header("x-forwarded-uri"), asked.header("x-forwarded-method")), (Some("/"), Some("GET")));
}

#[tokio::test]
async fn a_reload_asks_another_service_from_then_on() {
    let app = origin().respond(200, "hello").spawn().await;
    let (one, other) = (origin().respond(403, "").spawn().await, origin().respond(200, "").spawn().await);
    let builder = guarded(&app, &one, "");
    let config = builder.config();
    let edge = builder.start_as(&config).await;
    assert_eq!(edge.get("/").await.status, 403);
    edge.reload(&config.replace(&one.addr().to_string(), &other.addr().to_string())).await;
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!((one.request_count(), other.request_count()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_the_service_closed_meanwhile_fails_nobody() {
    let app = origin().respond(200, "hello").spawn().await;
    // Nothing in the answer says that the connection ends.
    let auth = origin().answer(Answer::new(200, "").close()).spawn().await;
    let edge = guarded_with(&app, &auth, "", "circuit_breaker: off").start().await;
    let mut client = edge.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    assert_eq!((app.request_count(), unavailable(&edge).await), (20, 0.0));
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_no_verdict() {
    let app = origin().respond(200, "secret").spawn().await;
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for refusal in [
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
    ] {
        let auth = origin().respond_raw(format!("{refusal}{ok}")).spawn().await;
        let edge = guarded(&app, &auth, "").start().await;
        for _ in 0..5 {
            assert_eq!(edge.get("/").await.status, 403, "{refusal}");
        }
        assert_eq!(auth.connections(), 5, "what follows an answer is thrown away with its connection");
    }
    for broken in [
        "HTTP/1.1 200 OK\r\ncontent-length: +0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 600 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let auth = origin().answer(Answer::raw(broken).close()).spawn().await;
        let edge = guarded(&app, &auth, "").start().await;
        assert_eq!(edge.get("/").await.status, 503, "{broken}");
    }
    assert_eq!(app.request_count(), 0);
}
