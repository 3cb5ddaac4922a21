//! Behind a prefix: what endpoints say of their own paths and addresses, and what clients get of it.

use std::net::SocketAddr;

use http::HeaderName;

use crate::support::{
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    h2_origin::{H2Answer, h2_origin},
    origin::{Answer, Origin, origin},
    wire::RawRequest,
};

/// The fields that are mapped. An endpoint says of each what the request has in the field `say-NAME`.
const FIELDS: [&str; 4] = ["location", "content-location", "refresh", "set-cookie"];

async fn saying() -> Origin {
    let answer = |request: &RawRequest| {
        let said: Vec<(&str, String)> = FIELDS
            .iter()
            .flat_map(|name| request.headers.all(&format!("say-{name}")).into_iter().map(|value| (*name, value.to_owned())))
            .collect();
        let said: Vec<(&str, &str)> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Answer::with_headers(302, &said, "")
    };
    origin().respond_with(answer).spawn().await
}

/// How a client comes to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Http,
    Tls,
    H2,
}

impl By {
    const ALL: [By; 3] = [By::Http, By::Tls, By::H2];

    fn url(self) -> &'static str {
        if self == By::Http { "http://shop.example.com" } else { "https://shop.example.com" }
    }

    /// All values of a field in the answer to a request that has the endpoint say these.
    async fn ask(self, edge: &Edge, path: &str, name: &str, said: &[&str]) -> Vec<String> {
        if self == By::H2 {
            let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
            let field: HeaderName = format!("say-{name}").parse().expect("a field name");
            let mut request = H2Request::get("shop.example.com", path);
            for said in said {
                request.headers.append(&field, said.parse().expect("a value"));
            }
            let response = client.send(&request).await.expect("a response");
            assert_eq!(response.status, 302, "{path}");
            return response.headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()).collect();
        }
        let mut client = if self == By::Tls { edge.tls_client().await } else { edge.client().await };
        let lines: String = said.iter().map(|said| format!("say-{name}: {said}\r\n")).collect();
        let response = client.exchange(format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n{lines}\r\n")).await;
        assert_eq!(response.status, 302, "{path}");
        response.headers.all(name).into_iter().map(str::to_owned).collect()
    }
}

async fn edge_before(endpoint: SocketAddr) -> Edge {
    let route = |path: &str, filters: &str| format!("match: {{path: {path}}}\nupstream: app\nfilters: [{filters}]");
    let rules = "{map_back: {location: [{from: 'http://old.test/', to: /rules/}], cookie_path: [{from: /app, to: /rules}], \
                 cookie_domain: [{from: old.test, to: example.com}]}}";
    edge()
        .upstream("app", &[endpoint])
        .route("shop", &route("/shop/*", "{rewrite: {strip_prefix: /shop}}"))
        .route("both", &route("/v1/*", "{rewrite: {strip_prefix: /v1, add_prefix: /api}}"))
        .route("chained", &route("/a/b/*", "{rewrite: {strip_prefix: /a}}, {rewrite: {strip_prefix: /b}}"))
        .route("named", &route("/named/*", "{headers: {request: {set: {host: 'app.internal'}}}}"))
        .route("off", &route("/off/*", "{map_back: off}, {rewrite: {strip_prefix: /off}}"))
        .route("rules", &route("/rules/*", &format!("{{rewrite: {{strip_prefix: /rules}}}}, {rules}")))
        .route("regex", &route("/regex/*", "{rewrite: {regex: '^/regex', replace: ''}}"))
        .route("rest", "upstream: app")
        .tls()
        .start()
        .await
}

#[tokio::test]
async fn redirects_stay_behind_their_prefix() {
    let origin = saying().await;
    let edge = edge_before(origin.addr()).await;
    let own = format!("http://{}", origin.addr());
    let port = origin.addr().port();
    for by in By::ALL {
        let url = by.url();
        for (path, said, becomes) in [
            ("/shop/cart", "/login?a#b".to_owned(), "/shop/login?a#b".to_owned()),
            ("/shop/cart", format!("{own}/login"), format!("{url}/shop/login")),
            ("/shop/cart", own.clone(), format!("{url}/shop/")),
            ("/shop/cart", "http://app/login".into(), format!("{url}/shop/login")),
            ("/shop/cart", "http://shop.example.com/login".into(), format!("{url}/shop/login")),
            ("/shop/cart", "https://shop.example.com/login".into(), "https://shop.example.com/shop/login".into()),
            ("/shop/cart", format!("http://shop.example.com:{port}/login"), format!("{url}/shop/login")),
            ("/shop/cart", "/shop/login".into(), "/shop/login".into()),
            ("/shop/cart", "login".into(), "login".into()),
            ("/shop/cart", "https://login.test/login".into(), "https://login.test/login".into()),
            ("/shop/cart", "//login.test/login".into(), "//login.test/login".into()),
            ("/v1/x", "/api/login".into(), "/v1/login".into()),
            ("/v1/x", "/login".into(), "/login".into()),
            ("/a/b/x", "/y".into(), "/a/b/y".into()),
            ("/named/x", "http://app.internal/y".into(), format!("{url}/y")),
            ("/named/x", format!("http://app.internal:{port}/y"), format!("{url}/y")),
            ("/named/x", "http://shop.example.com/y".into(), "http://shop.example.com/y".into()),
            ("/off/x", format!("{own}/y"), format!("{own}/y")),
            ("/off/x", "/y".into(), "/y".into()),
            ("/rules/x", "http://old.test/y".into(), "/rules/y".into()),
            ("/rules/x", "/y".into(), "/rules/y".into()),
            ("/regex/x", "/y".into(), "/y".into()),
            ("/regex/x", format!("{own}/y"), format!("{url}/y")),
            ("/x", format!("{own}/y"), format!("{url}/y")),
            ("/x", "/y".into(), "/y".into()),
        ] {
            assert_eq!(by.ask(&edge, path, "location", &[&said]).await, [becomes], "{by:?} {path} {said}");
        }
    }
}

#[tokio::test]
async fn what_else_names_a_path_is_mapped_too() {
    let origin = saying().await;
    let edge = edge_before(origin.addr()).await;
    let own = format!("http://{}/x", origin.addr());
    for by in By::ALL {
        let url = by.url();
        let content = by.ask(&edge, "/shop/x", "content-location", &["/x.json"]).await;
        assert_eq!(content, ["/shop/x.json"], "{by:?}");
        let refresh = by.ask(&edge, "/shop/x", "refresh", &[&format!("5; url={own}")]).await;
        assert_eq!(refresh, [format!("5; url={url}/shop/x")], "{by:?}");
        let said = ["a=1; Path=/; HttpOnly", "b=2; path=/x", "c=3; Domain=127.0.0.1", "__Host-d=4; Path=/; Secure", "e=5"];
        let cookies = by.ask(&edge, "/shop/x", "set-cookie", &said).await;
        let becomes = ["a=1; Path=/shop; HttpOnly", "b=2; path=/shop/x", "c=3", "__Host-d=4; Path=/; Secure", "e=5"];
        assert_eq!(cookies, becomes, "{by:?}");
        let cookies = by.ask(&edge, "/rules/x", "set-cookie", &["a=1; Path=/app/y; Domain=old.test", "b=2; Path=/"]).await;
        assert_eq!(cookies, ["a=1; Path=/rules/y; Domain=example.com", "b=2; Path=/rules"], "{by:?}");
        assert_eq!(by.ask(&edge, "/off/x", "set-cookie", &said).await, said, "{by:?}");
        assert_eq!(by.ask(&edge, "/x", "set-cookie", &said[..2]).await, said[..2], "{by:?}");
    }
}

#[tokio::test]
async fn endpoints_of_http_2_are_mapped_back() {
    let origin = h2_origin()
        .respond_with(|_| H2Answer::new(302, "").header("location", "/login").header("set-cookie", "a=b; Path=/"))
        .spawn()
        .await;
    let edge = edge()
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("shop", "match: {path: /shop/*}\nupstream: app\nfilters: [{rewrite: {strip_prefix: /shop}}]")
        .tls()
        .start()
        .await;
    for by in By::ALL {
        assert_eq!(by.ask(&edge, "/shop/x", "location", &[]).await, ["/shop/login"], "{by:?}");
        assert_eq!(by.ask(&edge, "/shop/x", "set-cookie", &[]).await, ["a=b; Path=/shop"], "{by:?}");
    }
}

#[tokio::test]
async fn stored_answers_are_mapped_for_each_client() {
    let answer = |request: &RawRequest| {
        let location = format!("http://app.internal{}/next", request.target);
        Answer::with_headers(301, &[("location", location.as_str()), ("cache-control", "max-age=600")], "")
    };
    let origin = origin().respond_with(answer).spawn().await;
    let filters = "[{cache: {}}, {headers: {request: {set: {host: app.internal}}}}, {rewrite: {strip_prefix: /shop}}]";
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("shop", &format!("match: {{path: /shop/*}}\nupstream: app\nfilters: {filters}"))
        .tls()
        .start()
        .await;
    for said in ["fwd=uri-miss", "hit", "hit"] {
        let response = edge.get("/shop/x").await;
        assert!(response.header("cache-status").is_some_and(|status| status.contains(said)), "{said}");
        let location = response.header("location").expect("a location");
        assert!(location.starts_with("http://") && location.ends_with("/shop/x/next"), "{said}: {location}");
        assert!(!location.contains("internal"), "{said}: {location}");
    }
    assert_eq!(origin.request_count(), 1);
}

#[tokio::test]
async fn what_weir_answers_itself_is_for_the_client_already() {
    let origin = saying().await;
    let strip = "{rewrite: {strip_prefix: /old}}";
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("old", &format!("match: {{path: /old/*}}\nredirect: {{to: '/new{{path}}', status: 302}}\nfilters: [{strip}]"))
        .route(
            "set",
            "match: {path: /set/*}\nupstream: app\nfilters: [{headers: {response: {set: {location: /mine}}}}, {rewrite: {strip_prefix: /set}}]",
        )
        .tls()
        .start()
        .await;
    for by in By::ALL {
        assert_eq!(by.ask(&edge, "/old/x", "location", &[]).await, ["/new/x"], "{by:?}");
        assert_eq!(by.ask(&edge, "/set/x", "location", &["/x"]).await, ["/mine"], "{by:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_host_is_sent_to_a_path() {
    let origin = saying().await;
    let edge = edge_before(origin.addr()).await;
    let mut client = edge.client().await;
    let request = format!("GET /shop/x HTTP/1.0\r\nsay-location: http://{}/login\r\n\r\n", origin.addr());
    assert_eq!(client.exchange(request).await.header("location"), Some("/shop/login"));
}
