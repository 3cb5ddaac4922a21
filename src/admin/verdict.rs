//! The verdict: is the edge doing well, and if not, what is worst.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use super::{AdminState, live::Moment};
use crate::{endpoint::Condition, observe::UpstreamState, snapshot::Snapshot, tls::Source};

/// Causes that are told; an operator begins with the first anyway.
const TOLD: usize = 20;
/// Fewer requests than this in the last seconds say nothing about a share of them.
const ENOUGH: u64 = 10;
/// Server errors from this share on are a cause, and from that on most clients see nothing else.
const ERRORS: f64 = 0.01;
const MOSTLY_ERRORS: f64 = 0.5;
/// A certificate that ends within this is a cause.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How an edge is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    /// All is well.
    Ok,
    /// It serves, and something needs attention.
    Degraded,
    /// It does not serve, or nearly nobody.
    Down,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Cause {
    /// How bad it is: `degraded` or `down`.
    severity: Health,
    /// What it is about: the name of an upstream, a certificate; absent for the whole edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// What is wrong, in a sentence.
    text: String,
}

/// How the edge is doing, in words.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Verdict {
    state: Health,
    /// The worst cause, or that there is none.
    text: String,
    /// What is not as it should be, the worst first; at most 20.
    causes: Vec<Cause>,
}

/// The verdict of this moment.
pub(super) fn of(state: &AdminState, moment: &Moment) -> Verdict {
    let mut causes = Vec::new();
    if !state.is_ready() {
        causes.push(down(None, "the edge takes no new traffic: it drains"));
    }
    traffic(moment, &mut causes);
    let snapshot = state.store.load();
    upstreams(&moment.upstreams, &snapshot, &mut causes);
    certificates(&snapshot, SystemTime::now(), &mut causes);
    for found in state.commands.container_diagnostics() {
        causes.push(degraded(Some(&format!("container {}", found.container)), found.without_container()));
    }
    conclude(causes)
}

fn conclude(mut causes: Vec<Cause>) -> Verdict {
    // Stable: within a severity the order above counts.
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.severity));
    causes.truncate(TOLD);
    match causes.first() {
        None => Verdict { state: Health::Ok, text: "all is well".into(), causes },
        Some(Cause { severity, subject, text }) => {
            let text = subject.as_ref().map_or_else(|| text.clone(), |subject| format!("{subject}: {text}"));
            Verdict { state: *severity, text, causes }
        }
    }
}

fn down(subject: Option<&str>, text: impl Into<String>) -> Cause {
    Cause { severity: Health::Down, subject: subject.map(str::to_owned), text: text.into() }
}

fn degraded(subject: Option<&str>, text: impl Into<String>) -> Cause {
    Cause { severity: Health::Degraded, subject: subject.map(str::to_owned), text: text.into() }
}

fn traffic(moment: &Moment, causes: &mut Vec<Cause>) {
    let share = moment.total.error_share;
    if moment.requests < ENOUGH || share < ERRORS {
        return;
    }
    let text = format!("{:.1} % of the requests are answered with a server error", share * 100.0);
    causes.push(if share >= MOSTLY_ERRORS { down(None, text) } else { degraded(None, text) });
}

/// An upstream that nothing uses is nobody's problem.
fn upstreams(upstreams: &[UpstreamState], snapshot: &Snapshot, causes: &mut Vec<Cause>) {
    let names = snapshot.spec.used_upstreams();
    let used: Vec<&UpstreamState> = upstreams.iter().filter(|upstream| names.contains(&upstream.name)).collect();
    let alive = |upstream: &UpstreamState| upstream.endpoints.iter().filter(|endpoint| endpoint.healthy).count();
    let every_one_is_out = !used.is_empty() && used.iter().all(|upstream| alive(upstream) == 0);
    for upstream in &used {
        let (name, alive, all) = (Some(upstream.name.as_str()), alive(upstream), upstream.endpoints.len());
        let text = match all {
            0 => "it has no endpoints".to_owned(),
            _ => format!("none of {all} endpoints is available{}", worst(upstream)),
        };
        if alive == 0 {
            causes.push(if every_one_is_out { down(name, text) } else { degraded(name, text) });
        }
    }
    for upstream in used.iter().filter(|upstream| upstream.panicking && alive(upstream) > 0) {
        let (alive, all) = (alive(upstream), upstream.endpoints.len());
        causes.push(degraded(Some(&upstream.name), format!("only {alive} of {all} endpoints are available, so all are used")));
    }
    for upstream in used.iter().filter(|upstream| !upstream.panicking && alive(upstream) > 0) {
        let is_out = |condition| matches!(condition, Condition::Unhealthy | Condition::Open);
        let out = upstream.endpoints.iter().filter(|endpoint| is_out(endpoint.situation.condition)).count();
        if out > 0 {
            let all = upstream.endpoints.len();
            causes.push(degraded(Some(&upstream.name), format!("{out} of {all} endpoints are out{}", worst(upstream))));
        }
    }
}

/// The reason of the first endpoint that has one.
fn worst(upstream: &UpstreamState) -> String {
    let out = upstream.endpoints.iter().find(|endpoint| endpoint.situation.condition != Condition::Healthy);
    out.map_or_else(String::new, |endpoint| format!(" ({}: {})", endpoint.label, endpoint.situation.reason))
}

fn certificates(snapshot: &Snapshot, now: SystemTime, causes: &mut Vec<Cause>) {
    let listeners = snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref());
    let mut told = Vec::new();
    for facts in listeners.flat_map(|tls| tls.certificates()) {
        if told.contains(&facts.fingerprint) {
            continue;
        }
        match facts.not_after.duration_since(now) {
            Err(_) => causes.push(degraded(Some(&facts.name), "its certificate has expired")),
            // Some live for six days. Whoever renews them says when that fails.
            Ok(_) if matches!(facts.source, Source::Acme(_)) => continue,
            Ok(left) if left < EXPIRY => {
                let days = left.as_secs() / (24 * 3600);
                causes.push(degraded(Some(&facts.name), format!("its certificate expires in {days} days")));
            }
            Ok(_) => continue,
        }
        told.push(facts.fingerprint);
    }
    for standing in snapshot.acme.standings() {
        let Some(error) = &standing.last_error else { continue };
        let what = if standing.not_after.is_some() { "its certificate cannot be renewed" } else { "it has no certificate" };
        causes.push(degraded(Some(&standing.name), format!("{what}: {error}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_cause_is_the_verdict() {
        let fine = conclude(Vec::new());
        assert_eq!((fine.state, fine.text.as_str()), (Health::Ok, "all is well"));
        let verdict = conclude(vec![degraded(None, "slow"), down(Some("app"), "gone"), down(None, "late")]);
        assert_eq!((verdict.state, verdict.text.as_str()), (Health::Down, "app: gone"));
        assert_eq!(conclude(vec![degraded(None, "x"); 50]).causes.len(), TOLD);
    }
}
