//! Filters of every power over real sockets: verdicts that come later, bodies that stream, bodies that change.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    exchange::Doors,
    filter::{Chain, Filter, FilterRequest, FilterResponse, RequestPiece, Slot as FilterSlot, Verdict},
    listener::{self, ConnectionLimit, Shared, Slot},
    observe::Observer,
    snapshot::{self, Registries, Store},
    types::{BodyStream, Name, Problems, Reply},
};

/// Does what the path asks for, and writes down what it saw.
#[derive(Debug, Default)]
struct Probe {
    seen: Arc<Mutex<Vec<String>>>,
}

const LONG: usize = 1 << 20;

impl Filter for Probe {
    fn kind(&self) -> &'static str {
        "probe"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut FilterSlot) -> Verdict {
        let reply = |status| Reply::status(status).with(header::CONTENT_TYPE, HeaderValue::from_static("text/x-probe"));
        match request.path {
            "/later" => Verdict::later(async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                |request: &mut FilterRequest<'_>, _: &mut FilterSlot| {
                    request.fields.set("x-user".parse().unwrap(), HeaderValue::from_static("alice"));
                    Verdict::later(async {
                        |request: &mut FilterRequest<'_>, _: &mut FilterSlot| match request.query {
                            Some("refused") => Verdict::Answer { reply: Reply::status(401), reason: "probe" },
                            _ => Verdict::Continue,
                        }
                    })
                }
            }),
            "/never" => Verdict::later(async {
                std::future::pending::<()>().await;
                |_: &mut FilterRequest<'_>, _: &mut FilterSlot| Verdict::Continue
            }),
            "/stream" => {
                let pieces = stream::iter((0..16).map(|_| Ok(Bytes::from(vec![b'x'; LONG / 16]))));
                let length = (request.query != Some("unmeasured")).then_some(LONG as u64);
                Verdict::Stream { reply: reply(200), body: BodyStream::new(length, pieces), reason: "probe" }
            }
            "/unmodified" => {
                Verdict::Stream { reply: reply(304), body: BodyStream::new(None, stream::pending()), reason: "probe" }
            }
            "/broken" => {
                let pieces = stream::iter([Ok(Bytes::from("half")), Err(std::io::ErrorKind::UnexpectedEof.into())]);
                Verdict::Stream { reply: reply(200), body: BodyStream::new(None, pieces), reason: "probe" }
            }
            "/short" => {
                let body = BodyStream::new(Some(9), stream::iter([Ok(Bytes::from("half"))]));
                Verdict::Stream { reply: reply(200), body, reason: "probe" }
            }
            "/panic" => panic!("a fault of ours"),
            "/own" => Verdict::Answer { reply: Reply::text(200, "text/plain", "own\n"), reason: "probe" },
            _ => Verdict::Continue,
        }
    }

    fn sees_request_body(&self) -> bool {
        true
    }

    fn request_body(&self, piece: &RequestPiece<'_>, _: &mut FilterSlot) -> Verdict {
        let text = String::from_utf8_lossy(piece.bytes).into_owned();
        self.seen.lock().push(format!("{text} {} {}", piece.so_far, piece.end));
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut FilterSlot) {
        if response.fields.get("x-shout").is_some() || response.fields.get("content-type") == Some(b"text/plain") {
            *slot = Some(Box::new(0_usize));
            response.replace_body();
        } else {
            response.see_body();
        }
    }

    /// In capitals, with the length behind it.
    fn response_body(&self, piece: &mut Bytes, end: bool, slot: &mut FilterSlot) -> Result<(), &'static str> {
        let Some(count) = slot.as_mut().and_then(|slot| slot.downcast_mut::<usize>()) else {
            self.seen.lock().push(format!("response {} {end}", piece.len()));
            return Ok(());
        };
        if piece.as_ref() == b"fail" {
            return Err("probe_failed");
        }
        *count += piece.len();
        let mut changed = piece.to_ascii_uppercase();
        if end {
            changed.extend_from_slice(format!("[{count}]").as_bytes());
        }
        *piece = changed.into();
        Ok(())
    }
}

/// An endpoint that sends back what the path asks for: `/shout` marks its response, `/pieces` streams it.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| async move {
                let user = request.headers().get("x-user").cloned();
                let path = request.uri().path().to_owned();
                let sent = request.into_body().collect().await.unwrap().to_bytes();
                let text = match &*sent {
                    b"" => user.map_or(Bytes::from("hello"), |user| Bytes::copy_from_slice(user.as_bytes())),
                    _ => sent,
                };
                let pieces: &'static [&'static str] = match &*path {
                    "/pieces" => &["one ", "two ", "three"],
                    "/fail" => &["ok", "fail"],
                    _ => &[],
                };
                let pieces = stream::iter(pieces).then(|piece| async move {
                    // Apart, so that they arrive apart.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece.as_bytes())))
                });
                let body = match &*path {
                    "/pieces" | "/fail" => StreamBody::new(pieces).boxed_unsync(),
                    _ => Full::new(text).boxed_unsync(),
                };
                let mark = if path == "/" { "x-plain" } else { "x-shout" };
                Ok::<_, Infallible>(hyper::Response::builder().header(mark, "1").header("etag", "\"1\"").body(body).unwrap())
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// An edge with a probe at its listener.
struct TestEdge {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _stopping: watch::Sender<bool>,
    _draining: watch::Sender<bool>,
}

async fn edge(timeout: &str) -> TestEdge {
    crate::tls::install_provider();
    let spec = serde_json::json!({
        "observability": {"access_log": {"path": "off"}},
        "listeners": {"web": {"address": "127.0.0.1:0", "http": {"h2c": true}}},
        "routes": [{"name": "r", "upstream": "u", "timeout": timeout}],
        "upstreams": {"u": {"endpoints": [origin().await.to_string()]}},
    });
    let problems = Problems::default();
    let spec: crate::config::Spec = serde_json::from_value(spec).unwrap();
    let observer = Arc::new(Observer::new(&spec.observability.access_log).unwrap());
    let mut snapshot = snapshot::compile(spec, 1, &Registries::default(), SystemTime::now(), &problems).unwrap();
    let probe = Arc::new(Probe::default());
    let seen = probe.seen.clone();
    let name: Name = "web".parse().unwrap();
    let entrance = snapshot.listeners[&name].clone();
    snapshot.listener_filters = BTreeMap::from([(name.clone(), Chain::new(vec![probe]))]);
    let store = Arc::new(Store::new(snapshot));
    let (draining, draining_seen) = watch::channel(false);
    let (stopping, stopping_seen) = watch::channel(false);
    let shared = Arc::new(Shared {
        edge: crate::proxy::edge(1),
        driver: crate::config::DriverChoice::default(),
        pool: crate::lane::Pool::new(1),
        store,
        observer,
        open: ConnectionLimit::default(),
        max_connections: 100,
        doors: Doors::default(),
        draining: draining_seen,
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
    });
    let bound = Arc::new(listener::bind(&entrance.addresses[0]).unwrap());
    let address = bound.address().tcp().unwrap();
    let slot = Arc::new(Slot::new(entrance, shared.doors.open(), ConnectionLimit::default()));
    tokio::spawn(bound.run(slot, shared, stopping_seen));
    TestEdge { address, seen, _stopping: stopping, _draining: draining }
}

impl TestEdge {
    /// The head and the whole of what follows it, over HTTP/1.
    async fn h1(&self, request: &str) -> (String, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        read.expect("an answer in time").unwrap();
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    async fn get(&self, target: &str) -> (String, String) {
        self.h1(&format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn h2_client(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let socket = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Head and body over HTTP/2; the body as far as it came, with whether it ended.
    async fn h2(&self, method: &str, target: &str, body: &'static str) -> (http::response::Parts, Bytes, bool) {
        let mut client = self.h2_client().await;
        let request = hyper::Request::builder().method(method).uri(format!("http://x{target}"));
        let Ok(answer) = client.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await else {
            // A reset overtakes what was queued before it.
            return (http::Response::new(()).into_parts().0, Bytes::new(), false);
        };
        let (head, mut body) = answer.into_parts();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => return (head, whole.into(), false),
            }
        }
        (head, whole.into(), true)
    }
}

/// The pieces of a chunked body, and whether its last chunk came.
fn chunks(body: &str) -> (String, bool) {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (text, true);
        }
        text.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
    (text, false)
}

#[tokio::test]
async fn a_verdict_may_come_later_and_change_fields() {
    let edge = edge("30s").await;
    assert!(edge.get("/later").await.1.contains("alice"), "what was learned went to the endpoint");
    assert!(edge.get("/later?refused").await.0.starts_with("http/1.1 401"));
    let (head, body, _) = edge.h2("GET", "/later", "").await;
    assert_eq!((head.status.as_u16(), &*body), (200, &b"ALICE[5]"[..]));
    assert_eq!(edge.h2("GET", "/later?refused", "").await.0.status, 401);
}

#[tokio::test]
async fn a_verdict_that_never_comes_is_given_up() {
    let edge = edge("30s").await;
    assert!(edge.get("/never").await.0.starts_with("http/1.1 504"));
}

#[tokio::test]
async fn an_answer_may_stream_with_a_length_and_without() {
    let edge = edge("30s").await;
    let (head, body) = edge.get("/stream").await;
    assert!(head.contains(&format!("content-length: {LONG}")) && !head.contains("transfer-encoding"), "{head}");
    assert_eq!((body.len(), head.contains("content-type: text/x-probe")), (LONG, true));
    let (head, body) = edge.get("/stream?unmeasured").await;
    assert!(!head.contains("content-length") && head.contains("transfer-encoding: chunked"), "{head}");
    let (body, ended) = chunks(&body);
    assert_eq!((body.len(), ended), (LONG, true));
    let (head, body) = edge.h1("GET /stream?unmeasured HTTP/1.0\r\nhost: x\r\n\r\n").await;
    assert!(!head.contains("transfer-encoding") && body.len() == LONG, "HTTP/1.0 reads until the end: {head}");
    for (method, target, length, sent) in [
        ("GET", "/stream", Some(LONG), LONG),
        ("GET", "/stream?unmeasured", None, LONG),
        ("HEAD", "/stream", Some(LONG), 0),
        ("HEAD", "/stream?unmeasured", None, 0),
    ] {
        let (head, body, ended) = edge.h2(method, target, "").await;
        let said = head.headers.get("content-length").map(|value| value.to_str().unwrap().parse().unwrap());
        assert_eq!((said, body.len(), ended), (length, sent, true), "{method} {target}");
    }
    let (head, body) = edge.h1("HEAD /stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.contains(&format!("content-length: {LONG}")) && body.is_empty());
    let (head, body) = edge.get("/unmodified").await;
    assert!(head.starts_with("http/1.1 304") && !head.contains("content-length") && body.is_empty(), "{head}");
    assert!(edge.seen.lock().contains(&"response 65536 false".to_owned()), "filters see what streams");
}

#[tokio::test]
async fn a_streamed_answer_that_breaks_is_cut_visibly() {
    let edge = edge("30s").await;
    assert_eq!(chunks(&edge.get("/broken").await.1), ("half".to_owned(), false));
    assert_eq!(edge.get("/short").await.1, "half", "of nine, and the connection closed");
    for target in ["/broken", "/short"] {
        let (_, body, ended) = edge.h2("GET", target, "").await;
        assert!(!ended && b"half".starts_with(&body), "{target}: {body:?}");
    }
}

#[tokio::test]
async fn a_body_may_be_replaced_while_it_streams() {
    let edge = edge("30s").await;
    let (head, body) = edge.get("/shout").await;
    assert!(!head.contains("content-length") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(chunks(&body), ("hello[5]".to_owned(), true));
    for target in ["/pieces", "/shout"] {
        let (head, body, ended) = edge.h2("GET", target, "").await;
        let text = if target == "/pieces" { &b"ONE TWO THREE[13]"[..] } else { b"HELLO[5]" };
        assert_eq!((&*body, ended, head.headers.contains_key("content-length")), (text, true, false), "{target}");
    }
    let (head, body) = edge.h1("GET /pieces HTTP/1.0\r\nhost: x\r\n\r\n").await;
    assert!(!head.contains("transfer-encoding") && body == "one two three[13]", "{head} {body}");
    let (head, body) = edge.h1("HEAD /shout HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(!head.contains("content-length") && body.is_empty(), "{head}");
    let (head, body) = edge.get("/own").await;
    assert!(head.contains("content-length: 7") && body == "own\n[4]", "a whole body of ours has its length: {head}");
    let (head, body) = edge.get("/").await;
    assert!(head.contains("content-length: 5") && body == "hello", "and one that is only seen keeps it: {head}");
    assert!(edge.seen.lock().iter().any(|seen| seen.starts_with("response 5")), "{:?}", edge.seen.lock());
}

#[tokio::test]
async fn a_filter_that_fails_in_a_body_cuts_it_visibly() {
    let edge = edge("30s").await;
    assert_eq!(chunks(&edge.get("/fail").await.1), ("ok".to_owned(), false));
    let (_, body, ended) = edge.h2("GET", "/fail", "").await;
    assert_eq!((&*body, ended), (&b"OK"[..], false));
}

#[tokio::test]
async fn a_panic_costs_one_stream_of_its_connection() {
    let edge = edge("30s").await;
    let mut client = edge.h2_client().await;
    let get = |path: &str| hyper::Request::get(format!("http://x{path}")).body(Full::default()).unwrap();
    assert!(client.send_request(get("/panic")).await.is_err());
    assert_eq!(client.send_request(get("/own")).await.expect("the connection lives on").status(), 200);
}

#[tokio::test]
async fn a_request_body_is_seen_to_its_end() {
    let edge = edge("30s").await;
    let request =
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(edge.h1(request).await.1, "abcde");
    let bodies = || edge.seen.lock().iter().filter(|seen| !seen.starts_with("response")).cloned().collect::<Vec<_>>();
    let whole: String = bodies().iter().filter_map(|seen| seen.split(' ').next()).collect();
    assert_eq!(whole, "abcde");
    assert!(bodies().last().unwrap().ends_with("5 true"), "{:?}", bodies());
    edge.seen.lock().clear();
    assert_eq!(edge.h2("POST", "/", "abc").await.1, "abc");
    assert!(bodies().last().unwrap().ends_with("3 true"), "{:?}", bodies());
}
