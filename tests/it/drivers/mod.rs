//! Both drivers agree: what Weir's own driver makes of a request and its response is what Pingora makes of them.
//!
//! Each case is played on two edges, one of each driver, whose origins behave the same; what the origin, the client and the
//! access log have seen is compared, for clients of HTTP/1 and of HTTP/2. `DRIVERS_SEED=number` plays the cases of a failure again,
//! `DRIVERS_CASES=number` more of them.

mod bytes;
mod case;
mod client;
mod fixed;
mod fixed_h2;
mod h2_client;
mod origin;
mod side;
mod wire;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};

use self::{
    case::{Case, cases},
    fixed::Row,
    side::{Seen, Side, Version},
};
use crate::support::only_pingora;

/// A difference that is known, and stays.
struct Accepted {
    /// The end of its name.
    what: &'static str,
    is: fn(&Difference<'_>) -> bool,
    #[expect(dead_code, reason = "for those who read the table")]
    because: &'static str,
}

/// One value, where each driver has one.
struct Difference<'a> {
    lane: &'a str,
    pingora: &'a str,
    /// Both logs say that the exchange failed, and in the same way.
    failed: bool,
    /// Both clients had their stream reset.
    cut: bool,
}

const ACCEPTED: &[Accepted] = &[
    Accepted {
        what: " interim",
        is: |it| {
            let mut lane = it.lane.split("; ");
            it.pingora.split("; ").all(|interim| interim.is_empty() || lane.any(|other| other == interim))
        },
        because: "what Pingora has read and not yet written when the endpoint then fails is dropped, and no client depends on a 1xx",
    },
    Accepted {
        what: " bytes_out",
        is: |it| it.failed && number_of(it.lane) > number_of(it.pingora),
        because: "the same: a response that is cut was longer where less was dropped",
    },
    Accepted {
        what: " bytes_in",
        is: |it| it.failed,
        because: "of a request that fails: Pingora is not given what was read together with a malformed chunk, so it does not count \
                  that, and counts what it reads to drain the connection, which the lane does not",
    },
    Accepted {
        what: " fields",
        is: |it| it.lane.contains("host: ") && it.lane.replace("transfer-encoding: chunked | ", "") == it.pingora,
        because: "a body of no chunks is no body where Pingora sends it again",
    },
    Accepted {
        what: "origin connections",
        is: |it| number_of(it.lane) < number_of(it.pingora),
        because: "a connection that Pingora opens in the place of a closed one serves one request, and one that it still watches none",
    },
];

/// The same, with clients of HTTP/2.
const ACCEPTED_OVER_H2: &[Accepted] = &[
    Accepted {
        what: " version",
        is: |it| it.pingora.is_empty() && it.cut,
        because: "Pingora resets a stream with a response that is cut at once, which drops what the library has not sent: the head, even",
    },
    Accepted { what: " status", is: |it| it.pingora == "0" && it.cut, because: "the same" },
    Accepted { what: " fields", is: |it| it.pingora.is_empty() && it.cut, because: "the same" },
];

fn number_of(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// Both edges.
struct Bed {
    lane: Side,
    pingora: Side,
}

impl Bed {
    async fn start(version: Version) -> Self {
        Self { lane: Box::pin(Side::start("lane", version)).await, pingora: Box::pin(Side::start("pingora", version)).await }
    }

    /// What differs between the drivers, or is not as expected.
    async fn differences(&self, case: &Case, expected: &[(&str, &str)]) -> Vec<String> {
        for _ in 0..5 {
            let (lane, pingora) = tokio::join!(Box::pin(self.lane.play(case)), Box::pin(self.pingora.play(case)));
            // Now and then Pingora finds a connection that waits still watched, and opens another. What follows from a connection that
            // was closed is then not the same.
            if values(&lane, " reused") == values(&pingora, " reused") {
                // Of fields, some are expected; of all else, the whole value.
                let holds = |(name, value): &&(&str, &str)| {
                    let value_of = values(&lane, name);
                    value_of.first().is_some_and(|it| if name.ends_with(" fields") { it.contains(value) } else { it == value })
                };
                let missing = expected.iter().filter(|expected| !holds(expected));
                let missing = missing.map(|(name, value)| format!("{name}: {:?} instead of {value:?}", values(&lane, name)));
                return missing.chain(compare(self.lane.version, &lane, &pingora)).collect();
            }
        }
        vec!["other connections are reused, five times in a row".to_owned()]
    }

    async fn agree(&self, case: &Case) -> Result<(), TestCaseError> {
        match &self.differences(case, &[]).await[..] {
            [] => Ok(()),
            different => Err(TestCaseError::fail(format!("\n    {}", different.join("\n    ")))),
        }
    }

    async fn stop(self) {
        tokio::join!(Box::pin(self.lane.edge.stop()), Box::pin(self.pingora.edge.stop()));
    }
}

fn values<'a>(seen: &'a Seen, what: &str) -> Vec<&'a str> {
    seen.iter().filter(|(name, _)| name.ends_with(what)).map(|(_, value)| value.as_str()).collect()
}

fn compare(version: Version, lane: &Seen, pingora: &Seen) -> Vec<String> {
    let mut names: Vec<&str> = lane.iter().chain(pingora).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let accepted = ACCEPTED.iter().chain(if version == Version::H2 { ACCEPTED_OVER_H2 } else { &[] });
    let mut different = vec![];
    for name in names {
        let of_same = |what: &str| {
            let name = name.rsplit_once(' ').map(|(line, _)| format!("{line} {what}")).unwrap_or_default();
            (values(lane, &name), values(pingora, &name))
        };
        let (ends, other_ends) = of_same("end");
        let failed = ends == other_ends && ends.iter().any(|end| !end.contains(r#""type":null"#));
        let (resets, other_resets) = of_same("reset");
        let cut = resets == other_resets && resets.iter().any(|reset| !reset.is_empty());
        let (lane, pingora) = (values(lane, name), values(pingora, name));
        let is_accepted = |accepted: &Accepted| match (&lane[..], &pingora[..]) {
            ([lane], [pingora]) => name.ends_with(accepted.what) && (accepted.is)(&Difference { lane, pingora, failed, cut }),
            _ => false,
        };
        if name == "stuck" || lane != pingora && !accepted.clone().any(is_accepted) {
            different.push(format!("{name}:\n      lane    {lane:?}\n      pingora {pingora:?}"));
        }
    }
    different
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a test, unless there is nothing to compare, with room for what unoptimized futures take of the stack.
fn test(run: impl FnOnce() + Send) {
    if only_pingora() {
        return;
    }
    std::thread::scope(|scope| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let thread = std::thread::Builder::new().name(name).stack_size(16 << 20).spawn_scoped(scope, run).expect("a thread");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Plays these rows.
fn all_agree(version: Version, rows: Vec<Row>) {
    let runtime = runtime();
    let bed = runtime.block_on(Bed::start(version));
    let mut report = String::new();
    for Row { name, case, expected } in rows {
        let different = runtime.block_on(bed.differences(&case, expected));
        if !different.is_empty() {
            report += &format!("\n{name}\n    {}\n", different.join("\n    "));
        }
    }
    assert!(report.is_empty(), "{report}");
    runtime.block_on(bed.stop());
}

/// Plays cases that are generated.
fn any_agree(version: Version, cases: &impl Strategy<Value = Case>) {
    let runtime = runtime();
    let bed = runtime.block_on(Bed::start(version));
    let seed = number("DRIVERS_SEED").unwrap_or_else(rand::random);
    let cases_wanted = number("DRIVERS_CASES").unwrap_or(200) as u32;
    let config = Config {
        cases: cases_wanted,
        max_shrink_time: 60_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let result = TestRunner::new(config).run(cases, |case| runtime.block_on(bed.agree(&case)));
    if let Err(failure) = result {
        panic!("DRIVERS_SEED={seed}\n{failure}");
    }
    runtime.block_on(bed.stop());
}

#[test]
fn both_drivers_agree_on_what_they_have_disagreed_on() {
    test(|| all_agree(Version::H1, fixed::rows()));
}

#[test]
fn both_drivers_agree_on_any_exchange() {
    test(|| any_agree(Version::H1, &cases()));
}

#[test]
fn both_drivers_agree_over_http2_on_what_they_have_disagreed_on() {
    test(|| {
        // What is expected there is of HTTP/1.
        let others = fixed::rows().into_iter().map(|row| Row { case: row.case.over_h2(), expected: &[], ..row });
        all_agree(Version::H2, fixed_h2::rows().into_iter().chain(others).collect());
    });
}

#[test]
fn both_drivers_agree_over_http2_on_any_exchange() {
    test(|| any_agree(Version::H2, &cases().prop_map(Case::over_h2)));
}
