//! Connections live through reloads and through a change of the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;

use crate::{
    child::{Run, weir},
    client::{Client, answer, closed, connect, post, rest_of},
    serve::h3_edge,
    support::{
        Gate,
        edge::Edge,
        origin::{Answer, Origin, origin},
        reloads::variation,
        within,
    },
};

const TOKEN: &str = "for-this-test-only";

/// An origin whose `/download` waits in the middle.
async fn app(gate: &Gate) -> Origin {
    let gate = gate.clone();
    let script = move |request: &crate::support::wire::RawRequest| match request.target.as_str() {
        "/download" => Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").wait(&gate).bytes("other"),
        _ => Answer::new(200, if request.body.is_empty() { b"ok" } else { &request.body[..] }),
    };
    origin().respond_with(script).spawn().await
}

async fn client(edge: &Edge) -> Client {
    Client::connect(edge.address("edge"), &edge.trust()).await
}

/// Asks on one connection until told to stop, and counts the answers. Anything but a 200 on the same connection fails.
async fn keep_asking(mut client: Client, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    while !stop.load(Relaxed) {
        assert_eq!(client.get("/").await.status, 200);
        answers.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_reloads_under_load_fail_no_request_and_cut_no_stream() {
    let gate = Gate::new();
    let app = app(&gate).await;
    let spare = origin().respond(200, "spare").spawn().await;
    let builder = h3_edge().upstream_with("app", &[app.addr()], "slow_start: 1s").route("all", "upstream: app\ntimeout: 0s");
    let config = builder.config();
    let edge = builder.start().await;
    let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut download = client(&edge).await;
    let mut stream = download.download("/download").await;
    let mut asking = Vec::new();
    for _ in 0..3 {
        asking.push(tokio::spawn(keep_asking(client(&edge).await, stop.clone(), answers.clone())));
    }
    for number in 0..100 {
        edge.reload(&variation(&config, number, spare.addr())).await;
        let before = answers.load(Relaxed);
        eventually!(answers.load(Relaxed) > before);
        // New ones come in all the while.
        if number % 10 == 0 {
            assert_eq!(client(&edge).await.get("/").await.status, 200);
        }
    }
    stop.store(true, Relaxed);
    for asking in asking {
        within("the last answer", asking).await.expect("every answer was a 200");
    }
    gate.open();
    assert_eq!(rest_of(&mut stream).await, b"firstother");
    edge.stop().await;
}

#[tokio::test]
async fn another_certificate_is_served_while_connections_go_on() {
    let builder = h3_edge().route("all", "respond: {body: here}");
    let config = builder.config();
    let edge = builder.start().await;
    let mut old = client(&edge).await;
    assert_eq!(old.get("/").await.status, 200);
    let fresh = crate::support::certs::ca();
    let identity = fresh.server(&["localhost"]);
    let trusted = edge.trust();
    let file = |key: &str| {
        let line = config.lines().find(|line| line.contains("- {cert:")).expect("a certificate");
        line.split(key).nth(1).and_then(|rest| rest.split('"').nth(1)).expect("a path").to_owned()
    };
    std::fs::copy(&identity.cert_file, file("cert:")).expect("written");
    std::fs::copy(&identity.key_file, file("key:")).expect("written");
    edge.reload(&config).await;
    let address = edge.address("edge");
    let trust = crate::support::certs::tls().ca(&fresh);
    let connects = async || connect(address, &trust, "localhost").await.is_ok();
    eventually!(connects().await);
    connect(address, &trusted, "localhost").await.expect_err("the certificate of before");
    assert_eq!(old.get("/").await.status, 200, "the old connection goes on");
    edge.stop().await;
}

#[tokio::test]
async fn a_listener_that_changed_ends_its_connections_in_order() {
    let gate = Gate::new();
    let app = app(&gate).await;
    let builder = h3_edge().upstream("app", &[app.addr()]).route("all", "upstream: app");
    let config = builder.config();
    let edge = builder.start().await;
    let mut client = client(&edge).await;
    let quic = client.quic.clone();
    let mut stream = client.download("/download").await;
    edge.reload(&config.replace("    tls:\n", "    max_connections: 1000\n    tls:\n")).await;
    let new = Client::connect(edge.address("edge"), &edge.trust()).await;
    gate.open();
    assert_eq!(rest_of(&mut stream).await, b"firstother", "what was under way is whole");
    assert_eq!(closed(&quic).await, 0x100);
    drop(new);
    edge.stop().await;
}

#[tokio::test]
async fn what_is_switched_off_ends_and_can_be_switched_on_again() {
    let builder = h3_edge().route("all", "respond: {body: here}");
    let config = builder.config();
    let edge = builder.start().await;
    let mut old = client(&edge).await;
    assert_eq!(old.get("/").await.status, 200);
    let quic = old.quic.clone();
    edge.reload(&config.replace("h3: true", "h3: false")).await;
    assert_eq!(closed(&quic).await, 0x100);
    assert!(edge.tls_client().await.get("localhost", "/").await.header("alt-svc").is_none());
    edge.reload(&config).await;
    let mut client = client(&edge).await;
    assert_eq!(client.get("/").await.status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn an_address_may_become_wider_and_narrower() {
    let builder = h3_edge().route("all", "respond: {body: here}");
    let port = crate::support::free_port();
    let at = |address: &str| {
        let (before, after) = builder
            .config()
            .split_once("  edge:\n    address: 127.0.0.1:0")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("the listener");
        format!("{before}  edge:\n    address: {address}:{port}{after}")
    };
    let (narrow, wide, trust) = (at("127.0.0.1"), at("0.0.0.0"), builder.trust());
    let edge = builder.start_as(&narrow).await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for config in [&wide, &narrow] {
        let mut old = Client::connect(address, &trust).await;
        assert_eq!(old.get("/").await.status, 200);
        edge.reload(config).await;
        let answers = async || connect(address, &trust, "localhost").await.is_ok();
        eventually!(answers().await);
    }
    assert_eq!(Client::connect(address, &trust).await.get("/").await.status, 200);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_is_under_way_and_lets_nobody_in() {
    let gate = Gate::new();
    let app = app(&gate).await;
    let edge = h3_edge().upstream("app", &[app.addr()]).route("all", "upstream: app").start().await;
    let (address, trust) = (edge.address("edge"), edge.trust());
    let mut client = client(&edge).await;
    let idle = Client::connect(address, &trust).await;
    let mut stream = client.download("/download").await;
    edge.drain();
    assert_eq!(closed(&idle.quic).await, 0x100);
    connect(address, &trust, "localhost").await.expect_err("a refusal");
    gate.open();
    assert_eq!(rest_of(&mut stream).await, b"firstother");
    edge.stop().await;
}

async fn upgrade(admin: &str) {
    let done = weir(&["upgrade", "--admin", admin, "--token", TOKEN]).await;
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_download_lives_through_upgrades_and_reloads() {
    let gate = Gate::new();
    let app = app(&gate).await;
    let builder = h3_edge()
        .upstream("app", &[app.addr()])
        .route("all", "upstream: app\ntimeout: 0s")
        .admin(&format!("token: {TOKEN}"))
        .yaml("server: {shutdown_grace: 60s}");
    let trust = builder.trust();
    // The admin API is somewhere else in each process, unless it is told.
    let mut run = Run::start(builder).await;
    let (address, admin) = (run.address("edge"), run.admin_address().to_string());
    let mut old = Client::connect(address, &trust).await;
    let mut download = old.download("/download").await;
    let mut upload = old.begin(post("/")).await.expect("a stream");
    upload.send_data(Bytes::from_static(b"first")).await.expect("sent");
    app.next_request().await;
    // Through two processes: what comes for the first one is passed on twice.
    upgrade(&admin).await;
    let mut middle = Client::connect(address, &trust).await;
    let mut between = middle.download("/download").await;
    upgrade(&admin).await;
    let mut new = Client::connect(address, &trust).await;
    assert_eq!(new.get("/").await.status, 200);
    let reloaded = weir(&["reload", "--admin", &admin, "--token", TOKEN]).await;
    assert_eq!(reloaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&reloaded.stderr));
    // It is heard where its connection is, or nowhere.
    for _ in 0..100 {
        upload.send_data(Bytes::from(vec![b'x'; 1000])).await.expect("sent");
    }
    upload.finish().await.expect("sent");
    let echo = answer(&mut upload).await.expect("an answer");
    assert_eq!((echo.status.as_u16(), echo.body.len()), (200, 5 + 100_000));
    gate.open();
    for stream in [&mut download, &mut between] {
        assert_eq!(rest_of(stream).await, b"firstother");
    }
    assert_eq!(run.weir.ended().await.code(), Some(0), "the first process has drained");
    assert_eq!(new.get("/").await.status, 200);
    let done = weir(&["drain", "--admin", &admin, "--token", TOKEN]).await;
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    run.weir.err.line_with("drained in").await;
}
