//! A service that is asked about every request, and what becomes of the request.

use crate::{
    filters::{filtered, h2},
    support::{
        Gate,
        client::RawClient,
        edge::{EdgeBuilder, edge},
        h2_client::H2Request,
        h2_origin::{H2Answer, h2_origin},
        origin::{Answer, Origin, origin, refused_address},
        within,
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
