//! An edge for all rows of a pair, and what runs them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    io::{Read, Seek, SeekFrom},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    Kind, Pair,
    client::Client,
    endpoint::{Behind, Endpoint},
    judge::{Got, Problems, judge},
    message::{Cues, Ear, Performed, Script, get},
    row::{Arrives, Row},
};
use crate::support::{
    certs::{Ca, Tls, ca, server_config, tls as client_tls},
    edge::{Edge, edge_from},
    within,
};

/// Rows under way at a time.
const AT_A_TIME: usize = 16;
/// How long anything of a row may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same once a row has failed already: nobody waits long for what does not come.
const NO_PATIENCE: Duration = Duration::from_millis(700);

/// A row and what is behind the edge for it.
struct Lane {
    row: Row,
    name: String,
    /// The client's address, by which its line in the access log is found.
    from: Ipv4Addr,
    behind: Arc<Behind>,
    endpoints: Vec<Endpoint>,
}

impl Lane {
    async fn new(index: usize, row: Row, tls: Arc<rustls::ServerConfig>) -> Self {
        let behind = Arc::new(Behind::new(row.pair.endpoint, tls, row.answers.clone(), row.warm));
        let mut endpoints = Vec::new();
        for _ in 0..row.endpoints {
            endpoints.push(Endpoint::listen(behind.clone()).await.expect("a port"));
        }
        let from = Ipv4Addr::new(127, 77, (index / 200) as u8, (index % 200 + 1) as u8);
        Self { row, name: format!("r{index}"), from, behind, endpoints }
    }

    fn path(&self, word: &str) -> String {
        format!("/{}/{word}", self.name)
    }
}

/// The configuration of all rows.
fn config(lanes: &[Lane], pair: Pair, ca: &Ca) -> String {
    let identity = ca.server(&["localhost"]);
    let h3 = pair.client == Kind::H3;
    let mut yaml = format!(
        "server: {{shutdown_grace: 100ms}}\nlisteners:\n  web: {{address: 127.0.0.1:0, http: {{h2c: true, body_idle_timeout: 1s}}}}\n  edge:\n    address: 127.0.0.1:0\n    \
         http: {{body_idle_timeout: 1s}}\n    tls: {{h3: {h3}, certificates: [{{cert: {:?}, key: {:?}}}]}}\nadmin: {{address: 127.0.0.1:0}}\n\
         observability: {{access_log: {{path: access.log, format: json}}}}\nroutes:\n",
        identity.cert_file, identity.key_file
    );
    for Lane { name, row, .. } in lanes {
        let _ = writeln!(yaml, "  - name: {name}\n    match: {{path: /{name}/*}}\n    upstream: {name}");
        for line in row.route.lines() {
            let _ = writeln!(yaml, "    {line}");
        }
    }
    yaml.push_str("upstreams:\n");
    let protocol = match (pair.endpoint.is_h2(), pair.endpoint.is_tls()) {
        (true, true) => "h2",
        (true, false) => "h2c",
        (false, _) => "h1",
    };
    for Lane { name, row, endpoints, .. } in lanes {
        let addresses: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.address)).collect();
        let more = if row.connections.is_empty() { "response_timeout: 4s" } else { row.connections };
        let _ = writeln!(yaml, "  {name}:\n    endpoints: [{}]", addresses.join(", "));
        let _ = writeln!(yaml, "    connections: {{protocol: {protocol}, {more}}}");
        if pair.endpoint.is_tls() {
            let _ = writeln!(yaml, "    tls: {{sni: localhost, ca: {:?}}}", ca.file());
        }
    }
    yaml
}

/// The access log, read on as it grows.
struct Log {
    path: PathBuf,
    read: Mutex<(u64, String, HashMap<String, Vec<Value>>)>,
}

impl Log {
    /// The line of the row's own request from this address.
    async fn line(&self, from: Ipv4Addr, patience: Duration) -> Option<Value> {
        let client = from.to_string();
        let found = async {
            loop {
                self.read();
                let own = |line: &&Value| !line["path"].as_str().is_some_and(|path| path.ends_with("/again"));
                if let Some(line) = self.read.lock().2.get(&client).and_then(|lines| lines.iter().find(own)) {
                    return line.clone();
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        tokio::time::timeout(patience, found).await.ok()
    }

    /// What was logged of this address is of no interest.
    fn forget(&self, from: Ipv4Addr) {
        self.read.lock().2.remove(&from.to_string());
    }

    fn read(&self) {
        let mut read = self.read.lock();
        let (offset, partial, lines) = &mut *read;
        let Ok(mut file) = std::fs::File::open(&self.path) else { return };
        let _ = file.seek(SeekFrom::Start(*offset));
        *offset += file.read_to_string(partial).unwrap_or_default() as u64;
        while let Some(end) = partial.find('\n') {
            let line: Value = serde_json::from_str(&partial[..end]).expect("a line of JSON");
            partial.drain(..=end);
            lines.entry(line["client"].as_str().unwrap_or_default().to_owned()).or_default().push(line);
        }
    }
}

/// An edge with all that a row needs of it.
struct Course {
    edge: Edge,
    trust: Tls,
    log: Log,
}

/// What a row of this name has against it.
pub type Verdicts = BTreeMap<&'static str, (Problems, Vec<&'static str>)>;

/// Runs these rows.
pub async fn run(pair: Pair, rows: Vec<Row>) -> Verdicts {
    let ca = ca();
    let alpn: &[&[u8]] = if pair.endpoint.is_h2() { &[b"h2"] } else { &[b"http/1.1"] };
    let tls = server_config(&ca.server(&["localhost"]), alpn, None);
    let mut lanes = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        lanes.push(Lane::new(index, row, tls.clone()).await);
    }
    let edge = edge_from(&config(&lanes, pair, &ca)).await;
    let log = Log { path: edge.file("access.log"), read: Mutex::default() };
    let started = Course { edge, trust: client_tls().sni("localhost").ca(&ca), log };
    let course = &started;
    let runs = lanes.iter().map(|lane| async move { (lane, course.run(lane).await) });
    let mut judged: Vec<(&Lane, Problems)> = stream::iter(runs).buffer_unordered(AT_A_TIME).collect().await;
    course.learned(&mut judged).await;
    for (lane, problems) in &mut judged {
        problems.0.extend(lane.behind.faults.lock().drain(..).map(|fault| format!("not HTTP: {fault}")));
    }
    let counted = started.counted().await;
    let mut verdicts: Verdicts =
        judged.into_iter().map(|(lane, problems)| (lane.row.name, (problems, lane.row.notes.clone()))).collect();
    verdicts.insert("what the metrics say of all rows", (counted, Vec::new()));
    started.edge.stop().await;
    verdicts
}

impl Course {
    async fn client(&self, lane: &Lane, from: Ipv4Addr) -> Client {
        let kind = lane.row.pair.client;
        let address = self.edge.address(if kind.is_tls() { "edge" } else { "web" });
        let client = Client::connect(kind, from, address, &self.trust, lane.behind.faults.clone()).await;
        client.unwrap_or_else(|error| panic!("connecting to the edge: {error}"))
    }

    async fn run(&self, lane: &Lane) -> Problems {
        let Lane { row, behind, .. } = lane;
        if row.warm {
            let [_, _, third, fourth] = lane.from.octets();
            let before = Ipv4Addr::new(127, 78, third, fourth);
            let mut client = self.client(lane, before).await;
            let mut problems = self.plain(lane, &mut client, "warm").await;
            // It is logged once its connection is in the pool.
            if self.log.line(before, PATIENCE).await.is_none() || !problems.0.is_empty() {
                problems.add("the connection to the endpoint could not be prepared");
                return problems;
            }
        }
        for _ in 0..20 {
            let problems = self.once(lane).await;
            if !behind.missed() {
                return problems;
            }
            // Pingora found no connection in its pool, as may be at any time: the row was not about that.
            self.log.forget(lane.from);
        }
        Problems(vec!["no request came on a connection from the pool".to_owned()])
    }

    /// The row's own request, and one after it.
    async fn once(&self, lane: &Lane) -> Problems {
        let Lane { row, behind, .. } = lane;
        let mut client = self.client(lane, lane.from).await;
        let mut script = row.request.clone();
        script.head.path = lane.path("main") + &row.request.head.path;
        let mut ear = Ear::default();
        let cues = behind.cues();
        let performed = tokio::time::timeout(PATIENCE, client.perform(&script, &mut ear, &cues)).await;
        // Of what hangs, nothing more is to be expected.
        let patience = if performed.is_ok() { PATIENCE } else { NO_PATIENCE / 10 };
        let gone = matches!(performed, Ok(Performed::Broken(_)));
        let mut whole = performed == Ok(Performed::Whole);
        let mut left = None;
        if gone {
            client.leave().await;
        } else {
            let ended = tokio::time::timeout(patience, ear.wait(|heard| heard.end.is_some())).await;
            whole &= ended.is_ok();
            left = Some(client);
        }
        let line = if row.want.unlogged { None } else { self.log.line(lane.from, patience).await };
        let response = ear.now();
        // How a request ended is known at its endpoint a moment later.
        let arrivals = behind.arrivals.lock().clone();
        let expected = row.want.requests.clone().unwrap_or_default();
        for (index, ear) in arrivals.iter().enumerate() {
            if expected.get(index) == Some(&Arrives::Any) {
                continue;
            }
            let _ = tokio::time::timeout(patience.min(Duration::from_secs(1)), ear.wait(|heard| heard.end.is_some())).await;
        }
        if row.want.cancelled
            && let Some(ear) = arrivals.last()
        {
            let told = ear.wait(|heard| heard.gone || heard.reset.is_some() || !heard.is_whole());
            let _ = tokio::time::timeout(patience.min(Duration::from_secs(1)), told).await;
        }
        let got = Got { response, arrivals, target: script.head.path, line };
        let mut problems = judge(row, &got);
        // What became of a connection whose response did not arrive whole is not asked.
        whole &= row.want.response.is_none();
        let closes = got.response.all("connection").contains(&"close");
        let again = left.filter(|client| whole && !closes && got.response.is_whole() && client.is_open());
        let mut client = match again {
            Some(client) => client,
            None => self.client(lane, Ipv4Addr::LOCALHOST).await,
        };
        if row.answers.iter().any(Script::has_raw) {
            // What the endpoint has said is there, and the edge has seen it when it has answered who came after that.
            within("/livez", self.edge.admin_get("/livez")).await;
        }
        problems.0.extend(self.plain(lane, &mut client, "again").await.0);
        problems
    }

    /// A plain request, which gets its own answer whatever was before it.
    async fn plain(&self, lane: &Lane, client: &mut Client, word: &'static str) -> Problems {
        let mut problems = Problems::default();
        let (mut script, mut ear) = (get(), Ear::default());
        script.head.path = lane.path(word);
        let performed = client.perform(&script, &mut ear, &Cues::default()).await;
        let ended = tokio::time::timeout(PATIENCE, ear.wait(|heard| heard.end.is_some())).await;
        let heard = ear.now();
        let body = String::from_utf8_lossy(&heard.body).into_owned();
        let what = format!("a plain request ({word})");
        problems.compare(&what, (heard.status, body.as_str(), heard.is_whole()), (200, &*format!("for /{}", lane.name), true));
        if !problems.0.is_empty() {
            problems.add(format!("{what}: {performed:?}, {ended:?}, {heard:?}"));
        }
        problems
    }

    /// What endpoints have learned.
    async fn learned(&self, judged: &mut [(&Lane, Problems)]) {
        // A request ends a moment after its response has arrived.
        let mut stats = Value::Null;
        for _ in 0..20 {
            stats = within("/stats", self.edge.admin_get("/stats")).await.json();
            if stats["in_flight"]["requests"] == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let upstreams = stats["upstreams"].as_array().expect("upstreams");
        for (lane, problems) in judged {
            let upstream = upstreams.iter().find(|upstream| upstream["name"] == *lane.name).expect("the row's upstream");
            let endpoints = upstream["endpoints"].as_array().expect("endpoints");
            let sum = |key: &str| endpoints.iter().map(|endpoint| endpoint[key].as_u64().unwrap_or_default()).sum::<u64>();
            problems.compare("failures held against endpoints", sum("errors"), lane.row.want.errors.unwrap_or_default());
            problems.compare("requests in flight at the end", sum("in_flight"), 0);
            let states: Vec<&str> = endpoints.iter().filter_map(|endpoint| endpoint["state"].as_str()).collect();
            problems.compare("states of endpoints", states, vec!["healthy"; endpoints.len()]);
        }
    }

    /// The log and the metrics count the same errors.
    async fn counted(&self) -> Problems {
        let mut problems = Problems::default();
        for _ in 0..20 {
            problems.0.clear();
            self.log.read();
            let mut logged: BTreeMap<String, u64> = BTreeMap::new();
            for line in self.log.read.lock().2.values().flatten() {
                if let Some(word) = line["end"]["type"].as_str() {
                    *logged.entry(word.to_owned()).or_default() += 1;
                }
            }
            for (word, count) in logged {
                let metric = self.edge.metric("weir_proxy_errors_total", &[("type", &word)]).await;
                problems.compare(&format!("weir_proxy_errors_total of {word}"), metric, Some(count as f64));
            }
            if problems.0.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        problems
    }
}
