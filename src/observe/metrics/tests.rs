use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    endpoint::{Condition, EndpointStats, Situation, Transitions},
    observe::{EndpointState, UpstreamState, testing::outcome},
    types::{Cause, Stage},
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|other| other == line), "`{line}` is not in:\n{text}");
}

#[test]
fn an_outcome_is_counted_everywhere() {
    let metrics = Metrics::new();
    let mut failed = outcome();
    failed.attempts.insert(
        0,
        Attempt {
            endpoint: "127.0.0.1:9002".into(),
            failed: Some(Cause::ConnectionRefused),
            status: None,
            stage: None,
            since: Duration::ZERO,
            took: Duration::from_millis(1),
            span: None,
            detail: None,
        },
    );
    metrics.finished(&failed);
    let mut left = outcome();
    (left.attempts[0].status, left.attempts[0].stage, left.upstream) = (None, Some(Stage::Waiting), Some(name("left")));
    metrics.fetched(&left);
    let text = metrics.render();
    for line in [
        r#"weir_upstream_requests_total{upstream="left",endpoint="127.0.0.1:9001",code="abandoned"} 1"#,
        r#"weir_http_requests_total{listener="web",route="api",method="GET",code="200"} 1"#,
        r#"weir_http_request_bytes_total{listener="web",route="api"} 10"#,
        r#"weir_http_response_bytes_total{listener="web",route="api"} 20"#,
        r#"weir_http_request_duration_seconds_bucket{route="api",le="0.005"} 1"#,
        r#"weir_http_request_duration_seconds_bucket{route="api",le="+Inf"} 1"#,
        r#"weir_http_request_duration_seconds_sum{route="api"} 0.0045"#,
        r#"weir_upstream_requests_total{upstream="pool",endpoint="127.0.0.1:9001",code="200"} 1"#,
        r#"weir_upstream_requests_total{upstream="pool",endpoint="127.0.0.1:9002",code="0"} 1"#,
        r#"weir_retries_total{upstream="pool",reason="connection_refused"} 1"#,
        r#"weir_upstream_connect_duration_seconds_count{upstream="pool"} 1"#,
        r#"weir_upstream_first_byte_duration_seconds_count{upstream="pool"} 1"#,
    ] {
        assert_line(&text, line);
    }
}

#[test]
fn a_refusal_has_no_route_and_a_reason() {
    let metrics = Metrics::new();
    let refused = Outcome {
        route: None,
        upstream: None,
        attempts: Default::default(),
        method: "BREW\n".into(),
        status: 400,
        cause: Some(Cause::HttpRequestError),
        reason: Some("duplicate_host"),
        ..outcome()
    };
    metrics.finished(&refused);
    let text = metrics.render();
    assert_line(&text, r#"weir_http_requests_total{listener="web",route="_none",method="_other",code="400"} 1"#);
    assert_line(&text, r#"weir_rejected_requests_total{reason="duplicate_host"} 1"#);
    assert_line(&text, r#"weir_proxy_errors_total{type="http_request_error"} 1"#);
}

#[test]
fn a_configured_answer_is_no_error() {
    let metrics = Metrics::new();
    let answer = |status| Outcome { status, cause: Some(Cause::ProxyInternalResponse), ..outcome() };
    metrics.finished(&answer(308));
    assert!(!metrics.render().contains("weir_proxy_errors_total"));
    metrics.finished(&answer(404));
    assert_line(&metrics.render(), r#"weir_proxy_errors_total{type="proxy_internal_response"} 1"#);
}

#[test]
fn label_sets_that_read_alike_run_together_are_kept_apart() {
    let metrics = Metrics::new();
    for (listener, route) in [("a", "bc"), ("ab", "c")] {
        metrics.finished(&Outcome { listener: name(listener), route: Some(name(route)), ..outcome() });
    }
    let text = metrics.render();
    assert_line(&text, r#"weir_http_requests_total{listener="a",route="bc",method="GET",code="200"} 1"#);
    assert_line(&text, r#"weir_http_requests_total{listener="ab",route="c",method="GET",code="200"} 1"#);
}

#[test]
fn guards_count_in_and_out() {
    let metrics = Metrics::new();
    let (connection, request) = (metrics.connection(&name("web")), metrics.request(None));
    assert_eq!(metrics.load(), Load { connections: 1, requests: 1 });
    assert_line(&metrics.render(), r#"weir_http_requests_in_flight{route="_none"} 1"#);
    drop((connection, request));
    assert_eq!(metrics.load(), Load::default());
    assert_line(&metrics.render(), r#"weir_listener_connections{listener="web"} 0"#);
}

#[test]
fn instances_do_not_share_anything() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.finished(&outcome());
    assert_eq!((one.totals().requests, other.totals().requests), (1, 0));
    assert!(!other.render().contains("weir_http_requests_total"));
}

#[test]
fn the_rest_of_the_list() {
    let metrics = Metrics::new();
    metrics.started(1);
    metrics.reloaded(2);
    metrics.reload_failed();
    metrics.handshake(&name("edge"), "TLSv1.3", "ok", true);
    metrics.certificates([("old", SystemTime::UNIX_EPOCH)]);
    metrics.certificates([("example.com", SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))]);
    metrics.access_log_dropped().fetch_add(4, Ordering::Relaxed);
    let text = metrics.render();
    for line in [
        "weir_config_generation 2",
        r#"weir_config_reloads_total{result="success"} 1"#,
        r#"weir_config_reloads_total{result="failure"} 1"#,
        "weir_config_last_reload_success 0",
        r#"weir_listener_tls_handshakes_total{listener="edge",version="TLSv1.3",result="ok",resumed="true"} 1"#,
        r#"weir_tls_certificate_not_after_timestamp_seconds{name="example.com"} 1800000000"#,
        "weir_access_log_dropped_total 4",
        concat!(r#"weir_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        assert_line(&text, line);
    }
    assert!(!text.contains(r#"name="old""#));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
}

/// One upstream with one endpoint, until that leaves.
struct OneEndpoint(AtomicBool);

impl StateSource for OneEndpoint {
    fn upstreams(&self) -> Vec<UpstreamState> {
        let endpoint = EndpointState {
            label: "127.0.0.1:9001".into(),
            weight: 1,
            priority: 0,
            zone: None,
            healthy: false,
            situation: Situation { condition: Condition::Unhealthy, reason: "status 503".into(), since: SystemTime::now() },
            transitions: Transitions { open: 4, half_open: 3, closed: 2 },
            in_flight: 5,
            stats: EndpointStats::default(),
        };
        let present = self.0.load(Ordering::Relaxed);
        vec![UpstreamState {
            name: name("pool"),
            strategy: "random",
            panicking: true,
            endpoints: present.then_some(endpoint).into_iter().collect(),
        }]
    }
}

#[test]
fn series_of_an_endpoint_end_when_it_leaves() {
    let metrics = Metrics::new();
    let one = Arc::new(OneEndpoint(AtomicBool::new(true)));
    let source: Arc<dyn StateSource> = one.clone();
    metrics.watch(&source);
    metrics.finished(&outcome());
    metrics.health_check(&name("pool"), "127.0.0.1:9001", false);
    let text = metrics.render();
    for line in [
        r#"weir_upstream_requests_in_flight{upstream="pool",endpoint="127.0.0.1:9001"} 5"#,
        r#"weir_upstream_endpoint_state{upstream="pool",endpoint="127.0.0.1:9001",state="unhealthy"} 1"#,
        r#"weir_upstream_endpoint_state{upstream="pool",endpoint="127.0.0.1:9001",state="healthy"} 0"#,
        r#"weir_circuit_breaker_transitions_total{upstream="pool",endpoint="127.0.0.1:9001",to="half_open"} 3"#,
        r#"weir_upstream_panic{upstream="pool"} 1"#,
        r#"weir_upstream_health_checks_total{upstream="pool",endpoint="127.0.0.1:9001",result="fail"} 1"#,
        r#"weir_upstream_requests_total{upstream="pool",endpoint="127.0.0.1:9001",code="200"} 1"#,
    ] {
        assert_line(&text, line);
    }
    one.0.store(false, Ordering::Relaxed);
    assert!(!metrics.render().contains("127.0.0.1:9001"));
}

#[test]
fn routes_and_listeners_that_a_reload_took_away_are_forgotten() {
    let metrics = Metrics::new();
    metrics.finished(&outcome());
    metrics.finished(&Outcome { route: None, ..outcome() });
    metrics.finished(&Outcome { listener: name("gone"), ..outcome() });
    metrics.retain(|listener| listener == "web", |_| false);
    let text = metrics.render();
    assert!(text.contains(r#"route="_none""#) && !text.contains(r#"route="api""#) && !text.contains("gone"), "{text}");
}

/// The rules of `promtool check metrics`: help for all, counters end in `_total`, nothing else does, base units.
#[test]
fn names_follow_the_rules_of_promtool() {
    let metrics = Metrics::new();
    metrics.finished(&outcome());
    for line in metrics.render().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("weir_") || name.starts_with("process_"), "{line}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{line}");
        assert!(["_milliseconds", "_ms", "_count", "_sum", "_bucket", "_info_"].iter().all(|bad| !name.ends_with(bad)), "{line}");
    }
}
