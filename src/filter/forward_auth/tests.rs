//! What is asked and what is made of answers, without a network.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use parking_lot::Mutex;

use super::names::{Names, Shown};
use crate::{
    filter::{
        Answered, Call, CallError, Calling, Chain, Chains, FilterSpec, Kept, Service, Services, Verdict, tests_support::Exchange,
    },
    types::{Fields as _, OneOrMany, Problems, Reply, Scheme},
};

/// Answers what it was told to, and keeps what it was asked.
#[derive(Debug)]
struct Told {
    answer: Result<Answered, CallError>,
    asked: Mutex<Vec<Call>>,
}

impl Service for Told {
    fn call(&self, call: Call) -> Calling {
        self.asked.lock().push(call);
        let answer = self.answer.clone();
        Box::pin(async { answer })
    }
}

fn answered(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Result<Answered, CallError> {
    let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    Ok(Answered { status: StatusCode::from_u16(status).unwrap(), fields, body: Bytes::from_static(body.as_bytes()) })
}

/// A chain of this one filter, and the service that it asks.
fn asking(options: &str, answer: Result<Answered, CallError>) -> (Chain, Arc<Told>) {
    let told = Arc::new(Told { answer, asked: Mutex::default() });
    let services: Services = [("auth".parse().unwrap(), told.clone() as Arc<dyn Service>)].into_iter().collect();
    let problems = Problems::default();
    let chains = Chains::compile(&BTreeMap::new(), &Kept::default(), services, &problems.root());
    let filter = format!(r#"[{{"forward_auth": {{"upstream": "auth", "path": "/verify?a=1"{options}}}}}]"#);
    let specs: Vec<FilterSpec> = serde_json::from_str(&filter).expect("the filter of a test can be read");
    let chain = chains.build("route r", &specs, &problems.root().key("filters"));
    assert_eq!(problems.take(), [], "{filter}");
    (chain.expect("a chain"), told)
}

async fn pass(exchange: &mut Exchange, chain: &Chain) -> Result<(), (Reply, &'static str)> {
    let verdict = match exchange.begin(chain) {
        Ok(verdict) => verdict,
        Err(later) => {
            let after = later.wait().await;
            exchange.resume(chain, after)
        }
    };
    match verdict {
        Verdict::Continue => Ok(()),
        Verdict::Answer { reply, reason } => Err((reply, reason)),
        other => panic!("{other:?}"),
    }
}

/// What the service was asked for this request.
async fn question(options: &str, exchange: &mut Exchange) -> Call {
    let (chain, told) = asking(options, answered(200, &[], ""));
    pass(exchange, &chain).await.unwrap();
    assert!(exchange.keeping.personal, "the answer is not for others");
    told.asked.lock().pop().unwrap()
}

fn shown(fields: &HeaderMap, but: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    fields.each(&mut |name, _| names.extend((!but.contains(&name)).then(|| name.to_owned())));
    names.sort();
    names
}

const OWN: [&str; 9] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-original-method",
    "x-original-url",
    "x-real-ip",
];

#[tokio::test]
async fn all_fields_are_those_of_the_request_and_not_of_the_connection() {
    let mut exchange = Exchange::default();
    for name in [
        "cookie",
        "x-any",
        "sec-fetch-mode",
        "via",
        "connection",
        "upgrade",
        "te",
        "transfer-encoding",
        "content-length",
        "content-type",
        "expect",
        "range",
        "if-none-match",
        "if-range",
        "forwarded",
        "x.forwarded.uri",
        "x-forwarded-prefix",
        "x~original-url",
        "x.real.ip",
    ] {
        exchange.set(name, "1");
    }
    let call = question(r#", "request_headers": "all""#, &mut exchange).await;
    assert_eq!(shown(&call.fields, &OWN), ["cookie", "sec-fetch-mode", "via", "x-any"]);
    let call = question(r#", "request_headers": ["X-Any", "range"]"#, &mut exchange).await;
    assert_eq!(shown(&call.fields, &OWN), ["range", "x-any"]);
    let call = question(r#", "request_headers": []"#, &mut exchange).await;
    assert_eq!(shown(&call.fields, &OWN), [""; 0]);
    assert_eq!((call.method.as_str(), call.target.as_str(), call.body.is_none()), ("GET", "/verify?a=1", true));
}

#[tokio::test]
async fn the_host_is_the_one_that_routes_go_by() {
    for (told, host) in [
        ("a.example:8443", "a.example:8443"),
        ("A.example:8443", "A.example:8443"),
        ("a.example", "a.example"),
        ("b.example", "a.example"),
        ("a.example.evil", "a.example"),
        ("a.example:", "a.example"),
        ("a.example:80@evil", "a.example"),
        ("a.examplé:8443", "a.example"),
        ("", "a.example"),
    ] {
        let mut exchange = Exchange { path: "/p".into(), query: Some("q=1".into()), ..Exchange::default() };
        exchange.client.scheme = Scheme::Https;
        exchange.fields.insert("x-forwarded-host", http::HeaderValue::from_bytes(told.as_bytes()).unwrap());
        let call = question("", &mut exchange).await;
        assert_eq!((&call.fields["x-forwarded-host"], &call.fields["host"]), (&host.parse().unwrap(), &host.parse().unwrap()));
        assert_eq!(call.fields["x-original-url"], format!("https://{host}/p?q=1"));
    }
    let call = question(r#", "host": "auth.test:9000""#, &mut Exchange::default()).await;
    assert_eq!(
        (&call.fields["host"], &call.fields["x-forwarded-host"]),
        (&"auth.test:9000".parse().unwrap(), &"a.example".parse().unwrap())
    );
}

#[tokio::test]
async fn the_client_is_one_address() {
    let mut exchange = Exchange::default();
    exchange.set("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.1");
    exchange.set("x-real-ip", "6.6.6.6");
    for (ip, said) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("0.0.0.0", "unknown")] {
        exchange.client.ip = ip.parse().unwrap();
        let call = question(r#", "request_headers": "all""#, &mut exchange).await;
        for name in ["x-forwarded-for", "x-real-ip"] {
            assert_eq!(call.fields.get_all(name).iter().collect::<Vec<_>>(), [said], "{name}");
        }
        assert_eq!(call.client.to_string(), ip);
    }
    assert_eq!(exchange.get("x-forwarded-for"), Some("6.6.6.6, 192.0.2.1, 10.0.0.1"), "the endpoint is told as ever");
}

#[tokio::test]
async fn two_credentials_are_none() {
    let (chain, told) = asking("", answered(200, &[], ""));
    let mut exchange = Exchange::default();
    exchange.set("authorization", "Bearer mine");
    exchange.fields.append("authorization", "Bearer theirs".parse().unwrap());
    let (reply, reason) = pass(&mut exchange, &chain).await.unwrap_err();
    assert_eq!((reply.status.as_u16(), reason, told.asked.lock().len()), (400, "forward_auth_ambiguous", 0));
}

#[tokio::test]
async fn who_looks_at_a_page_is_sent_to_the_login() {
    let said = answered(401, &[("set-cookie", "csrf=1"), ("www-authenticate", "Basic")], "no");
    let options = r#", "login": "https://login.test/?rd={url}""#;
    for (method, accept, location) in [
        ("GET", "text/html,*/*", true),
        ("HEAD", "application/xhtml+xml, Text/HTML;q=0.9", true),
        ("POST", "text/html", false),
        ("GET", "application/json", false),
        ("GET", "", false),
    ] {
        let (chain, _) = asking(options, said.clone());
        let mut exchange = Exchange { method: method.into(), path: "/a%0d%0a".into(), ..Exchange::default() };
        exchange.query = Some("b=c&d='\"{}é".into());
        exchange.set("accept", accept);
        let (reply, _) = pass(&mut exchange, &chain).await.unwrap_err();
        let headers: HeaderMap = reply.headers.into_iter().collect();
        assert_eq!(reply.status.as_u16(), if location { 302 } else { 401 }, "{method} {accept}");
        assert_eq!(headers["set-cookie"], "csrf=1");
        if location {
            let back = "http%3A%2F%2Fa.example%2Fa%250d%250a%3Fb%3Dc%26d%3D%27%22%7B%7D%C3%A9";
            assert_eq!(headers["location"], format!("https://login.test/?rd={back}"));
            assert!(headers.get("www-authenticate").is_none() && reply.body.is_none());
        }
    }
    let (chain, _) = asking(options, answered(403, &[], "no"));
    let mut exchange = Exchange::default();
    exchange.set("accept", "text/html");
    assert_eq!(pass(&mut exchange, &chain).await.unwrap_err().0.status.as_u16(), 403, "who is known does not log in again");
}

#[tokio::test]
async fn a_status_is_a_verdict_or_none() {
    for status in 200..600 {
        let (chain, _) = asking("", answered(status, &[], "x"));
        let verdict = pass(&mut Exchange::default(), &chain).await.err().map(|(reply, reason)| (reply.status.as_u16(), reason));
        let expected = match status {
            200..=299 => None,
            304 | 500.. => Some((503, "forward_auth_unavailable")),
            _ => Some((status, "forward_auth_denied")),
        };
        assert_eq!(verdict, expected, "{status}");
    }
    for error in [CallError::Unavailable, CallError::Connect, CallError::Timeout, CallError::Broken, CallError::TooLarge] {
        let (chain, _) = asking("", Err(error));
        assert_eq!(pass(&mut Exchange::default(), &chain).await.unwrap_err().1, "forward_auth_unavailable", "{error}");
        let (chain, _) = asking(r#", "on_error": "allow""#, Err(error));
        pass(&mut Exchange::default(), &chain).await.unwrap();
    }
}

#[tokio::test]
async fn an_error_without_a_text_is_described_by_nothing() {
    let fields =
        [("content-type", "text/x"), ("content-encoding", "gzip"), ("x-why", "1"), ("date", "never"), ("content-length", "0")];
    let (chain, _) = asking("", answered(403, &fields, ""));
    let (reply, _) = pass(&mut Exchange::default(), &chain).await.unwrap_err();
    assert_eq!(reply.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-why"]);
    assert!(reply.body.is_none());
}

#[test]
fn fields_are_shown_by_their_names_alone() {
    let problems = Problems::default();
    let these = Names::shown(&OneOrMany(vec!["Cookie".into()]), &problems.root()).unwrap();
    assert!(matches!(&these, Shown::These(_)) && these.holds("cookie") && !these.holds("x-cookie"));
}
