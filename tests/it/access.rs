//! Filters that let requests in or not: by what a client says it is, by its key, by its country.

use crate::{
    filters::{filtered, h2, list},
    support::{
        client::RawClient,
        edge::{EdgeBuilder, edge},
        h2_client::H2Request,
        mmdb,
        origin::{Answer, origin},
    },
};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

#[tokio::test]
async fn user_agent_admits_by_what_a_client_says_it_is() {
    let origin = origin().respond(200, "hello").spawn().await;
    let filter = "user_agent: {deny: [BadBot, {regex: '^curl/[0-6][.]'}], missing: deny}";
    let edge = filtered(&origin, filter).tls().start().await;
    let mut client = edge.client().await;
    for (field, status) in [
        ("user-agent: Mozilla/5.0\r\n", 200),
        ("user-agent: Mozilla/5.0 (compatible; badbot/1)\r\n", 403),
        ("user-agent: curl/6.1\r\n", 403),
        ("user-agent: curl/8.1\r\n", 200),
        ("user-agent:\r\n", 403),
        ("", 403),
    ] {
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\n{field}\r\n")).await;
        assert_eq!(answer.status, status, "{field:?}");
    }
    let upgrade = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\nuser-agent: BADBOT\r\n{UPGRADE}\r\n")).await;
    assert_eq!(upgrade.status, 403, "an upgrade is a request like any other");
    let mut h2 = h2(&edge).await;
    for (agent, status) in [("Mozilla/5.0", 200), ("badbot", 403)] {
        let request = H2Request::get("localhost", "/").header("user-agent", agent);
        assert_eq!(h2.send(&request).await.expect("a response").status, status, "{agent}");
    }
    assert_eq!(origin.request_count(), 3);
    let log = edge.access_log_of(9).await;
    assert_eq!(log.iter().filter(|line| line["end"]["reason"] == "user_agent_denied").count(), 6);
}

/// A file with the key of `b`, and `a` in the configuration itself.
const API_KEY: &str = "api_key: {from: ['header:x-api-key', 'query:key', bearer], keys: {a: secret-key-of-a-0}, file: keys.txt}";

#[tokio::test]
async fn api_key_admits_a_client_by_name_and_keeps_its_key() {
    let origin = origin().respond(200, "hello").spawn().await;
    let builder = filtered(&origin, API_KEY).tls();
    std::fs::write(builder.file("keys.txt"), "# clients\nb:secret-key-of-b-0\n").unwrap();
    let edge = builder.start().await;
    let mut client = edge.client().await;
    for (target, fields, name, forwarded) in [
        ("/x", "x-api-key: secret-key-of-a-0\r\nx-api-client: b\r\n", "a", "/x"),
        ("/x?q=1&key=secret-key-of-b-0", "", "b", "/x?q=1"),
        ("/x?key=secret-key-of-b-0", "", "b", "/x"),
        ("/x", "authorization: Bearer secret-key-of-b-0\r\n", "b", "/x"),
    ] {
        let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nhost: x\r\n{fields}\r\n")).await;
        assert_eq!(answer.status, 200, "{target} {fields}");
        let sent = origin.next_request().await;
        assert_eq!((sent.headers.all("x-api-client"), sent.target.as_str()), (vec![name], forwarded));
        assert_eq!((sent.header("x-api-key"), sent.header("authorization")), (None, None));
    }
    let mut h2 = h2(&edge).await;
    let request = H2Request::get("localhost", "/").header("x-api-key", "secret-key-of-a-0");
    assert_eq!(h2.send(&request).await.expect("a response").status, 200);
    assert_eq!(origin.next_request().await.headers.all("x-api-client"), ["a"]);
    let log = serde_json::to_string(&edge.access_log_of(5).await).unwrap();
    assert!(!log.contains("secret-key"), "{log}");
}

#[tokio::test]
async fn a_key_in_the_query_goes_no_further_whatever_is_behind() {
    let origin = origin().respond(200, "hello").spawn().await;
    let filters = "api_key: {from: 'query:key', keys: {a: secret-key-of-a-0}}\nrewrite: {strip_prefix: /v1}\nrewrite: {regex: '^/x', replace: /y}";
    let edge = filtered(&origin, filters).tls().start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for (target, forwarded) in [
        ("/v1/x?key=secret-key-of-a-0&q=1", "/y?q=1"),
        ("/v1/x?key=secret-key-of-a-0", "/y"),
        ("/v1/a?q=1&%6bey=secret-key-of-a-0", "/a?q=1"),
        ("/a?key=secret-key-of-a-0", "/a"),
    ] {
        assert_eq!(client.get("x", target).await.status, 200, "{target}");
        assert_eq!(origin.next_request().await.target, forwarded, "{target}");
        assert_eq!(h2.get("localhost", target).await.status, 200, "{target}");
        assert_eq!(origin.next_request().await.target, forwarded, "{target}");
    }
    // The service would find the second, which nobody has looked at.
    assert_eq!(client.get("x", "/a?key=secret-key-of-a-0&k%65y=other").await.status, 401);
    assert_eq!(origin.request_count(), 8);
}

#[tokio::test]
async fn api_key_refuses_what_has_none_or_another() {
    let origin = origin().respond(200, "hello").spawn().await;
    let builder = filtered(&origin, API_KEY).tls();
    std::fs::write(builder.file("keys.txt"), "b:secret-key-of-b-0\n").unwrap();
    let edge = builder.start().await;
    for (fields, reason) in [
        ("", "api_key_missing"),
        ("authorization: Basic YTpi\r\n", "api_key_missing"),
        ("x-api-key: wrong-key-of-nobody\r\n", "api_key_invalid"),
        ("x-api-key: secret-key-of-a-0\r\nx-api-key: secret-key-of-b-0\r\n", "api_key_invalid"),
        ("x-api-key: \u{fc}\r\n", "api_key_invalid"),
        // The first place that has one counts.
        ("x-api-key: wrong\r\nauthorization: Bearer secret-key-of-b-0\r\n", "api_key_invalid"),
    ] {
        for upgrade in ["", UPGRADE] {
            let mut client = edge.client().await;
            let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\n{fields}{upgrade}\r\n")).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("ApiKey realm=\"api\"")), "{fields}");
            let counted = edge.metric("weir_rejected_requests_total", &[("reason", reason)]).await;
            assert!(counted >= Some(1.0), "{reason}: {counted:?}");
        }
    }
    let mut h2 = h2(&edge).await;
    assert_eq!(h2.get("localhost", "/").await.status, 401);
    assert_eq!(origin.request_count(), 0);
    let log = serde_json::to_string(&edge.access_log_of(13).await).unwrap();
    assert!(!log.contains("wrong-key-of-nobody"), "{log}");
}

#[tokio::test]
async fn api_key_lets_an_upgrade_through_to_the_endpoint() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = filtered(&origin, "api_key: {keys: {a: secret-key-of-a-0}, forward_key: true}").start().await;
    let mut client = edge.client().await;
    let answer = client.exchange(format!("GET /ws HTTP/1.1\r\nhost: x\r\nx-api-key: secret-key-of-a-0\r\n{UPGRADE}\r\n")).await;
    assert_eq!(answer.status, 101);
    let sent = origin.next_request().await;
    assert_eq!((sent.header("x-api-client"), sent.header("x-api-key")), (Some("a"), Some("secret-key-of-a-0")));
    client.send("ping").await;
    assert_eq!(client.read_bytes(4).await, b"ping");
}

/// The loopback addresses of the tests, in three countries and one in none.
const COUNTRIES: [(&str, &str); 3] = [("127.0.0.1/32", "DE"), ("127.0.0.2/31", "FR"), ("127.0.1.0/24", "US")];

/// The `geoip` of an edge whose directory gets this database.
fn geoip(builder: EdgeBuilder, networks: &[(&str, &str)]) -> EdgeBuilder {
    std::fs::write(builder.file("countries.mmdb"), mmdb::countries(networks)).unwrap();
    builder.yaml("geoip: {database: countries.mmdb}")
}

#[tokio::test]
async fn geo_admits_by_country_and_tells_it_to_the_endpoint() {
    let origin = origin().respond(200, "hello").spawn().await;
    let edge = geoip(filtered(&origin, "geo: {allow: [DE, FR], header: x-country}").tls(), &COUNTRIES).start().await;
    for (address, country) in [("127.0.0.1", Some("DE")), ("127.0.0.3", Some("FR")), ("127.0.1.1", None), ("127.0.0.9", None)] {
        let mut client = RawClient::connect_from(address, edge.address("web")).await;
        for upgrade in ["", UPGRADE] {
            let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\nx-country: US\r\n{upgrade}\r\n")).await;
            assert_eq!(answer.status, if country.is_some() { 200 } else { 403 }, "{address}");
            if country.is_some() {
                assert_eq!(origin.next_request().await.headers.all("x-country"), country.into_iter().collect::<Vec<_>>());
            }
        }
    }
    assert_eq!(h2(&edge).await.get("localhost", "/").await.status, 200);
    assert_eq!(origin.next_request().await.header("x-country"), Some("DE"));
    let log = edge.access_log_of(9).await;
    assert_eq!(log.iter().filter(|line| line["end"]["reason"] == "country_denied").count(), 4);
}

#[tokio::test]
async fn geo_goes_by_the_client_that_a_trusted_proxy_names() {
    let origin = origin().respond(200, "hello").spawn().await;
    let builder = filtered(&origin, "geo: {deny: US, header: x-country}").listener("trusted_proxies: [127.0.0.1]");
    let edge = geoip(builder, &[("192.0.2.0/24", "SE"), ("2001:db8::/32", "US")]).start().await;
    let mut client = edge.client().await;
    for (forwarded, status) in [("192.0.2.7", 200), ("[2001:db8::1]", 403)] {
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\nforwarded: for=\"{forwarded}\"\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{forwarded}");
    }
    assert_eq!(origin.next_request().await.header("x-country"), Some("SE"));
}

#[tokio::test]
async fn routes_match_by_country() {
    let edge = edge()
        .route("german", "match: {country: DE}\nrespond: {body: hallo}")
        .route("french", "match: {country: [FR, BE], path: /x}\nrespond: {body: salut}")
        .route("others", "respond: {body: hello}")
        .tls();
    let edge = geoip(edge, &COUNTRIES).start().await;
    for (address, path, body) in [
        ("127.0.0.1", "/", "hallo"),
        ("127.0.0.2", "/", "hello"),
        ("127.0.0.2", "/x", "salut"),
        ("127.0.1.1", "/x", "hello"),
        ("127.0.0.9", "/", "hello"),
    ] {
        let answer = RawClient::connect_from(address, edge.address("web")).await.get("x", path).await;
        assert_eq!(answer.text(), body, "{address} {path}");
    }
    assert_eq!(h2(&edge).await.get("localhost", "/").await.text(), "hallo");
}

#[tokio::test]
async fn a_reload_reads_keys_and_countries_again() {
    let filters = list("api_key: {file: keys.txt, client_header: x-who}\ngeo: {header: x-country}");
    let origin = origin().respond(200, "hello").spawn().await;
    let builder = edge().upstream("app", &[origin.addr()]).route("all", &format!("upstream: app\nfilters:\n{filters}"));
    let builder = geoip(builder, &[("127.0.0.1/32", "DE")]);
    std::fs::write(builder.file("keys.txt"), "first:the-first-key-of-all\n").unwrap();
    let config = builder.config();
    let edge = builder.start_as(&config).await;
    let mut client = edge.client().await;
    let with = |key: &str| format!("GET / HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n");
    assert_eq!(client.exchange(with("the-first-key-of-all")).await.status, 200);
    let sent = origin.next_request().await;
    assert_eq!((sent.header("x-who"), sent.header("x-country")), (Some("first"), Some("DE")));

    std::fs::write(edge.file("keys.txt"), "second:the-second-key-of-all\n").unwrap();
    std::fs::write(edge.file("countries.mmdb"), mmdb::countries(&[("127.0.0.0/8", "NO")])).unwrap();
    edge.reload(&config).await;
    assert_eq!(client.exchange(with("the-first-key-of-all")).await.status, 401);
    assert_eq!(client.exchange(with("the-second-key-of-all")).await.status, 200);
    let sent = origin.next_request().await;
    assert_eq!((sent.header("x-who"), sent.header("x-country")), (Some("second"), Some("NO")));

    std::fs::write(edge.file("countries.mmdb"), "broken").unwrap();
    let refused = edge.try_reload(&config).await.expect_err("refused").to_string();
    assert!(refused.contains("is not a database"), "{refused}");
    assert_eq!(client.exchange(with("the-second-key-of-all")).await.status, 200);
}

/// `conf/examples/countries.mmdb` is made of this: `INSTA_UPDATE=always` writes it.
#[test]
fn the_database_of_the_examples_is_made_here() {
    let made =
        mmdb::countries(&[("192.0.2.0/24", "DE"), ("198.51.100.0/24", "FR"), ("203.0.113.0/24", "US"), ("2001:db8::/32", "SE")]);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples/countries.mmdb");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), made);
}
