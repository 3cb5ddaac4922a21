//! Both drivers agree: what Weir's own driver makes of a request and its response is what Pingora makes of them.
//!
//! Each case is played on two edges, one of each driver, whose origins behave the same; what the origin, the client and the
//! access log have seen is compared. `DRIVERS_SEED=number` plays the cases of a failure again, `DRIVERS_CASES=number` more of them.

mod bytes;
mod case;
mod client;
mod fixed;
mod origin;
mod side;
mod wire;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use self::{
    case::{Case, cases},
    fixed::{Row, rows},
    side::{Seen, Side},
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

fn number_of(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// Both edges.
struct Bed {
    lane: Side,
    pingora: Side,
}

impl Bed {
    async fn start() -> Self {
        Self { lane: Box::pin(Side::start("lane")).await, pingora: Box::pin(Side::start("pingora")).await }
    }

    /// What differs between the drivers, or is not as expected.
    async fn differences(&self, case: &Case, expected: &[(&str, &str)]) -> Vec<String> {
        for _ in 0..5 {
            let (lane, pingora) = tokio::join!(Box::pin(self.lane.play(case)), Box::pin(self.pingora.play(case)));
            // Now and then Pingora finds a connection that waits still watched, and opens another. What follows from a connection that
            // was closed is then not the same.
            if values(&lane, " reused") == values(&pingora, " reused") {
                let missing = expected.iter().filter(|(name, value)| values(&lane, name).first() != Some(value));
                let missing = missing.map(|(name, value)| format!("{name}: {:?} instead of {value:?}", values(&lane, name)));
                return missing.chain(compare(&lane, &pingora)).collect();
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

fn compare(lane: &Seen, pingora: &Seen) -> Vec<String> {
    let mut names: Vec<&str> = lane.iter().chain(pingora).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut different = vec![];
    for name in names {
        let end = name.rsplit_once(' ').map(|(line, _)| format!("{line} end")).unwrap_or_default();
        let (ends, other_ends) = (values(lane, &end), values(pingora, &end));
        let failed = ends == other_ends && ends.iter().any(|end| !end.contains(r#""type":null"#));
        let (lane, pingora) = (values(lane, name), values(pingora, name));
        let is_accepted = |accepted: &Accepted| match (&lane[..], &pingora[..]) {
            ([lane], [pingora]) => name.ends_with(accepted.what) && (accepted.is)(&Difference { lane, pingora, failed }),
            _ => false,
        };
        if name == "stuck" || lane != pingora && !ACCEPTED.iter().any(is_accepted) {
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

#[test]
fn both_drivers_agree_on_what_they_have_disagreed_on() {
    if only_pingora() {
        return;
    }
    let runtime = runtime();
    let bed = runtime.block_on(Bed::start());
    let mut report = String::new();
    for Row { name, case, expected } in rows() {
        let different = runtime.block_on(bed.differences(&case, expected));
        if !different.is_empty() {
            report += &format!("\n{name}\n    {}\n", different.join("\n    "));
        }
    }
    assert!(report.is_empty(), "{report}");
    runtime.block_on(bed.stop());
}

#[test]
fn both_drivers_agree_on_any_exchange() {
    if only_pingora() {
        return;
    }
    let runtime = runtime();
    let bed = runtime.block_on(Bed::start());
    let seed = number("DRIVERS_SEED").unwrap_or_else(rand::random);
    let cases_wanted = number("DRIVERS_CASES").unwrap_or(200) as u32;
    let config = Config {
        cases: cases_wanted,
        max_shrink_time: 60_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&cases(), |case| runtime.block_on(bed.agree(&case)));
    if let Err(failure) = result {
        panic!("DRIVERS_SEED={seed}\n{failure}");
    }
    runtime.block_on(bed.stop());
}
