//! Outcomes for the tests of this module.

use std::time::{Duration, SystemTime};

use smallvec::smallvec;

use super::{Attempt, Layer, Outcome, Times};
use crate::types::{Driver, Phase, Version, Who};

/// A request that an endpoint answered with 200.
pub(crate) fn outcome() -> Outcome {
    Outcome {
        layer: Layer::Http,
        started: SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456),
        request_id: "0193-id".into(),
        trace: None,
        client: "192.0.2.7".parse().unwrap(),
        client_port: 4711,
        listener: "web".parse().unwrap(),
        tls: None,
        http: Some(Version::Http11),
        method: "GET".into(),
        host: "example.com".into(),
        path: "/a".into(),
        route: Some("api".parse().unwrap()),
        upstream: Some("pool".parse().unwrap()),
        attempts: smallvec![Attempt {
            endpoint: "127.0.0.1:9001".into(),
            failed: None,
            status: Some(200),
            stage: None,
            since: Duration::from_millis(1),
            took: Duration::from_millis(3),
            span: None,
            detail: None,
        }],
        status: 200,
        bytes_in: 10,
        bytes_out: 20,
        times: Times {
            total: Duration::from_micros(4_500),
            queue: Duration::ZERO,
            connect: Duration::from_millis(1),
            first_byte: Some(Duration::from_millis(2)),
        },
        who: Who::Upstream,
        phase: Phase::Done,
        cause: None,
        reason: None,
        generation: 3,
        user_agent: Some("curl/8".into()),
        referer: None,
        cache: None,
        driver: Some(Driver::Lane),
    }
}
