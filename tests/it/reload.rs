//! Reloads while running: what changes, what stays, and what a bad configuration does not do.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use weir::{
    admin::{Change, Commands, Guard, Probation, Refused, Target},
    endpoint::Mode,
};

use crate::support::{
    Gate,
    client::RawClient,
    edge::{Edge, edge_from},
    free_port,
    origin::origin,
    within,
};

fn config(listeners: &str, rest: &str) -> String {
    format!(
        "admin: {{address: '127.0.0.1:0'}}\nlisteners: {{{listeners}}}\nobservability: {{access_log: {{path: 'off'}}}}\n{rest}"
    )
}

const WEB: &str = "web: {address: '127.0.0.1:0'}";

fn answering(listeners: &str, word: &str) -> String {
    config(listeners, &format!("routes: [{{name: all, respond: {{status: 200, body: {word}}}}}]"))
}

async fn says(address: SocketAddr) -> String {
    RawClient::connect(address).await.get("example.com", "/").await.text()
}

#[tokio::test]
async fn routes_change_on_open_connections_and_the_address_stays() {
    let edge = edge_from(&answering(WEB, "one")).await;
    let (address, admin) = (edge.address("web"), edge.admin_address());
    let mut client = edge.client().await;
    assert_eq!(client.get("example.com", "/").await.text(), "one");
    let applied = edge.reload(&answering(WEB, "two")).await;
    assert_eq!(applied.generation, 2);
    assert_eq!(client.get("example.com", "/").await.text(), "two", "on the connection that was open");
    assert_eq!((edge.address("web"), edge.admin_address()), (address, admin));
    assert_eq!(edge.metric("weir_config_generation", &[]).await, Some(2.0));
    assert_eq!(edge.metric("weir_config_reloads_total", &[("result", "success")]).await, Some(1.0));
    edge.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let edge = edge_from(&answering(WEB, "one")).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let unbindable = answering(&format!("{WEB}, other: {{address: '{taken}'}}"), "two");
    let unwritable = answering(WEB, "two").replace("path: 'off'", "path: /no/such/directory/log");
    for (bad, expected) in [
        ("listeners: [".to_owned(), "errors"),
        (answering(WEB, "two").replace("respond", "rspond"), "E0102"),
        (unbindable, "cannot listen on"),
        (unwritable, "/no/such/directory/log"),
    ] {
        let refused = edge.try_reload(&bad).await.expect_err("refused").to_string();
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(edge.get("/").await.text(), "one");
        assert!(edge.server.control().running().last_refusal.is_some());
    }
    assert_eq!(edge.metric("weir_config_reloads_total", &[("result", "failure")]).await, Some(4.0));
    assert_eq!(edge.metric("weir_config_generation", &[]).await, Some(1.0));
    edge.reload(&answering(WEB, "three")).await;
    assert_eq!(edge.server.control().running().last_refusal, None);
    edge.stop().await;
}

#[tokio::test]
async fn listeners_come_go_and_are_renamed() {
    let fixed = free_port();
    let edge = edge_from(&answering(WEB, "one")).await;
    let other = format!("other: {{address: '127.0.0.1:{fixed}'}}");
    edge.reload(&answering(&format!("{WEB}, {other}"), "two")).await;
    let address = edge.address("other");
    assert_eq!(says(address).await, "two");
    let mut held = RawClient::connect(address).await;
    assert_eq!(held.get("example.com", "/").await.text(), "two");
    let renamed = other.replace("other", "renamed");
    edge.reload(&answering(&format!("{WEB}, {renamed}"), "three")).await;
    assert_eq!(edge.address("renamed"), address);
    assert_eq!(says(address).await, "three");
    within("the old listener's idle connection to end", held.is_closed()).await;
    let mut held = RawClient::connect(address).await;
    assert_eq!(held.get("example.com", "/").await.text(), "three");
    edge.reload(&answering(WEB, "four")).await;
    within("the removed listener's idle connection to end", held.is_closed()).await;
    eventually!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(edge.get("/").await.text(), "four");
    edge.stop().await;
}

#[tokio::test]
async fn a_wider_and_a_narrower_address_take_over_a_port() {
    let port = free_port();
    let on = |ip: &str| format!("web: {{address: '{ip}:{port}'}}");
    let edge = edge_from(&answering(&on("0.0.0.0"), "wide")).await;
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    for (ip, word) in [("127.0.0.1", "narrow"), ("0.0.0.0", "wide again"), ("[::]", "wider")] {
        edge.reload(&answering(&on(ip), &format!("'{word}'"))).await;
        assert_eq!(says(address).await, word);
        let second = std::net::TcpListener::bind(address);
        assert!(second.is_err(), "the port is ours alone");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_on_a_listener_that_is_removed_finishes() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "slow").spawn().await;
    let extra = ", other: {address: '127.0.0.1:0'}";
    let rest = format!("routes: [{{name: all, upstream: app}}]\nupstreams: {{app: {{endpoints: ['{}']}}}}", origin.addr());
    let edge = edge_from(&config(&format!("{WEB}{extra}"), &rest)).await;
    let mut client = RawClient::connect(edge.address("other")).await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    eventually!(origin.request_count() > 0);
    edge.reload(&config(WEB, &rest)).await;
    gate.open();
    let response = client.read_response().await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    edge.stop().await;
}

fn pool(endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("'{address}'")).collect();
    let endpoints = endpoints.join(", ");
    config(WEB, &format!("routes: [{{name: all, upstream: app}}]\nupstreams: {{app: {{endpoints: [{endpoints}]{keys}}}}}"))
}

/// Who answers this many requests, in order.
async fn answers(edge: &Edge, count: usize) -> Vec<String> {
    let mut client = edge.client().await;
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.get("example.com", "/").await.text());
    }
    answers
}

fn app() -> weir::types::Name {
    "app".parse().unwrap()
}

#[tokio::test]
async fn what_is_known_of_endpoints_survives_a_reload_of_their_upstream() {
    let (good, bad) = (origin().respond(200, "good").spawn().await, origin().respond(500, "bad").spawn().await);
    let both = [good.addr(), bad.addr()];
    let edge = edge_from(&pool(&both, ", circuit_breaker: {failure_threshold: 3, recovery_timeout: 1h}")).await;
    answers(&edge, 8).await;
    let open = [("endpoint", &*bad.addr().to_string()), ("state", "open")].map(|(name, value)| (name, value.to_owned()));
    let open: Vec<(&str, &str)> = open.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(edge.metric("weir_upstream_endpoint_state", &open).await, Some(1.0));
    for keys in [
        ", circuit_breaker: {failure_threshold: 3, recovery_timeout: 1h}, strategy: random",
        ", circuit_breaker: {failure_threshold: 4, recovery_timeout: 2h}",
    ] {
        edge.reload(&pool(&both, keys)).await;
        assert_eq!(answers(&edge, 6).await, ["good"; 6]);
        assert_eq!(edge.metric("weir_upstream_endpoint_state", &open).await, Some(1.0));
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_upstream_that_stays_as_it_was_goes_on_where_it_was() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let yaml = pool(&[one.addr(), two.addr()], "");
    let edge = edge_from(&yaml).await;
    let mut answers = answers(&edge, 1).await;
    for _ in 0..9 {
        edge.reload(&yaml).await;
        answers.extend(self::answers(&edge, 1).await);
    }
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "each in turn, across reloads: {answers:?}");
    edge.stop().await;
}

#[tokio::test]
async fn endpoints_are_added_weighed_drained_and_removed_at_runtime() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let yaml = pool(&[one.addr()], "");
    let edge = edge_from(&yaml).await;
    let control = edge.server.control().clone();
    let (first, second) = (one.addr().into(), two.addr().into());
    let count = |answers: Vec<String>, word: &str| answers.iter().filter(|answer| *answer == word).count();

    let endpoint: weir::discovery::EndpointSpec = serde_json::from_value(two.addr().to_string().into()).unwrap();
    control.change(Change::AddEndpoint { upstream: app(), endpoint: endpoint.clone() }).await.unwrap();
    assert_eq!(count(answers(&edge, 8).await, "two"), 4);
    let again = control.change(Change::AddEndpoint { upstream: app(), endpoint }).await;
    assert!(matches!(again, Ok(_) | Err(Refused::Conflict(_))));
    let weight = std::num::NonZeroU32::new(3).unwrap();
    control.change(Change::SetWeight { upstream: app(), address: second, weight }).await.unwrap();
    assert_eq!(count(answers(&edge, 8).await, "two"), 6);
    edge.reload(&yaml).await;
    assert_eq!(count(answers(&edge, 8).await, "two"), 6, "outlives a reload");
    let second: weir::types::Address = two.addr().into();
    for mode in [Mode::Drain, Mode::Disabled] {
        control.change(Change::SetMode { upstream: app(), address: second.clone(), mode }).await.unwrap();
        assert_eq!(count(answers(&edge, 8).await, "two"), 0, "{mode:?}");
        edge.reload(&yaml).await;
        assert_eq!(count(answers(&edge, 8).await, "two"), 0, "{mode:?} outlives a reload");
    }
    assert_eq!(control.overrides().len(), 3);
    control.change(Change::SetMode { upstream: app(), address: second.clone(), mode: Mode::Enabled }).await.unwrap();
    assert_eq!(count(answers(&edge, 8).await, "two"), 6);
    control.revert(Target::Weight(app(), second.clone())).await.unwrap();
    assert_eq!(count(answers(&edge, 8).await, "two"), 4);
    control.change(Change::RemoveEndpoint { upstream: app(), address: second.clone() }).await.unwrap();
    assert_eq!(count(answers(&edge, 8).await, "two"), 0);
    assert!(control.overrides().is_empty());

    let last = control.change(Change::RemoveEndpoint { upstream: app(), address: first }).await;
    assert!(last.unwrap_err().to_string().contains("at least one endpoint"));
    let gone = control.change(Change::SetWeight { upstream: app(), address: second, weight }).await;
    assert!(matches!(gone, Err(Refused::NotFound(_))));
    assert_eq!(answers(&edge, 2).await, ["one"; 2]);
    edge.stop().await;
}

#[tokio::test]
async fn a_strategy_is_changed_at_runtime() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let yaml = pool(&[one.addr(), two.addr()], "");
    let edge = edge_from(&yaml).await;
    let control = edge.server.control().clone();
    let strategy = weir::balance::StrategySpec::default();
    assert_eq!(strategy.kind(), "round_robin");
    let hash = serde_json::from_str(r#"{"ip_hash": {}}"#).unwrap();
    control.change(Change::SetStrategy { upstream: app(), strategy: hash }).await.unwrap();
    let same = answers(&edge, 6).await;
    assert!(same.iter().all(|answer| *answer == same[0]), "{same:?}");
    edge.reload(&yaml).await;
    assert_eq!(answers(&edge, 6).await, same);
    control.revert(Target::Strategy(app())).await.unwrap();
    let both = answers(&edge, 6).await;
    assert!(both.contains(&"one".to_owned()) && both.contains(&"two".to_owned()), "{both:?}");
    edge.stop().await;
}

#[tokio::test]
async fn a_runtime_change_ends_when_the_configuration_leaves_it_without_an_object() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let edge = edge_from(&pool(&[one.addr()], "")).await;
    let control = edge.server.control().clone();
    let endpoint: weir::discovery::EndpointSpec = serde_json::from_value(two.addr().to_string().into()).unwrap();
    control.change(Change::AddEndpoint { upstream: app(), endpoint }).await.unwrap();
    let applied = edge.reload(&pool(&[one.addr(), two.addr()], "")).await;
    assert!(applied.notes[0].contains("is in the file now"), "{:?}", applied.notes);
    let weight = std::num::NonZeroU32::new(3).unwrap();
    control.change(Change::SetWeight { upstream: app(), address: two.addr().into(), weight }).await.unwrap();
    let applied = edge.reload(&answering(WEB, "none")).await;
    assert!(applied.notes[0].contains("upstream app is no more"), "{:?}", applied.notes);
    assert!(control.overrides().is_empty());
    edge.stop().await;
}

#[tokio::test]
async fn a_rollback_goes_back_and_again() {
    let edge = edge_from(&answering(WEB, "one")).await;
    let control = edge.server.control().clone();
    assert!(matches!(control.rollback().await, Err(Refused::Conflict(_))) && !control.running().can_roll_back);
    edge.reload(&answering(WEB, "two")).await;
    assert!(control.running().can_roll_back);
    let guard = Guard { if_generation: Some(1), ..Guard::default() };
    let late = control.apply(answering(WEB, "three"), guard).await;
    assert!(matches!(late, Err(Refused::Conflict(_))), "somebody else was faster");
    assert_eq!(control.rollback().await.unwrap().generation, 3);
    assert_eq!(edge.get("/").await.text(), "one");
    control.rollback().await.unwrap();
    assert_eq!(edge.get("/").await.text(), "two");
    edge.stop().await;
}

#[tokio::test]
async fn a_reload_on_probation_is_taken_back_when_requests_fail() {
    let (good, bad) = (origin().respond(200, "good").spawn().await, origin().respond(500, "bad").spawn().await);
    let edge = edge_from(&pool(&[good.addr()], "")).await;
    let control = edge.server.control().clone();
    answers(&edge, 40).await;
    let guard = Guard { probation: Some(Duration::from_secs(3600)), ..Guard::default() };
    let applied = control.apply(pool(&[bad.addr()], ", circuit_breaker: 'off'"), guard).await.unwrap();
    assert!(matches!(control.running().probation, Some(Probation::Running { generation: 2, .. })), "{applied:?}");
    answers(&edge, 40).await;
    let running = eventually!(control.running(), |running| matches!(running.probation, Some(Probation::RolledBack { .. })));
    let Some(Probation::RolledBack { generation: 2, reason }) = running.probation else { panic!("{running:?}") };
    assert!(reason.contains("100.0 % of 40 requests failed, 0.0 % before"), "{reason}");
    assert_eq!((running.generation, answers(&edge, 2).await), (3, vec!["good".to_owned(); 2]));
    edge.stop().await;
}

#[tokio::test]
async fn a_reload_on_probation_that_does_no_harm_stays() {
    let edge = edge_from(&answering(WEB, "one")).await;
    let control = edge.server.control().clone();
    let guard = Guard { probation: Some(Duration::from_millis(10)), ..Guard::default() };
    control.apply(answering(WEB, "two"), guard).await.unwrap();
    eventually!(control.running().probation == Some(Probation::Passed { generation: 2 }));
    let guard = Guard { probation: Some(Duration::from_secs(3600)), ..Guard::default() };
    control.apply(answering(WEB, "three"), guard).await.unwrap();
    edge.reload(&answering(WEB, "four")).await;
    assert!(matches!(control.running().probation, Some(Probation::Ended { generation: 3, .. })));
    control.rollback().await.unwrap();
    assert_eq!(edge.get("/").await.text(), "two", "what had not proven itself is not gone back to");
    edge.stop().await;
}

#[tokio::test]
async fn the_admin_listener_moves_and_gets_another_token() {
    let edge = edge_from(&answering(WEB, "one")).await;
    let (first, made) = (edge.admin_address(), edge.server.admin_token().unwrap());
    edge.reload(&answering(WEB, "two")).await;
    assert_eq!(edge.server.admin_token().unwrap(), made, "a token that was made stays");
    let port = free_port();
    let moved = answering(WEB, "three")
        .replace("address: '127.0.0.1:0'}\nlist", &format!("address: '127.0.0.1:{port}', token: another-one}}\nlist"));
    edge.reload(&moved).await;
    assert_eq!((edge.admin_address().port(), edge.server.admin_token().unwrap().expose()), (port, "another-one"));
    eventually!(std::net::TcpStream::connect(first).is_err());
    assert_eq!(edge.admin_get("/metrics").await.status, 401, "a configured token is asked for");
    assert_eq!(edge.admin_send("GET", "/metrics", "").await.status, 200);
    let taken = answering(WEB, "four").replace("127.0.0.1:0'}\nlist", &format!("{}'}}\nlist", edge.address("web")));
    assert!(matches!(edge.try_reload(&taken).await, Err(Refused::Invalid(_) | Refused::Failed(_))));
    edge.reload(&answering(WEB, "five").replace("admin: {address: '127.0.0.1:0'}", "admin: off")).await;
    assert!(edge.server.admin_address().is_none());
    assert_eq!(edge.get("/").await.text(), "five");
    edge.stop().await;
}
