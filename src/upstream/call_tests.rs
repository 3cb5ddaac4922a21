//! Calls over real sockets, HTTP/1.1 and HTTP/2.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::{Calls, tests::upstream};
use crate::{
    filter::{Call, CallError, Service, Take},
    types::BodyStream,
};

/// A service that tells what it was asked, and how many connections it was asked over.
async fn serve() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    // Ends with the runtime of the test.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    (address, connections)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/never" => std::future::pending().await,
        "/large" => return Ok(Response::new(Full::new(vec![b'x'; 200_000].into()))),
        _ => {}
    }
    let host = head.headers.get(header::HOST).map(|host| host.to_str().unwrap().to_owned());
    let host = host.or(head.uri.authority().map(|authority| authority.to_string())).unwrap();
    let target = head.uri.path_and_query().unwrap();
    let length = head.headers.get(header::CONTENT_LENGTH).map_or("none", |length| length.to_str().unwrap()).to_owned();
    let body = body.collect().await?.to_bytes();
    let told = format!("{} {target} {host} {length} {}", head.method, String::from_utf8_lossy(&body));
    let response = Response::builder().status(StatusCode::ACCEPTED).header("x-seen", format!("{:?}", head.version));
    Ok(response.body(Full::new(told.into())).unwrap())
}

fn service(yaml: &str) -> Arc<dyn Service> {
    let name = "api".parse().unwrap();
    Calls::default().services(&BTreeMap::from([("api".parse().unwrap(), upstream(yaml))])).get(&name).unwrap()
}

fn call(target: &str) -> Call {
    let mut fields = HeaderMap::new();
    fields.insert(header::HOST, "auth.example".parse().unwrap());
    Call {
        method: Method::GET,
        target: target.to_owned(),
        fields,
        body: None,
        client: Ipv4Addr::LOCALHOST.into(),
        within: Duration::from_secs(10),
        take: Take::Body(1024),
    }
}

async fn ask(service: &Arc<dyn Service>, call: Call) -> Result<(String, String), CallError> {
    let answered = service.call(call).await?;
    assert_eq!(answered.status, StatusCode::ACCEPTED);
    let version = answered.fields.get("x-seen").unwrap().to_str().unwrap().to_owned();
    Ok((version, String::from_utf8(answered.body.to_vec()).unwrap()))
}

#[tokio::test]
async fn a_call_reaches_the_service_over_a_connection_that_is_used_again() {
    for (protocol, version) in [("h1", "HTTP/1.1"), ("h2c", "HTTP/2.0")] {
        let (address, connections) = serve().await;
        let service = service(&format!("{{endpoints: ['{address}'], connections: {{protocol: {protocol}}}}}"));
        for _ in 0..3 {
            let told = ask(&service, call("/verify?app=1")).await.unwrap();
            assert_eq!(told, (version.into(), "GET /verify?app=1 auth.example none ".into()));
        }
        let pieces = |length| BodyStream::new(length, stream::iter(["ab", "cde"].map(|piece| Ok(Bytes::from(piece)))));
        for (length, declared) in [(Some(5), "5"), (None, "none")] {
            let posted = Call { method: Method::POST, body: Some(pieces(length)), ..call("/copy") };
            assert_eq!(ask(&service, posted).await.unwrap().1, format!("POST /copy auth.example {declared} abcde"));
        }
        assert_eq!(connections.load(SeqCst), 1, "{protocol}");
    }
}

#[tokio::test]
async fn a_body_is_read_no_faster_than_the_service_takes_it() {
    const PIECE: usize = 64 * 1024;
    let (address, _) = serve().await;
    let service = service(&format!("{{endpoints: ['{address}'], connections: {{protocol: h2c}}}}"));
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let pieces = std::iter::repeat_with(move || {
        counted.fetch_add(PIECE, SeqCst);
        Ok(Bytes::from_static(&[0; PIECE]))
    });
    let body = Some(BodyStream::new(None, stream::iter(pieces.take(1000))));
    let posted = Call { method: Method::POST, body, within: Duration::from_millis(300), ..call("/never") };
    assert_eq!(ask(&service, posted).await, Err(CallError::Timeout));
    let read = read.load(SeqCst);
    assert!((PIECE..100 * PIECE).contains(&read), "{read} bytes");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_no_reason_to_fail() {
    let (address, _) = serve().await;
    // Nothing listens where this was bound a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service_of = |endpoints: &str| service(&format!("{{endpoints: [{endpoints}], retry_budget: {{ratio: 100%}}}}"));
    let both = service_of(&format!("'{closed}', '{address}'"));
    for _ in 0..4 {
        ask(&both, call("/")).await.unwrap();
    }
    assert_eq!(ask(&service_of(&format!("'{closed}'")), call("/")).await, Err(CallError::Connect));
}

#[tokio::test]
async fn what_takes_too_long_or_is_too_large_fails_and_is_held_against_who_did_it() {
    let (address, _) = serve().await;
    let slow = upstream(&format!(
        "{{endpoints: ['{address}'], circuit_breaker: {{failure_threshold: 1, max_ejected: 100%}}, panic_threshold: 0%}}"
    ));
    let name = "api".parse().unwrap();
    let service = Calls::default().services(&BTreeMap::from([("api".parse().unwrap(), slow.clone())])).get(&name).unwrap();
    assert_eq!(ask(&service, call("/large")).await, Err(CallError::TooLarge));
    let head_only = service.call(Call { take: Take::Head, ..call("/large") }).await.unwrap();
    assert!(head_only.body.is_empty());
    slow.publish();
    let never = Call { within: Duration::from_millis(200), ..call("/never") };
    assert_eq!(ask(&service, never).await, Err(CallError::Timeout));
    assert_eq!(ask(&service, call("/")).await, Err(CallError::Unavailable), "its circuit is open");
}

/// Takes connections and says nothing, so that a TLS handshake waits until it is given up. And how many it took.
async fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            counted.fetch_add(1, SeqCst);
        }
    });
    (address, connections)
}

#[tokio::test]
async fn another_try_comes_out_of_the_budget_unless_it_costs_nothing() {
    let nothing = "circuit_breaker: off, retry_budget: {ratio: 0%, min_per_second: 0}";
    let (address, _) = serve().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = service(&format!("{{endpoints: ['{closed}', '{address}'], {nothing}}}"));
    for _ in 0..4 {
        ask(&refused, call("/")).await.unwrap();
    }
    let tls = "tls: {verify: false}, connections: {connect_timeout: 50ms}";
    for (budget, tries) in [(nothing, 1), ("circuit_breaker: off, retry_budget: {ratio: 100%}", 2)] {
        let ((one, first), (other, second)) = (silent().await, silent().await);
        let service = service(&format!("{{endpoints: ['{one}', '{other}'], {budget}, {tls}}}"));
        assert_eq!(ask(&service, call("/")).await, Err(CallError::Connect));
        assert_eq!(first.load(SeqCst) + second.load(SeqCst), tries, "{budget}");
    }
}
