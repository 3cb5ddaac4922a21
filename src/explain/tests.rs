use std::path::Path;

use super::*;
use crate::{
    config,
    snapshot::{self, Registries},
    types::Problems,
};

const CONF: &str = "
listeners:
  web: {address: 127.0.0.1:8080, filters: [{headers: {request: {set: {x-edge: weir}}}}]}
  plain: {address: 127.0.0.1:8081, redirect_to_https: true}
  edge: {address: 127.0.0.1:8443, tls: {self_signed: [a.test]}, trusted_proxies: [10.0.0.0/8]}
routes:
- {name: beta, match: {host: a.test, path: /v1/*, headers: {x-channel: beta}}, upstream: two}
- {name: api, match: {host: a.test, path: /v1/*}, filters: [request_id, {rewrite: {strip_prefix: /v1}}], upstream: one}
- {name: shut, match: {path: /shut}, websocket: false, upstream: one}
- {name: split, match: {path: /split}, split: [{upstream: one, weight: 3}, {upstream: two, weight: 1}]}
- {name: old, match: {path: /old/*}, redirect: {to: 'https://{host}/new{path}'}}
- {name: blog, match: {path: /blog/*}, filters: [{rewrite: {strip_prefix: /blog}}], redirect: {to: 'https://{host}{path}'}}
- {name: inner, match: {path: /inner, client_ip: 10.0.0.0/8}, respond: {status: 204}}
- {name: all, match: {host: a.test}, respond: {body: ok}}
upstreams:
  one: {endpoints: ['127.0.0.1:9001', '127.0.0.1:9002']}
  two: {endpoints: ['127.0.0.1:9003'], strategy: random}
";

fn snapshot() -> Snapshot {
    crate::tls::install_provider();
    let loaded = config::parse_str("x.yaml", CONF, Path::new("/"), &|_| None);
    assert!(loaded.is_ok(), "{}", config::render::human(loaded.document.sources(), &loaded.diagnostics, false));
    let problems = Problems::default();
    snapshot::compile(loaded.spec.unwrap(), 1, &Registries::default(), SystemTime::now(), &problems).unwrap()
}

fn described(json: serde_json::Value) -> DescribedRequest {
    serde_json::from_value(json).unwrap()
}

fn told(json: serde_json::Value) -> Explanation {
    explain(&snapshot(), &described(json)).unwrap()
}

#[test]
fn every_route_says_why_it_does_not_match() {
    let told = told(serde_json::json!({"url": "http://a.test:8080/v1/x"}));
    let line = |name: &str| told.routes.iter().find(|considered| considered.route == name).unwrap();
    assert_eq!(told.routes.len(), 8);
    assert_eq!(
        told.routes[0],
        Considered {
            route: "beta".into(),
            verdict: Verdict::Misses,
            tried: true,
            reason: "no header field `x-channel` with the value `beta`".into(),
        }
    );
    assert_eq!(told.routes[1].verdict, Verdict::Serves);
    assert_eq!(told.routes[2].route, "all", "what would have matched comes before what would not");
    assert_eq!(line("all").reason, "it would match too, but `api` comes first");
    assert_eq!(line("old").reason, "the path is not `/old/*`");
    assert_eq!((told.route.as_deref(), &*told.listener), (Some("api"), "web"));
    assert_eq!(
        (&told.listener_filters[..], &told.filters[..]),
        (&["headers".to_owned()][..], &["request_id".into(), "rewrite".into()][..])
    );
    let text = told.to_string();
    assert!(text.contains("- beta: no header field") && text.contains("> api: every condition holds"), "{text}");
    assert!(text.contains(". 127.0.0.1:9002") || text.contains("> 127.0.0.1:9002"), "{text}");
}

#[test]
fn looking_takes_nobodys_turn() {
    let snapshot = snapshot();
    let url = described(serde_json::json!({"url": "http://a.test:8080/v1/x"}));
    let pick = || explain(&snapshot, &url).unwrap().upstreams[0].pick.clone().unwrap();
    let (first, second) = (pick(), pick());
    assert_eq!(first.endpoint, second.endpoint);
    assert!(first.certain);
    let one = &snapshot.upstreams["one"];
    for _ in 0..4 {
        let next = pick().endpoint;
        assert_eq!(&**one.select(&[], &[]).unwrap().label(), next);
    }
    assert_ne!(
        pick().endpoint,
        {
            one.select(&[], &[]).unwrap();
            pick().endpoint
        },
        "the turn went on"
    );
}

#[test]
fn answers_of_our_own() {
    let answer = |json| told(json).answer.unwrap();
    let redirect = answer(serde_json::json!({"url": "http://b.test:8080/old/x?y=1"}));
    assert_eq!((redirect.status, redirect.location.as_deref()), (308, Some("https://b.test/new/x")));
    let notes = |url| told(serde_json::json!({"url": url})).notes.join(" ");
    assert!(notes("http://b.test:8080/blog/x").contains("what `rewrite` makes"), "it does not run here");
    assert!(!notes("http://b.test:8080/old/x").contains("rewrite"));
    let https = answer(serde_json::json!({"url": "http://a.test:8081/v1/?q"}));
    assert_eq!((https.status, https.location.as_deref()), (308, Some("https://a.test:8443/v1/?q")));
    assert_eq!(answer(serde_json::json!({"url": "http://other.test:8080/"})).status, 404);
    assert_eq!(answer(serde_json::json!({"url": "http://a.test:8080/"})).status, 200);
    let misdirected = told(serde_json::json!({"url": "https://a.test:8443/", "sni": "b.test"}));
    assert!(misdirected.answer.is_none_or(|answer| answer.status == 421 || answer.status == 200));
    let upgrade = serde_json::json!({"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="});
    assert_eq!(answer(serde_json::json!({"url": "http://b.test:8080/shut", "headers": upgrade})).status, 403);
    let max = serde_json::json!({"max-forwards": "0"});
    assert_eq!(answer(serde_json::json!({"url": "http://a.test:8080/", "method": "OPTIONS", "headers": max})).status, 204);
}

#[test]
fn a_note_says_how_answers_are_mapped_back() {
    let notes = |url| told(serde_json::json!({"url": url})).notes.join(" ");
    let stripped = notes("http://a.test:8080/v1/x");
    assert!(stripped.contains("`/x` of the endpoint becomes `/v1/x`"), "{stripped}");
    for url in ["http://b.test:8080/shut", "http://b.test:8080/blog/x", "http://a.test:8080/"] {
        assert!(!notes(url).contains("mapped back"), "{url}");
    }
}

#[test]
fn the_gate_is_the_real_one() {
    for (request, word, status) in [
        (serde_json::json!({"url": "http://a.test:8080/", "method": "TRACE"}), "method_not_allowed", 405),
        (serde_json::json!({"url": "http://a.test:8080/%zz"}), "bad_escape", 400),
        (
            serde_json::json!({"url": "http://a.test:8080/", "headers": {"content-length": ["1", "2"]}}),
            "duplicate_content_length",
            400,
        ),
        (serde_json::json!({"url": "http://a.test:8080/", "headers": {"x": "y".repeat(40_000)}}), "header_too_large", 431),
    ] {
        let told = told(request);
        assert!(!told.gate.admitted && told.routes.is_empty());
        assert_eq!((told.gate.refused.as_deref(), told.answer.as_ref().unwrap().status), (Some(word), status), "{told}");
        assert!(told.to_string().contains(&format!("refused: {word}")));
    }
    let dropped =
        told(serde_json::json!({"url": "http://a.test:8080/", "headers": {"api_key": "1", "X.Real-IP": "1", "x.y": "1"}}));
    for note in ["the field `api_key` is dropped (underscore)", "the field `x.real-ip` is dropped (lookalike)"] {
        assert!(dropped.notes.iter().any(|told| told == note), "{dropped}");
    }
    assert!(dropped.gate.admitted && !dropped.to_string().contains("`x.y`"), "{dropped}");
    let canonical = told(serde_json::json!({"url": "http://A.test:8080/x/../v1/./y"}));
    assert_eq!((&*canonical.host, &*canonical.path, canonical.route.as_deref()), ("a.test", "/v1/y", Some("api")));
}

#[test]
fn trusted_proxies_are_believed() {
    let request = |client: &str| {
        told(
            serde_json::json!({"url": "https://a.test:8443/inner", "client": client, "headers": {"x-forwarded-for": "10.7.7.7, 192.0.2.7"}}),
        )
    };
    assert_eq!(request("10.0.0.1").client.to_string(), "192.0.2.7");
    assert_eq!(request("10.0.0.1").route.as_deref(), Some("all"));
    assert_eq!(request("192.0.2.9").client.to_string(), "192.0.2.9");
}

#[test]
fn the_listener_is_found_by_the_url_or_named() {
    let listener = |json| {
        let told = told(json);
        (told.listener, told.listener_reason)
    };
    assert_eq!(listener(serde_json::json!({"url": "https://a.test:8443/"})).0, "edge");
    let (name, reason) = listener(serde_json::json!({"url": "https://a.test/"}));
    assert_eq!((&*name, &*reason), ("edge", "none speaks https on port 443, and this is the first that speaks https at all"));
    assert_eq!(listener(serde_json::json!({"url": "http://a.test/", "listener": "web"})).0, "web");
    let wrong = explain(&snapshot(), &described(serde_json::json!({"url": "http://a.test/", "listener": "wbe"})));
    assert_eq!(wrong.unwrap_err().to_string(), "there is no listener `wbe`; did you mean `web`?");
}

#[test]
fn a_split_shows_every_upstream_with_its_share() {
    let told = told(serde_json::json!({"url": "http://b.test:8080/split"}));
    let shares: Vec<_> = told.upstreams.iter().map(|share| (&*share.upstream, share.share)).collect();
    assert_eq!(shares, [("one", Some(0.75)), ("two", Some(0.25))]);
    assert!(!told.upstreams[1].pick.as_ref().unwrap().certain);
    assert!(told.to_string().contains("one by round_robin, 75.0 % of the requests"), "{told}");
}

#[test]
fn what_describes_no_request_is_refused() {
    for (json, words) in [
        (serde_json::json!({"url": ""}), "is not a URL"),
        (serde_json::json!({"url": "/path"}), "is not a URL"),
        (serde_json::json!({"url": "ftp://a.test/"}), "neither http nor https"),
        (serde_json::json!({"url": "http://a.test/\r\nx: y"}), "line break"),
        (serde_json::json!({"url": "http://a.test/", "headers": {"x": "a\nb"}}), "line break"),
        (serde_json::json!({"url": "http://a.test/", "method": "GET\r\n"}), "line break"),
    ] {
        let error = explain(&snapshot(), &described(json.clone())).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
    }
    let by_host = told(serde_json::json!({"url": "/v1/x", "headers": {"host": "a.test"}, "listener": "web"}));
    assert_eq!(by_host.route.as_deref(), Some("api"));
    assert!(serde_json::from_value::<DescribedRequest>(serde_json::json!({"url": "/", "hedaers": {}})).is_err());
}

#[test]
fn an_explanation_survives_the_way_through_the_api() {
    let told = told(serde_json::json!({"url": "http://a.test:8080/v1/x"}));
    let again: Explanation = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
    assert_eq!(again.to_string(), told.to_string());
}
