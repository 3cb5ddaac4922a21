//! Endpoints on a Docker engine: labels, events, and an engine that goes away.

use std::{collections::BTreeMap, time::Duration};

use weir::admin::Commands;

use crate::support::{
    Gate,
    certs::ca,
    edge::{Edge, edge, edge_from},
    engine::{FakeContainer, FakeEngine, container, engine_at, tcp_engine, tls_engine},
    origin::{Origin, origin},
};

struct Engine {
    engine: FakeEngine,
    _directory: tempfile::TempDir,
}

impl std::ops::Deref for Engine {
    type Target = FakeEngine;
    fn deref(&self) -> &FakeEngine {
        &self.engine
    }
}

fn engine() -> Engine {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine_at(&directory.path().join("docker.sock"));
    Engine { engine, _directory: directory }
}

async fn discovering(engine: &FakeEngine) -> Edge {
    let discover = format!("discover: {{docker: {{host: '{}'}}}}", engine.host());
    let edge = edge().upstream_with("app", &[], &discover).route("app", "upstream: app").start().await;
    eventually!(edge.has_metric(r#"weir_upstream_discovery_failing{upstream="app"} 0"#).await);
    edge
}

fn app(id: &str, origin: &Origin) -> FakeContainer {
    container(id).label("weir.upstream", "app").label("weir.port", origin.addr().port())
}

#[tokio::test]
async fn containers_join_as_they_start_and_leave_as_they_die() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let engine = engine();
    engine.put(app("app-1", &one).label("weir.weight", 3));
    engine.put(container("other").label("someone.elses", "label"));
    let edge = discovering(&engine).await;
    assert_eq!(edge.get("/").await.text(), "one", "it ran before the edge did");

    engine.start(app("app-2", &two));
    let both = BTreeMap::from([(one.addr().to_string(), 3), (two.addr().to_string(), 1)]);
    eventually!(edge.endpoints().await, |now: &BTreeMap<_, _>| *now == both);
    engine.die("app-1");
    eventually!(edge.endpoints().await.len() == 1);
    assert_eq!(edge.get("/").await.text(), "two");
    assert_eq!((engine.lists(), engine.streams()), (1, 1), "nothing is asked again and again");
}

#[tokio::test]
async fn one_that_is_told_to_stop_drains_and_finishes_what_it_began() {
    let gate = Gate::new();
    let (old, new) = (origin().slow(&gate, "old").spawn().await, origin().respond(200, "new").spawn().await);
    let engine = engine();
    engine.put(app("old", &old).stop_signal("SIGQUIT"));
    let edge = discovering(&engine).await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    old.next_request().await;

    engine.start(app("new", &new));
    engine.kill("old", 1);
    eventually!(edge.endpoints().await.len() == 2);
    let state = async |origin: &Origin| {
        let stats = edge.admin_get("/stats").await.json();
        let endpoints = stats["upstreams"][0]["endpoints"].as_array().expect("endpoints").clone();
        let one = endpoints.into_iter().find(|endpoint| endpoint["endpoint"] == *origin.addr().to_string());
        one.map(|endpoint| endpoint["state"].as_str().expect("a state").to_owned())
    };
    assert_eq!(state(&old).await.as_deref(), Some("healthy"), "SIGHUP is not the end");
    engine.kill("old", 3);
    eventually!(state(&old).await.as_deref() == Some("draining"));
    for _ in 0..4 {
        assert_eq!(edge.get("/").await.text(), "new");
    }
    gate.open();
    assert_eq!(client.read_response().await.text(), "old");
    engine.die("old");
    eventually!(state(&old).await.is_none());

    // The same address, another run: it takes requests again.
    engine.start(app("old", &old).stop_signal("SIGQUIT").started("2026-01-02T00:00:00Z"));
    eventually!(state(&old).await.as_deref() == Some("healthy"));
}

#[tokio::test]
async fn health_checks_and_pauses_of_the_engine_count() {
    let origin = origin().respond(200, "here").spawn().await;
    let engine = engine();
    let edge = discovering(&engine).await;
    let app = || app("app-1", &origin);
    engine.start(app().health("starting"));
    eventually!(engine.inspections() == 1);
    engine.change(app().health("healthy"), "health_status: healthy");
    eventually!(edge.endpoints().await.len() == 1);
    engine.change(app().health("unhealthy"), "health_status: unhealthy");
    eventually!(edge.endpoints().await.is_empty());
    assert_eq!(edge.get("/").await.status, 503);
    engine.change(app().health("healthy"), "health_status: healthy");
    eventually!(edge.endpoints().await.len() == 1);
    engine.change(app().health("healthy").paused(true), "pause");
    eventually!(edge.endpoints().await.is_empty());
    engine.change(app().health("healthy").paused(false), "unpause");
    eventually!(edge.get("/").await.status == 200);
}

#[tokio::test]
async fn networks_are_followed() {
    let origin = origin().respond(200, "here").spawn().await;
    let engine = engine();
    let edge = discovering(&engine).await;
    let at = |networks: &[(&str, &str)]| app("app-1", &origin).networks(networks);
    let port = origin.addr().port();
    let expect = async |address: Option<&str>| {
        let wanted: Vec<String> = address.map(|address| format!("{address}:{port}")).into_iter().collect();
        eventually!(edge.endpoints().await, |now: &BTreeMap<String, u64>| now.keys().eq(&wanted));
    };
    engine.start(at(&[]));
    eventually!(engine.inspections() == 1);
    engine.put(at(&[("front", "127.0.0.1")]));
    engine.tell_network("app-1", "connect");
    expect(Some("127.0.0.1")).await;
    engine.put(at(&[]));
    engine.tell_network("app-1", "disconnect");
    expect(None).await;
    engine.put(at(&[("front", "127.0.0.1"), ("back", "127.0.0.2")]).label("weir.network", "back"));
    engine.tell_network("app-1", "connect");
    expect(Some("127.0.0.2")).await;
}

#[tokio::test]
async fn an_engine_that_is_gone_takes_no_endpoint_along() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let engine = engine();
    engine.put(app("app-1", &one));
    let edge = discovering(&engine).await;
    assert_eq!(edge.get("/").await.text(), "one");

    engine.switch_off();
    eventually!(edge.has_metric(r#"weir_upstream_discovery_failing{upstream="app"} 1"#).await);
    assert_eq!(edge.get("/").await.text(), "one");
    // What happens meanwhile is found out by looking.
    engine.remove("app-1");
    engine.put(app("app-2", &two));
    engine.switch_on();
    eventually!(edge.has_metric(r#"weir_upstream_discovery_failing{upstream="app"} 0"#).await);
    eventually!(edge.endpoints().await.keys().eq([&two.addr().to_string()]));
    assert_eq!(edge.get("/").await.text(), "two");
}

#[tokio::test]
async fn upstreams_share_one_stream_over_tcp() {
    let (one, two) = (origin().respond(200, "one").spawn().await, origin().respond(200, "two").spawn().await);
    let engine = tcp_engine().await;
    engine.put(app("app-1", &one));
    engine.put(app("shop-1", &two).label("weir.upstream", "shop"));
    let discover = format!("discover: {{docker: {{host: '{}'}}}}", engine.host());
    let edge = edge()
        .upstream_with("app", &[], &discover)
        .upstream_with("shop", &[], &discover)
        .route("app", "match: {path: /app}\nupstream: app")
        .route("shop", "upstream: shop")
        .start()
        .await;
    eventually!(edge.get("/").await.status == 200);
    eventually!(edge.get("/app").await.status == 200);
    assert_eq!((edge.get("/").await.text(), edge.get("/app").await.text()), ("two".into(), "one".into()));
    assert_eq!((engine.streams(), engine.followers(), engine.lists()), (1, 1, 1));
    edge.stop().await;
    eventually!({
        // Somebody who listens no more is noticed when something is said.
        engine.say(&serde_json::json!({}));
        engine.followers() == 0
    });
}

#[tokio::test]
async fn what_cannot_be_used_breaks_nothing_else() {
    let origin = origin().respond(200, "here").spawn().await;
    let engine = engine();
    let edge = discovering(&engine).await;
    engine.start(app("bad-port", &origin).label("weir.port", "http"));
    engine.start(app("bad-weight", &origin).label("weir.weight", "a lot"));
    engine.start(app("stuck", &origin));
    engine.stick(Some("stuck"));
    engine.start(container("two-ports").label("weir.upstream", "app").exposes(80).exposes(443));
    engine.say(&serde_json::json!({"Type": "container", "Action": "die"}));
    engine.say(&serde_json::json!({"status": "from another time"}));
    engine.start(container("good").label("weir.upstream", "app").exposes(origin.addr().port()));
    eventually!(edge.get("/").await.status == 200);
    assert_eq!(edge.endpoints().await.len(), 1);
    assert_eq!(engine.streams(), 1);
}

#[tokio::test]
async fn a_hundred_containers_are_known_within_a_second() {
    let origin = origin().respond(200, "here").spawn().await;
    let engine = engine();
    let edge = discovering(&engine).await;
    let began = std::time::Instant::now();
    for number in 1..=100 {
        let address = format!("127.0.1.{number}");
        engine.start(app(&format!("app-{number}"), &origin).networks(&[("bridge", &address)]));
    }
    eventually!(edge.endpoints().await.len() == 100);
    // A second is what is promised; the rest is for a machine that others use, too.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// An upstream `app` whose containers may bring routes, below a route of the file for everything.
async fn routing(engine: &FakeEngine, routes: &str, file: &Origin) -> Edge {
    let discover = format!("discover: {{docker: {{host: '{}', routes: {routes}}}}}", engine.host());
    let edge = edge()
        .upstream_with("app", &[], &discover)
        .upstream("file", &[file.addr()])
        .route("file", "upstream: file")
        .start()
        .await;
    eventually!(edge.has_metric(r#"weir_upstream_discovery_failing{upstream="app"} 0"#).await);
    edge
}

fn diagnostics(edge: &Edge) -> Vec<String> {
    edge.server.control().container_diagnostics().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn routes_come_and_go_with_the_containers_that_bring_them() {
    let (file, app_origin) = (origin().respond(200, "file").spawn().await, origin().respond(200, "app").spawn().await);
    let engine = engine();
    let edge = routing(&engine, "{}", &file).await;
    assert_eq!(edge.get("/app/x").await.text(), "file");
    let labelled = |id: &str| app(id, &app_origin).label("weir.route.app.path", "/app/*");
    engine.start(labelled("app-1"));
    eventually!(edge.get("/app/x").await.text() == "app");
    assert_eq!(edge.get("/").await.text(), "file");
    // A replica of it, and one that goes.
    engine.start(labelled("app-2"));
    engine.die("app-1");
    eventually!(edge.get("/app/x").await.text() == "app");
    engine.die("app-2");
    eventually!(edge.get("/app/x").await.text() == "file");
    assert_eq!(diagnostics(&edge), [""; 0]);
}

#[tokio::test]
async fn a_route_that_cannot_be_is_left_out_and_named() {
    let (file, app_origin) = (origin().respond(200, "file").spawn().await, origin().respond(200, "app").spawn().await);
    let engine = engine();
    let edge = routing(&engine, "{hosts: '*.apps.test'}", &file).await;
    let labelled = app("app-1", &app_origin)
        .label("weir.route.good.host", "good.apps.test")
        .label("weir.route.bank.host", "bank.test")
        .label("weir.route.file.host", "x.apps.test")
        .label("weir.route.listener.host", "x.apps.test")
        .label("weir.route.listener.listener", "nowhere")
        .label("weir.route.path.host", "x.apps.test")
        .label("weir.route.path.path", "no slash")
        .label("weir.route.method.host", "x.apps.test")
        .label("weir.route.method.method", "get");
    engine.start(labelled);
    let get = async |host: &str| edge.client().await.get(host, "/").await.text();
    eventually!(get("good.apps.test").await == "app");
    assert_eq!((get("bank.test").await, get("x.apps.test").await), ("file".into(), "file".into()));
    let named = |label: &str, words: &str| {
        let found = diagnostics(&edge);
        let one = |text: &String| text.starts_with(&format!("container app-1: label weir.route.{label}")) && text.contains(words);
        assert_eq!(found.iter().filter(|text| one(text)).count(), 1, "{label}: {found:?}");
    };
    named("bank", "`bank.test` is not allowed");
    named("file", "the file has a route of this name");
    named("listener", "there is no listener `nowhere`");
    named("path", "no slash");
    named("method", "case-sensitive");
    engine.start(container("lost").label("weir.upstream", "apps"));
    eventually!(
        diagnostics(&edge).iter().any(|text| text.starts_with("container lost: label weir.upstream: no upstream `apps`"))
    );
    engine.die("lost");
    engine.die("app-1");
    eventually!(diagnostics(&edge).is_empty());
}

#[tokio::test]
async fn without_leave_no_route_is_taken_from_labels() {
    let (file, app_origin) = (origin().respond(200, "file").spawn().await, origin().respond(200, "app").spawn().await);
    let engine = engine();
    let discover = format!("discover: {{docker: {{host: '{}'}}}}", engine.host());
    let edge = edge()
        .upstream_with("app", &[], &discover)
        .upstream("file", &[file.addr()])
        .route("app", "match: {path: /app}\nupstream: app")
        .route("file", "upstream: file")
        .start()
        .await;
    engine.start(app("app-1", &app_origin).label("weir.route.all.path", "/stolen"));
    eventually!(edge.get("/app").await.status == 200);
    eventually!(diagnostics(&edge).iter().any(|text| text.contains("containers may not bring routes to `app`")));
    assert_eq!(edge.get("/stolen").await.text(), "file");
}

#[tokio::test]
async fn a_reload_keeps_endpoints_and_routes_and_takes_back_what_it_forbids() {
    let (file, app_origin) = (origin().respond(200, "file").spawn().await, origin().respond(200, "app").spawn().await);
    let engine = engine();
    engine.put(app("app-1", &app_origin).label("weir.route.app.path", "/app"));
    let config = |routes: &str, timeout: &str| {
        let (host, file) = (engine.host(), file.addr());
        format!(
            "listeners: {{web: {{address: '127.0.0.1:0'}}}}\n\
             admin: {{address: '127.0.0.1:0'}}\nobservability: {{access_log: {{path: /dev/null}}}}\n\
             routes: [{{name: file, upstream: file, timeout: {timeout}}}, {{name: other, match: {{path: /other}}, upstream: app}}]\n\
             upstreams: {{file: {{endpoints: ['{file}']}}, app: {{discover: {{docker: {{host: '{host}'{routes}}}}}}}}}\n"
        )
    };
    let edge = edge_from(&config(", routes: {}", "10s")).await;
    eventually!(edge.get("/app").await.text() == "app");
    for timeout in ["11s", "12s"] {
        edge.reload(&config(", routes: {}", timeout)).await;
        for _ in 0..3 {
            assert_eq!(edge.get("/app").await.text(), "app");
        }
    }
    assert_eq!(engine.streams(), 1, "an upstream that stays goes on as it was");
    edge.reload(&config("", "12s")).await;
    eventually!(edge.get("/app").await.text() == "file");
    assert_eq!(edge.get("/other").await.text(), "app");
    edge.reload(&config(", routes: {}", "12s")).await;
    eventually!(edge.get("/app").await.text() == "app");
}

#[tokio::test]
async fn an_engine_is_asked_over_tls_with_a_certificate() {
    let origin = origin().respond(200, "here").spawn().await;
    let ca = ca();
    let (server, client) = (ca.server(&["localhost"]), ca.client("edge"));
    let engine = tls_engine(&server, &ca).await;
    engine.put(app("app-1", &origin));
    let tls = format!("ca: {:?}, cert: {:?}, key: {:?}", ca.file(), client.cert_file, client.key_file);
    let discover = format!("discover: {{docker: {{host: '{}', tls: {{{tls}}}}}}}", engine.host());
    let edge = edge().upstream_with("app", &[], &discover).route("app", "upstream: app").start().await;
    eventually!(edge.get("/").await.status == 200);
}
