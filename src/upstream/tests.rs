//! Upstreams compiled from YAML, and health checks over real sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pingora_core::{
    protocols::ALPN,
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{peer::Way, *};
use crate::{
    discovery::Changes,
    endpoint::{EndpointRegistry, Place},
    types::{Code, Problem, Problems},
};

pub(super) fn compile_with(registry: &EndpointRegistry, yaml: &str) -> (Option<Arc<Upstream>>, Vec<Problem>) {
    let spec: UpstreamSpec =
        serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(yaml)).unwrap();
    let problems = Problems::default();
    let at = problems.root().key("upstreams").key("api");
    (Upstream::compile(&"api".parse().unwrap(), &spec, registry, &at), problems.take())
}

pub(super) fn upstream(yaml: &str) -> Arc<Upstream> {
    let (upstream, problems) = compile_with(&EndpointRegistry::default(), yaml);
    upstream.unwrap_or_else(|| panic!("{problems:?}"))
}

/// The codes and paths of the problems, without `upstreams.api.`.
pub(super) fn problems(yaml: &str) -> Vec<(Code, String)> {
    let (upstream, problems) = compile_with(&EndpointRegistry::default(), yaml);
    assert!(upstream.is_none(), "{problems:?}");
    problems.into_iter().map(|problem| (problem.code, problem.path.to_string().replace("upstreams.api.", ""))).collect()
}

#[test]
fn requests_go_round_and_skip_what_was_tried_or_is_unhealthy() {
    let upstream = upstream("endpoints: ['127.0.0.1:1', '127.0.0.1:2', 'unix:/three']");
    assert_eq!(upstream.endpoints().len(), 3);
    let pick = |tried: &[Arc<Endpoint>]| upstream.select(b"", tried);
    let labels: Vec<_> = (0..6).map(|_| pick(&[]).unwrap().label().to_string()).collect();
    assert_eq!(labels[..3], labels[3..]);
    assert_eq!(std::collections::BTreeSet::from_iter(&labels).len(), 3);

    let endpoints = upstream.endpoints();
    endpoints[0].set_health(HealthStatus::Unhealthy, "test");
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&pick(&endpoints[1..2]).unwrap(), &endpoints[2]));
    }
    assert!(pick(&endpoints[1..]).is_none());
}

#[test]
fn every_strategy_skips_what_may_not_take_the_request_and_prints_as_it_reads() {
    for kind in crate::balance::StrategySpec::KINDS {
        let yaml = format!("{{strategy: {{{kind}: {{}}}}, endpoints: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3']}}");
        let upstream = upstream(&yaml);
        assert_eq!(upstream.spec().strategy.kind(), *kind);
        let endpoints = upstream.endpoints();
        let keys = || (0..100u8).map(|key| [key]);
        let chosen: std::collections::BTreeSet<_> =
            keys().map(|key| upstream.select(&key, &[]).unwrap().label().clone()).collect();
        assert_eq!(chosen.len(), 3, "{kind}");
        endpoints[0].set_health(HealthStatus::Unhealthy, "test");
        for key in keys() {
            assert!(Arc::ptr_eq(&upstream.select(&key, &endpoints[1..2]).unwrap(), &endpoints[2]), "{kind}");
            assert!(upstream.select(&key, &endpoints[1..]).is_none(), "{kind}");
        }
        let printed = serde_yaml::to_string(
            &serde_yaml::with::singleton_map::serialize(&upstream.spec().strategy, serde_yaml::value::Serializer).unwrap(),
        )
        .unwrap();
        let read = serde_yaml::Deserializer::from_str(&printed);
        let again: crate::balance::StrategySpec = serde_yaml::with::singleton_map::deserialize(read).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", upstream.spec().strategy));
    }
}

/// How many of 4000 keys go to the first endpoint, and which.
fn keys_of_first(upstream: &Upstream) -> std::collections::BTreeSet<u32> {
    let first = upstream.endpoints()[0].clone();
    (0..4000u32).filter(|key| Arc::ptr_eq(&upstream.select(&key.to_be_bytes(), &[]).unwrap(), &first)).collect()
}

#[test]
fn every_strategy_lets_an_endpoint_that_is_back_start_slowly() {
    for kind in crate::balance::StrategySpec::KINDS {
        let yaml = format!("{{strategy: {{{kind}: {{}}}}, endpoints: ['127.0.0.1:1', '127.0.0.1:2'], slow_start: 366d}}");
        let upstream = upstream(&yaml);
        upstream.publish();
        let all = keys_of_first(&upstream);
        assert!((1800..=2200).contains(&all.len()), "{kind}: {}", all.len());
        let endpoint = &upstream.endpoints()[0];
        endpoint.set_health(HealthStatus::Unhealthy, "test");
        assert!(keys_of_first(&upstream).is_empty(), "{kind}");
        endpoint.set_health(HealthStatus::Healthy, "passed");
        let some = keys_of_first(&upstream);
        let expected = match *kind {
            // A tenth of its own keys.
            "consistent_hash" | "maglev" => 150..=250,
            // The longer expected wait, as long as the other is not busy.
            "least_response_time" => 0..=0,
            // A tenth of a weight against a whole one: a good one in twelve, within five standard deviations.
            _ => 250..=440,
        };
        assert!(expected.contains(&some.len()), "{kind}: {}", some.len());
        if ["ip_hash", "consistent_hash", "maglev"].contains(kind) {
            assert!(some.is_subset(&all), "{kind}: only its own keys come home");
        }
    }
}

#[test]
fn the_keys_of_the_breaker_are_checked() {
    let wrong = problems("{endpoints: ['127.0.0.1:1'], circuit_breaker: {recovery_timeout: 0s}}");
    assert_eq!(wrong, [(Code::BadValue, "circuit_breaker.recovery_timeout".into())]);
    let off = upstream("{endpoints: ['127.0.0.1:1'], circuit_breaker: 'off', slow_start: 0s}");
    assert!(off.settings.breaker.is_none() && off.settings.slow_start.is_none());
    let on = upstream("endpoints: ['127.0.0.1:1']");
    assert!(on.settings.breaker.is_some() && on.spec().panic_threshold == crate::types::Ratio::percent(50));
}

#[test]
fn a_strategy_goes_by_the_key_it_was_given() {
    let upstream = upstream("{strategy: {maglev: {key: 'header:x-tenant'}}, endpoints: ['127.0.0.1:1']}");
    let mut fields = http::HeaderMap::new();
    fields.insert("x-tenant", http::HeaderValue::from_static("a"));
    let head = RequestHead { method: "GET", host: "example.com", path: "/", query: None, fields: &fields };
    let (ip, scheme, listener) = ([192, 0, 2, 1].into(), crate::types::Scheme::Http, "web".parse().unwrap());
    let client = Client { ip, port: 1, scheme, listener, tls: None, whereabouts: Default::default() };
    assert_eq!(&*upstream.key(&head, &client), b"a");
    let key = |yaml: &str| self::upstream(yaml).key(&head, &client).to_vec();
    assert_eq!(key("{strategy: {ip_hash: {}}, endpoints: ['127.0.0.1:1']}"), [192, 0, 2, 1]);
    assert!(key("endpoints: ['127.0.0.1:1']").is_empty());
}

#[test]
fn endpoints_can_be_replaced_while_running() {
    let upstream = upstream("endpoints: ['127.0.0.1:1']");
    let other = Arc::new(Endpoint::new("api".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), 1, Place::default()));
    upstream.replace_endpoints(vec![other.clone()]);
    assert!((0..4).all(|_| Arc::ptr_eq(&upstream.select(b"", &[]).unwrap(), &other)));
    upstream.replace_endpoints(Vec::new());
    assert!(upstream.select(b"", &[]).is_none());
}

#[test]
fn what_was_learned_survives_a_reload_and_weights_change_when_it_is_published() {
    let registry = EndpointRegistry::default();
    // Without panic, or the only endpoint would be used all the same.
    let checked = "endpoints: ['127.0.0.1:1']\nhealth_check: {tcp: {}}\npanic_threshold: 0%";
    let before = compile_with(&registry, checked).0.unwrap();
    before.publish();
    before.endpoints()[0].set_health(HealthStatus::Unhealthy, "connection refused");

    let heavier = "endpoints: [{address: '127.0.0.1:1', weight: 7}]\nhealth_check: {tcp: {}}\npanic_threshold: 0%";
    let after = compile_with(&registry, heavier).0.unwrap();
    assert!(Arc::ptr_eq(&before.endpoints()[0], &after.endpoints()[0]));
    assert_eq!(before.endpoints()[0].weight(), 1, "not published yet");
    after.publish();
    assert_eq!(after.endpoints()[0].weight(), 7);
    assert!(after.select(b"", &[]).is_none(), "still unhealthy");

    // Nobody would ever bring it back without checks.
    let unchecked = compile_with(&registry, "endpoints: ['127.0.0.1:1']").0.unwrap();
    unchecked.publish();
    assert!(unchecked.select(b"", &[]).is_some());
}

#[test]
fn a_peer_has_the_settings_of_its_upstream() {
    let upstream = upstream(
        "endpoints: ['127.0.0.1:1', 'unix:/run/app.sock']
connections: {connect_timeout: 1s, response_timeout: 5s, idle_timeout: 7s}",
    );
    let peer = |index: usize, left| upstream.peer(&upstream.endpoints()[index], left);
    let tcp = peer(0, None);
    assert_eq!(tcp.address().to_string(), "127.0.0.1:1");
    assert!(!tcp.is_tls());
    assert_eq!(tcp.options.alpn, ALPN::H1);
    assert_eq!(tcp.options.total_connection_timeout, Some(Duration::from_secs(1)));
    assert_eq!(tcp.options.idle_timeout, Some(Duration::from_secs(7)));
    assert_eq!(tcp.options.read_timeout, Some(Duration::from_secs(5)));
    assert_eq!(tcp.options.write_timeout, Some(Duration::from_secs(5)));
    assert_eq!(peer(0, Some(Duration::from_secs(2))).options.read_timeout, Some(Duration::from_secs(2)));
    assert_eq!(peer(0, Some(Duration::from_secs(9))).options.read_timeout, Some(Duration::from_secs(5)));
    assert_eq!(peer(0, Some(Duration::ZERO)).options.read_timeout, Some(Duration::from_millis(1)));
    let unix = peer(1, None);
    assert_eq!(unix.address().to_string(), "/run/app.sock");
}

pub(super) fn first_peer(yaml: &str) -> Box<HttpPeer> {
    let upstream = upstream(yaml);
    upstream.peer(&upstream.endpoints()[0], None)
}

#[test]
fn the_protocol_decides_alpn() {
    let h2 = first_peer("{endpoints: ['127.0.0.1:1'], tls: {sni: api.internal, verify: false}, connections: {protocol: h2}}");
    assert!(h2.is_tls() && h2.options.alpn == ALPN::H2H1);
    let h2c = first_peer("{endpoints: ['127.0.0.1:1'], connections: {protocol: h2c}}");
    assert!(!h2c.is_tls() && h2c.options.alpn == ALPN::H2);
}

#[test]
fn each_kind_of_connection_offers_its_own_protocols() {
    let endpoint = "endpoints: ['127.0.0.1:1'], tls: {sni: api.internal, verify: false}";
    let (http1, http2) = (&[b"http/1.1".to_vec()][..], &[b"h2".to_vec(), b"http/1.1".to_vec()][..]);
    for (protocol, offered) in [("h1", http1), ("h2", http2)] {
        let upstream = upstream(&format!("{{{endpoint}, connections: {{protocol: {protocol}}}}}"));
        assert_eq!(upstream.request_tls().unwrap().0.config.alpn_protocols, http1, "{protocol}");
        assert!(upstream.byte_tls().unwrap().config.alpn_protocols.is_empty(), "{protocol}");
        let mut peer = upstream.peer(&upstream.endpoints()[0], None);
        let of_peer = |peer: &HttpPeer| Way::of(peer).tls(&peer.options.alpn).unwrap().config.alpn_protocols.clone();
        assert_eq!(of_peer(&peer), offered, "{protocol}");
        for_tunnel(&mut peer);
        assert_eq!(of_peer(&peer), http1, "{protocol}");
    }
    let plain = upstream("{endpoints: ['127.0.0.1:1']}");
    assert!(plain.request_tls().is_none() && plain.byte_tls().is_none());
    assert!(Way::of(&first_peer("{endpoints: ['127.0.0.1:1']}")).tls(&ALPN::H1).is_none());
}

/// A CA certificate and its key as PEM files.
pub(super) fn certificate_files(directory: &std::path::Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (cert, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert.display().to_string(), key.display().to_string())
}

#[test]
fn connections_verified_differently_are_never_shared() {
    let directory = tempfile::tempdir().unwrap();
    let (one, one_key) = certificate_files(directory.path(), "one");
    let (two, _) = certificate_files(directory.path(), "two");
    let endpoint = "endpoints: ['127.0.0.1:1']";
    let peers = [
        format!("{{{endpoint}, tls: {{verify: false}}}}"),
        format!("{{{endpoint}, tls: {{ca: {one}}}}}"),
        format!("{{{endpoint}, tls: {{ca: {two}}}}}"),
        format!("{{{endpoint}, tls: {{ca: {one}, client_cert: {one}, client_key: {one_key}}}}}"),
        format!("{{{endpoint}, tls: {{ca: {one}, verify: false}}}}"),
        format!("{{{endpoint}, tls: {{ca: {one}}}, connections: {{protocol: h2}}}}"),
        format!("{{{endpoint}}}"),
    ];
    let hashes: std::collections::BTreeSet<_> = peers.iter().map(|yaml| first_peer(yaml).reuse_hash()).collect();
    assert_eq!(hashes.len(), peers.len());
    // Also by our own digest alone, which does not depend on what Pingora thinks of.
    let digests: std::collections::BTreeSet<_> = peers.iter().map(|yaml| first_peer(yaml).group_key).collect();
    assert_eq!(digests.len(), peers.len());
    let same = first_peer(&peers[1]).reuse_hash();
    assert!(hashes.contains(&same), "and those verified alike are");
}

#[test]
fn unverified_tls_is_only_a_warning() {
    let (upstream, problems) = compile_with(&EndpointRegistry::default(), "{endpoints: ['127.0.0.1:1'], tls: {verify: false}}");
    assert!(upstream.is_some());
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::Insecure]);
}

/// A server that answers every connection with whatever bytes it is told to, after reading one request.
struct Origin {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Origin {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let (answer, requests) = (answer.clone(), requests.clone());
            async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                    requests.lock().push(String::from_utf8(request).unwrap());
                    let answer = answer.lock().clone();
                    // The other side may have read enough and gone.
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Self { address, answer, requests, task }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[derive(Debug, PartialEq)]
enum Event {
    Checked(String, bool),
    Changed(String, HealthStatus, String),
}

struct Events(mpsc::UnboundedSender<Event>);

impl HealthObserver for Events {
    fn checked(&self, endpoint: &Endpoint, passed: bool) {
        let _ = self.0.send(Event::Checked(endpoint.label().to_string(), passed));
    }
    fn changed(&self, endpoint: &Endpoint, status: HealthStatus, reason: &str) {
        let _ = self.0.send(Event::Changed(endpoint.label().to_string(), status, reason.to_owned()));
    }
}

impl DiscoveryObserver for Events {
    fn asked(&self, _upstream: &Name, _answered: bool) {}
    fn absent(&self, _upstream: &Name) {}
    fn replaced(&self, _upstream: &Name, _changes: Changes) {}
}

/// An upstream whose loop is running.
struct Running {
    upstream: Arc<Upstream>,
    events: mpsc::UnboundedReceiver<Event>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(yaml: &str) -> Self {
        let upstream = upstream(yaml);
        let (sender, events) = mpsc::unbounded_channel();
        let (shutdown, stopped) = watch::channel(false);
        let task = tokio::spawn(upstream.clone().run(stopped, Arc::new(Events(sender))));
        Self { upstream, events, shutdown, task }
    }
    async fn next(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await.expect("an event in time").unwrap()
    }
    /// The next change of status, and how many checks ended before it.
    async fn change(&mut self) -> (HealthStatus, String, usize) {
        let mut checks = 0;
        loop {
            match self.next().await {
                Event::Checked(..) => checks += 1,
                Event::Changed(_, status, reason) => return (status, reason, checks),
            }
        }
    }
}

const QUICK: &str = "interval: 5ms, timeout: 5s, healthy_after: 2, unhealthy_after: 3";

#[tokio::test]
async fn an_endpoint_leaves_and_returns() {
    let origin = Origin::start(&answer("200 OK", "")).await;
    let mut running = Running::start(&format!(
        "{{endpoints: ['{}'], panic_threshold: 0%, health_check: {{http: {{path: /health, host: api.internal}}, {QUICK}}}}}",
        origin.address
    ));
    assert_eq!(running.change().await, (HealthStatus::Healthy, "passed".into(), 1));
    assert_eq!(
        origin.requests.lock()[0],
        "GET /health HTTP/1.1\r\nHost: api.internal\r\nUser-Agent: weir-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );

    *origin.answer.lock() = answer("503 Service Unavailable", "");
    // Some checks may still pass before the answer changes for them; then exactly three failures.
    let mut failures = 0;
    loop {
        match running.next().await {
            Event::Checked(_, passed) => failures += usize::from(!passed),
            Event::Changed(_, status, reason) => {
                assert_eq!((status, &*reason, failures), (HealthStatus::Unhealthy, "status 503", 3));
                break;
            }
        }
    }
    assert!(running.upstream.select(b"", &[]).is_none());
    assert_eq!(&*running.upstream.endpoints()[0].health().reason, "status 503");

    *origin.answer.lock() = answer("200 OK", "");
    assert_eq!(running.change().await.0, HealthStatus::Healthy);
    assert!(running.upstream.select(b"", &[]).is_some());

    running.shutdown.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running.task).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_hung_endpoint_delays_nobody() {
    // It accepts (the backlog does) and never answers.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::start(&answer("200 OK", "")).await;
    let mut running = Running::start(&format!(
        "{{endpoints: ['{}', '{}'], health_check: {{http: {{}}, interval: 5ms, timeout: 1h}}}}",
        hung.local_addr().unwrap(),
        origin.address
    ));
    let mut passed = 0;
    while passed < 20 {
        match running.next().await {
            Event::Checked(label, ok) => {
                assert!(ok && label == origin.address.to_string());
                passed += 1;
            }
            Event::Changed(..) => {}
        }
    }
}

/// The reason why the first check of an endpoint that gives this answer fails.
async fn refusal(answer: &str, probe: &str) -> String {
    let origin = Origin::start(answer).await;
    let check = format!("{probe}, interval: 5ms, timeout: 10s, unhealthy_after: 1");
    let mut running = Running::start(&format!("{{endpoints: ['{}'], health_check: {{{check}}}}}", origin.address));
    let (status, reason, checks) = running.change().await;
    assert_eq!((status, checks), (HealthStatus::Unhealthy, 1), "{reason}");
    reason
}

#[tokio::test]
async fn the_reason_of_a_failure_is_said_in_words() {
    let json = "http: {json: {status: ok}}";
    assert_eq!(refusal(&answer("302 Found", ""), "http: {}").await, "status 302");
    assert_eq!(refusal(&answer("200 OK", r#"{"status": "degraded"}"#), json).await, r#"json member status is "degraded""#);
    assert_eq!(refusal(&answer("200 OK", "{}"), json).await, "json member status is missing");
    assert_eq!(refusal(&answer("200 OK", "ok"), json).await, "the body is not JSON");
    assert_eq!(refusal("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", json).await, "the connection was closed within the body");
    assert_eq!(refusal("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n", json).await, "the body is over 64 KiB");
    assert_eq!(refusal(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(70_000)), json).await, "the body is over 64 KiB");
    assert_eq!(
        refusal(&format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(17_000)), json).await,
        "the response header is over 16 KiB"
    );
    assert_eq!(refusal("", json).await, "the connection was closed before the response header");
    assert!(refusal("SSH-2.0-OpenSSH_9.9\r\n", json).await.starts_with("the answer is not HTTP/1"));
    let long = format!(r#"{{"status": "{}"}}"#, "é".repeat(500));
    assert!(refusal(&answer("200 OK", &long), json).await.len() < 200, "an endpoint does not decide how long a line is");
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    // Bound and not listening: nobody else can take the port meanwhile.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut running = Running::start(&format!(
        "{{endpoints: ['{address}'], health_check: {{tcp: {{}}, interval: 5ms, timeout: 5s, unhealthy_after: 2}}}}"
    ));
    assert_eq!(running.change().await, (HealthStatus::Unhealthy, "connection refused".into(), 2));
}

#[tokio::test]
async fn a_hung_endpoint_fails_at_its_timeout() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut running = Running::start(&format!(
        "{{endpoints: ['{}'], health_check: {{http: {{}}, interval: 5ms, timeout: 20ms, unhealthy_after: 1}}}}",
        hung.local_addr().unwrap()
    ));
    assert_eq!(running.change().await, (HealthStatus::Unhealthy, "timeout after 20ms".into(), 1));
}

#[tokio::test]
async fn what_a_healthy_endpoint_may_answer() {
    let json = r#"{"status": "ok", "more": [1, 2]}"#;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"status\"\r\n7;a=b\r\n: \"ok\"}\r\n0\r\n\r\n";
    for answer in [
        answer("200 OK", json),
        chunked.to_owned(),
        format!("HTTP/1.0 200 OK\r\n\r\n{json}"),
        format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{}", answer("200 OK", json)),
    ] {
        let origin = Origin::start(&answer).await;
        let check = "http: {json: {status: ok}}, interval: 5ms, timeout: 5s";
        let mut running = Running::start(&format!("{{endpoints: ['{}'], health_check: {{{check}}}}}", origin.address));
        assert_eq!(running.change().await.0, HealthStatus::Healthy, "{answer}");
    }
}

#[tokio::test]
async fn checks_speak_the_protocol_of_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // A server of HTTP/2 only, as gRPC servers are.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let body = format!(r#"{{"path": "{}", "host": "{}"}}"#, request.uri().path(), request.uri().host().unwrap());
                    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                    send.send_data(body.into(), true).unwrap();
                }
            });
        }
    });
    let check = |json: &str, protocol: &str| {
        let http = format!("http: {{path: /health, host: api.internal, json: {json}}}");
        let rest = format!("health_check: {{{http}, timeout: 5s}}, connections: {{protocol: {protocol}}}");
        let upstream = upstream(&format!("{{endpoints: ['{address}'], {rest}}}"));
        async move { upstream.checker.as_ref().unwrap().probe(&upstream.endpoints()[0]).await }
    };
    assert_eq!(check("{path: /health, host: api.internal}", "h2c").await, Ok(()));
    assert_eq!(check("{path: /}", "h2c").await, Err(r#"json member path is "/health""#.into()));
    assert!(check("{path: /health}", "h1").await.is_err());
}

#[tokio::test]
async fn checks_follow_the_set_of_endpoints() {
    let (one, two) = (Origin::start(&answer("200 OK", "")).await, Origin::start(&answer("200 OK", "")).await);
    let mut running = Running::start(&format!("{{endpoints: ['{}'], health_check: {{http: {{}}, {QUICK}}}}}", one.address));
    running.change().await;
    let other = Arc::new(Endpoint::new("api".parse().unwrap(), two.address.into(), 1, Place::default()));
    running.upstream.replace_endpoints(vec![other]);
    let mut seen = 0;
    while seen < 5 {
        if let Event::Checked(label, _) = running.next().await {
            seen = if label == two.address.to_string() { seen + 1 } else { 0 };
        }
    }
}
