//! The filter `headers` over every field that Weir writes itself: no change that is accepted is without effect, whatever clients
//! and endpoints speak.

use std::fmt::Write;

use http::Method;

use crate::support::{
    collector::collector,
    edge::edge,
    h2_client::{H2Client, H2Request},
    h2_origin::{H2Answer, H2Received, h2_origin},
    origin::{Answer, origin},
    wire::RawRequest,
};

/// Fields of requests that Weir writes, with what an endpoint gets where no filter changes them. `None`: not this time.
const REQUEST: [(&str, Option<&str>); 14] = [
    ("via", Some("weir")),
    ("max-forwards", Some("4")),
    ("traceparent", Some("00-")),
    ("tracestate", None),
    ("x-forwarded-for", Some("127.0.0.1")),
    ("x-forwarded-proto", Some("http")),
    ("x-forwarded-host", Some("example.com")),
    ("x-real-ip", Some("127.0.0.1")),
    ("x-client-cert-subject", None),
    ("forwarded", None),
    ("x-request-id", Some("-")),
    ("cookie", Some("a=b")),
    ("user-agent", None),
    ("host", Some("example.com")),
];

/// Fields of responses, which endpoints or Weir write.
const RESPONSE: [&str; 11] = [
    "via",
    "age",
    "server",
    "set-cookie",
    "cache-control",
    "content-type",
    "etag",
    "vary",
    "x-request-id",
    "x-forwarded-for",
    "retry-after",
];

/// A route for each field and change, below this path, with these further keys.
fn routes(yaml: &mut String, base: &str, direction: &str, names: &[&str], keys: &str) {
    for (index, name) in names.iter().enumerate() {
        for (what, change) in [("set", format!("set: {{{name}: mine}}")), ("remove", format!("remove: [{name}]"))] {
            if *name == "host" && what == "remove" {
                continue;
            }
            let _ = writeln!(
                yaml,
                "- {{name: {base}-{what}-{index}, match: {{path: /{base}/{what}/{index}}}, \
                 filters: [{{headers: {{{direction}: {{{change}}}}}}}], {keys}}}"
            );
        }
    }
}

fn with_routes(config: &str, routes: &str) -> String {
    config.replacen("routes:", &format!("routes:\n{routes}"), 1)
}

/// What an endpoint has received.
enum Received {
    One(RawRequest),
    Two(H2Received),
}

impl Received {
    /// The values of a field. The host is one, also where it is `:authority`.
    fn all(&self, name: &str) -> Vec<String> {
        match self {
            Received::One(request) => request.headers.all(name).into_iter().map(str::to_owned).collect(),
            Received::Two(request) if name == "host" => {
                request.head.uri.authority().map(ToString::to_string).into_iter().collect()
            }
            Received::Two(request) => {
                request.head.headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()).collect()
            }
        }
    }
}

#[tokio::test]
async fn every_field_of_a_request_that_weir_writes_can_be_set_and_removed() {
    let (one, two, collector) =
        (origin().respond(200, "ok").spawn().await, h2_origin().respond(200, "ok").spawn().await, collector().await);
    let edge = edge().listener("http: {h2c: true}\nfilters: [request_id]").upstream("one", &[one.addr()]).upstream_with(
        "two",
        &[two.addr()],
        "connections: {protocol: h2c}",
    );
    let names = REQUEST.map(|(name, _)| name);
    let mut yaml = String::new();
    for upstream in ["one", "two"] {
        routes(&mut yaml, upstream, "request", &names, &format!("upstream: {upstream}"));
        let _ = writeln!(yaml, "- {{name: {upstream}-plain, match: {{path: /{upstream}/plain}}, upstream: {upstream}}}");
        let add = format!("filters: [{{headers: {{request: {{add: {{via: 1.1 mine}}}}}}}}], upstream: {upstream}");
        let _ = writeln!(yaml, "- {{name: {upstream}-add, match: {{path: /{upstream}/add}}, {add}}}");
    }
    let tracing = format!("observability:\n  tracing: {{otlp: 'http://{}', sample: 0%}}\n", collector.address);
    let config = with_routes(&edge.config().replace("routes: []", "routes:"), &yaml).replace("observability:\n", &tracing);
    let edge = edge.start_as(&config).await;
    let (mut by_one, mut by_two) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    let mut send = async |path: String, over_h2: bool| -> Received {
        let status = if over_h2 {
            let mut request = H2Request::get("example.com", &path).header("max-forwards", "5").header("cookie", "a=b");
            request.method = Method::OPTIONS;
            by_two.send(&request).await.expect("an answer").status.as_u16()
        } else {
            let lines = "host: example.com\r\nmax-forwards: 5\r\ncookie: a=b\r\n";
            by_one.exchange(format!("OPTIONS {path} HTTP/1.1\r\n{lines}\r\n")).await.status
        };
        assert_eq!(status, 200, "{path}");
        if path.starts_with("/one") { Received::One(one.next_request().await) } else { Received::Two(two.next_request().await) }
    };
    for over_h2 in [false, true] {
        for upstream in ["one", "two"] {
            let plain = send(format!("/{upstream}/plain"), over_h2).await;
            for (name, want) in REQUEST {
                let found = plain.all(name).join(", ");
                assert!(want.map_or(found.is_empty(), |want| found.contains(want)), "{name}: {found:?}, {upstream}, {over_h2}");
            }
            for (index, name) in names.iter().enumerate() {
                let case = format!("{name} to {upstream}, a client of h2: {over_h2}");
                let set = send(format!("/{upstream}/set/{index}"), over_h2).await;
                assert_eq!(set.all(name), ["mine"], "set {case}");
                if *name != "host" {
                    let removed = send(format!("/{upstream}/remove/{index}"), over_h2).await;
                    assert!(removed.all(name).is_empty(), "remove {case}: {:?}", removed.all(name));
                }
            }
            // What is added stands in front of ours, which is the last.
            let added = send(format!("/{upstream}/add"), over_h2).await;
            assert_eq!(added.all("via").join(", "), if over_h2 { "1.1 mine, 2 weir" } else { "1.1 mine, 1.1 weir" });
        }
    }
}

#[tokio::test]
async fn every_field_of_a_response_can_be_set_and_removed() {
    let fields = RESPONSE.map(|name| (name, if name == "age" { "1" } else { "theirs" }));
    let one = origin().respond_with(move |_| Answer::with_headers(200, &fields, "ok")).spawn().await;
    let two = h2_origin()
        .respond_with(move |_| fields.iter().fold(H2Answer::new(200, "ok"), |answer, (name, value)| answer.header(name, value)))
        .spawn()
        .await;
    let edge = edge().listener("http: {h2c: true}").upstream("one", &[one.addr()]).upstream_with(
        "two",
        &[two.addr()],
        "connections: {protocol: h2c}",
    );
    let mut yaml = String::new();
    routes(&mut yaml, "one", "response", &RESPONSE, "upstream: one");
    routes(&mut yaml, "two", "response", &RESPONSE, "upstream: two");
    routes(&mut yaml, "own", "response", &RESPONSE, "respond: {status: 503}");
    let config = with_routes(&edge.config().replace("routes: []", "routes:"), &yaml);
    let edge = edge.start_as(&config).await;
    let (mut by_one, mut by_two) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    for base in ["one", "two", "own"] {
        for (index, name) in RESPONSE.iter().enumerate() {
            for (what, want) in [("set", Some("mine")), ("remove", None)] {
                let path = format!("/{base}/{what}/{index}");
                let one = by_one.get("example.com", &path).await;
                let two = by_two.get("example.com", &path).await;
                assert_eq!((one.header(name), two.header(name)), (want, want), "{what} {name} of {base}");
                let another = RESPONSE[(index + 1) % RESPONSE.len()];
                assert!(base == "own" || one.header(another).is_some() && two.header(another).is_some(), "{path}: {another}");
            }
        }
    }
}

/// Old clients and servers depend on the case of field names that they are used to.
#[tokio::test]
async fn names_go_on_between_http1_connections_as_they_were_spelt() {
    let answer = "HTTP/1.1 200 OK\r\nX-Served-BY: one\r\nETag: \"1\"\r\nContent-length: 2\r\n\r\nok";
    let origin = origin().respond_raw(answer).spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await;
    let mut client = edge.client().await;
    let request =
        "POST / HTTP/1.1\r\nHost: example.com\r\nX-API-Key: 1\r\nx-plain: 2\r\nCONTENT-Length: 2\r\nX-ApI-Key: 3\r\n\r\nhi";
    let response = client.exchange(request).await;
    let sent = String::from_utf8_lossy(&origin.requests()[0].raw).into_owned();
    for line in [
        "\r\nHost: example.com\r\n",
        "\r\nX-API-Key: 1\r\n",
        "\r\nx-plain: 2\r\n",
        "\r\nCONTENT-Length: 2\r\n",
        "\r\nvia: 1.1 weir\r\n",
    ] {
        assert!(sent.contains(line), "{line:?} in {sent}");
    }
    let got = String::from_utf8_lossy(&response.raw).into_owned();
    for line in ["\r\nX-Served-BY: one\r\n", "\r\nETag: \"1\"\r\n", "\r\nContent-length: 2\r\n"] {
        assert!(got.contains(line), "{line:?} in {got}");
    }
}
