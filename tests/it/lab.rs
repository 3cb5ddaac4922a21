//! The lab over real sockets.

use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use weir::{
    cli::lab::LabArgs,
    lab::{
        Backend, BackendHandle, BackendOptions, Failure, Faults, TcpEcho, TcpEchoOptions,
        send::{self, HttpRequest, SendError, Transport, Trust},
    },
    types::Ratio,
};

use crate::support::{
    certs::{ca, tls},
    client::RawClient,
    origin::{origin, refused_address},
    within,
};

async fn backend(faults: Faults) -> BackendHandle {
    Backend::spawn(BackendOptions::named("app-1").faults(faults)).await.expect("a backend")
}

fn request(url: &str) -> HttpRequest {
    let method = http::Method::GET;
    HttpRequest { method, uri: url.parse().expect("a URL"), headers: Default::default(), body: Default::default() }
}

#[tokio::test]
async fn a_backend_says_who_it_is_as_text_or_json() {
    let backend = backend(Faults::default()).await;
    let mut client = RawClient::connect(backend.addr).await;
    let text = client.exchange("GET /any/path?q=1 HTTP/1.1\r\nhost: a.example\r\nx-twice: 1\r\nx-twice: 2\r\n\r\n").await;
    assert_eq!((text.status, text.header("x-backend")), (200, Some("app-1")));
    assert!(text.text().starts_with(&format!("app-1 at {}\n", backend.addr)), "{}", text.text());
    assert!(text.text().contains("GET /any/path?q=1 HTTP/1.1\nhost: a.example\nx-twice: 1\nx-twice: 2\n"));
    let json = client.exchange("GET / HTTP/1.1\r\nhost: a.example\r\naccept: application/json\r\n\r\n").await.json();
    assert_eq!((&json["backend"], &json["protocol"]), (&"app-1".into(), &"HTTP/1.1".into()));
    assert_eq!(backend.requests(), 2);
}

#[tokio::test]
async fn echo_returns_the_request_as_json_or_its_bytes() {
    let backend = backend(Faults::default()).await;
    let mut client = RawClient::connect(backend.addr).await;
    let chunked = "PUT /echo?a=1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let json = client.exchange(chunked).await.json();
    assert_eq!((&json["method"], &json["query"], &json["body"]), (&"PUT".into(), &"a=1".into(), &"hi".into()));
    let raw = "POST /echo?raw HTTP/1.1\r\nhost: x\r\ncontent-type: text/x\r\ncontent-length: 3\r\n\r\nabc";
    let raw = client.exchange(raw).await;
    assert_eq!((raw.header("content-type"), raw.text().as_str()), (Some("text/x"), "abc"));
    let large = vec![b'x'; (1 << 20) + 1];
    let mut bytes = format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", large.len()).into_bytes();
    bytes.extend(large);
    assert_eq!(client.exchange(bytes).await.status, 413);
}

#[tokio::test]
async fn every_path_does_what_it_is_for() {
    let backend = backend(Faults::default()).await;
    let mut client = RawClient::connect(backend.addr).await;
    assert_eq!(client.get("x", "/status/418").await.status, 418);
    assert_eq!(client.get("x", "/status/204").await.status, 204);
    assert_eq!(client.get("x", "/flaky?rate=100%").await.status, 500);
    assert_eq!(client.get("x", "/flaky?rate=0%").await.status, 200);
    assert_eq!(client.get("x", "/stream?n=3&ms=0").await.text(), "piece 0\npiece 1\npiece 2\n");
    let events = client.get("x", "/sse?n=2&ms=0").await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.text().matches("event: tick\n").count(), 2);
    let bytes = client.get("x", "/bytes?n=200000").await;
    assert_eq!((bytes.header("content-length"), bytes.body.len()), (Some("200000"), 200_000));
    let started = Instant::now();
    assert_eq!(client.get("x", "/slow?ms=60").await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(60));
    for wrong in ["/status/99", "/slow?ms=soon", "/bytes?n=-1", "/flaky?rate=200%", "/ws"] {
        assert_eq!(client.get("x", wrong).await.status, 400, "{wrong}");
    }
    client.send("HEAD /bytes?n=5 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.header("content-length"), Some("5"));
    assert_eq!(client.get("x", "/").await.status, 200);
}

#[tokio::test]
async fn health_is_switched_over_http_and_by_the_handle() {
    let backend = backend(Faults { rate: Ratio::percent(100), ..Faults::default() }).await;
    let mut client = RawClient::connect(backend.addr).await;
    let up = client.get("x", "/health").await;
    assert_eq!((up.status, &up.json()["status"]), (200, &"ok".into()));
    assert_eq!(client.exchange("PUT /health/down HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 200);
    let down = client.get("x", "/health").await;
    assert_eq!((down.status, &down.json()["status"]), (503, &"down".into()));
    backend.set_healthy(true);
    assert_eq!(client.get("x", "/health").await.status, 200);
    assert_eq!(client.get("x", "/health/down").await.status, 405);
    assert_eq!(client.get("x", "/").await.status, 500);
}

#[tokio::test]
async fn a_failing_backend_answers_its_status_or_resets() {
    let failing = |failure| Faults { rate: Ratio::percent(100), failure, ..Faults::default() };
    let status = backend(failing(Failure::Status(StatusCode::BAD_GATEWAY))).await;
    let answer = RawClient::connect(status.addr).await.get("x", "/").await;
    assert_eq!((answer.status, answer.header("x-backend")), (502, Some("app-1")));
    let reset = backend(failing(Failure::Reset)).await;
    let mut client = RawClient::connect(reset.addr).await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.is_reset().await);
}

#[tokio::test]
async fn stopping_finishes_the_answer_and_refuses_new_connections() {
    let backend = backend(Faults::default()).await;
    let addr = backend.addr;
    let mut client = RawClient::connect(addr).await;
    client.send("GET /slow?ms=200 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    eventually!(backend.requests() == 1);
    within("the backend to stop", backend.stop()).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_websocket_echoes() {
    let backend = backend(Faults::default()).await;
    let request = format!("ws://{}/ws", backend.addr).into_client_request().expect("a request");
    let stream = tokio::net::TcpStream::connect(backend.addr).await.expect("a connection");
    let (mut socket, response) = within("the upgrade", tokio_tungstenite::client_async(request, stream)).await.expect("101");
    assert_eq!(response.headers()["x-backend"], "app-1");
    for message in [Message::text("hello"), Message::binary(vec![0; 70_000])] {
        socket.send(message.clone()).await.expect("send");
        assert_eq!(within("the echo", socket.next()).await.expect("open").expect("a message"), message);
    }
    socket.close(None).await.expect("close");
    within("the close", async { while socket.next().await.is_some_and(|message| message.is_ok()) {} }).await;
}

#[tokio::test]
async fn a_tcp_echo_greets_and_returns_everything_after_a_half_close() {
    let options = TcpEchoOptions { greeting: "hello\n".into(), ..TcpEchoOptions::default() };
    let echo = TcpEcho::spawn(options).await.expect("an echo");
    let mut client = RawClient::connect(echo.addr).await;
    client.send("abc").await;
    client.half_close().await;
    assert_eq!(client.read_to_close().await, b"hello\nabc");
    let sent = send::tcp(&"x".repeat(3 << 20), &echo.addr.to_string(), Duration::from_secs(10)).await.expect("an answer");
    assert_eq!(sent.len(), 6 + (3 << 20));
    let mut idle = RawClient::connect(echo.addr).await;
    idle.read_bytes(6).await;
    within("the echo to stop", echo.stop()).await;
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn many_requests_are_counted_by_status_and_backend() {
    let (good, bad) = (backend(Faults::default()).await, refused_address().await);
    let url = format!("http://{}/status/", good.addr);
    for http2_only in [false, true] {
        let transport = Transport { http2_only, ..Transport::default() };
        let tally = send::many(&request(&format!("{url}200")), &transport, 4, 5).await;
        assert_eq!((tally.ok, tally.errors, tally.by_status[&200], tally.by_backend["app-1"]), (20, 0, 20, 20));
        assert!(tally.percentile(50) <= tally.percentile(99) && tally.percentile(50).is_some());
        let tally = send::many(&request(&format!("{url}503")), &transport, 1, 2).await;
        assert_eq!((tally.ok, tally.errors, tally.by_status[&503]), (0, 2, 2));
    }
    let tally = send::many(&request(&format!("http://{bad}/")), &Transport::default(), 2, 2).await;
    assert_eq!((tally.errors, tally.by_failure["connect"]), (4, 4));
}

#[tokio::test]
async fn requests_carry_the_host_of_the_url_wherever_they_go() {
    let origin = origin().respond(200, "hi").spawn().await;
    let transport = Transport { address: Some(origin.addr().to_string()), ..Transport::default() };
    let response = send::one(&request("http://www.example.com:81/a?b"), &transport).await.expect("a response");
    assert_eq!((response.status, response.body.as_ref()), (StatusCode::OK, &b"hi"[..]));
    let received = origin.next_request().await;
    assert_eq!((received.target.as_str(), received.header("host")), ("/a?b", Some("www.example.com:81")));
}

#[tokio::test]
async fn tls_servers_are_verified_unless_told_otherwise() {
    let ca = ca();
    let origin = origin().respond(200, "hi").tls(&ca.server(&["www.example.com"])).spawn().await;
    let to_origin = |trust| Transport { address: Some(origin.addr().to_string()), trust, ..Transport::default() };
    let request = request("https://www.example.com/");
    for trust in [Trust::Anyone, Trust::File(ca.file())] {
        assert_eq!(send::one(&request, &to_origin(trust)).await.expect("a response").body, "hi");
    }
    let refused = send::one(&request, &to_origin(Trust::System)).await.expect_err("an unknown authority");
    assert!(matches!(refused, SendError::Tls { .. }), "{refused}");
    // The fixture itself, so that a server that takes anything would be noticed.
    assert!(RawClient::try_connect_tls(origin.addr(), &tls().sni("other.example.com").ca(&ca)).await.is_err());
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout() {
    let origin = origin().never_answer().spawn().await;
    let transport = Transport { timeout: Duration::from_millis(50), ..Transport::default() };
    let error = send::one(&request(&format!("http://{}/", origin.addr())), &transport).await.expect_err("no answer");
    assert_eq!(error.word(), "timeout");
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    lab: LabArgs,
}

fn parse(line: &str) -> Result<LabArgs, String> {
    let words = std::iter::once("lab").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.lab).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_command_line_names_what_is_wrong() {
    for (line, reason) in [
        ("send http://x/ -H nonsense", "name: value"),
        ("send x --address 5432", "a host and a port"),
        ("serve --count 0", "1..=100"),
        ("serve --delay 50", "did you mean `50s` or `50ms`"),
        ("serve --fail 10", "20%"),
        ("serve --greeting hi", "--tcp"),
        ("serve --fail-with 200", "400 to 599"),
        ("send http://x/ -k --ca f.pem", "cannot be used with"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(reason), "{line}: {error}");
    }
    for (line, reason) in [
        ("send localhost:8080", "did you mean `http://localhost:8080`"),
        ("send hello --address 127.0.0.1:1 -X PUT", "goes over TCP"),
        ("serve --port 65534 --count 3 --host 127.0.0.1", "beyond port 65535"),
    ] {
        let error = weir::cli::lab::run(parse(line).expect(line)).await.expect_err(line).to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

#[tokio::test]
async fn the_exit_code_tells_whether_all_was_well() {
    let backend = backend(Faults::default()).await;
    for (line, code) in [("", 0), ("status/500", 0), ("?x --clients 2 --requests 2", 0), ("status/500 --requests 2", 1)] {
        let line = format!("send http://{}/{line}", backend.addr);
        let exit = weir::cli::lab::run(parse(&line).expect("a command")).await.expect("sent");
        assert_eq!(format!("{exit:?}"), format!("{:?}", std::process::ExitCode::from(code)), "{line}");
    }
}
