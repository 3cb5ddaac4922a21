//! The metrics as Prometheus sees them, and how many series clients can make: none.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{
    certs::tls,
    client::RawClient,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    origin::{Origin, origin, refused_address},
    tools::{output, tool},
    within,
};

/// An edge with something in nearly every metric.
async fn busy() -> (Edge, Origin) {
    let origin = origin().spawn().await;
    let edge = edge()
        .upstream_with(
            "app",
            &[origin.addr(), refused_address().await],
            "health_check: {tcp: {}, interval: 1s}\ncircuit_breaker: {failure_threshold: 1}",
        )
        .route("all", "upstream: app\nretry: {attempts: 3, on: [connect, 503]}")
        .route("no", "match: {path: /no/*}\nrespond: {}\nfilters: [{ip_access: {deny: [127.0.0.1/32]}}]")
        .tls()
        .start()
        .await;
    for path in ["/", "/", "/no/", "/"] {
        edge.get(path).await;
    }
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    h2.get("localhost", "/").await;
    edge.client().await.exchange("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    edge.access_log_of(6).await;
    (edge, origin)
}

#[tokio::test]
async fn promtool_finds_nothing_to_criticise() {
    let Some(promtool) = tool("promtool") else { return };
    let (edge, _origin) = busy().await;
    let text = edge.admin_get("/metrics").await.text();
    let (code, said) = output(&promtool, &["check", "metrics"], &text).await;
    assert_eq!((code, said.as_str()), (Some(0), ""), "{text}");
    // It does see what is wrong.
    let (code, said) =
        output(&promtool, &["check", "metrics"], &text.replace("weir_http_requests_total", "weir_httpRequests")).await;
    assert!(code != Some(0) && said.contains("weir_httpRequests"), "{said}");
}

/// A Prometheus that scrapes this edge every second, and where it answers.
async fn prometheus(edge: &Edge) -> Option<(tokio::process::Child, std::net::SocketAddr)> {
    let program = tool("prometheus")?;
    let (config, data) = (edge.file("prometheus.yml"), edge.file("prometheus"));
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: weir\n    static_configs: [{{targets: ['{}']}}]\n",
        edge.admin_address()
    );
    std::fs::write(&config, text).expect("written");
    let mut child = tokio::process::Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let listening = async {
        let mut said = String::new();
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.contains("\"Listening on\"")
                && let Some((_, address)) = line.rsplit_once("address=")
            {
                return address.trim().parse().expect("an address");
            }
            said += &line;
        }
        panic!("it ended: {said}")
    };
    let address = within("Prometheus to listen", listening).await;
    // Whatever else it says must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some((child, address))
}

#[tokio::test]
async fn a_real_prometheus_scrapes_it() {
    let (edge, _origin) = busy().await;
    let Some((_child, address)) = prometheus(&edge).await else { return };
    crate::eventually!(RawClient::connect(address).await.get("localhost", "/-/ready").await.status == 200);
    let ask = async |path: &str| RawClient::connect(address).await.get("localhost", path).await.json();
    let targets = crate::eventually!(ask("/api/v1/targets").await, |answer: &serde_json::Value| {
        ["up", "down"].iter().any(|health| answer["data"]["activeTargets"][0]["health"] == *health)
    });
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()));
    let query = "/api/v1/query?query=weir_http_requests_total%7Broute%3D%22all%22%2Clistener%3D%22web%22%7D";
    let answer = crate::eventually!(ask(query).await, |answer: &serde_json::Value| answer["data"]["result"][0].is_object());
    let result = &answer["data"]["result"][0];
    assert_eq!((&result["metric"]["code"], &result["value"][1]), (&"200".into(), &"3".into()), "{answer}");
    let quantile = "/api/v1/query?query=histogram_quantile(0.99%2Cweir_http_request_duration_seconds_bucket)";
    let answer = ask(quantile).await;
    assert_eq!((&answer["status"], answer["data"]["result"].as_array().map(Vec::is_empty)), (&"success".into(), Some(false)));
}

/// Every series by its name and labels.
async fn series(edge: &Edge) -> BTreeMap<String, String> {
    let text = edge.admin_get("/metrics").await.text();
    let sample = |line: &str| line.rsplit_once(' ').map(|(series, value)| (series.to_owned(), value.to_owned()));
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// Requests that have everything of their own that a client can choose.
async fn flood(edge: &Edge, from: u32, count: u32) {
    for number in from..from + count {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let mut client = edge.client().await;
        for (method, path) in
            [("GET", "/"), (&random[..20], "/"), ("POST", "/no/"), ("GET", "/none/"), ("TRACE", "/"), ("CONNECT", "")]
        {
            let target =
                if method == "CONNECT" { format!("{random}:{number}") } else { format!("{path}{random}?{random}={number}") };
            let request = format!(
                "{method} {target} HTTP/1.1\r\nhost: {random}.example:{number}\r\nuser-agent: {random}\r\n{random}: {random}\r\n\
                 x-forwarded-for: 192.0.2.{number}\r\nx-request-id: {random}\r\ntraceparent: {random}\r\ncontent-length: 0\r\n\r\n"
            );
            if client.exchange(request).await.header("connection") == Some("close") {
                client = edge.client().await;
            }
        }
        let name = format!("{random}.example.com");
        let trust = tls().sni(&name).ca(edge.ca());
        if number % 2 == 0 {
            let mut h2 = H2Client::connect_tls(edge.address("edge"), &trust).await;
            let request = H2Request::get(&name, &format!("/{random}")).header("x-any", &random);
            h2.send(&request).await.expect("an answer");
        } else {
            let _ =
                RawClient::try_connect_tls(edge.address("edge"), &tls().sni(&format!("{random}.invalid")).ca(edge.ca())).await;
        }
    }
}

#[tokio::test]
async fn no_client_can_make_a_series() {
    let origin = origin().spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "match: {path: /*}\nupstream: app")
        .route("no", "match: {path: /no/*}\nrespond: {}\nfilters: [{ip_access: {deny: [127.0.0.1/32]}}]")
        .tls()
        .start()
        .await;
    flood(&edge, 0, 20).await;
    tokio::time::timeout(Duration::from_secs(10), edge.access_log_of(130)).await.expect("everything has ended");
    let before = series(&edge).await;
    flood(&edge, 20, 180).await;
    edge.access_log_of(1300).await;
    let after = series(&edge).await;
    let new: Vec<_> = after.keys().filter(|series| !before.contains_key(*series)).collect();
    assert!(new.is_empty(), "{} and then {}: {new:#?}", before.len(), after.len());
    let requests = |series: &BTreeMap<String, String>| {
        let of = series.iter().filter(|(series, _)| series.starts_with("weir_http_requests_total"));
        of.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>()
    };
    assert!(requests(&after) > requests(&before) + 1000.0, "they were counted");
    assert!(after.len() < 400, "{}", after.len());
}
