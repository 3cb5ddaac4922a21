//! Endpoints and their pool, with the clock in the test's hand where time matters.

use super::*;
use crate::{
    resilience::CircuitBreakerSpec,
    types::{Problems, Ratio, Span},
};

const FAILED: AttemptResult = AttemptResult { ok: false, first_byte: None };
const FINE: AttemptResult = AttemptResult { ok: true, first_byte: Some(Duration::from_millis(1)) };
const RECOVERY: Duration = Duration::from_secs(30);

fn settings() -> EndpointSettings {
    let spec = CircuitBreakerSpec { recovery_timeout: Span::secs(RECOVERY.as_secs()), ..Default::default() };
    EndpointSettings { breaker: spec.compile(&Problems::default().root()), slow_start: None }
}

/// So many endpoints in service.
fn pool(size: usize, settings: EndpointSettings, panic_threshold: u8) -> Vec<Arc<Endpoint>> {
    let (registry, name) = (EndpointRegistry::default(), "pool".parse().unwrap());
    let endpoint = |port| registry.get(&name, &format!("127.0.0.1:{}", port + 1).parse().unwrap(), 1, Place::default());
    let endpoints: Vec<_> = (0..size).map(endpoint).collect();
    registry.pool(&name).publish(&endpoints, settings, Ratio::percent(panic_threshold));
    endpoints
}

fn fail(endpoint: &Endpoint, times: usize) {
    (0..times).for_each(|_| endpoint.record(FAILED));
}

fn condition(endpoint: &Endpoint) -> Condition {
    endpoint.situation().condition
}

/// Ends the time out of an open circuit, as a health check that brings it back does.
fn let_probes_go(endpoint: &Endpoint) {
    endpoint.set_health(HealthStatus::Unhealthy, "test");
    endpoint.set_health(HealthStatus::Healthy, "passed");
}

#[test]
fn failures_in_a_row_take_it_out_until_its_time() {
    let endpoints = pool(2, settings(), 0);
    fail(&endpoints[0], 4);
    endpoints[0].record(FINE);
    fail(&endpoints[0], 4);
    assert!(endpoints[0].is_clear());
    fail(&endpoints[0], 1);
    let now = Instant::now();
    assert!(!endpoints[0].may_take(now) && endpoints[0].enter().is_none());
    assert!(endpoints[0].may_take(now + RECOVERY));
    let situation = endpoints[0].situation();
    assert_eq!(
        (situation.condition, &*situation.reason),
        (Condition::Open, "5 failures in a row, the last one without an answer")
    );
    assert_eq!(endpoints[0].transitions(), Transitions { open: 1, half_open: 0, closed: 0 });
    assert_eq!(endpoints[0].stats().errors, 9);
}

#[test]
fn the_first_success_of_one_that_was_found_is_news_and_no_other() {
    let endpoints = pool(2, settings(), 0);
    endpoints[0].found(Instant::now());
    assert!(endpoints[0].is_clear() && endpoints[0].standing.is_news(true));
    endpoints[0].record(FINE);
    assert!(!endpoints[0].standing.is_news(true));
    endpoints[1].found(Instant::now());
    endpoints[1].join(EndpointSettings::default(), true);
    assert!(!endpoints[1].standing.is_news(true), "without a breaker there is nothing to learn");
}

#[test]
fn probes_have_places_and_give_them_back() {
    let endpoints = pool(2, settings(), 0);
    fail(&endpoints[0], 5);
    let_probes_go(&endpoints[0]);
    let probes: Vec<_> = (0..3).map(|_| endpoints[0].enter().unwrap()).collect();
    assert_eq!(condition(&endpoints[0]), Condition::HalfOpen);
    assert!(endpoints[0].enter().is_none() && !endpoints[0].may_take(Instant::now()));
    drop(probes);
    assert!(endpoints[0].may_take(Instant::now()));
    let probe = endpoints[0].enter().unwrap();
    (0..3).for_each(|_| probe.record(FINE, Instant::now()));
    assert!(endpoints[0].is_clear());
    assert_eq!(endpoints[0].transitions(), Transitions { open: 1, half_open: 1, closed: 1 });
    drop(probe);
    assert_eq!((endpoints[0].in_flight(), &*endpoints[0].situation().reason), (0, "answers again"));
}

#[test]
fn what_began_before_a_transition_is_old_news() {
    let endpoints = pool(2, settings(), 0);
    let before = endpoints[0].enter().unwrap();
    fail(&endpoints[0], 5);
    let_probes_go(&endpoints[0]);
    let _probe = endpoints[0].enter().unwrap();
    (0..9).for_each(|_| before.record(FINE, Instant::now()));
    before.record(FAILED, Instant::now());
    assert_eq!(condition(&endpoints[0]), Condition::HalfOpen);
}

#[test]
fn whom_all_others_failed_gets_in_early_and_its_answer_lets_probes_go() {
    let endpoints = pool(2, settings(), 0);
    assert!(endpoints[0].enter_early().is_none(), "it is not out");
    fail(&endpoints[0], 5);
    let early: Vec<_> = (0..4).map_while(|_| endpoints[0].enter_early()).collect();
    assert_eq!((early.len(), endpoints[0].in_flight()), (3, 3));
    early[0].record(FAILED, Instant::now());
    assert!(!endpoints[0].may_take(Instant::now()), "a failure is no news");
    early[1].record(FINE, Instant::now());
    assert!(endpoints[0].may_take(Instant::now()) && condition(&endpoints[0]) == Condition::Open);
    drop(early);
    assert_eq!(endpoints[0].in_flight(), 0);
    // Each gave its place back.
    assert_eq!((0..4).map_while(|_| endpoints[0].enter_early()).count(), 4, "one after the other");
    endpoints[0].set_health(HealthStatus::Unhealthy, "test");
    assert!(endpoints[0].enter_early().is_none(), "what checks say stands");
    endpoints[0].set_health(HealthStatus::Healthy, "passed");
    endpoints[0].set_draining(true);
    assert!(endpoints[0].enter_early().is_none(), "and so does an order");
}

#[test]
fn at_least_half_stays_in() {
    let endpoints = pool(5, settings(), 0);
    endpoints.iter().for_each(|endpoint| fail(endpoint, 50));
    assert_eq!(endpoints.iter().filter(|endpoint| condition(endpoint) == Condition::Open).count(), 2);
    // Of one there is no half.
    let alone = pool(1, settings(), 0);
    fail(&alone[0], 50);
    assert!(alone[0].is_clear());
    // Switched off, whatever was out is in.
    endpoints[0].pool().publish(&endpoints, EndpointSettings::default(), Ratio::percent(0));
    assert!(endpoints.iter().all(|endpoint| endpoint.is_clear()));
    fail(&endpoints[0], 50);
    assert!(endpoints[0].is_clear());
}

#[test]
fn when_one_leaves_the_next_may_be_out() {
    let endpoints = pool(4, settings(), 0);
    endpoints.iter().for_each(|endpoint| fail(endpoint, 5));
    assert!(!endpoints[1].is_clear() && endpoints[2].is_clear());
    let pool = endpoints[0].pool();
    pool.publish(&endpoints[1..], settings(), Ratio::percent(0));
    fail(&endpoints[2], 1);
    assert!(endpoints[2].is_clear(), "one of three is out");
    pool.publish(&endpoints[2..], settings(), Ratio::percent(0));
    fail(&endpoints[2], 1);
    assert!(!endpoints[2].is_clear(), "none of two was");
}

#[test]
fn failed_checks_count_and_news_of_recovery_shortens_the_wait() {
    let endpoints = pool(2, settings(), 0);
    (0..5).for_each(|_| endpoints[0].check_failed(Instant::now()));
    assert_eq!(&*endpoints[0].situation().reason, "5 failures in a row, the last one a health check");
    endpoints[0].set_health(HealthStatus::Unhealthy, "status 503");
    assert_eq!((condition(&endpoints[0]), endpoints[0].may_take(Instant::now() + 2 * RECOVERY)), (Condition::Unhealthy, false));
    endpoints[0].set_health(HealthStatus::Healthy, "passed");
    assert!(endpoints[0].may_take(Instant::now()), "as a probe");
    assert_eq!(condition(&endpoints[0]), Condition::Open);
}

#[test]
fn a_pool_panics_when_too_few_are_available() {
    let endpoints = pool(4, settings(), 50);
    let pool = endpoints[0].pool();
    fail(&endpoints[0], 5);
    endpoints[1].set_health(HealthStatus::Unhealthy, "test");
    assert!(!pool.is_panicking(), "two of four are half");
    endpoints[2].set_draining(true);
    assert!(pool.is_panicking());
    assert!(endpoints[0].enter().is_some(), "although its circuit is open");
    endpoints[2].set_draining(false);
    assert!(!pool.is_panicking());
    assert!(endpoints[0].enter().is_none());
    // Those that are out leave the configuration.
    endpoints[2].set_health(HealthStatus::Unhealthy, "test");
    assert!(pool.is_panicking());
    pool.publish(&endpoints[2..], settings(), Ratio::percent(50));
    assert!(!pool.is_panicking());
    // None is below 0%.
    endpoints[3].set_health(HealthStatus::Unhealthy, "test");
    assert!(pool.is_panicking());
    pool.publish(&endpoints[2..], settings(), Ratio::percent(0));
    assert!(!pool.is_panicking());
}

#[test]
fn one_that_drains_takes_nothing_new() {
    let endpoints = pool(2, settings(), 0);
    endpoints[0].set_draining(true);
    assert!(endpoints[0].is_draining() && !endpoints[0].may_take(Instant::now()));
    assert_eq!(condition(&endpoints[0]), Condition::Draining);
    endpoints[0].set_draining(false);
    assert!(endpoints[0].is_clear());
}

#[test]
fn new_and_recovered_endpoints_start_slowly_and_the_first_ones_do_not() {
    let slow = EndpointSettings { slow_start: Some(RECOVERY), ..settings() };
    let endpoints = pool(2, slow, 0);
    assert!(endpoints.iter().all(|endpoint| !endpoint.is_ramping()));
    let started = Instant::now();
    endpoints[0].set_health(HealthStatus::Healthy, "passed");
    assert!(!endpoints[0].is_ramping(), "a first pass is no recovery");
    endpoints[0].set_health(HealthStatus::Unhealthy, "test");
    endpoints[0].set_health(HealthStatus::Healthy, "passed");
    assert_eq!(endpoints[0].effective_weight(started), WEIGHT_SCALE / 10);
    assert_eq!(endpoints[0].effective_weight(started + 2 * RECOVERY), WEIGHT_SCALE);

    fail(&endpoints[1], 5);
    let_probes_go(&endpoints[1]);
    endpoints[1].effective_weight(started + 9 * RECOVERY);
    assert!(!endpoints[1].is_ramping());
    let probe = endpoints[1].enter().unwrap();
    (0..3).for_each(|_| probe.record(FINE, Instant::now()));
    assert!(endpoints[1].is_ramping(), "its circuit has closed");

    let one_more = Arc::new(Endpoint::in_pool(
        "pool".parse().unwrap(),
        "127.0.0.1:9".parse().unwrap(),
        1,
        Place::default(),
        endpoints[0].pool().clone(),
        Arc::default(),
    ));
    endpoints[0].pool().publish(&[endpoints[0].clone(), one_more.clone()], slow, Ratio::percent(0));
    assert!(one_more.is_ramping() && !endpoints[0].is_ramping());
}

#[test]
fn whatever_happens_the_counts_are_those_of_the_endpoints() {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    let endpoints = pool(7, settings(), 40);
    let mut random = SmallRng::seed_from_u64(3);
    let mut held = Vec::new();
    for step in 0..20_000 {
        let endpoint = &endpoints[random.random_range(0..7)];
        match random.random_range(0..10) {
            0..=3 => fail(endpoint, 2),
            4 | 5 => endpoint.record(FINE),
            6 => _ = endpoint.set_health(HealthStatus::Unhealthy, "test"),
            7 => _ = endpoint.set_health(HealthStatus::Healthy, "passed"),
            8 => held.extend(endpoint.enter()),
            _ if step % 3 == 0 => endpoint.set_draining(random.random()),
            _ => held.clear(),
        }
        let tripped = endpoints.iter().filter(|endpoint| endpoint.standing.read(Detail::is_tripped)).count();
        let available = endpoints.iter().filter(|endpoint| condition(endpoint) == Condition::Healthy).count();
        assert!(tripped <= 3, "step {step}: half of 7, rounded down, may be out: {tripped}");
        assert_eq!(endpoints[0].pool().is_panicking(), (available as f64) < 0.4 * 7.0, "step {step}: {available}");
    }
}

#[test]
fn failures_at_the_same_time_leave_half_in() {
    let endpoints = pool(8, settings(), 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|index| fail(&endpoints[index % 8], 3)));
        }
    });
    assert_eq!(endpoints.iter().filter(|endpoint| condition(endpoint) == Condition::Open).count(), 4);
}

/// Writes down what it saw.
#[derive(Default)]
struct Diary(parking_lot::Mutex<Vec<String>>);

impl Witness for Diary {
    fn saw(&self, change: &Change<'_>) {
        self.0.lock().push(match change {
            Change::Endpoint { endpoint, before, now, .. } => {
                format!("{endpoint} {} -> {}: {}", before.word(), now.condition.word(), now.reason)
            }
            Change::Panic { upstream, panicking, available: (available, all) } => {
                format!("{upstream} {available}/{all} {panicking}")
            }
        });
    }
}

#[test]
fn a_witness_sees_each_change_once() {
    let (registry, diary) = (EndpointRegistry::default(), Arc::<Diary>::default());
    let name = "pool".parse().unwrap();
    registry.witnessed_by(diary.clone());
    let [endpoint, other] =
        ["unix:/a", "unix:/b"].map(|address| registry.get(&name, &address.parse().unwrap(), 1, Place::default()));
    endpoint.set_draining(true);
    endpoint.set_draining(false);
    registry.pool(&name).publish(&[endpoint.clone(), other.clone()], settings(), Ratio::percent(50));
    assert!(diary.0.lock().is_empty(), "what is not in service is no news");
    endpoint.set_health(HealthStatus::Healthy, "passed");
    endpoint.set_health(HealthStatus::Unhealthy, "status 503");
    endpoint.set_health(HealthStatus::Unhealthy, "status 500");
    endpoint.set_draining(true);
    endpoint.set_draining(true);
    endpoint.set_health(HealthStatus::Healthy, "passed");
    endpoint.set_draining(false);
    fail(&endpoint, 5);
    other.set_draining(true);
    other.set_draining(false);
    let seen = diary.0.lock();
    let wanted = [
        "unix:/a healthy -> unhealthy: status 503",
        "unix:/a unhealthy -> draining: asked to",
        "unix:/a draining -> healthy: passed",
        "unix:/a healthy -> open: 5 failures in a row, the last one without an answer",
        "pool 0/2 true",
        "unix:/b healthy -> draining: asked to",
        "pool 1/2 false",
        "unix:/b draining -> healthy: not checked",
    ];
    assert_eq!(*seen, wanted);
}
