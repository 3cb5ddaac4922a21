//! Groups of endpoints that stand in for each other, under every strategy.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    tests::{compile_with, upstream},
    *,
};
use crate::{
    balance::StrategySpec,
    endpoint::{AttemptResult, EndpointRegistry},
};

/// Endpoints `127.0.0.1:1` and on, one for each of these options.
fn listed(options: &[&str], keys: &str) -> String {
    let endpoint = |(index, options): (usize, &&str)| format!("{{address: '127.0.0.1:{}', {options}}}", index + 1);
    let endpoints: Vec<_> = options.iter().enumerate().map(endpoint).collect();
    format!("{{endpoints: [{}], {keys}}}", endpoints.join(", "))
}

/// How many of 2000 requests, each with a key of its own, go to each endpoint.
fn counts(upstream: &Upstream) -> Vec<usize> {
    let mut counts = BTreeMap::<*const Endpoint, usize>::new();
    for key in 0..2000u32 {
        *counts.entry(Arc::as_ptr(&upstream.select(&key.to_be_bytes(), &[]).unwrap())).or_default() += 1;
    }
    upstream.endpoints().iter().map(|endpoint| counts.get(&Arc::as_ptr(endpoint)).copied().unwrap_or(0)).collect()
}

fn set_healthy(upstream: &Upstream, index: usize, healthy: bool) {
    let status = if healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
    upstream.endpoints()[index].set_health(status, "test");
}

#[test]
fn under_every_strategy_a_group_fails_over_and_returns() {
    for kind in StrategySpec::KINDS {
        let options = ["priority: 0", "priority: 0", "priority: 7", "priority: 7"];
        let upstream = upstream(&listed(&options, &format!("strategy: {{{kind}: {{}}}}")));
        upstream.publish();
        let with = |first: bool| {
            let counts = counts(&upstream);
            let (ours, others) = if first { counts.split_at(2) } else { (&counts[2..], &counts[..2]) };
            assert!(ours.iter().all(|count| *count > 0) && others == [0, 0], "{kind}: {counts:?}");
        };
        with(true);
        (0..2).for_each(|index| set_healthy(&upstream, index, false));
        with(false);
        set_healthy(&upstream, 0, true);
        let some = counts(&upstream);
        // Half of the first group carries 70 %: within five standard deviations.
        assert!(some[0].abs_diff(1400) < 105 && some[1] == 0, "{kind}: {some:?}");
        set_healthy(&upstream, 1, true);
        with(true);
        // A request that tried the whole first group goes on to the next.
        let endpoints = upstream.endpoints();
        assert_eq!(upstream.select(b"key", &endpoints[..2]).unwrap().priority(), 7, "{kind}");
        assert!(upstream.select(b"key", &endpoints).is_none(), "{kind}");
    }
}

#[test]
fn a_key_stays_where_it_is_while_a_group_is_short() {
    let options = ["priority: 0", "priority: 0", "priority: 1", "priority: 1"];
    let upstream = upstream(&listed(&options, "strategy: {maglev: {}}"));
    upstream.publish();
    let place = |key: u32| upstream.select(&key.to_be_bytes(), &[]).unwrap();
    let before: Vec<_> = (0..500).map(place).collect();
    set_healthy(&upstream, 0, false);
    let during: Vec<_> = (0..500).map(place).collect();
    assert!((0..500).map(place).zip(&during).all(|(now, during)| Arc::ptr_eq(&now, during)));
    set_healthy(&upstream, 0, true);
    assert!((0..500).map(place).zip(&before).all(|(now, before)| Arc::ptr_eq(&now, before)));
}

#[test]
fn a_group_that_stands_in_for_another_is_no_reason_to_panic() {
    let options = ["weight: 1", "weight: 1", "weight: 1", "weight: 1", "priority: 1", "priority: 1"];
    let upstream = upstream(&listed(&options, ""));
    upstream.publish();
    (0..4).for_each(|index| set_healthy(&upstream, index, false));
    assert!(!upstream.is_panicking(), "two of six, which carry everything");
    assert_eq!(counts(&upstream), [0, 0, 0, 0, 1000, 1000]);
    set_healthy(&upstream, 4, false);
    assert!(upstream.is_panicking(), "half of the second group carries 70 %");
    let all = counts(&upstream);
    assert!(all.iter().all(|count| count.abs_diff(333) <= 1), "{all:?}");
    set_healthy(&upstream, 4, true);
    assert!(!upstream.is_panicking());
    assert_eq!(counts(&upstream), [0, 0, 0, 0, 1000, 1000]);
}

#[test]
fn a_group_whose_circuits_are_open_is_tried_again() {
    let keys = "circuit_breaker: {failure_threshold: 1, recovery_timeout: 1ms, half_open_requests: 2, max_ejected: 100%}";
    let upstream = upstream(&listed(&["priority: 0", "priority: 1"], keys));
    upstream.publish();
    let endpoints = upstream.endpoints();
    endpoints[0].record(AttemptResult { ok: false, first_byte: None });
    let back = endpoints[0].returns_at().unwrap();
    while Instant::now() < back {
        std::hint::spin_loop();
    }
    let probes: Vec<_> = (0..2).map(|_| upstream.take(b"", &[]).unwrap()).collect();
    assert!(probes.iter().all(|probe| Arc::ptr_eq(probe.endpoint(), &endpoints[0])));
    let other = upstream.take(b"", &[]).unwrap();
    assert!(Arc::ptr_eq(other.endpoint(), &endpoints[1]), "no more than the probes");
    probes.iter().for_each(|probe| probe.record(AttemptResult { ok: true, first_byte: Some(Duration::ZERO) }, Instant::now()));
    assert!(endpoints[0].is_clear());
    assert!((0..10).all(|_| Arc::ptr_eq(&upstream.select(b"", &[]).unwrap(), &endpoints[0])));
}

#[test]
fn weights_are_what_a_group_can_carry() {
    let upstream = upstream(&listed(&["weight: 9", "weight: 1", "priority: 1"], "panic_threshold: 0%"));
    upstream.publish();
    set_healthy(&upstream, 1, false);
    assert_eq!(counts(&upstream), [2000, 0, 0]);
    upstream.endpoints()[1].set_weight(9);
    let counts = counts(&upstream);
    assert!(counts[0].abs_diff(1400) < 105, "{counts:?}");
}

#[test]
fn a_priority_is_a_small_number_and_another_one_is_another_endpoint() {
    let registry = EndpointRegistry::default();
    let with = |options: &str| compile_with(&registry, &listed(&[options], "")).0.unwrap();
    let (first, same, other) = (with("weight: 1"), with("weight: 2"), with("priority: 255"));
    assert!(Arc::ptr_eq(&first.endpoints()[0], &same.endpoints()[0]));
    assert!(!Arc::ptr_eq(&first.endpoints()[0], &other.endpoints()[0]));
    first.replace_endpoints(other.endpoints());
    assert_eq!(first.select(b"", &[]).unwrap().priority(), 255, "at the same address");
    for wrong in ["256", "-1", "high"] {
        let spec: Result<UpstreamSpec, _> = serde_yaml::from_str(&listed(&[&format!("priority: {wrong}")], ""));
        assert!(spec.is_err(), "{wrong}");
    }
}

#[test]
fn under_every_strategy_a_zone_is_preferred_while_it_can_carry_its_share() {
    for kind in StrategySpec::KINDS {
        let options = ["zone: a", "zone: a", "zone: b", "weight: 1"];
        let upstream = upstream(&listed(&options, &format!("strategy: {{{kind}: {{}}}}, locality: {{zone: a}}")));
        upstream.publish();
        let near = || {
            let counts = counts(&upstream);
            assert_eq!(counts[2] > 0, counts[3] > 0, "{kind}: {counts:?}");
            counts[0] + counts[1]
        };
        assert_eq!(near(), 2000, "{kind}");
        set_healthy(&upstream, 0, false);
        // A third of what is available, where it should be half: within five standard deviations.
        assert!(near().abs_diff(1333) < 106, "{kind}: {}", near());
        set_healthy(&upstream, 1, false);
        assert_eq!(near(), 0, "{kind}");
        (0..2).for_each(|index| set_healthy(&upstream, index, true));
        assert_eq!(near(), 2000, "{kind}");
        let endpoints = upstream.endpoints();
        assert_ne!(upstream.select(b"key", &endpoints[..2]).unwrap().zone(), Some("a"), "{kind}: a retry goes further");
    }
}

#[test]
fn zones_are_preferred_within_a_priority() {
    let options = ["zone: b", "zone: a, priority: 1", "zone: b, priority: 1"];
    let upstream = upstream(&listed(&options, "locality: {zone: a}, panic_threshold: 0%"));
    upstream.publish();
    assert_eq!(counts(&upstream), [2000, 0, 0]);
    set_healthy(&upstream, 0, false);
    assert_eq!(counts(&upstream), [0, 2000, 0]);
    set_healthy(&upstream, 1, false);
    assert_eq!(counts(&upstream), [0, 0, 2000]);
}

#[test]
fn in_a_panic_zones_do_not_count_and_an_unknown_zone_prefers_nobody() {
    let options = ["zone: a", "zone: b", "zone: b", "zone: b"];
    let panicking = upstream(&listed(&options, "locality: {zone: a}"));
    panicking.publish();
    (1..4).for_each(|index| set_healthy(&panicking, index, false));
    assert!(panicking.is_panicking());
    assert_eq!(counts(&panicking), [500; 4]);
    let elsewhere = upstream(&listed(&options, "locality: {zone: c}"));
    elsewhere.publish();
    assert_eq!(counts(&elsewhere), [500; 4]);
}

#[test]
fn a_zone_whose_circuits_are_open_is_tried_again() {
    let keys = "locality: {zone: a}, panic_threshold: 0%, circuit_breaker: {failure_threshold: 1, recovery_timeout: 1ms, max_ejected: 100%}";
    // Either zone; the other one is short of half of what it has.
    for (failed, unhealthy) in [(0, 1), (2, 1)] {
        let upstream = upstream(&listed(&["zone: a", "zone: a", "zone: b"], keys));
        upstream.publish();
        let endpoints = upstream.endpoints();
        endpoints[unhealthy].set_health(HealthStatus::Unhealthy, "test");
        endpoints[failed].record(AttemptResult { ok: false, first_byte: None });
        let back = endpoints[failed].returns_at().unwrap();
        while Instant::now() < back {
            std::hint::spin_loop();
        }
        let probe = upstream.take(b"", &[]).unwrap();
        assert!(Arc::ptr_eq(probe.endpoint(), &endpoints[failed]), "{failed}");
    }
}
