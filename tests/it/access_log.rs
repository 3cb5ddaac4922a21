//! The access log in its other forms, and on sinks that misbehave.

use std::{
    io::Read,
    os::unix::fs::OpenOptionsExt,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, sys::stat::Mode};

use crate::support::{
    PATIENCE,
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    tools::{output, tool},
};

/// Starts an edge with this configuration of its access log.
async fn logging(builder: EdgeBuilder, options: &str) -> Edge {
    let config = builder.config();
    let start = config.find("access_log: {").expect("an access log");
    let end = start + config[start..].find('}').expect("its end") + 1;
    builder.start_as(&config.replace(&config[start..end], &format!("access_log: {{{options}}}"))).await
}

fn hello() -> EdgeBuilder {
    edge().route("all", "respond: {body: hello}")
}

/// The file, once everything is in it.
fn logged(edge: &Edge) -> String {
    assert!(edge.server.observer().flush(PATIENCE), "every line is in the file");
    std::fs::read_to_string(edge.file("other.log")).expect("a file")
}

/// What clients send to make a mess of a log.
const NASTY: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: x\r\nuser-agent: a\"b\\c\r\nreferer: https://r/\" 200 \"\r\n\r\n",
    "GET /%0d%0a127.0.0.1%20-%20-/%22/%1b%5b2J HTTP/1.1\r\nhost: x\r\nuser-agent: \u{9b}2J \u{e9}\r\n\r\n",
    "PURGE /a|b HTTP/1.1\r\nhost: x\r\nuser-agent: \t\r\n\r\n",
    "GET /a?b=%22 HTTP/1.1\r\nhost: x\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\n\r\n",
];

/// Requests that the gate refuses, after which their connection is gone.
const REFUSED: &[&str] =
    &["GET /\u{1b}[2J HTTP/1.1\r\nhost: x\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "\" 200 5\r\n\r\n"];

async fn send_all(edge: &Edge) {
    let mut client = edge.client().await;
    for request in NASTY {
        assert_eq!(client.exchange(request).await.status, 200, "{request}");
    }
    for request in REFUSED {
        assert_eq!(edge.client().await.exchange(request).await.status, 400, "{request}");
    }
}

#[tokio::test]
async fn a_template_writes_the_fields_it_names() {
    let template = "{client} {method} {host}{path} {status} {bytes_out} {end.reason} \"{user_agent}\" {{{route}}}";
    let edge = logging(hello(), &format!("path: other.log, format: '{template}'")).await;
    send_all(&edge).await;
    let log = logged(&edge);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), NASTY.len() + REFUSED.len(), "{log}");
    assert_eq!(lines[0], "127.0.0.1 GET x/ 200 5 - \"a\\x22b\\x5Cc\" {all}");
    assert!(lines[6].starts_with("127.0.0.1 - -- 400 61 "), "{log}");
    assert!(lines.iter().all(|line| line.matches('"').count() == 2), "{log}");
}

#[tokio::test]
async fn no_format_lets_control_bytes_through() {
    for format in ["json", "combined", "'{method} {path} \"{user_agent}\" \"{referer}\"'"] {
        let edge = logging(hello(), &format!("path: other.log, format: {format}")).await;
        send_all(&edge).await;
        let log = logged(&edge);
        assert_eq!(log.lines().count(), NASTY.len() + REFUSED.len(), "{format}: {log}");
        assert!(!log.chars().any(|char| char.is_control() && char != '\n'), "{format}: {log:?}");
    }
}

#[tokio::test]
async fn goaccess_understands_every_line_of_the_combined_format() {
    let Some(goaccess) = tool("goaccess") else { return };
    let edge = logging(hello(), "path: other.log, format: combined").await;
    send_all(&edge).await;
    let log = logged(&edge);
    let (file, invalid) = (edge.file("other.log"), edge.file("invalid.log"));
    let arguments = [
        file.to_str().expect("UTF-8"),
        "--no-global-config",
        "--log-format=COMBINED",
        "--no-progress",
        "--output-format=json",
        &format!("--invalid-requests={}", invalid.display()),
    ];
    let (code, report) = output(&goaccess, &arguments, "").await;
    assert_eq!(code, Some(0), "{report}");
    let from = report.find('{').expect("JSON");
    let report: serde_json::Value =
        serde_json::Deserializer::from_str(&report[from..]).into_iter().next().expect("one").expect("JSON");
    let refused = std::fs::read_to_string(&invalid).unwrap_or_default();
    let general = &report["general"];
    let lines = NASTY.len() + REFUSED.len();
    assert_eq!(
        (&general["total_requests"], &general["failed_requests"]),
        (&lines.into(), &0.into()),
        "{log}\nrefused:\n{refused}"
    );
}

#[tokio::test]
async fn a_full_disk_holds_up_nobody() {
    let edge = logging(hello(), "path: /dev/full").await;
    let mut client = edge.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    crate::eventually!(edge.metric("weir_access_log_dropped_total", &[]).await == Some(100.0));
}

/// A pipe takes 64 KiB, the writer another batch of that, the queue 8 MiB: what is beyond has to go somewhere.
#[tokio::test]
async fn a_stuck_pipe_holds_up_nobody_and_goes_on_when_it_is_read_again() {
    let builder = hello();
    let pipe = builder.file("other.log");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let mut reader = std::fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&pipe).expect("a reader");
    let edge = logging(builder, "path: other.log").await;
    let path = format!("/{}", "x".repeat(2047));
    let agent = "y".repeat(500);
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\nreferer: {path}\r\n\r\n");
    let mut client = edge.client().await;
    let mut sent = 0_u64;
    let mut slowest = Duration::ZERO;
    while edge.metric("weir_access_log_dropped_total", &[]).await < Some(100.0) {
        for _ in 0..250 {
            let began = Instant::now();
            assert_eq!(client.exchange(&request).await.status, 200);
            slowest = slowest.max(began.elapsed());
            sent += 1;
        }
        assert!(sent < 20_000, "nothing was dropped");
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let dropped = edge.metric("weir_access_log_dropped_total", &[]).await.expect("a count");
    let mut lines = 0;
    let expected = sent - dropped as u64;
    let mut chunk = vec![0; 1 << 20];
    crate::eventually!(
        {
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                lines += chunk[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
            }
            lines
        },
        |lines| *lines == expected
    );
    assert_eq!(edge.metric("weir_access_log_dropped_total", &[]).await, Some(dropped), "no line was lost on the way");
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let spec = weir::observe::AccessLogSpec { path: pipe.to_str().expect("UTF-8").into(), ..Default::default() };
    let Err(error) = weir::observe::Observer::new(&spec) else { panic!("it waits for nobody") };
    assert_eq!(error.to_string(), format!("cannot open the access log {}: nobody reads this pipe", pipe.display()));
}

/// As with logrotate's `copytruncate`, which needs no signal.
#[tokio::test]
async fn a_log_that_is_cut_goes_on_at_its_new_end() {
    let edge = logging(hello(), "path: other.log").await;
    let mut client = RawClient::connect(edge.address("web")).await;
    client.get("x", "/1").await;
    assert_eq!(logged(&edge).lines().count(), 1);
    std::fs::OpenOptions::new().write(true).truncate(true).open(edge.file("other.log")).expect("cut");
    client.get("x", "/2").await;
    let log = logged(&edge);
    assert!(log.starts_with('{') && log.lines().count() == 1, "{log:?}");
}
