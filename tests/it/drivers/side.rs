//! One driver at work: an edge with an origin of its own, and what could be seen of a case on it.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;

use super::{
    bytes,
    case::{Behaviour, Case, Route, good},
    client::{self, Heard},
    h2_client,
    origin::{Arrival, Stage, endpoints},
    wire::{End, Fields, text},
};
use crate::support::{
    edge::{Edge, edge},
    within,
};

/// What was seen of a case: a name and a value for everything that must be the same.
pub type Seen = Vec<(String, String)>;

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    H1,
    H2,
}

/// An edge, and the origin behind it.
pub struct Side {
    pub edge: Edge,
    driver: &'static str,
    pub version: Version,
    /// Behind each route.
    stages: Vec<Arc<Stage>>,
    addresses: Vec<SocketAddr>,
    log: Mutex<Log>,
}

/// What was read of the access log.
#[derive(Default)]
struct Log {
    read: u64,
    cases: usize,
}

const UPSTREAM: &str =
    "circuit_breaker: off\nretry_budget: {ratio: 100%, min_per_second: 1000}\nconnections: {response_timeout: 4s}";
const LISTENER: &str = "http: {h2c: true, body_idle_timeout: 4s}";

impl Side {
    /// Starts one with this driver, as the log calls it.
    pub async fn start(driver: &'static str, version: Version) -> Self {
        let (mut stages, mut addresses) = (vec![], vec![]);
        let mut builder = edge().listener(LISTENER);
        if driver == "pingora" {
            builder = builder.yaml("server: {driver: pingora}");
        }
        for route in Route::ALL {
            let stage = Arc::new(Stage::default());
            let endpoints = endpoints(&stage, if route.retries() { 2 } else { 1 }).await;
            let name = route.name();
            let retry = if route.retries() { "\nretry: {}" } else { "" };
            builder = builder.upstream_with(name, &endpoints, UPSTREAM);
            builder = builder.route(name, &format!("match: {{path: /{name}/*}}\nupstream: {name}{retry}"));
            addresses.extend(endpoints);
            stages.push(stage);
        }
        let edge = builder.route("own", "match: {path: /*}\nrespond: {status: 418, body: own}").start().await;
        let side = Self { edge, driver, version, stages, addresses, log: Mutex::default() };
        for route in Route::ALL {
            side.settle(route, 0).await;
        }
        side
    }

    fn stage(&self, route: Route) -> &Arc<Stage> {
        &self.stages[route as usize]
    }

    /// Plays a case.
    pub async fn play(&self, case: &Case) -> Seen {
        let behaviours = case.behaviours.iter().enumerate();
        let behaviours = behaviours.map(|(number, behaviour)| (bytes::target(case, number), VecDeque::from(attempts(behaviour))));
        // Whatever follows from that both are served at a time is left to chance.
        let together = case.together && self.version == Version::H2;
        let stage = self.stage(case.route);
        stage.begin(behaviours.collect::<HashMap<_, _>>());
        let edge = self.edge.address("web");
        let heard = match self.version {
            Version::H1 => Box::pin(client::play(case, edge, stage)).await,
            Version::H2 => Box::pin(h2_client::play(case, edge, stage, || self.idle())).await,
        };
        let settled = stage.wait(|arrivals| arrivals.iter().all(|arrival| arrival.over));
        let settled = tokio::time::timeout(Duration::from_secs(8), settled).await.is_ok();
        let mut arrivals = stage.arrivals();
        if together {
            arrivals.sort_by_key(|arrival| arrival.message.word(1).to_owned());
        }
        let mut seen = vec![];
        self.ended().await;
        // Tells of connections that were not kept for the next request.
        self.ask(case.route).await;
        if !together {
            seen.push(("origin connections".to_owned(), stage.opened().to_string()));
        }
        // A connection of HTTP/2 can end before its requests do.
        let requests = if self.version == Version::H2 { case.requests.len() } else { 0 };
        let mut log = self.settle(case.route, requests).await;
        if self.version == Version::H2 {
            // Which of two streams that are served at a time is over first is left to chance, and the probe comes last.
            log.sort_by_key(|line| (line["path"] == "/probe", line["path"].to_string()));
        }
        self.at_the_origin(&arrivals, together, &mut seen);
        self.at_the_client(&heard, &mut seen);
        for (number, line) in log.iter().enumerate() {
            self.in_the_log(number, line, &mut seen);
        }
        if let Some(stuck) = heard.stuck.or((!settled).then_some("the end of a request at the origin")) {
            seen.push(("stuck".to_owned(), stuck.to_owned()));
        }
        seen
    }

    /// Waits for the end of all connections of clients.
    async fn ended(&self) {
        let labels = [("listener", "web")];
        eventually!(self.edge.metric("weir_listener_connections", &labels).await.unwrap_or_default() == 0.0);
    }

    /// Waits until no request is being served.
    async fn idle(&self) {
        eventually!(self.edge.metric("weir_http_requests_in_flight", &[]).await.unwrap_or_default() == 0.0);
    }

    /// Has every endpoint of a route answer a request.
    async fn ask(&self, route: Route) {
        for _ in 0..if route.retries() { 2 } else { 1 } {
            self.edge.get(&format!("/{}/settle", route.name())).await;
            // The connection to the endpoint waits for the next request by then.
            self.ended().await;
        }
    }

    /// Leaves each endpoint of the route with one idle connection, and returns the lines of the log that are new: so many of them
    /// at least.
    async fn settle(&self, route: Route, requests: usize) -> Vec<Value> {
        let stage = self.stage(route);
        stage.rest().await;
        self.ended().await;
        let noticing = async {
            // A connection that has ended is noticed when it is taken, or swept away.
            while stage.has_stale() {
                self.ask(route).await;
            }
        };
        within("the edge to let go of connections", noticing).await;
        self.ask(route).await;
        self.ended().await;
        let mark = {
            let mut log = self.log.lock();
            log.cases += 1;
            format!("/mark/{}", log.cases)
        };
        self.edge.get(&mark).await;
        let is_own = |line: &Value| line["path"].as_str().is_some_and(|path| path.contains("/mark/") || path.contains("/settle"));
        let mut lines: Vec<Value> = vec![];
        eventually!({
            lines.extend(self.new_lines());
            let others = lines.iter().filter(|line| !is_own(line) && line["path"] != "/probe").count();
            lines.iter().any(|line| line["path"] == *mark) && others >= requests
        });
        lines.retain(|line| !is_own(line));
        lines
    }

    fn new_lines(&self) -> Vec<Value> {
        let mut log = self.log.lock();
        let mut text = String::new();
        let mut file = File::open(self.edge.file("access.log")).expect("the access log");
        file.seek(SeekFrom::Start(log.read)).expect("seek");
        file.read_to_string(&mut text).expect("text");
        let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        log.read += complete.len() as u64;
        complete.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn at_the_origin(&self, arrivals: &[Arrival], together: bool, seen: &mut Seen) {
        for (number, Arrival { message, reused, .. }) in arrivals.iter().enumerate() {
            let mut see = |what: &str, value: String| seen.push((format!("origin {number} {what}"), value));
            see("start", message.start.clone());
            see("fields", self.fields(&message.fields));
            if !together {
                see("reused", reused.to_string());
            }
            let whole = message.end == End::Whole;
            see("whole", whole.to_string());
            if whole {
                see("content", text(&message.content));
                see("trailers", self.fields(&message.trailers));
            }
        }
    }

    fn at_the_client(&self, heard: &Heard, seen: &mut Seen) {
        for (number, response) in heard.responses.iter().enumerate() {
            let mut see = |what: &str, value: String| seen.push((format!("client {number} {what}"), value));
            let interim = response.interim.iter().map(|head| format!("{} {}", head.status(), self.fields(&head.fields)));
            see("interim", interim.collect::<Vec<_>>().join("; "));
            let message = &response.message;
            see("version", message.word(0).to_owned());
            see("status", message.status().to_string());
            see("fields", self.fields(&message.fields));
            let content = match message.end {
                // How much of it has come is left to chance.
                End::Open | End::UntilClose if bytes::is_beginning(&message.content) => "cut".to_owned(),
                _ => self.plain(&text(&message.content)),
            };
            see("content", content);
            see("trailers", self.fields(&message.trailers));
            see("end", format!("{:?}", message.end));
            see("reset", response.reset.map(|code| format!("{:?}", h2::Reason::from(code))).unwrap_or_default());
        }
        seen.push(("client behind".to_owned(), text(&heard.rest)));
        let how = match (heard.answered_probe, heard.over) {
            (true, _) => "stayed open",
            (false, Some(_)) => "ended",
            (false, None) => "neither open nor closed",
        };
        seen.push(("client connection".to_owned(), how.to_owned()));
    }

    fn in_the_log(&self, number: usize, line: &Value, seen: &mut Seen) {
        let mut see = |what: &str, value: &Value| seen.push((format!("log {number} {what}"), self.plain(&value.to_string())));
        for key in ["http", "method", "host", "path", "route", "upstream", "status", "bytes_in", "bytes_out", "cache", "end"] {
            see(key, &line[key]);
        }
        let mut first = None;
        for attempt in line["attempts"].as_array().into_iter().flatten() {
            let first = first.get_or_insert(&attempt["endpoint"]);
            let who = if *first == &attempt["endpoint"] { "first" } else { "other" };
            let (outcome, stage) = (&attempt["outcome"], &attempt["stage"]);
            see("attempt", &Value::from(format!("{who} {outcome} {stage}")));
        }
        // What the gate refuses meets no driver.
        let expected = if line["end"]["phase"] == "admit" && line["driver"].is_null() { Value::Null } else { self.driver.into() };
        see("driver as expected", &Value::from(line["driver"] == expected));
    }

    /// Fields in the order of their names, but those that tell about the connection or the time.
    fn fields(&self, fields: &Fields) -> String {
        let kept = |name: &str| !matches!(name, "date" | "connection" | "keep-alive");
        let mut fields: Vec<String> =
            fields.iter().filter(|(name, _)| kept(name)).map(|(name, value)| format!("{name}: {}", self.plain(value))).collect();
        fields.sort();
        fields.join(" | ")
    }

    /// Without ids and addresses.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for address in &self.addresses {
            text = text.replace(&address.to_string(), "(endpoint)");
        }
        text = text.replace(&self.edge.address("web").port().to_string(), "(port)");
        while let Some(at) = find_id(&text) {
            text.replace_range(at..at + 36, "(id)");
        }
        text
    }
}

/// What the attempts of one request meet. A client that waits for an answer before it sends the rest gets one.
fn attempts(first: &Behaviour) -> [Behaviour; 2] {
    [first.clone(), Behaviour { early: first.early, ..good() }]
}

/// Where a UUID begins.
fn find_id(text: &str) -> Option<usize> {
    let is_id = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    text.as_bytes().windows(36).position(is_id)
}
