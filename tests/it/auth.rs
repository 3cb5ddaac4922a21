//! Filters that ask who a client is, and take a while to know.

use crate::{
    filters::{filtered, h2},
    support::{
        edge::{EdgeBuilder, edge},
        h2_client::H2Request,
        origin::{Answer, origin},
    },
};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

/// `ann` with the password `open sesame`, `bob` with `grün: tea`.
const USERS: &str = "# ours\nann:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n\
    bob:$argon2id$v=19$m=64,t=1,p=1$dbz1nCBtV1pfQDGSDojrSw$9CATuzYy/WG98HdD75Ab8wBCsMA2r4otjTwFs94HJSo\n";

/// `ann:open sesame` and `bob:grün: tea`, as browsers write them.
const ANN: &str = "Basic YW5uOm9wZW4gc2VzYW1l";
const BOB: &str = "Basic Ym9iOmdyw7xuOiB0ZWE=";
/// `ann:open sesam` and `eve:open sesame`.
const WRONG: &str = "Basic YW5uOm9wZW4gc2VzYW0=";
const EVE: &str = "Basic ZXZlOm9wZW4gc2VzYW1l";

fn with_users(builder: EdgeBuilder) -> EdgeBuilder {
    std::fs::write(builder.file("users.htpasswd"), USERS).unwrap();
    builder
}

#[tokio::test]
async fn basic_auth_admits_a_user_by_name_and_keeps_the_password() {
    let origin = origin().respond(200, "hello").spawn().await;
    let edge = with_users(filtered(&origin, "basic_auth: {users: users.htpasswd}").tls()).start().await;
    let mut client = edge.client().await;
    let mut h2 = h2(&edge).await;
    for (sent, name) in [(ANN, "ann"), (BOB, "bob"), (ANN, "ann"), (BOB, "bob")] {
        let head = format!("POST /x HTTP/1.1\r\nhost: x\r\nauthorization: {sent}\r\nx-auth-user: root\r\ncontent-length: 4\r\n");
        assert_eq!(client.exchange(format!("{head}\r\nbody")).await.status, 200, "{name}");
        let seen = origin.next_request().await;
        assert_eq!((seen.headers.all("x-auth-user"), seen.header("authorization")), (vec![name], None));
        assert_eq!(seen.body, b"body".as_slice(), "the body waits for the verdict");
        let request = H2Request::get("localhost", "/").header("authorization", sent).header("x-auth-user", "root");
        assert_eq!(h2.send(&request).await.expect("a response").status, 200, "{name}");
        let seen = origin.next_request().await;
        assert_eq!((seen.headers.all("x-auth-user"), seen.header("authorization")), (vec![name], None));
    }
    let log = serde_json::to_string(&edge.access_log_of(8).await).unwrap();
    assert!(!log.contains("YW5uOm9wZW4"), "{log}");
}

#[tokio::test]
async fn basic_auth_refuses_everybody_else() {
    let origin = origin().respond(200, "hello").spawn().await;
    let edge = with_users(filtered(&origin, "basic_auth: {users: users.htpasswd, realm: api}").tls()).start().await;
    let mut h2 = h2(&edge).await;
    for (sent, reason) in [
        (None, "basic_auth_missing"),
        (Some("Bearer abc"), "basic_auth_missing"),
        (Some("Basic abc"), "basic_auth_invalid"),
        (Some(WRONG), "basic_auth_invalid"),
        (Some(EVE), "basic_auth_invalid"),
    ] {
        let field = sent.map_or_else(String::new, |sent| format!("authorization: {sent}\r\n"));
        for upgrade in ["", UPGRADE] {
            let answer = edge.client().await.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\n{field}{upgrade}\r\n")).await;
            let challenge = answer.header("www-authenticate");
            assert_eq!((answer.status, challenge), (401, Some("Basic realm=\"api\", charset=\"UTF-8\"")), "{sent:?}");
        }
        let request = sent.iter().fold(H2Request::get("localhost", "/"), |request, sent| request.header("authorization", sent));
        assert_eq!(h2.send(&request).await.expect("a response").status, 401, "{sent:?}");
        let counted = edge.metric("weir_rejected_requests_total", &[("reason", reason)]).await;
        assert!(counted >= Some(3.0), "{reason}: {counted:?}");
    }
    assert_eq!(origin.request_count(), 0);
    let log = serde_json::to_string(&edge.access_log_of(15).await).unwrap();
    assert!(!log.contains("YW5uOm9wZW4"), "{log}");
}

#[tokio::test]
async fn basic_auth_lets_an_upgrade_through_to_the_endpoint() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let filter = "basic_auth: {users: users.htpasswd, forward_password: true, user_header: x-who}";
    let edge = with_users(filtered(&origin, filter)).start().await;
    let mut client = edge.client().await;
    let answer = client.exchange(format!("GET /ws HTTP/1.1\r\nhost: x\r\nauthorization: {ANN}\r\n{UPGRADE}\r\n")).await;
    assert_eq!(answer.status, 101);
    let seen = origin.next_request().await;
    assert_eq!((seen.header("x-who"), seen.header("authorization")), (Some("ann"), Some(ANN)));
    client.send("ping").await;
    assert_eq!(client.read_bytes(4).await, b"ping");
}

#[tokio::test]
async fn a_reload_reads_the_users_again_and_forgets_what_was_verified() {
    let origin = origin().respond(200, "hello").spawn().await;
    let route = "upstream: app\nfilters:\n  - basic_auth: {users: users.htpasswd, cache: 1h}\n";
    let builder = with_users(edge().upstream("app", &[origin.addr()]).route("all", route));
    let config = builder.config();
    let edge = builder.start_as(&config).await;
    let mut client = edge.client().await;
    let with = |sent: &str| format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: {sent}\r\n\r\n");
    assert_eq!(client.exchange(with(ANN)).await.status, 200);
    std::fs::write(edge.file("users.htpasswd"), USERS.replace("\nann:", "\n#")).unwrap();
    edge.reload(&config).await;
    assert_eq!(client.exchange(with(ANN)).await.status, 401);
    assert_eq!(client.exchange(with(BOB)).await.status, 200);
    std::fs::write(edge.file("users.htpasswd"), "ann:plain-text-password\n").unwrap();
    let refused = edge.try_reload(&config).await.expect_err("refused").to_string();
    assert!(refused.contains("line 1 of") && !refused.contains("plain-text"), "{refused}");
    assert_eq!(client.exchange(with(BOB)).await.status, 200);
}
