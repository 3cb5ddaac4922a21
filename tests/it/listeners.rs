//! Where an edge accepts: several listeners and addresses, IPv6, unix sockets, HTTP/2 in cleartext; and two edges at once.

use std::{net::Ipv6Addr, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
};

use crate::support::{
    client::RawClient,
    edge::{edge, edge_from},
    h2_client::{H2Client, H2Request},
    origin::origin,
    within,
};

/// False, with a word why, on a machine without IPv6.
async fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
    if !has {
        println!("skipped: this machine has no ::1");
    }
    has
}

/// A GET over a unix socket that ends with the connection.
async fn get_unix(path: &Path, host: &str) -> String {
    let mut stream = within("a unix connection", UnixStream::connect(path)).await.expect("connect");
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer
}

#[tokio::test]
async fn several_listeners_and_several_addresses_of_one() {
    let edge = edge_from(
        "listeners:\n  one: {address: 127.0.0.1:0}\n  two: {address: [127.0.0.1:0, '127.0.0.2:0']}\nadmin: off\n\
         observability: {access_log: {path: off}}\nroutes:\n  - {name: one, match: {listener: one}, respond: {body: one}}\n  \
         - {name: two, respond: {body: two}}\n",
    )
    .await;
    let two = &edge.server.addresses()["two"];
    assert_eq!(two.len(), 2);
    assert_eq!(RawClient::connect(edge.address("one")).await.get("x", "/").await.text(), "one");
    for address in two {
        let address = address.tcp().expect("TCP");
        assert_ne!(address.port(), 0);
        assert_eq!(RawClient::connect(address).await.get("x", "/").await.text(), "two", "{address}");
    }
}

#[tokio::test]
async fn ipv6_from_client_to_endpoint() {
    if !has_ipv6().await {
        return;
    }
    let behind = edge_from(
        "listeners: {six: {address: '[::1]:0'}}\nadmin: off\nobservability: {access_log: {path: off}}\n\
         routes: [{name: all, respond: {body: six}}]\n",
    )
    .await;
    let front = edge_from(&format!(
        "listeners: {{six: {{address: '[::1]:0'}}}}\nadmin: off\nobservability: {{access_log: {{path: access.log}}}}\n\
         routes: [{{name: all, match: {{client_ip: '::1'}}, upstream: app}}]\nupstreams: {{app: {{endpoints: ['{}']}}}}\n",
        behind.address("six")
    ))
    .await;
    let address = front.address("six");
    assert!(address.is_ipv6());
    let answer = RawClient::connect(address).await.get(&address.to_string(), "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "six"));
    let log = front.access_log().await;
    assert_eq!((log[0]["client"].as_str(), log[0]["host"].as_str()), (Some("::1"), Some("[::1]")));
}

#[tokio::test]
async fn the_unspecified_ipv6_address_takes_ipv4_too() {
    if !has_ipv6().await {
        return;
    }
    let edge = edge_from(
        "listeners: {all: {address: '[::]:0'}}\nadmin: off\nobservability: {access_log: {path: access.log}}\n\
         routes: [{name: all, respond: {body: both}}]\n",
    )
    .await;
    let port = edge.address("all").port();
    for address in [(std::net::Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()] {
        assert_eq!(RawClient::connect(address).await.get("x", "/").await.text(), "both", "{address}");
    }
    let log = edge.access_log_of(2).await;
    assert_eq!((log[0]["client"].as_str(), log[1]["client"].as_str()), (Some("127.0.0.1"), Some("::1")));
}

#[tokio::test]
async fn a_unix_socket_listens_and_goes_with_its_edge() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("weir.sock");
    // What a crash left behind does not keep an edge from starting.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    let edge = edge_from(&format!(
        "listeners: {{local: {{address: 'unix:{}'}}}}\nadmin: off\nobservability: {{access_log: {{path: off}}}}\n\
         routes: [{{name: all, respond: {{body: hello}}}}]\n",
        path.display()
    ))
    .await;
    let answer = get_unix(&path, "example.com").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    edge.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_endpoint_may_be_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a byte"));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await.expect("sent");
        String::from_utf8(head).expect("text")
    });
    let edge = edge().yaml(&format!("# {}", path.display())).route("all", "upstream: app").upstream("app", &[]);
    let config = edge.config().replace("endpoints: []", &format!("endpoints: [\"unix:{}\"]", path.display()));
    let edge = edge.start_as(&config).await;
    assert_eq!(edge.get("/a").await.text(), "unix");
    let head = within("the request", serving).await.expect("no panic");
    assert!(head.starts_with("GET /a HTTP/1.1\r\n") && head.to_lowercase().contains("host: example.com\r\n"), "{head}");
}

#[tokio::test]
async fn http2_in_cleartext_needs_to_be_switched_on() {
    let edge = edge().route("all", "respond: {body: hello}").listener("http: {h2c: true}").start().await;
    let mut h2 = H2Client::connect(edge.address("web")).await;
    assert_eq!(h2.get("example.com", "/").await.text(), "hello");
    let again = h2.send(&H2Request::post("example.com", "/", "body")).await.expect("a response");
    assert_eq!(again.text(), "hello");
    assert_eq!(edge.get("/").await.text(), "hello", "HTTP/1.1 on the same port");
    let log = edge.access_log_of(3).await;
    assert_eq!((&log[0]["http"], &log[2]["http"]), (&"2".into(), &"1.1".into()));
}

#[tokio::test]
async fn http2_in_cleartext_is_refused_where_it_is_off() {
    let edge = edge().route("all", "respond: {body: hello}").start().await;
    let mut client = edge.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.read_response().await.status, 505);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_listener_takes_as_many_connections_as_it_may() {
    let edge = edge().route("all", "respond: {body: hello}").listener("max_connections: 2").start().await;
    let (mut one, mut two) = (edge.client().await, edge.client().await);
    assert_eq!(one.get("x", "/").await.status, 200);
    assert_eq!(two.get("x", "/").await.status, 200);
    assert!(edge.client().await.is_closed().await);
    assert_eq!(one.get("x", "/").await.status, 200, "those who were there stay");
    drop(two);
    crate::eventually!({
        let mut client = edge.client().await;
        let sent = client.try_send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        sent.is_ok() && matches!(client.try_read_response().await, Ok(Some(_)))
    });
    let refused = edge.metric("weir_rejected_requests_total", &[("reason", "listener_connection_limit")]).await;
    assert!(refused.is_some_and(|refused| refused >= 1.0), "{refused:?}");
}

#[tokio::test]
async fn the_proxy_protocol_is_required_from_those_listed_and_refused_from_others() {
    let edge = edge().route("all", "respond: {body: hello}").listener("proxy_protocol: {from: [127.0.0.2]}").start().await;
    let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let from = async |peer: &str, header: &[u8]| {
        let mut client = RawClient::connect_from(peer, edge.address("web")).await;
        client.send([header, get.as_bytes()].concat()).await;
        client.try_read_response().await.ok().flatten().map(|answer| answer.status)
    };
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x67\0\x50";
    assert_eq!(from("127.0.0.2", v1).await, Some(200));
    assert_eq!(from("127.0.0.2", v2).await, Some(200));
    assert_eq!(from("127.0.0.2", b"").await, None, "required");
    assert_eq!(from("127.0.0.1", b"").await, Some(200));
    assert_eq!(from("127.0.0.1", v1).await, Some(400), "not HTTP");
    let log = edge.access_log_of(4).await;
    let clients: Vec<_> = log.iter().map(|line| line["client"].as_str().expect("text")).collect();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.8", "127.0.0.1", "127.0.0.1"]);
    assert_eq!(edge.metric("weir_rejected_requests_total", &[("reason", "bad_proxy_header")]).await, Some(1.0));
}

#[tokio::test]
async fn two_edges_in_one_process_know_nothing_of_each_other() {
    let (left, right) = (origin().respond(200, "left").spawn().await, origin().respond(500, "right").spawn().await);
    let make = async |name: &str, at| {
        edge().upstream("app", &[at]).route("all", "upstream: app").route(name, "match: {path: /x}\nrespond: {}").start().await
    };
    let (one, two) = (make("only-one", left.addr()).await, make("only-two", right.addr()).await);
    for _ in 0..3 {
        assert_eq!(one.get("/").await.text(), "left");
    }
    assert_eq!(two.get("/").await.text(), "right");
    assert_eq!((left.request_count(), right.request_count()), (3, 1));
    assert_eq!((one.access_log_of(3).await.len(), two.access_log_of(1).await.len()), (3, 1));
    let answered = "weir_http_requests_total";
    for (edge, code, count, other) in [(&one, "200", 3.0, "500"), (&two, "500", 1.0, "200")] {
        assert_eq!(edge.metric(answered, &[("route", "all"), ("code", code)]).await, Some(count));
        assert_eq!(edge.metric(answered, &[("code", other)]).await, None);
    }
    // The end of one is not the end of the other.
    one.stop().await;
    assert_eq!(two.get("/").await.text(), "right");
}
