//! What a plain request allocates, counted: it must not grow unseen.
//!
//! A request of an HTTP/1 client to an HTTP/1 endpoint over connections that are there, on a route without filters, with the breaker,
//! retries, metrics and `least_connections`. Client and endpoint are threads that allocate nothing while it is counted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use weir::{config, server::RunningServer};

#[path = "../benches/counting/mod.rs"]
mod counting;

use self::counting::allocations;

/// 7 were measured; more needs a reason.
const MOST: f64 = 8.0;

const REQUEST: &[u8] = b"GET /path?query HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// Answers each request on each of its connections, in a thread.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut space = [0; 4096];
                // A request comes in one piece here.
                while stream.read(&mut space).is_ok_and(|count| count > 0) {
                    stream.write_all(RESPONSE).unwrap();
                }
            });
        }
    });
    address
}

fn exchange(client: &mut TcpStream) {
    let mut space = [0; 4096];
    client.write_all(REQUEST).unwrap();
    let mut read = 0;
    while !space[..read].ends_with(b"\r\n\r\nhello") {
        read += client.read(&mut space[read..]).unwrap();
    }
}

#[test]
fn a_plain_request_allocates_little() {
    let yaml = format!(
        "server: {{threads: 1}}\nobservability: {{access_log: {{path: 'off'}}}}\nlisteners: {{web: {{address: '127.0.0.1:0'}}}}\n\
         routes: [{{name: all, retry: {{}}, upstream: app}}]\n\
         upstreams: {{app: {{strategy: {{least_connections: {{}}}}, endpoints: ['{}']}}}}\n",
        endpoint()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let spec = config::parse_str("test.yaml", &yaml, Path::new("/"), &|_| None).spec.expect("a configuration");
    let server = runtime.block_on(RunningServer::start(spec)).expect("it starts");
    let mut client = TcpStream::connect(server.address("web").unwrap()).unwrap();
    (0..200).for_each(|_| exchange(&mut client));
    const REQUESTS: usize = 2000;
    let before = allocations();
    (0..REQUESTS).for_each(|_| exchange(&mut client));
    let each = (allocations() - before) as f64 / REQUESTS as f64;
    println!("{each:.1} allocations for each request");
    assert!(each <= MOST, "{each:.1} allocations for each request");
}
