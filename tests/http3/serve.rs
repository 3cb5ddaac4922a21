//! What is served over HTTP/3: requests of every kind, by both drivers, and where clients learn of it.

use http::{Method, Request};

use crate::{
    client::{Client, answer, get, head, piece, post},
    support::{
        Gate,
        client::RawClient,
        edge::{Edge, EdgeBuilder, edge},
        h2_client::{H2Client, H2Request},
        h2_origin::{H2Answer, h2_origin},
        origin::{Answer, origin},
    },
};

/// An edge whose TLS listener speaks HTTP/3.
pub fn h3_edge() -> EdgeBuilder {
    edge().tls_with("h3: true")
}

/// The same with everything at this endpoint, carried by this driver.
async fn before(endpoint: std::net::SocketAddr, driver: &str) -> Edge {
    h3_edge()
        .upstream("app", &[endpoint])
        .route("all", "upstream: app")
        .yaml(&format!("server: {{driver: {driver}}}"))
        .start()
        .await
}

async fn client(edge: &Edge) -> Client {
    Client::connect(edge.address("edge"), &edge.trust()).await
}

#[tokio::test]
async fn a_request_is_what_it_would_be_over_http_2() {
    for driver in ["auto", "pingora"] {
        let app = origin().respond_headers(200, &[("x-app", "1"), ("connection", "keep-alive")], "hello").spawn().await;
        let edge = before(app.addr(), driver).await;
        let mut client = client(&edge).await;
        let mut request = get("/a/b?c=d");
        request.headers_mut().append("cookie", "a=1".parse().unwrap());
        request.headers_mut().append("cookie", "b=2".parse().unwrap());
        let answer = client.send(request, &[]).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.text().as_str(), answer.field("x-app")), (200, "hello", "1"), "{driver}");
        assert!(answer.fields.get("connection").is_none() && answer.fields.contains_key("date"), "{:?}", answer.fields);
        let seen = app.next_request().await;
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a/b?c=d"));
        for (name, value) in [
            ("host", "localhost"),
            ("cookie", "a=1; b=2"),
            ("via", "3 weir"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(seen.headers.all(name), [value], "{driver}: {name}");
        }
        let log = edge.access_log().await;
        assert_eq!((&log[0]["http"], &log[0]["tls"], &log[0]["sni"]), (&"3".into(), &"TLSv1.3".into(), &"localhost".into()));
        assert_eq!((&log[0]["bytes_out"], &log[0]["status"]), (&5.into(), &200.into()));
        edge.stop().await;
    }
}

#[tokio::test]
async fn bodies_go_both_ways() {
    for driver in ["auto", "pingora"] {
        let app = origin().respond_with(|request| Answer::new(200, &request.body)).spawn().await;
        let edge = before(app.addr(), driver).await;
        let mut client = client(&edge).await;
        for size in [0, 1, 1000, 100_000, 3_000_000] {
            let body: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let answer = client.send(post("/"), &[&body[..size / 3], &body[size / 3..]]).await.expect("an answer");
            assert!(answer.body == body, "{driver}: {} of {size} bytes", answer.body.len());
        }
        edge.stop().await;
    }
}

#[tokio::test]
async fn an_empty_frame_is_not_the_end_of_a_body() {
    for driver in ["auto", "pingora"] {
        let app = origin().respond_with(|request| Answer::new(200, &request.body)).spawn().await;
        let edge = before(app.addr(), driver).await;
        let answer = client(&edge).await.send(post("/"), &[b"one", b"", b" and another"]).await.expect("an answer");
        assert_eq!(answer.text(), "one and another", "{driver}");
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_response_comes_as_the_endpoint_sends_it() {
    for driver in ["auto", "pingora"] {
        let gate = Gate::new();
        let script = Answer::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .wait(&gate)
            .bytes("4\r\nlast\r\n0\r\n\r\n");
        let app = origin().answer(script).spawn().await;
        let edge = before(app.addr(), driver).await;
        let mut client = client(&edge).await;
        let mut stream = client.begin(get("/")).await.expect("a stream");
        stream.finish().await.expect("sent");
        assert_eq!(head(&mut stream).await.expect("a head").status(), 200);
        assert_eq!(piece(&mut stream).await.expect("content").as_deref(), Some(&b"first"[..]), "{driver}");
        gate.open();
        assert_eq!(piece(&mut stream).await.expect("content").as_deref(), Some(&b"last"[..]));
        assert_eq!(piece(&mut stream).await.expect("the end"), None);
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_response_that_is_cut_does_not_look_whole() {
    for driver in ["auto", "pingora"] {
        for head in ["content-length: 10", "transfer-encoding: chunked"] {
            let raw = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\npart\r\n");
            let app = origin().answer(Answer::raw(raw).close()).spawn().await;
            let edge = before(app.addr(), driver).await;
            let mut client = client(&edge).await;
            let error = client.send(get("/"), &[]).await.expect_err("a response that is not whole");
            assert!(matches!(error, h3::error::StreamError::RemoteTerminate { .. }), "{driver}, {head}: {error}");
            assert_eq!(edge.access_log().await[0]["end"]["who"], "upstream");
            edge.stop().await;
        }
    }
}

#[tokio::test]
async fn answers_of_our_own_and_errors_come_over_it() {
    let edge = h3_edge()
        .route("own", "match: {path: /own}\nrespond: {status: 418, body: own}")
        .upstream("app", &[crate::support::origin::refused_address().await])
        .route("down", "match: {path: /down}\nupstream: app")
        .start()
        .await;
    let mut client = client(&edge).await;
    for (path, status) in [("/own", 418), ("/down", 502), ("/nowhere", 404)] {
        assert_eq!(client.get(path).await.status, status, "{path}");
    }
    for (request, status) in [
        (Request::builder().method(Method::TRACE).uri("https://localhost/own"), 405),
        (Request::get("https://localhost/own").header("expect", "nonsense"), 417),
    ] {
        let answer = client.send(request.body(()).unwrap(), &[]).await.expect("an answer");
        assert_eq!(answer.status, status);
    }
    assert!(edge.access_log_of(5).await.iter().all(|line| line["http"] == "3"));
    edge.stop().await;
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let edge = h3_edge().route("all", "respond: {body: here}").start().await;
    let mut client = client(&edge).await;
    let connect = Request::connect("localhost:443").body(()).unwrap();
    let mut stream = client.begin(connect).await.expect("a stream");
    let answer = answer(&mut stream).await.expect("an answer");
    assert_eq!(answer.status, 405);
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    edge.stop().await;
}

#[tokio::test]
async fn grpc_goes_to_endpoints_of_http_2_with_its_trailers() {
    let app = h2_origin().respond_with(|request| H2Answer::grpc(request.body.clone(), 0)).spawn().await;
    let edge =
        h3_edge().upstream_with("app", &[app.addr()], "connections: {protocol: h2c}").route("all", "upstream: app").start().await;
    let mut request = post("/greeter/hello");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let answer = client(&edge).await.send(request, &[b"\0\0\0\0\x02hi"]).await.expect("an answer");
    assert_eq!(answer.body, b"\0\0\0\0\x02hi");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers.get("grpc-status").expect("a status"), "0");
    assert_eq!(app.next_request().await.header("te"), Some("trailers"));
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_one_that_has_left() {
    let gate = Gate::new();
    let app = origin().slow(&gate, "late").spawn().await;
    let edge = before(app.addr(), "auto").await;
    let mut client = client(&edge).await;
    let mut stream = client.begin(get("/")).await.expect("a stream");
    stream.finish().await.expect("sent");
    app.next_request().await;
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    let log = edge.access_log().await;
    assert_eq!(
        (&log[0]["end"]["who"], &log[0]["end"]["type"]),
        (&"client".into(), &"connection_terminated".into()),
        "{}",
        log[0]
    );
    gate.open();
    edge.stop().await;
}

#[tokio::test]
async fn responses_over_tls_say_where_it_is() {
    let app = origin().respond_headers(200, &[("alt-svc", "h3=\":1\"")], "").spawn().await;
    let with = async |h3: &str| {
        let edge = edge().tls_with(h3).upstream("app", &[app.addr()]).route("all", "upstream: app").start().await;
        let port = edge.address("edge").port();
        let h1 = edge.tls_client().await.get("localhost", "/").await;
        let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
        let h2 = h2.start(&H2Request::get("localhost", "/")).await.expect("a stream").response().await.expect("an answer");
        let clear = RawClient::connect(edge.address("web")).await.get("localhost", "/").await;
        let h2 = h2.headers.get("alt-svc").map_or(String::new(), |value| value.to_str().expect("text").to_owned());
        let told = [h1.headers.all("alt-svc").concat(), h2, clear.headers.all("alt-svc").concat()];
        edge.stop().await;
        (told, port)
    };
    let (told, port) = with("h3: true").await;
    let here = format!("h3=\":{port}\"; ma=86400");
    assert_eq!(told, [here.clone(), here, "h3=\":1\"".to_owned()]);
    let (told, _) = with("h3: {port: 443, max_age: 1h}").await;
    assert_eq!(told[..2], ["h3=\":443\"; ma=3600", "h3=\":443\"; ma=3600"]);
    let theirs = "h3=\":1\"";
    assert_eq!(with("h3: {advertise: false}").await.0, [theirs; 3]);
    assert_eq!(with("h3: false").await.0, [theirs; 3]);
}
