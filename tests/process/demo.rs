//! `weir demo`, tried as its own text says.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    child::Weir,
    support::{certs::tls, client::RawClient, wire::RawResponse},
};

struct Demo {
    weir: Weir,
    text: String,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    backend: SocketAddr,
}

/// The port in the first `before…PORT`.
fn port_after(text: &str, before: &str) -> SocketAddr {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
}

impl Demo {
    async fn start() -> Self {
        let any = "127.0.0.1:0";
        let weir = Weir::spawn(&["demo", "--http", any, "--https", any, "--admin", any, "--backend-port", "0"]);
        weir.out.line_with("The access log follows").await;
        let text = weir.out.text();
        let (http, https) = (port_after(&text, "http://localhost:"), port_after(&text, "https://localhost:"));
        let backend = port_after(&text, "-X PUT http://127.0.0.1:");
        let admin = text.lines().find(|line| line.contains("/stats")).expect("a line");
        let admin = port_after(admin, "http://127.0.0.1:");
        Self { weir, http, https, admin, backend, text }
    }

    async fn client(&self) -> RawClient {
        RawClient::connect_tls(self.https, &tls().sni("localhost").alpn("http/1.1")).await
    }

    async fn get(&self, path: &str) -> RawResponse {
        self.client().await.get("localhost", path).await
    }

    /// Who answers in nine requests: the first word of a backend's text is its name.
    async fn names(&self) -> BTreeSet<String> {
        let (mut client, mut names) = (self.client().await, BTreeSet::new());
        for _ in 0..9 {
            let answer = client.get("localhost", "/").await;
            names.insert(if answer.status == 200 { first_word(&answer) } else { answer.status.to_string() });
        }
        names
    }

    async fn switch(&self, to: &str) {
        let request = format!("PUT /health/{to} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n", self.backend);
        assert_eq!(RawClient::connect(self.backend).await.exchange(request).await.status, 200);
    }
}

fn first_word(answer: &RawResponse) -> String {
    answer.text().split(' ').next().unwrap_or_default().to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn everything_that_the_text_offers_works() {
    let mut demo = Demo::start().await;
    assert!(!demo.text.contains(":0/") && !demo.text.contains(":0)"), "{}", demo.text);
    let redirect = RawClient::connect(demo.http).await.get(&format!("localhost:{}", demo.http.port()), "/a?b").await;
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.header("location"), Some(&*format!("https://localhost:{}/a?b", demo.https.port())));

    let mut client = demo.client().await;
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(first_word(&client.get("localhost", "/").await));
    }
    assert_eq!(turns[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{turns:?}");
    assert_eq!(turns[..3], turns[3..], "in turn");

    let began = Instant::now();
    assert_eq!(demo.get("/slow?ms=300").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let mut flaky = BTreeSet::new();
    for _ in 0..64 {
        flaky.insert(client.get("localhost", "/flaky").await.status);
    }
    assert_eq!(flaky, BTreeSet::from([200, 500]));

    let echo = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(demo.client().await.exchange(echo).await.json()["body"], "hello");
    let api = demo.get("/api/v1/users").await;
    assert!(api.text().contains("GET /echo/v1/users ") && api.text().contains("x-edge: weir"), "{}", api.text());
    assert!(api.header("x-served-by").is_some());
    assert_eq!(demo.get("/hello").await.text(), "hello from the edge\n");

    let host = demo.admin.to_string();
    let stats = RawClient::connect(demo.admin).await.get(&host, "/stats").await;
    assert_eq!(stats.status, 200);
    let metrics = RawClient::connect(demo.admin).await.get(&host, "/metrics").await;
    assert!(metrics.text().contains("weir_http_requests_total"));

    let (_, token) = demo.text.split_once("Bearer ").expect("the token");
    let token = token.split('"').next().expect("its end").to_owned();
    demo.weir.signal(Signal::SIGINT);
    assert_eq!(demo.weir.ended().await.code(), Some(0), "{}", demo.weir.err.text());
    demo.weir.err.line_with("drained in").await;
    assert_eq!((demo.weir.out.text() + &demo.weir.err.text()).matches(&token).count(), 1);
}

#[tokio::test]
async fn a_backend_is_taken_out_and_brought_back() {
    let mut demo = Demo::start().await;
    assert_eq!(demo.names().await, set(&["red", "green", "blue"]));
    demo.switch("down").await;
    eventually!(demo.names().await, |names: &BTreeSet<String>| *names == set(&["green", "blue"]));
    let stats = RawClient::connect(demo.admin).await.get(&demo.admin.to_string(), "/stats").await.text();
    assert!(stats.contains("unhealthy"), "{stats}");
    demo.switch("up").await;
    eventually!(demo.names().await, |names: &BTreeSet<String>| *names == set(&["red", "green", "blue"]));
    demo.weir.signal(Signal::SIGINT);
    assert_eq!(demo.weir.ended().await.code(), Some(0), "{}", demo.weir.err.text());
}

#[tokio::test]
async fn it_drains_through_the_admin_api_as_its_text_says() {
    let mut demo = Demo::start().await;
    let (_, token) = demo.text.split_once("Bearer ").expect("the token");
    let token = token.split('"').next().expect("its end");
    let request = format!("POST /api/v1/drain HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n", demo.admin);
    assert_eq!(RawClient::connect(demo.admin).await.exchange(request).await.status, 202);
    assert_eq!(demo.weir.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = taken.local_addr().expect("an address");
    let any = "127.0.0.1:0";
    let (taken, port) = (address.to_string(), address.port().to_string());
    for arguments in [
        ["demo", "--http", &taken, "--https", any, "--admin", any, "--backend-port", "0"],
        ["demo", "--http", any, "--https", any, "--admin", any, "--backend-port", &port],
    ] {
        let mut weir = Weir::spawn(&arguments);
        assert_eq!(weir.ended().await.code(), Some(1), "{arguments:?}");
        weir.err.line_with(&taken).await;
    }
}
