//! What docker/README.md tells, done to one demo, chapter by chapter: most of it takes an engine longer than the edge.

use std::{fs, time::Instant};

use serde_json::Value;

use crate::{
    demo::Demo,
    engine::{answers, docker, make_images_of, try_docker, until},
    load::Load,
    support::client::RawClient,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_withstands_what_its_readme_tells() {
    if !answers().await {
        return;
    }
    // Boxed: all of it in one future is more than the stack of a test has.
    let demo = Box::pin(Demo::start()).await;
    Box::pin(three_services_are_reached_over_https(&demo)).await;
    Box::pin(a_tcp_service_outlives_one_that_is_killed(&demo)).await;
    Box::pin(the_load_reaches_every_service(&demo)).await;
    Box::pin(one_that_is_killed_is_not_noticed(&demo)).await;
    Box::pin(one_that_is_cut_off_is_not_noticed(&demo)).await;
    Box::pin(one_that_hangs_is_not_noticed(&demo)).await;
    Box::pin(scaling_is_followed(&demo)).await;
    Box::pin(all_are_restarted_in_turn_without_an_error(&demo)).await;
    Box::pin(a_reload_moves_the_canary_without_an_error(&demo)).await;
    Box::pin(prometheus_reads_it_and_answers_every_panel(&demo)).await;
    Box::pin(stopping_lets_requests_finish(&demo)).await;
}

async fn three_services_are_reached_over_https(demo: &Demo) {
    let redirect = RawClient::connect(demo.http).await.get("localhost", "/a?b").await;
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("https://localhost:8443/a?b")));
    let shop = demo.get("/").await;
    assert_eq!(shop.status, 200);
    assert!(shop.header("x-served-by").is_some() && shop.header("x-backend").is_some_and(|name| name.starts_with("shop")));
    let users = demo.get("/users/list").await;
    assert_eq!((users.status, users.header("x-backend")), (200, Some("users-1")));
    // One in five attempts fails there, and four in a row are rare; those get the fallback.
    let payments = demo.get("/payments/").await;
    assert!(payments.status == 200 || payments.text() == "no payments now, try again\n", "{payments:?}");
}

async fn one_that_is_killed_is_not_noticed(demo: &Demo) {
    let (container, address) = one_of_the_shop(demo).await;
    let load = Load::on(demo.https, &["/"]);
    load.goes_on_for(200).await;
    docker(&["kill", "--signal", "KILL", &container]).await;
    demo.gone("shop", &address).await;
    load.goes_on_for(200).await;
    docker(&["start", &container]).await;
    demo.alive("shop", 2).await;
    load.ends_without_a_failure("killed and started").await;
}

async fn one_that_is_cut_off_is_not_noticed(demo: &Demo) {
    let (container, address) = one_of_the_shop(demo).await;
    let load = Load::on(demo.https, &["/"]);
    load.goes_on_for(200).await;
    docker(&["network", "disconnect", &demo.network(), &container]).await;
    demo.gone("shop", &address).await;
    load.goes_on_for(200).await;
    docker(&["network", "connect", "--alias", "shop", &demo.network(), &container]).await;
    demo.alive("shop", 2).await;
    load.ends_without_a_failure("disconnected and connected").await;
}

async fn one_that_hangs_is_not_noticed(demo: &Demo) {
    let (container, address) = one_of_the_shop(demo).await;
    let load = Load::on(demo.https, &["/"]);
    load.goes_on_for(200).await;
    docker(&["pause", &container]).await;
    demo.gone("shop", &address).await;
    load.goes_on_for(200).await;
    docker(&["unpause", &container]).await;
    demo.alive("shop", 2).await;
    load.ends_without_a_failure("paused and unpaused").await;
}

async fn a_tcp_service_outlives_one_that_is_killed(demo: &Demo) {
    let edge = demo.published("edge", "9000").await;
    let echo = async |text: &str| {
        let mut client = RawClient::connect(edge).await;
        client.send(text).await;
        assert_eq!(client.read_bytes(text.len()).await, text.as_bytes());
    };
    for _ in 0..4 {
        echo("before").await;
    }
    let container = demo.containers("echo").await.remove(0);
    docker(&["kill", "--signal", "KILL", &container]).await;
    for _ in 0..20 {
        echo("at once").await;
    }
    demo.alive("echo", 1).await;
    echo("after").await;
    docker(&["start", &container]).await;
    demo.alive("echo", 2).await;
    eprintln!("TCP: every new connection was served");
}

async fn the_load_reaches_every_service(demo: &Demo) {
    let services = ["load", "load-users", "load-payments", "load-echo"];
    let start = ["--profile", "load", "up", "-d", "--no-build", "--no-recreate", "--no-deps"];
    demo.compose(&[&start[..], &services[..]].concat()).await;
    let of_route = |route| format!(r#"weir_http_requests_total{{listener="edge",route="{route}",method="GET",code="200"}}"#);
    let over_tcp = r#"weir_tcp_bytes_total{listener="echo",direction="sent"}"#.to_owned();
    for name in [of_route("shop"), of_route("users"), of_route("payments"), over_tcp] {
        let count = async || demo.metric(&name).await.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
        let before = count().await;
        until(&name, count, |found| *found >= before + 20).await;
    }
    demo.compose(&[&["stop"], &services[..]].concat()).await;
    eprintln!("load: all four services got some");
}

async fn scaling_is_followed(demo: &Demo) {
    let load = Load::on(demo.https, &["/"]);
    demo.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", "shop=4"]).await;
    demo.alive("shop", 4).await;
    load.goes_on_for(100).await;
    demo.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", "shop=2"]).await;
    demo.alive("shop", 2).await;
    load.ends_without_a_failure("scaled up and down").await;
}

/// Two of each, so that the other one serves.
async fn all_are_restarted_in_turn_without_an_error(demo: &Demo) {
    demo.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", "shop-next=2", "--scale", "users=2"]).await;
    for service in ["shop", "shop-next", "users"] {
        demo.alive(service, 2).await;
    }
    let load = Load::on(demo.https, &["/", "/users/"]);
    load.goes_on_for(100).await;
    for service in ["shop", "shop-next", "users"] {
        for container in demo.containers(service).await {
            docker(&["restart", "--time", "5", &container]).await;
            let health = ["exec", &container, "weir", "health", "--address", "127.0.0.1:8080", "--path", "/health"];
            until("an answer", async || try_docker(&health).await.is_ok(), |answers| *answers).await;
            let address = demo.address_of(&container).await;
            let back = |found: &Vec<String>| found.len() == 2 && found.contains(&address);
            until("its return", async || demo.endpoints(service).await, back).await;
        }
    }
    load.ends_without_a_failure("restarted in turn").await;
}

async fn a_reload_moves_the_canary_without_an_error(demo: &Demo) {
    let (edge, file) = (demo.containers("edge").await.remove(0), demo.configuration());
    let before = fs::read_to_string(&file).expect("the configuration");
    let load = Load::on(demo.https, &["/", "/users/"]);
    let moved = before.replace("{upstream: shop, weight: 90}", "{upstream: shop, weight: 0}");
    assert_ne!(moved, before);
    let generation = async || demo.stats().await["generation"].as_u64();
    let first = generation().await.expect("a generation");
    fs::write(&file, moved).expect("write");
    docker(&["kill", "--signal", "HUP", &edge]).await;
    until("the next generation", &generation, |found| *found == Some(first + 1)).await;
    for _ in 0..10 {
        assert_eq!(demo.get("/").await.header("x-backend"), Some("shop-next-1"));
    }
    // What is wrong changes nothing.
    fs::write(&file, "listeners: {").expect("write");
    docker(&["kill", "--signal", "HUP", &edge]).await;
    let last = async || demo.metric("weir_config_last_reload_success").await;
    until("the refusal", last, |value| value.as_deref() == Some("0")).await;
    load.goes_on_for(100).await;
    assert_eq!(generation().await, Some(first + 1));
    fs::write(&file, before).expect("write");
    docker(&["kill", "--signal", "HUP", &edge]).await;
    until("the one after", &generation, |found| *found == Some(first + 2)).await;
    load.ends_without_a_failure("reloaded").await;
}

async fn prometheus_reads_it_and_answers_every_panel(demo: &Demo) {
    make_images_of("observe").await;
    demo.compose(&["--profile", "observe", "up", "-d", "--no-build", "--no-recreate", "--no-deps", "prometheus"]).await;
    let address = demo.published("prometheus", "9090").await;
    let ask = async |query: &str| {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!("GET /api/v1/query?query={query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut client = RawClient::connect(address).await;
        let _ = client.try_send(request).await;
        let answer = client.try_read_response().await.ok().flatten().filter(|answer| answer.status == 200);
        answer.map_or(Value::Null, |answer| answer.json()["data"]["result"].clone())
    };
    let has_some = |found: &Value| found.as_array().is_some_and(|found| !found.is_empty());
    until("requests in Prometheus", async || ask("sum(weir_http_requests_total) > 0").await, has_some).await;
    let dashboard: Value = serde_json::from_str(include_str!("../../docker/grafana/dashboards/weir.json")).expect("JSON");
    let targets =
        dashboard["panels"].as_array().into_iter().flatten().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    for target in targets {
        let query = target["expr"].as_str().expect("a query").replace("$__rate_interval", "1m");
        assert!(ask(&query).await.is_array(), "{query}");
    }
    eprintln!("observed: Prometheus has what the dashboard asks for");
}

async fn stopping_lets_requests_finish(demo: &Demo) {
    let edge = demo.containers("edge").await.remove(0);
    let tls = crate::support::certs::tls().sni("localhost").alpn("http/1.1");
    let mut client = RawClient::connect_tls(demo.https, &tls).await;
    client.send("GET /users/slow?ms=800 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let in_flight = async || demo.stats().await["in_flight"]["requests"].as_u64();
    until("the request in flight", in_flight, |requests| *requests >= Some(1)).await;
    let began = Instant::now();
    let stop = ["stop", "--time", "20", &edge];
    let (answer, _) = tokio::join!(client.read_response(), docker(&stop));
    assert_eq!(answer.status, 200);
    let took = began.elapsed();
    assert_eq!(docker(&["inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", &edge]).await, "0 false");
    assert!(took.as_secs() < 15, "it took {took:?}, though nothing was in flight after a second");
    eprintln!("stopped: in {took:?}, and the request in flight was answered");
}

async fn one_of_the_shop(demo: &Demo) -> (String, String) {
    let container = demo.containers("shop").await.remove(0);
    let address = demo.address_of(&container).await;
    let both = demo.alive("shop", 2).await;
    assert!(both.contains(&address), "{address} is not one of {both:?}");
    (container, address)
}
