//! Endpoints that are found while running: in DNS, and in a file.

use std::{collections::BTreeMap, fs};

use tokio::net::TcpSocket;

use crate::support::{
    Gate,
    client::RawClient,
    dns::{NameServer, name_server},
    edge::{Edge, edge},
    origin::origin,
};

async fn discovering(dns: &NameServer, source: &str) -> Edge {
    let discover = format!("discover: {{dns: {{{source}, refresh: 100ms, servers: '{}'}}}}", dns.addr());
    edge().upstream_with("app", &[], &discover).route("app", "upstream: app").start().await
}

#[tokio::test]
async fn addresses_come_and_go_with_the_answers() {
    let origin = origin().respond(200, "here").spawn().await;
    let port = origin.addr().port();
    let dns = name_server().await;
    let edge = discovering(&dns, &format!("name: api.internal, port: {port}")).await;
    assert_eq!(edge.get("/").await.status, 503, "nothing is known yet, and nobody waits for it");

    dns.host("api.internal", 1, &["127.0.0.1"]);
    eventually!(edge.get("/").await.status == 200);
    dns.host("api.internal", 1, &["::1", "127.0.0.3", "127.0.0.1"]);
    let all = [format!("127.0.0.1:{port}"), format!("127.0.0.3:{port}"), format!("[::1]:{port}")];
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| now.keys().eq(&all));
    dns.host("api.internal", 1, &["127.0.0.1"]);
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| now.keys().eq(&all[..1]));
    eventually!(edge.has_metric(r#"weir_upstream_endpoint_changes_total{upstream="app",change="added"} 3"#).await);
    eventually!(edge.has_metric(r#"weir_upstream_endpoint_changes_total{upstream="app",change="removed"} 2"#).await);
}

#[tokio::test]
async fn an_endpoint_is_written_as_a_name() {
    let origin = origin().respond(200, "here").spawn().await;
    let port = origin.addr().port();
    // No name server is asked for it (RFC 6761 section 6.3).
    let named = format!(
        "endpoints: [{{address: 'http://app.localhost:{port}', weight: 3}}, {{address: 'gone.localhost:1', disabled: true}}, \
         {{address: '127.0.0.1:1', weight: 0}}]"
    );
    let builder = edge().upstream("app", &[]).route("app", "upstream: app");
    let config = builder.config().replace("endpoints: []", &named);
    let edge = builder.start_as(&config).await;
    let here = format!("127.0.0.1:{port}");
    eventually!(edge.endpoints().await.get(&here) == Some(&3));
    eventually!(edge.get("/").await.status == 200);
    let known = edge.endpoints().await;
    assert!(known.keys().all(|endpoint| *endpoint == here || *endpoint == format!("[::1]:{port}")), "{known:?}");
}

#[tokio::test]
async fn the_last_good_answer_stays_while_dns_fails() {
    let origin = origin().respond(200, "here").spawn().await;
    let port = origin.addr().port();
    let dns = name_server().await;
    dns.host("api.internal", 1, &["127.0.0.1", "::1"]);
    let edge = discovering(&dns, &format!("name: api.internal, port: {port}")).await;
    let both = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| now.keys().eq(&both));

    let failing = |now: u8| format!(r#"weir_upstream_discovery_failing{{upstream="app"}} {now}"#);
    eventually!(edge.has_metric(&failing(0)).await);
    let breakdowns: [&dyn Fn(); 2] = [&|| dns.fail(), &|| dns.host("api.internal", 1, &[])];
    for breakdown in breakdowns {
        breakdown();
        eventually!(edge.has_metric(&failing(1)).await);
        assert!(edge.endpoints().await.keys().eq(&both));
        assert_eq!(edge.get("/").await.status, 200);
        dns.recover();
        dns.host("api.internal", 1, &["127.0.0.1", "::1"]);
        eventually!(edge.has_metric(&failing(0)).await);
    }
    // One family that fails keeps its own, and the other moves on.
    dns.fail_aaaa();
    dns.host("api.internal", 1, &["127.0.0.1", "127.0.0.3"]);
    let moved = [&*both[0], &format!("127.0.0.3:{port}"), &*both[1]];
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| now.keys().eq(moved));
}

#[tokio::test]
async fn a_name_server_that_says_nothing_holds_up_nobody() {
    let origin = origin().respond(200, "here").spawn().await;
    let dns = name_server().await;
    dns.be_silent();
    let discover = format!("discover: {{dns: {{name: api.internal, port: 1, servers: '{}'}}}}", dns.addr());
    let edge = edge().upstream_with("app", &[origin.addr()], &discover).route("app", "upstream: app").start().await;
    eventually!(dns.questions() > 0);
    assert_eq!(edge.get("/").await.status, 200, "the listed endpoint serves");
    edge.stop().await;
}

#[tokio::test]
async fn services_bring_ports_and_weights_and_the_lowest_priority_counts() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let dns = name_server().await;
    dns.host("a.internal", 1, &["127.0.0.1"]);
    dns.host("b.internal", 1, &["127.0.0.1"]);
    let (first, second) = (one.addr().port(), two.addr().port());
    let both = [(5, 3, first, "a.internal"), (5, 0, second, "b.internal"), (9, 1, 9, "a.internal")];
    dns.service("_http._tcp.api.internal", 1, &both);
    let edge = discovering(&dns, "name: _http._tcp.api.internal").await;
    let expected = BTreeMap::from([(one.addr().to_string(), 3), (two.addr().to_string(), 1)]);
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| *now == expected);

    // A target without an address keeps what it had.
    dns.host("b.internal", 1, &[]);
    dns.service("_http._tcp.api.internal", 1, &[(5, 7, first, "a.internal"), (5, 0, second, "b.internal")]);
    let expected = BTreeMap::from([(one.addr().to_string(), 7), (two.addr().to_string(), 1)]);
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| *now == expected);
}

#[tokio::test]
async fn an_endpoint_that_leaves_finishes_what_it_began() {
    let gate = Gate::new();
    let old = origin().slow(&gate, "from the old one").spawn().await;
    let new = origin().respond(200, "from the new one").spawn().await;
    let dns = name_server().await;
    dns.host("a.internal", 1, &["127.0.0.1"]);
    dns.service("_http._tcp.api", 1, &[(0, 1, old.addr().port(), "a.internal")]);
    let edge = discovering(&dns, "name: _http._tcp.api").await;
    eventually!(edge.endpoints().await.len() == 1);

    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    old.next_request().await;
    dns.service("_http._tcp.api", 1, &[(0, 1, new.addr().port(), "a.internal")]);
    eventually!(edge.endpoints().await.contains_key(&new.addr().to_string()));
    for _ in 0..4 {
        assert_eq!(edge.get("/").await.text(), "from the new one");
    }
    gate.open();
    assert_eq!(client.read_response().await.text(), "from the old one");
    assert_eq!(old.request_count(), 1);
}

#[tokio::test]
async fn a_file_is_followed_and_a_bad_one_changes_nothing() {
    let (listed, found) = (origin().respond(200, "listed").spawn().await, origin().respond(200, "found").spawn().await);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("endpoints.yaml");
    let replace = |text: &str| {
        fs::write(directory.path().join("new"), text).expect("written");
        fs::rename(directory.path().join("new"), &path).expect("renamed");
    };
    let discover = format!("discover: {{file: {{path: {path:?}}}}}");
    let edge = edge().upstream_with("app", &[listed.addr()], &discover).route("app", "upstream: app").start().await;
    assert_eq!(edge.get("/").await.text(), "listed", "a file that is not there yet stops nobody");

    // The listed endpoint is as it is listed, also when the file has another idea of its weight.
    replace(&format!("- {{address: '{}', weight: 9}}\n- {{address: '{}', weight: 2}}\n", listed.addr(), found.addr()));
    let both = BTreeMap::from([(listed.addr().to_string(), 1), (found.addr().to_string(), 2)]);
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| *now == both);
    let mut client = RawClient::connect(edge.address("web")).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.get("example.com", "/").await.text());
    }
    answers.sort();
    assert_eq!(answers, ["found", "found", "listed"]);

    replace("- 127.0.0.1\n");
    eventually!(edge.has_metric(r#"weir_upstream_discovery_failing{upstream="app"} 1"#).await);
    assert_eq!(edge.endpoints().await, both);
    replace("[]");
    eventually!(edge.endpoints().await.len() == 1);
    assert_eq!(client.get("example.com", "/").await.text(), "listed");
}

#[tokio::test]
async fn one_that_does_not_listen_yet_is_used_soon_after_it_does() {
    let ready = origin().respond(200, "ready").spawn().await;
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let starting = TcpSocket::new_v4().expect("a socket");
    starting.bind("127.0.0.1:0".parse().expect("an address")).expect("bind");
    let address = starting.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("endpoints.yaml");
    fs::write(&path, format!("['{}', '{address}']", ready.addr())).expect("written");
    let keys = format!("discover: {{file: {{path: {path:?}}}}}\ncircuit_breaker: {{failure_threshold: 1, recovery_timeout: 1m}}");
    let edge = edge().upstream_with("app", &[], &keys).route("app", "upstream: app").start().await;
    eventually!(edge.endpoints().await.len() == 2);
    eventually!({
        assert_eq!(edge.get("/").await.text(), "ready");
        edge.metric("weir_circuit_breaker_transitions_total", &[("endpoint", &address), ("to", "open")]).await == Some(1.0)
    });
    let started = origin().respond(200, "started").spawn_on(starting.listen(16).expect("listening"));
    eventually!(edge.get("/").await.text() == "started");
    assert_eq!(started.addr().to_string(), address);
}
