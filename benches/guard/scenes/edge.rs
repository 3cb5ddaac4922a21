//! Whole exchanges: an edge on one thread, and on the same thread a client and an endpoint, which are not counted.
//!
//! Nothing else runs, so it goes the same way each time. The kernel's work is not counted either.

use std::{net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use weir::{config, server::RunningServer};

use super::Round;
use crate::count::apart;

const GET: &str = "GET /v1/path?query HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// An edge, and what passes it.
#[derive(Clone, Copy)]
struct Setting<'s> {
    driver: &'s str,
    access_log: &'s str,
    routes: &'s str,
    request: &'s str,
    response: &'s str,
}

const PLAIN: Setting<'_> = Setting {
    driver: "auto",
    access_log: "off",
    routes: "[{name: all, retry: {}, upstream: app}]",
    request: GET,
    response: HELLO,
};

/// Connections that are there, no filters, no log.
pub fn h1() -> Round {
    exchange(PLAIN)
}

/// As most routes are: with filters, and a line in the access log.
pub fn h1_common() -> Round {
    let routes = "
  - name: all
    filters:
      - ip_access: {allow: [127.0.0.0/8]}
      - rate_limit: {rate: 1000000000/s, burst: 1000000}
      - rewrite: {strip_prefix: /v1}
      - headers: {request: {set: {x-client: '{client_ip}'}}, response: {remove: [server]}}
      - security_headers: {}
    upstream: app";
    exchange(Setting { access_log: "/dev/null", routes, ..PLAIN })
}

/// A body in chunks to the endpoint, and a larger one back.
pub fn h1_upload() -> Round {
    let head = "POST /v1/path HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}{}0\r\n\r\n", format!("400\r\n{}\r\n", "u".repeat(1024)).repeat(4));
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n{}", "d".repeat(65536));
    exchange(Setting { request: &request, response: &response, ..PLAIN })
}

/// What Weir answers itself.
pub fn h1_answer() -> Round {
    exchange(Setting { routes: "[{name: all, respond: {status: 200, body: hello}}]", ..PLAIN })
}

/// A fresh stored response.
pub fn h1_hit() -> Round {
    exchange(Setting { routes: "[{name: all, filters: [{cache: {ttl: 1h}}], upstream: app}]", ..PLAIN })
}

/// The same as [`h1`] over HTTP/2.
pub fn h2() -> Round {
    exchange_h2(PLAIN)
}

/// What Weir answers itself, over HTTP/2.
pub fn h2_answer() -> Round {
    exchange_h2(Setting { routes: "[{name: all, respond: {status: 200, body: hello}}]", ..PLAIN })
}

/// The other driver.
pub fn h1_pingora() -> Round {
    exchange(Setting { driver: "pingora", ..PLAIN })
}

/// One request after another, on one connection.
fn exchange(setting: Setting<'_>) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (request, response) = (setting.request.as_bytes().to_vec(), setting.response.as_bytes());
    let (server, mut client) = runtime.block_on(async {
        let server = edge(setting, endpoint(&request, response.to_vec()).await).await;
        let client = TcpStream::connect(server.address("web").expect("a port")).await.expect("a connection");
        (server, client)
    });
    let (wanted, mut space) = (body(response).to_vec(), vec![0; response.len() + 4096]);
    Box::new(move || {
        // Moved in, so that it runs as long as the rounds do.
        let _running = &server;
        runtime.block_on(apart(ask(&mut client, &request, &wanted, &mut space)));
    })
}

/// One request after another as streams of one connection; its answer is that of [`PLAIN`].
fn exchange_h2(setting: Setting<'_>) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (server, client) = runtime.block_on(async {
        let server = edge(setting, endpoint(setting.request.as_bytes(), setting.response.as_bytes().to_vec()).await).await;
        let stream = TcpStream::connect(server.address("web").expect("a port")).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(apart(async move { connection.await.expect("a connection that stays") }));
        (server, client)
    });
    Box::new(move || {
        // Moved in, so that it runs as long as the rounds do.
        let _running = &server;
        runtime.block_on(apart(async {
            let request = http::Request::get("http://example.com/v1/path?query").body(()).expect("a request");
            let mut client = client.clone().ready().await.expect("room for a stream");
            let (response, _) = client.send_request(request, true).expect("it is taken");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let piece = body.data().await.expect("a body").expect("no error");
            assert_eq!(piece, "hello");
            assert!(body.is_end_stream() || body.data().await.is_none(), "more than was asked for");
        }));
    })
}

/// The number of threads is given, for what goes by it would be another one on another machine.
async fn edge(setting: Setting<'_>, endpoint: SocketAddr) -> RunningServer {
    let Setting { driver, access_log, routes, .. } = setting;
    let yaml = format!(
        "server: {{threads: 1, driver: {driver}}}\nadmin: off\nobservability: {{access_log: {{path: '{access_log}'}}}}\n\
         listeners: {{web: {{address: '127.0.0.1:0', http: {{h2c: true, max_requests_per_connection: 1000000}}}}}}\nroutes: {routes}\n\
         upstreams: {{app: {{strategy: {{least_connections: {{}}}}, endpoints: ['{endpoint}']}}}}\n",
    );
    let spec = config::parse_str("guard.yaml", &yaml, Path::new("/"), &|_| None).spec.expect("a configuration");
    RunningServer::start(spec).await.expect("it starts")
}

/// What is behind the head.
fn body(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    &message[end + 4..]
}

/// Sends the request, and reads the answer, which ends with this body.
async fn ask(client: &mut TcpStream, request: &[u8], body: &[u8], space: &mut [u8]) {
    client.write_all(request).await.expect("it is taken");
    let length = read(client, body, space).await;
    let answer = String::from_utf8_lossy(&space[..length]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Reads a message that ends with this body, behind an empty line. 0 when the connection ends before.
async fn read(stream: &mut TcpStream, body: &[u8], space: &mut [u8]) -> usize {
    let mut length = 0;
    while !space[..length].strip_suffix(body).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
        match stream.read(&mut space[length..]).await.expect("no error") {
            0 => return 0,
            count => length += count,
        }
    }
    length
}

/// An endpoint that answers such requests with this. Their bodies come as they were sent.
async fn endpoint(request: &[u8], response: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let wanted = body(request).to_vec();
    tokio::spawn(apart(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (wanted, response) = (wanted.clone(), response.clone());
            tokio::spawn(apart(async move {
                let mut space = vec![0; wanted.len() + 4096];
                while read(&mut stream, &wanted, &mut space).await > 0 {
                    stream.write_all(&response).await.expect("it is taken");
                }
            }));
        }
    }));
    address
}
