//! What is shown: rows made of two looks at the counters, in some order.

use std::{
    cmp::Ordering,
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{super::remote::printable, keys::Key};

/// `/stats`, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stats {
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) ready: bool,
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Clone, Deserialize)]
struct Upstream {
    name: String,
    strategy: String,
    alive: usize,
    panic: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    endpoint: String,
    alive: bool,
    state: String,
    reason: String,
    weight: u32,
    requests: u64,
    errors: u64,
    in_flight: u32,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

/// One endpoint, or the sum of an upstream's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// An upstream, with endpoints below it.
    pub(super) head: bool,
    pub(super) alive: bool,
    pub(super) state: String,
    pub(super) weight: Option<u32>,
    pub(super) per_second: f64,
    /// Of the requests since the last look, 0 to 1.
    pub(super) errors: f64,
    pub(super) in_flight: u32,
    /// Of an upstream the worst of its endpoints': percentiles cannot be added.
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    State,
    Weight,
    PerSecond,
    Errors,
    InFlight,
    P50,
    P95,
    P99,
}

impl Column {
    pub(super) const ALL: [Column; 9] = [
        Column::Name,
        Column::State,
        Column::Weight,
        Column::PerSecond,
        Column::Errors,
        Column::InFlight,
        Column::P50,
        Column::P95,
        Column::P99,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Name => "endpoint",
            Column::State => "state",
            Column::Weight => "weight",
            Column::PerSecond => "req/s",
            Column::Errors => "errors",
            Column::InFlight => "in flight",
            Column::P50 => "p50 ms",
            Column::P95 => "p95 ms",
            Column::P99 => "p99 ms",
        }
    }

    /// The order in which what wants attention comes first: names from the start, numbers from the largest.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Column::Name => a.name.cmp(&b.name),
            Column::State => a.alive.cmp(&b.alive).then_with(|| a.state.cmp(&b.state)),
            Column::Weight => b.weight.cmp(&a.weight),
            Column::PerSecond => b.per_second.total_cmp(&a.per_second),
            Column::Errors => b.errors.total_cmp(&a.errors),
            Column::InFlight => b.in_flight.cmp(&a.in_flight),
            Column::P50 => b.p50.total_cmp(&a.p50),
            Column::P95 => b.p95.total_cmp(&a.p95),
            Column::P99 => b.p99.total_cmp(&a.p99),
        }
    }
}

/// Everything that is on the screen.
#[derive(Debug, Default)]
pub(super) struct Board {
    stats: Option<Stats>,
    seen: Option<Instant>,
    /// Requests and errors at the last look, by upstream and endpoint.
    before: HashMap<(String, String), (u64, u64)>,
    upstreams: Vec<(Row, Vec<Row>)>,
    /// What went wrong at the last look.
    pub(super) trouble: Option<String>,
    sort: usize,
    turned: bool,
    pub(super) selected: usize,
}

/// How far a page goes.
const PAGE: usize = 10;

impl Board {
    /// Another look.
    pub(super) fn saw(&mut self, stats: Stats) {
        self.saw_at(stats, Instant::now());
    }

    pub(super) fn saw_at(&mut self, stats: Stats, now: Instant) {
        let since = self.seen.replace(now).map(|before| now.saturating_duration_since(before));
        let mut counted = HashMap::new();
        let upstreams = stats.upstreams.iter().map(|upstream| {
            let rows: Vec<Row> = upstream
                .endpoints
                .iter()
                .map(|endpoint| {
                    let key = (upstream.name.clone(), endpoint.endpoint.clone());
                    let row = row(endpoint, self.before.get(&key), since);
                    counted.insert(key, (endpoint.requests, endpoint.errors));
                    row
                })
                .collect();
            (sum(upstream, &rows), rows)
        });
        self.upstreams = upstreams.collect();
        self.before = counted;
        self.stats = Some(stats);
        self.trouble = None;
        self.selected = self.selected.min(self.count().saturating_sub(1));
    }

    /// The edge did not answer.
    pub(super) fn lost(&mut self, reason: String) {
        self.trouble = Some(reason);
    }

    /// A key.
    pub(super) fn press(&mut self, key: Key) {
        let last = self.count().saturating_sub(1);
        match key {
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected = (self.selected + 1).min(last),
            Key::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            Key::PageDown => self.selected = (self.selected + PAGE).min(last),
            Key::Left => self.sort = self.sort.checked_sub(1).unwrap_or(Column::ALL.len() - 1),
            Key::Right => self.sort = (self.sort + 1) % Column::ALL.len(),
            Key::Turn => self.turned = !self.turned,
            Key::Quit | Key::Resized => {}
        }
    }

    pub(super) fn stats(&self) -> Option<&Stats> {
        self.stats.as_ref()
    }

    /// The column that rows are sorted by, and whether the other way round.
    pub(super) fn sorted_by(&self) -> (Column, bool) {
        (Column::ALL[self.sort], self.turned)
    }

    fn count(&self) -> usize {
        self.upstreams.iter().map(|(_, rows)| 1 + rows.len()).sum()
    }

    /// The rows in order: each upstream, and below it its endpoints.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let (column, turned) = self.sorted_by();
        let order = |a: &Row, b: &Row| {
            let order = column.compare(a, b);
            // Names keep the rest from jumping about.
            let order = if turned { order.reverse() } else { order };
            order.then_with(|| a.name.cmp(&b.name))
        };
        let mut upstreams: Vec<_> = self.upstreams.iter().collect();
        upstreams.sort_by(|(a, _), (b, _)| order(a, b));
        let mut all = Vec::with_capacity(self.count());
        for (head, rows) in upstreams {
            all.push(head);
            let mut rows: Vec<&Row> = rows.iter().collect();
            rows.sort_by(|a, b| order(a, b));
            all.extend(rows);
        }
        all
    }
}

fn row(endpoint: &Endpoint, before: Option<&(u64, u64)>, since: Option<Duration>) -> Row {
    // A counter that went back belongs to an edge that was started anew.
    let (requests, errors) = before.map_or((0, 0), |(requests, errors)| {
        (endpoint.requests.saturating_sub(*requests), endpoint.errors.saturating_sub(*errors))
    });
    let seconds = since.map_or(0.0, |since| since.as_secs_f64());
    let state = match endpoint.state == "healthy" {
        true => endpoint.state.clone(),
        false => format!("{}: {}", endpoint.state, printable(&endpoint.reason)),
    };
    Row {
        name: printable(&endpoint.endpoint),
        head: false,
        alive: endpoint.alive,
        state,
        weight: Some(endpoint.weight),
        per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
        errors: if requests > 0 { errors as f64 / requests as f64 } else { 0.0 },
        in_flight: endpoint.in_flight,
        p50: endpoint.p50_ms,
        p95: endpoint.p95_ms,
        p99: endpoint.p99_ms,
    }
}

fn sum(upstream: &Upstream, rows: &[Row]) -> Row {
    let per_second: f64 = rows.iter().map(|row| row.per_second).sum();
    let failing: f64 = rows.iter().map(|row| row.errors * row.per_second).sum();
    let worst = |of: fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    let panic = if upstream.panic { ", panic" } else { "" };
    Row {
        name: format!("{} ({})", upstream.name, upstream.strategy),
        head: true,
        alive: upstream.alive > 0,
        state: format!("{}/{} alive{panic}", upstream.alive, rows.len()),
        weight: None,
        per_second,
        errors: if per_second > 0.0 { failing / per_second } else { 0.0 },
        in_flight: rows.iter().map(|row| row.in_flight).sum(),
        p50: worst(|row| row.p50),
        p95: worst(|row| row.p95),
        p99: worst(|row| row.p99),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A look at two upstreams, after so many requests.
    pub(crate) fn stats(requests: u64, errors: u64) -> Stats {
        let endpoint = |name: &str, state: &str, requests: u64, errors: u64, p99: f64| {
            json!({"endpoint": name, "alive": state == "healthy", "state": state, "reason": "status 503", "since": "", "weight": 2,
                "requests": requests, "errors": errors, "in_flight": 3, "p50_ms": 1.25, "p95_ms": p99 / 2.0, "p99_ms": p99})
        };
        serde_json::from_value(json!({"version": "0.1.0", "generation": 7, "ready": true, "upstreams": [
            {"name": "web", "strategy": "round_robin", "alive": 1, "panic": false, "endpoints": [
                endpoint("127.0.0.1:9001", "healthy", requests, errors, 20.0),
                endpoint("127.0.0.1:9002", "unhealthy", requests / 2, 0, 80.0)]},
            {"name": "api", "strategy": "random", "alive": 1, "panic": true, "endpoints": [
                endpoint("127.0.0.1:9003", "healthy", 0, 0, 0.0)]},
        ]}))
        .unwrap()
    }

    pub(crate) fn board() -> Board {
        let (mut board, start) = (Board::default(), Instant::now());
        board.saw_at(stats(100, 10), start);
        board.saw_at(stats(120, 15), start + Duration::from_secs(2));
        board
    }

    fn names(board: &Board) -> Vec<&str> {
        board.rows().iter().map(|row| row.name.split(' ').next().unwrap()).collect()
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let board = board();
        let row = |name: &str| board.rows().into_iter().find(|row| row.name == name).unwrap().clone();
        let first = row("127.0.0.1:9001");
        assert_eq!((first.per_second, first.errors, first.in_flight), (10.0, 0.25, 3));
        let web = row("web (round_robin)");
        assert_eq!((web.per_second, web.errors, web.in_flight, web.p99), (15.0, 10.0 * 0.25 / 15.0, 6, 80.0));
        assert_eq!(row("127.0.0.1:9002").state, "unhealthy: status 503");
        assert_eq!(row("api (random)").state, "1/1 alive, panic");
        let mut fresh = Board::default();
        fresh.saw(stats(100, 10));
        assert!(fresh.rows().iter().all(|row| row.per_second == 0.0), "one look tells no rate");
    }

    #[test]
    fn an_edge_that_was_started_anew_has_no_negative_rate() {
        let mut board = board();
        board.saw(stats(3, 0));
        assert!(board.rows().iter().all(|row| row.per_second >= 0.0 && row.errors >= 0.0));
    }

    #[test]
    fn keys_sort_and_select() {
        let mut board = board();
        assert_eq!(names(&board), ["api", "127.0.0.1:9003", "web", "127.0.0.1:9001", "127.0.0.1:9002"]);
        for _ in 0..3 {
            board.press(Key::Right);
        }
        assert_eq!(board.sorted_by(), (Column::PerSecond, false));
        assert_eq!(names(&board), ["web", "127.0.0.1:9001", "127.0.0.1:9002", "api", "127.0.0.1:9003"]);
        board.press(Key::Turn);
        assert_eq!(names(&board), ["api", "127.0.0.1:9003", "web", "127.0.0.1:9002", "127.0.0.1:9001"]);
        board.press(Key::Up);
        assert_eq!(board.selected, 0);
        (0..9).for_each(|_| board.press(Key::Down));
        assert_eq!(board.selected, 4, "no further than the last");
        board.press(Key::PageUp);
        assert_eq!(board.selected, 0);
        (0..4).for_each(|_| board.press(Key::Left));
        assert_eq!(board.sorted_by().0, Column::P99, "round the end");
    }
}
