//! A finished request.

use std::time::{Duration, SystemTime};

use weir::{
    observe::{Attempt, Layer, Outcome, Times},
    types::{Name, Phase, Who},
};

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// An exchange that went well.
pub fn outcome() -> Outcome {
    Outcome {
        layer: Layer::Http,
        started: SystemTime::now(),
        request_id: "0193c5b2-7c1e-7d3a-9a53-0d6f4d5f6a7b".into(),
        trace: None,
        client: [192, 0, 2, 7].into(),
        client_port: 4711,
        listener: name("edge"),
        tls: None,
        http: Some(weir::types::Version::Http11),
        method: "GET".into(),
        host: "api.example.com".into(),
        path: "/v1/customers/4711/orders".into(),
        route: Some(name("api")),
        upstream: Some(name("api")),
        attempts: smallvec::smallvec![Attempt {
            endpoint: "10.0.0.1:9001".into(),
            failed: None,
            status: Some(200),
            stage: None,
            detail: None,
            since: Duration::from_micros(200),
            took: Duration::from_micros(1800),
            span: None,
        }],
        status: 200,
        bytes_in: 0,
        bytes_out: 1834,
        times: Times {
            total: Duration::from_micros(2100),
            queue: Duration::ZERO,
            connect: Duration::ZERO,
            first_byte: Some(Duration::from_micros(1800)),
        },
        who: Who::Upstream,
        phase: Phase::Done,
        cause: None,
        reason: None,
        generation: 1,
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0".into()),
        referer: Some("https://app.example.com/orders".into()),
        cache: None,
        driver: None,
    }
}
