//! The process log of the real binary: every line in the configured format, and a line for what would otherwise fail in silence.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    child::{Run, Weir, weir, write},
    support::{
        certs::{Ca, Identity, Tls, ca, ca_called, tls},
        client::RawClient,
        edge::{EdgeBuilder, edge},
        origin::{Answer, Origin, origin},
        tcp::TcpClient,
    },
};

/// Members of every line, and members that lines of some kinds have beside them (docs/operating.md, "Process log").
const ALWAYS: [&str; 4] = ["ts", "level", "target", "message"];
const SOMETIMES: [&str; 16] = [
    "address",
    "admin",
    "client",
    "code",
    "column",
    "endpoint",
    "file",
    "line",
    "listener",
    "listeners",
    "path",
    "reason",
    "sni",
    "suppressed",
    "upstream",
    "generation",
];

/// Every line of standard error, which must be JSON with documented members.
fn documented(weir: &Weir) -> Vec<Value> {
    let lines: Vec<_> = weir.err.text().lines().map(parsed).collect();
    for line in &lines {
        let members: BTreeSet<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert!(ALWAYS.iter().all(|member| members.contains(member)), "{line}");
        assert!(members.iter().all(|member| ALWAYS.contains(member) || SOMETIMES.contains(member)), "{line}");
        let level = line["level"].as_str().expect("text");
        assert!(["error", "warn", "info", "debug", "trace"].contains(&level), "{line}");
        assert!(line["target"].is_string() && line["message"].is_string(), "{line}");
        humantime::parse_rfc3339(line["ts"].as_str().expect("text")).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    lines
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"))
}

/// The first line in which this stands.
async fn told(run: &Run, words: &str) -> Value {
    parsed(&run.weir.err.line_with(words).await)
}

/// Starts `weir run` with this file in the directory of `edge`.
async fn start(edge: EdgeBuilder, yaml: &str) -> Run {
    let path = edge.file("weir.yaml");
    std::fs::write(&path, yaml).expect("written");
    Run::started(Weir::spawn(&["run", "--config", path.to_str().expect("UTF-8")]), edge).await
}

fn pair(identity: &Identity) -> String {
    format!("{{cert: {:?}, key: {:?}}}", identity.cert_file, identity.key_file)
}

/// A connection from another address, on which these bytes are sent.
async fn from(peer: &str, run: &Run, listener: &str, bytes: &[u8]) -> RawClient {
    let mut client = RawClient::connect_from(peer, run.address(listener)).await;
    client.send(bytes).await;
    client
}

#[tokio::test]
async fn a_failed_handshake_with_a_client_is_told_with_its_reason() {
    let (server, clients, stranger) = (ca(), ca(), ca_called("A stranger"));
    let (one, again) = (server.server(&["localhost", "example.com"]), server.server(&["example.com"]));
    let listener = |name: &str, tls: &str| {
        format!(
            "  {name}:\n    address: 127.0.0.1:0\n    http: {{header_timeout: 300ms}}\n    tls: {{certificates: [{}], {tls}}}\n",
            pair(&one)
        )
    };
    let authority = format!("client_certificates: {{ca: {:?}}}", clients.file());
    let yaml = [
        "listeners:\n".to_owned(),
        listener("edge", ""),
        listener("quiet", ""),
        listener("modern", "min_version: '1.3'"),
        ["without", "unknown", "expired"].map(|name| listener(name, &authority)).concat(),
        // Its second certificate can never be chosen.
        format!("  twice: {{address: '127.0.0.1:0', tls: {{certificates: [{}, {}]}}}}\n", pair(&one), pair(&again)),
        "  named: {address: '127.0.0.1:0', tcp: {sni: {known.test: app}}}\n".to_owned(),
        "admin: {address: '127.0.0.1:0'}\nobservability: {access_log: off}\n".to_owned(),
        "routes: [{name: all, respond: {body: hello}}]\nupstreams: {app: {endpoints: ['127.0.0.1:9']}}\n".to_owned(),
    ];
    let mut run = start(edge(), &yaml.concat()).await;
    assert_eq!(told(&run, "is never used").await["code"], "W0302");
    assert_eq!(told(&run, "is never used").await["path"], "listeners.twice.tls.certificates[1].cert");

    // What only looks whether the port is open.
    for _ in 0..3 {
        drop(TcpStream::connect(run.address("quiet")).await.expect("connect"));
    }
    let trusting = || tls().sni("example.com").ca(&server);
    let failing: [(&str, Tls, &str, &str); 6] = [
        ("modern", trusting().only_1_2(), "no_shared_version", "no TLS version in common"),
        ("edge", trusting().alpn("telnet"), "no_shared_protocol", "no application protocol (ALPN) in common"),
        ("edge", tls().sni("example.com").ca(&stranger), "alert:unknown_ca", "does not trust the issuer of our certificate"),
        ("without", trusting(), "no_client_certificate", "the client sent no certificate"),
        (
            "unknown",
            trusting().identity(&stranger.client("x")),
            "bad_client_certificate",
            "invalid client certificate: unknown issuer",
        ),
        (
            "expired",
            trusting().identity(&clients.expired("x")),
            "bad_client_certificate",
            "invalid client certificate: certificate expired at 20",
        ),
    ];
    for (listener, tls, reason, words) in failing {
        let mut client = RawClient::try_connect_tls(run.address(listener), &tls).await;
        if let Ok(client) = &mut client {
            // In TLS 1.3 a client is done before its certificate is judged.
            let _ = client.try_send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
            assert!(!matches!(client.try_read_response().await, Ok(Some(_))), "{listener}");
        }
        let line = told(&run, words).await;
        let message = line["message"].as_str().expect("text");
        assert!(message.starts_with(&format!("TLS handshake failed on listener {listener}, client 127.0.0.1:")), "{line}");
        assert_eq!((&line["level"], &line["listener"], &line["sni"]), (&"info".into(), &listener.into(), &"example.com".into()));
        assert_eq!(line["reason"], reason, "{line}");
    }
    let mut cleartext = RawClient::connect(run.address("edge")).await;
    assert_eq!(cleartext.get("example.com", "/").await.status, 400);
    let line = told(&run, "the client sent cleartext, not TLS").await;
    assert_eq!((&line["client"], &line["reason"]), (&cleartext.local_addr().to_string().into(), &"not_tls".into()));
    let mut slow = TcpStream::connect(run.address("edge")).await.expect("connect");
    slow.write_all(b"\x16\x03\x01").await.expect("taken");
    assert_eq!(told(&run, ": timed out").await["reason"], "timeout");

    let mut other = TcpClient::connect(run.address("named")).await;
    assert!(tokio_rustls::TlsConnector::from(tls().config()).connect(name("other.test"), &mut other.stream).await.is_err());
    let line = told(&run, "has no upstream for SNI other.test").await;
    assert_eq!((&line["listener"], &line["sni"]), (&"named".into(), &"other.test".into()));

    // One line a second, and a number that grows with the rest.
    let suppressed = async || {
        let _ = RawClient::connect(run.address("edge")).await.get("example.com", "/").await;
        let cleartext = |line: &&Value| line["reason"] == "not_tls" && line["suppressed"].as_u64() > Some(0);
        documented(&run.weir).iter().find(cleartext).cloned()
    };
    let line = eventually!(suppressed().await, |line| line.is_some()).expect("found");
    assert!(line["message"].as_str().expect("text").ends_with("similar lines suppressed)"), "{line}");

    run.end(Signal::SIGTERM).await;
    let lines = documented(&run.weir);
    assert!(!lines.iter().any(|line| line["listener"] == "quiet"), "{lines:?}");
    let connections = lines.iter().filter(|line| line["reason"] == "not_tls").count();
    assert!(connections < 10, "{connections} lines");
}

fn name(text: &str) -> rustls::pki_types::ServerName<'static> {
    text.to_owned().try_into().expect("a name")
}

#[tokio::test]
async fn a_proxy_header_that_is_missing_malformed_or_late_is_told() {
    let behind = "proxy_protocol: {from: [127.0.0.2]}\nhttp: {header_timeout: 300ms}";
    let mut run = Run::start(edge().route("all", "respond: {body: here}").listener(behind)).await;
    // A health check of the load balancer.
    drop(RawClient::connect_from("127.0.0.2", run.address("web")).await);
    let mut clients = Vec::new();
    for (bytes, words, reason) in [
        (&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], "PROXY header missing", "not_proxy"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n", "PROXY header malformed", "address"),
        (b"PROXY TCP4 1.2", "PROXY header timed out", "timeout"),
    ] {
        clients.push(from("127.0.0.2", &run, "web", bytes).await);
        let line = told(&run, words).await;
        assert_eq!((&line["level"], &line["listener"], &line["reason"]), (&"warn".into(), &"web".into(), &reason.into()));
        assert!(line["client"].as_str().expect("text").starts_with("127.0.0.2:"), "{line}");
    }
    assert_eq!(run.get("/").await.status, 200, "required from nobody else");
    run.end(Signal::SIGTERM).await;
    let lines = documented(&run.weir);
    assert_eq!(
        lines.iter().filter(|line| line["message"].as_str().expect("text").contains("PROXY header")).count(),
        3,
        "{lines:?}"
    );
}

/// Origins that speak TLS in a way that an edge which trusts `authority` cannot use, by the name of their upstream.
async fn unusable(authority: &Ca, other: &Ca, double: &Ca) -> Vec<(&'static str, Origin, &'static str)> {
    let good = authority.server(&["api.internal"]);
    vec![
        ("issuer", origin().tls(&other.server(&["api.internal"])).spawn().await, "invalid certificate: unknown issuer"),
        ("signed", origin().tls(&double.server(&["api.internal"])).spawn().await, "invalid certificate: bad signature"),
        (
            "named",
            origin().tls(&authority.server(&["one.internal", "two.internal"])).spawn().await,
            "certificate not valid for name \"api.internal\"; certificate is only valid for \"one.internal\" or \"two.internal\"",
        ),
        ("expired", origin().tls(&authority.expired("api.internal")).spawn().await, "certificate expired at 20"),
        ("plain", origin().hasty("HTTP/1.1 400 Bad Request\r\n\r\n").spawn().await, "the other side does not speak TLS"),
        ("mutual", origin().mutual_tls(&good, other).spawn().await, "received fatal alert: CertificateRequired"),
    ]
}

#[tokio::test]
async fn a_failed_handshake_with_an_endpoint_is_told_with_its_reason() {
    let (authority, other, double) = (ca(), ca_called("A stranger"), ca());
    let origins = unusable(&authority, &other, &double).await;
    let tls = format!("tls: {{sni: api.internal, ca: {:?}}}\ncircuit_breaker: off", authority.file());
    let with_tls = |more: &str| format!("{tls}\n{more}");
    let mut described = edge();
    for (name, origin, _) in &origins {
        described = described.upstream_with(name, &[origin.addr()], &tls);
        described = described.route(name, &format!("match: {{path: /{name}}}\nupstream: {name}"));
    }
    let issuer = origins[0].1.addr();
    let checks = with_tls("health_check: {tcp: {}, interval: 20s, timeout: 19s, unhealthy_after: 1}");
    let described = described
        .upstream_with("checked", &[issuer], &checks)
        .upstream_with("bytes", &[issuer], &tls)
        .tcp("bytes", "upstream: bytes");
    let mut run = Run::start(described).await;
    for (name, origin, reason) in &origins {
        assert_eq!(run.get(&format!("/{name}")).await.status, 502, "{name}");
        let line = told(&run, &format!("of upstream {name}: ")).await;
        let endpoint = origin.addr().to_string();
        let message = line["message"].as_str().expect("text");
        assert!(message.starts_with(&format!("TLS handshake failed with endpoint {endpoint} of upstream {name}: ")), "{line}");
        assert!(message.contains(reason), "{line}");
        assert_eq!(
            (&line["level"], &line["upstream"], &line["endpoint"]),
            (&"warn".into(), &(*name).into(), &endpoint.as_str().into())
        );
        let last = async || run.admin_get("/api/v1/errors").await.json()["errors"][0].clone();
        let error = eventually!(last().await, |error: &Value| error["upstream"] == *name);
        assert_eq!(error["detail"], line["reason"], "{error}");
    }
    drop(TcpClient::connect(run.address("bytes")).await);
    assert_eq!(told(&run, "of upstream bytes: ").await["reason"], "invalid certificate: unknown issuer");
    let line = told(&run, "is unhealthy").await;
    let message =
        format!("upstream checked: endpoint {issuer} is unhealthy: TLS handshake failed: invalid certificate: unknown issuer");
    assert_eq!(line["message"], message.as_str());
    run.end(Signal::SIGTERM).await;
    documented(&run.weir);
}

#[tokio::test]
async fn whatever_happens_every_line_has_the_format() {
    let extra = origin().answer(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more than that")).spawn().await;
    let described = edge()
        .upstream("app", &[extra.addr()])
        .upstream("unused", &[extra.addr()])
        .route("all", "upstream: app")
        // For a line that is not Weir's own.
        .yaml("server: {driver: pingora}")
        .admin("token: for-this-test-only");
    let mut run = Run::start(described).await;
    let line = told(&run, "W0302").await;
    assert_eq!((&line["level"], &line["code"], &line["path"]), (&"warn".into(), &"W0302".into(), &"upstreams.unused".into()));
    assert!(line["file"].as_str().expect("text").ends_with("weir.yaml") && line["line"].is_u64() && line["column"].is_u64());
    // A warning of a library.
    assert_eq!(run.get("/").await.text(), "ok");
    assert!(told(&run, "more data than expected").await["target"].as_str().expect("text").starts_with("pingora"));
    let path = run.file("weir.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replace("routes:", "ruotes: []\nroutes:").replace("upstream: app", "upstream: apb"))
        .expect("written");
    run.weir.signal(Signal::SIGHUP);
    assert_eq!(told(&run, "generation 1 stays").await["level"], "error");
    std::fs::write(&path, &text).expect("written");
    run.weir.signal(Signal::SIGHUP);
    told(&run, "generation 2: ").await;
    // Its successor writes to the same pipe.
    run.weir.signal(Signal::SIGUSR2);
    told(&run, "serves; this one drains").await;
    assert_eq!(run.weir.ended().await.code(), Some(0));
    let admin = run.admin_address().to_string();
    assert_eq!(weir(&["drain", "--admin", &admin, "--token", "for-this-test-only"]).await.status.code(), Some(0));
    eventually!(std::net::TcpStream::connect(run.address("web")).is_err());
    let drained = |lines: &Vec<Value>| {
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.starts_with("drained in"))).count() == 2
    };
    let lines = eventually!(documented(&run.weir), drained);
    assert!(lines.iter().filter(|line| line["code"] == "W0302").count() >= 3, "at the start, after the reload, in the successor");
}

#[tokio::test]
async fn what_prevents_a_start_has_the_format_too() {
    let edge = edge();
    let path = edge.file("weir.yaml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let listening = std::net::TcpListener::bind(taken).expect("bind");
    let fine = format!("listeners: {{web: {{address: '{taken}'}}}}\nadmin: off\nroutes: [{{name: a, respond: {{body: a}}}}]\n");
    for (yaml, words) in [
        ("listeners: [".to_owned(), "E0101"),
        (fine.replace("respond", "rspond"), "E0102"),
        (fine.clone(), "weir cannot start: cannot listen on"),
    ] {
        for format in ["json", "text"] {
            // Where the file cannot be read as YAML nobody knows what it asks for.
            let unreadable = words == "E0101";
            std::fs::write(&path, format!("observability: {{log: {{format: {format}}}}}\n{yaml}")).expect("written");
            let run = weir(&["run", "--config", path.to_str().expect("UTF-8")]).await;
            assert_eq!(run.status.code(), Some(1));
            let err = String::from_utf8(run.stderr).expect("UTF-8");
            assert!(err.contains(words), "{err}");
            for line in err.lines() {
                match format == "json" || unreadable {
                    true => assert_eq!(parsed(line)["level"], "error", "{line}"),
                    false => assert!(line.get(27..).is_some_and(|rest| rest.starts_with(" ERROR weir::")), "{line}"),
                }
            }
        }
    }
    drop(listening);
    let missing = weir(&["run", "--config", edge.file("absent.yaml").to_str().expect("UTF-8")]).await;
    let err = String::from_utf8(missing.stderr).expect("UTF-8");
    assert_eq!(parsed(err.trim())["code"], "E0202", "{err}");
}

#[tokio::test]
async fn text_is_asked_for_and_is_had_from_the_first_line() {
    let described =
        edge().upstream("unused", &["127.0.0.1:9".parse().expect("an address")]).route("all", "respond: {body: here}");
    let path = write(&described);
    let text =
        std::fs::read_to_string(&path).expect("a file").replace("observability:\n", "observability:\n  log: {format: text}\n");
    std::fs::write(&path, text).expect("written");
    let mut weir = Weir::spawn(&["run", "--config", path.to_str().expect("UTF-8")]);
    weir.err.line_with(" is ready: ").await;
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.ended().await.code(), Some(0));
    weir.err.line_with("drained in").await;
    for line in weir.err.text().lines() {
        humantime::parse_rfc3339(line.get(..27).expect("a time")).unwrap_or_else(|error| panic!("{error}: {line}"));
        let level = line[28..].split(' ').next().expect("a level");
        assert!(["WARN", "INFO"].contains(&level), "{line}");
    }
    assert!(
        weir.err
            .text()
            .lines()
            .next()
            .is_some_and(|line| line.contains(" WARN  weir::config::diagnostic ") && line.contains("W0302"))
    );
}

/// Passes two sockets on, the second of which no listener has.
const ACTIVATE: &str = "import os, socket, sys
for place, port in enumerate(sys.argv[1:3]):
    listener = socket.create_server(('127.0.0.1', int(port)))
    os.dup2(listener.fileno(), 10 + place, inheritable=False)
for place in range(2):
    os.dup2(10 + place, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])";

#[tokio::test]
async fn a_socket_of_systemd_that_no_listener_has_is_told() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let (used, unused) = (free(), free());
    let described = edge().route("all", "respond: {body: here}");
    let path = write(&described);
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replacen("address: 127.0.0.1:0", &format!("address: {used}"), 1)).expect("written");
    let mut command = tokio::process::Command::new("python3");
    let ports = [used, unused].map(|address| address.port().to_string());
    command.args([
        "-c",
        ACTIVATE,
        &ports[0],
        &ports[1],
        env!("CARGO_BIN_EXE_weir"),
        "run",
        "--config",
        path.to_str().expect("UTF-8"),
    ]);
    let mut run = Run::started(Weir::of(&mut command), described).await;
    let line = told(&run, "socket activation: ").await;
    assert_eq!((&line["level"], &line["address"]), (&"warn".into(), &unused.to_string().into()));
    assert_eq!(run.get("/").await.text(), "here");
    assert!(std::net::TcpStream::connect(unused).is_err(), "closed");
    run.end(Signal::SIGTERM).await;
    let lines = documented(&run.weir);
    assert_eq!(lines.iter().filter(|line| line["message"].as_str().expect("text").contains("socket activation")).count(), 1);
}
