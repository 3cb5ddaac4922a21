//! Filters that let requests in or not: by what a client says it is, by its key.

use crate::{
    filters::{filtered, h2},
    support::{
        h2_client::H2Request,
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
