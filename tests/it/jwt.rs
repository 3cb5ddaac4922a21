//! The `jwt` filter over real sockets, with issuers that change their keys, go away and come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    filters::{filtered, h2},
    support::{
        Gate,
        certs::{Ca, ca},
        edge::{Edge, EdgeBuilder, edge},
        h2_client::H2Request,
        origin::{Answer, Origin, origin},
        tokens::{Issuer, encoded, forged, issuer, key_set, now},
        wire::RawResponse,
    },
};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

fn with_keys(builder: EdgeBuilder, issuers: &[&Issuer]) -> EdgeBuilder {
    std::fs::write(builder.file("jwks.json"), key_set(issuers)).unwrap();
    builder
}

fn bearing(token: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nx-user: root\r\n\r\n")
}

async fn ask(edge: &Edge, token: &str) -> RawResponse {
    edge.client().await.exchange(bearing(token)).await
}

async fn status(edge: &Edge, token: &str) -> u16 {
    ask(edge, token).await.status
}

async fn refused(edge: &Edge, reason: &str) -> f64 {
    edge.metric("weir_rejected_requests_total", &[("reason", reason)]).await.unwrap_or_default()
}

/// Where keys are published, over TLS: a server whose answer the test may change.
struct Published {
    origin: Origin,
    ca: Ca,
    answer: Arc<Mutex<Answer>>,
}

impl Published {
    async fn new(answer: Answer) -> Self {
        let ca = ca();
        let answer = Arc::new(Mutex::new(answer));
        let now = answer.clone();
        let origin = origin().tls(&ca.server(&["localhost"])).respond_with(move |_| now.lock().clone()).spawn().await;
        Self { origin, ca, answer }
    }

    async fn of(issuers: &[&Issuer]) -> Self {
        Self::new(answer(issuers)).await
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    /// `keys` of a filter that goes by them.
    fn keys(&self) -> String {
        let (port, ca) = (self.origin.addr().port(), self.ca.file());
        format!("{{url: 'https://localhost:{port}/jwks.json', ca: {ca:?}, min_refresh: 1s}}")
    }

    /// An edge whose one route goes by them, with further options.
    fn edge(&self, options: &str) -> EdgeBuilder {
        edge().route("all", &format!("respond: {{body: ok}}\nfilters:\n  - jwt: {{keys: {}{options}}}\n", self.keys()))
    }
}

fn answer(issuers: &[&Issuer]) -> Answer {
    Answer::with_headers(200, &[("content-type", "application/json"), ("cache-control", "max-age=60")], key_set(issuers))
}

#[tokio::test]
async fn a_valid_token_comes_in_and_tells_the_endpoint_who_it_is() {
    let (rsa, ec, ed) = (issuer("RS256", "r"), issuer("ES256", "e"), issuer("EdDSA", "o"));
    let origin = origin().respond(200, "hello").spawn().await;
    let filter = "jwt: {keys: {file: jwks.json}, issuer: 'https://issuer.test', audience: api, scopes: read, \
        claims_to_headers: {x-user: sub, x-roles: /realm/roles}}";
    let edge = with_keys(filtered(&origin, filter).tls(), &[&rsa, &ec, &ed]).start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    let claims =
        json!({"iss": "https://issuer.test", "aud": ["api"], "sub": "ann", "scope": "read", "realm": {"roles": ["a", "b"]}});
    for issuer in [&rsa, &ec, &ed, &rsa] {
        let token = issuer.token(claims.clone());
        // Nor can a client have a field taken away on the way (`Connection`), which the gate refuses or the filter comes after.
        let head = format!(
            "POST /x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nx-user: root\r\nX-Roles: admin\r\nconnection: x-user, keep-alive\r\n"
        );
        assert_eq!(client.exchange(format!("{head}content-length: 4\r\n\r\nbody")).await.status, 200, "{}", issuer.id);
        let request =
            H2Request::get("localhost", "/").header("authorization", &format!("Bearer {token}")).header("x-user", "root");
        assert_eq!(h2.send(&request).await.expect("a response").status, 200, "{}", issuer.id);
        for _ in 0..2 {
            let seen = origin.next_request().await;
            assert_eq!((seen.headers.all("x-user"), seen.headers.all("x-roles")), (vec!["ann"], vec!["a,b"]));
            assert_eq!(seen.header("authorization"), None);
        }
    }
    let log = serde_json::to_string(&edge.access_log_of(8).await).unwrap();
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn everybody_else_is_refused_on_every_way_in() {
    let (issuer, stranger) = (issuer("RS256", "k"), issuer("RS256", "k"));
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let filter = "jwt: {keys: {file: jwks.json}, audience: api, scopes: read, realm: orders, claims_to_headers: {x-user: sub}}";
    let edge = with_keys(filtered(&origin, filter).tls(), &[&issuer]).start().await;
    let mut h2 = h2(&edge).await;
    let claims = json!({"aud": "api", "scope": "read"});
    let public = issuer.jwk["n"].as_str().unwrap().as_bytes();
    let header = |algorithm: &str| json!({"alg": algorithm, "kid": "k"});
    let none = format!("{}.{}.", encoded(header("none").to_string()), encoded(claims.to_string()));
    let invalid = "Bearer realm=\"orders\", error=\"invalid_token\"";
    for (token, status, reason, challenge) in [
        (None, 401, "jwt_missing", "Bearer realm=\"orders\""),
        (Some("a.b".to_owned()), 401, "jwt_malformed", invalid),
        (Some(none), 401, "jwt_algorithm", invalid),
        (Some(forged(public, header("HS256"), claims.clone())), 401, "jwt_algorithm", invalid),
        (Some(stranger.token(claims.clone())), 401, "jwt_signature", invalid),
        (Some(issuer.token(json!({"aud": "api", "scope": "read", "exp": now() - 60}))), 401, "jwt_expired", invalid),
        (Some(issuer.token(json!({"aud": "shop", "scope": "read"}))), 401, "jwt_audience", invalid),
        (
            Some(issuer.token(json!({"aud": "api"}))),
            403,
            "jwt_scope",
            "Bearer realm=\"orders\", error=\"insufficient_scope\", scope=\"read\"",
        ),
    ] {
        let field = token.as_ref().map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        for upgrade in ["", UPGRADE] {
            let answer = edge.client().await.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\n{field}{upgrade}\r\n")).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (status, Some(challenge)), "{reason}");
        }
        let request = H2Request::get("localhost", "/");
        let request = token.iter().fold(request, |request, token| request.header("authorization", &format!("Bearer {token}")));
        assert_eq!(h2.send(&request).await.expect("a response").status, status, "{reason}");
        assert!(refused(&edge, reason).await >= 3.0, "{reason}");
    }
    let two = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {0}\r\nauthorization: Bearer {0}\r\n\r\n",
        issuer.token(claims)
    );
    assert_eq!(edge.client().await.exchange(two).await.status, 401);
    assert_eq!(origin.request_count(), 0);
}

#[tokio::test]
async fn a_websocket_may_bring_its_token_in_the_query_or_a_cookie() {
    let issuer = issuer("ES256", "k");
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let filter =
        "jwt: {keys: {file: jwks.json}, from: ['query:access_token', 'cookie:session'], claims_to_headers: {x-user: sub}}";
    let edge = with_keys(filtered(&origin, filter), &[&issuer]).start().await;
    let token = issuer.token(json!({"sub": "ann"}));
    let upgrade = "connection: upgrade, x-user\r\nupgrade: websocket\r\n";
    for (target, cookie, seen_target, seen_cookie) in [
        (format!("/ws?room=1&access_token={token}"), "theme=dark".to_owned(), "/ws?room=1", "theme=dark"),
        ("/ws".to_owned(), format!("theme=dark; session={token}; a=b"), "/ws", "theme=dark; a=b"),
    ] {
        let mut client = edge.client().await;
        let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n{upgrade}\r\n")).await;
        assert_eq!(answer.status, 101);
        let seen = origin.next_request().await;
        assert_eq!((seen.header("x-user"), seen.header("cookie")), (Some("ann"), Some(seen_cookie)));
        assert_eq!(seen.target, seen_target);
        client.send("ping").await;
        assert_eq!(client.read_bytes(4).await, b"ping");
    }
    let log = serde_json::to_string(&edge.access_log_now()).unwrap();
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn a_preflight_needs_no_token_where_cors_comes_first() {
    let issuer = issuer("ES256", "k");
    let origin = origin().respond(200, "hello").spawn().await;
    let filters = "cors: {origins: 'https://app.test'}\njwt: {keys: {file: jwks.json}}";
    let edge = with_keys(filtered(&origin, filters), &[&issuer]).start().await;
    let from = "host: x\r\norigin: https://app.test\r\n";
    let preflight = format!("OPTIONS / HTTP/1.1\r\n{from}access-control-request-method: GET\r\n\r\n");
    assert_eq!(edge.client().await.exchange(preflight).await.status, 204);
    for (token, status) in [(issuer.token(json!({})), 200), ("x".to_owned(), 401)] {
        let answer = edge.client().await.exchange(format!("GET / HTTP/1.1\r\n{from}authorization: Bearer {token}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some("https://app.test")));
    }
}

#[tokio::test]
async fn without_a_token_one_may_come_in_where_it_is_optional_and_is_nobody() {
    let issuer = issuer("HS512", "k");
    let origin = origin().respond(200, "hello").spawn().await;
    let filter = "jwt: {keys: {file: jwks.json}, optional: true, claims_to_headers: {x-user: sub}}";
    let edge = with_keys(filtered(&origin, filter), &[&issuer]).start().await;
    let answer = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: x\r\nX-User: root\r\nx-user: root\r\n\r\n").await;
    assert_eq!((answer.status, origin.next_request().await.header("x-user")), (200, None));
    assert_eq!(status(&edge, &issuer.token(json!({"sub": "ann"}))).await, 200);
    assert_eq!(origin.next_request().await.headers.all("x-user"), ["ann"]);
    assert_eq!(status(&edge, &issuer.token(json!({"exp": 1}))).await, 401, "one that is there must be valid");
}

/// What a service may take for a token must be valid, however it is written.
#[tokio::test]
async fn no_token_comes_in_as_none_at_all() {
    let issuer = issuer("HS512", "k");
    let origin = origin().respond(200, "hello").spawn().await;
    let filter = "jwt: {keys: {file: jwks.json}, from: [bearer, 'query:token'], optional: true, claims_to_headers: {x-user: sub}, \
                  forward_token: true}";
    let edge = with_keys(filtered(&origin, filter), &[&issuer]).tls().start().await;
    let (good, bad) = (issuer.token(json!({"sub": "ann"})), issuer.token(json!({"sub": "root", "exp": 1})));
    let mut h2 = h2(&edge).await;
    for (target, authorization, status) in [
        ("/".to_owned(), format!("Bearer\t{bad}"), 401),
        ("/".to_owned(), format!("Bearer\t{good}"), 200),
        ("/".to_owned(), format!("Bearer,{bad}"), 401),
        (format!("/?tok%65n={bad}"), "Basic YTpi".to_owned(), 401),
        (format!("/?token={good}&%74oken={bad}"), "Basic YTpi".to_owned(), 401),
        (format!("/?%74oken={good}"), "Basic YTpi".to_owned(), 200),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\r\n");
        assert_eq!(edge.client().await.exchange(request).await.status, status, "{target} {authorization}");
        let request = H2Request::get("localhost", &target).header("authorization", &authorization);
        assert_eq!(h2.send(&request).await.expect("a response").status, status, "{target} {authorization}");
    }
    assert_eq!(origin.request_count(), 4);
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    let (old, new) = (issuer("ES256", "old"), issuer("RS256", "new"));
    let filter = "jwt: {keys: {file: jwks.json}}";
    let builder = edge().route("all", &format!("respond: {{body: ok}}\nfilters:\n  - {filter}\n"));
    let edge = with_keys(builder, &[&old]).start().await;
    let (by_old, by_new) = (old.token(json!({})), new.token(json!({})));
    assert_eq!((status(&edge, &by_old).await, status(&edge, &by_new).await), (200, 401));
    let replace = |content: &str| {
        std::fs::write(edge.file("next"), content).unwrap();
        std::fs::rename(edge.file("next"), edge.file("jwks.json")).unwrap();
    };
    replace(&key_set(&[&new]));
    crate::eventually!(status(&edge, &by_new).await == 200);
    assert_eq!(status(&edge, &by_old).await, 401, "what was remembered was verified by other keys");
    // What cannot be read changes nothing; what comes after it does.
    let failing = async || edge.metric("weir_jwt_keys_failing", &[]).await;
    assert_eq!(failing().await, Some(0.0));
    replace("{\"keys\": [");
    crate::eventually!(failing().await == Some(1.0));
    assert_eq!((status(&edge, &by_new).await, edge.metric("weir_jwt_keys", &[]).await), (200, Some(1.0)));
    replace(&key_set(&[&old, &new]));
    crate::eventually!(status(&edge, &by_old).await == 200);
    assert_eq!(status(&edge, &by_new).await, 200);
    assert_eq!((failing().await, edge.metric("weir_jwt_keys", &[]).await), (Some(0.0), Some(2.0)));
}

#[tokio::test]
async fn keys_are_fetched_over_tls_and_rotate_without_a_refusal() {
    let (first, second, third) = (issuer("RS256", "1"), issuer("ES256", "2"), issuer("EdDSA", "3"));
    let published = Published::of(&[&first]).await;
    let edge = published.edge("").start().await;
    let tokens: Vec<String> = [&first, &second, &third].map(|issuer| issuer.token(json!({}))).to_vec();
    // The first request waits for the first fetch, should that not be done yet.
    assert_eq!(status(&edge, &tokens[0]).await, 200);
    let asked = published.origin.next_request().await;
    assert_eq!(
        (asked.target.as_str(), asked.header("accept")),
        ("/jwks.json", Some("application/jwk-set+json, application/json"))
    );
    // The issuer begins to sign with a new key: its first token is admitted.
    published.answers(answer(&[&first, &second]));
    assert_eq!(status(&edge, &tokens[1]).await, 200);
    assert_eq!((status(&edge, &tokens[0]).await, published.origin.request_count()), (200, 2));
    // The old key is gone with the next rotation, and so is who was admitted by it.
    published.answers(answer(&[&second, &third]));
    crate::eventually!(status(&edge, &tokens[2]).await == 200);
    assert_eq!((status(&edge, &tokens[0]).await, status(&edge, &tokens[1]).await), (401, 200));
}

#[tokio::test]
async fn an_issuer_in_trouble_leaves_the_keys_as_they_are() {
    let (known, unknown) = (issuer("ES256", "known"), issuer("ES256", "unknown"));
    let (good, bad) = (known.token(json!({})), unknown.token(json!({})));
    let large = json!({"keys": [known.jwk], "padding": "x".repeat(600 << 10)}).to_string();
    let secret = issuer("HS256", "unknown");
    let troubles = [
        ("an error", Answer::new(500, "")),
        ("not there", Answer::new(404, key_set(&[&unknown]))),
        ("a redirect", Answer::with_headers(302, &[("location", "https://localhost/")], "")),
        ("gone", Answer::nothing().reset()),
        ("closed", Answer::nothing().close()),
        ("not HTTP", Answer::raw("hello\r\n\r\n").close()),
        ("not JSON", Answer::new(200, "<html>")),
        ("no keys", Answer::new(200, "{\"keys\": []}")),
        ("keys of an unknown kind", Answer::new(200, json!({"keys": [{"kty": "AKP", "kid": "unknown"}]}).to_string())),
        ("a secret", Answer::new(200, key_set(&[&secret]))),
        ("too much", Answer::new(200, large)),
        ("cut off", Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\": [").close()),
    ];
    let each = troubles.into_iter().map(async |(what, trouble)| {
        let published = Published::of(&[&known]).await;
        let edge = published.edge("").start().await;
        assert_eq!(status(&edge, &good).await, 200);
        published.answers(trouble);
        assert_eq!(status(&edge, &bad).await, 401, "{what}");
        assert_eq!((published.origin.request_count(), refused(&edge, "jwt_key").await), (2, 1.0), "{what}");
        assert_eq!(status(&edge, &good).await, 200, "{what}");
        let failing = [edge.metric("weir_jwt_keys", &[]).await, edge.metric("weir_jwt_keys_failing", &[]).await];
        assert_eq!(failing, [Some(1.0), Some(1.0)], "{what}");
        assert_eq!(status(&edge, &known.token(json!({"sub": "x"}))).await, 200, "{what}: nor are they only remembered");
        published.answers(answer(&[&known, &unknown]));
        crate::eventually!(status(&edge, &bad).await == 200);
    });
    join_all(each).await;
}

#[tokio::test]
async fn what_is_in_the_query_of_the_issuers_url_is_shown_nowhere() {
    let known = issuer("ES256", "known");
    let issuer = origin().respond_with(move |_| answer(&[&known])).spawn().await;
    let url = format!("http://{}/keys", issuer.addr());
    let route = format!("respond: {{body: ok}}\nfilters:\n  - jwt: {{keys: {{url: '{url}?token=hunter2'}}}}\n");
    let edge = edge().route("all", &route).start().await;
    assert_eq!(issuer.next_request().await.target, "/keys?token=hunter2");
    assert!(edge.has_metric(&format!("weir_jwt_keys_failing{{source=\"{url}?[hidden]\"}} 0")).await);
    assert!(!edge.admin_get("/metrics").await.text().contains("hunter2"));
}

#[tokio::test]
async fn without_any_keys_nobody_comes_in_until_there_are_some() {
    let issuer = issuer("ES256", "k");
    let token = issuer.token(json!({}));
    let published = Published::new(Answer::new(503, "")).await;
    let edge = published.edge("").start().await;
    let answer_now = ask(&edge, &token).await;
    assert_eq!((answer_now.status, answer_now.header("retry-after")), (503, Some("5")));
    assert!(refused(&edge, "jwt_no_keys").await >= 1.0);
    assert_eq!(edge.get("/").await.status, 401, "without a token one is told to bring one");
    published.answers(answer(&[&issuer]));
    crate::eventually!(status(&edge, &token).await == 200);
    // A server that nobody has vouched for is none.
    let stranger = Published { ca: ca(), ..Published::of(&[&issuer]).await };
    let edge = stranger.edge("").start().await;
    assert_eq!(status(&edge, &token).await, 503);
    assert_eq!(stranger.origin.request_count(), 0);
}

#[tokio::test]
async fn however_many_ask_one_question_is_under_way() {
    let (known, unknown) = (issuer("ES256", "known"), issuer("ES256", "unknown"));
    let gate = Gate::new();
    let slow = |issuers: &[&Issuer]| Answer::nothing().wait(&gate).bytes(plain(&key_set(issuers)));
    let published = Published::new(slow(&[&known])).await;
    let edge = published.edge("").start().await;
    let (good, bad) = (known.token(json!({})), unknown.token(json!({})));
    // All of them wait for the first keys.
    let (edge, done) = (Arc::new(edge), Arc::new(AtomicUsize::new(0)));
    let many = |token: &str| {
        let each = (0..30).map(|_| {
            let (edge, token, done) = (edge.clone(), token.to_owned(), done.clone());
            tokio::spawn(async move {
                let status = status(&edge, &token).await;
                done.fetch_add(1, Ordering::Relaxed);
                status
            })
        });
        join_all(each.collect::<Vec<_>>())
    };
    let waiting = many(&good);
    crate::eventually!(published.origin.request_count() == 1);
    assert_eq!(done.load(Ordering::Relaxed), 0);
    gate.pass_one();
    assert!(waiting.await.into_iter().all(|status| status.unwrap() == 200));
    // A flood of tokens by a key that is not there has the issuer asked once; others do not wait meanwhile.
    let waiting = many(&bad);
    crate::eventually!(published.origin.request_count() == 2);
    assert_eq!(status(&edge, &good).await, 200);
    gate.pass_one();
    assert!(waiting.await.into_iter().all(|status| status.unwrap() == 401));
    assert_eq!((status(&edge, &bad).await, published.origin.request_count()), (401, 2), "and not again a moment later");
}

fn plain(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_reload_keeps_the_keys_that_were_fetched() {
    let issuer = issuer("ES256", "k");
    let token = issuer.token(json!({"aud": "api"}));
    let published = Published::of(&[&issuer]).await;
    let builder = published.edge(", audience: api");
    let config = builder.config();
    let edge = builder.start_as(&config).await;
    assert_eq!(status(&edge, &token).await, 200);
    published.answers(Answer::new(500, ""));
    edge.reload(&config.replace("audience: api", "audience: shop")).await;
    assert_eq!(status(&edge, &token).await, 401, "what was remembered is forgotten");
    edge.reload(&config).await;
    assert_eq!((status(&edge, &token).await, published.origin.request_count()), (200, 1));
    // Two routes with the same keys fetch them once.
    let both = config.replace("routes:\n", &format!(
        "routes:\n  - name: other\n    match: {{path: /other}}\n    respond: {{body: ok}}\n    filters:\n      - jwt: {{keys: {}}}\n", published.keys()
    ));
    edge.reload(&both).await;
    let other = edge
        .client()
        .await
        .exchange(format!(
            "GET /other HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
            issuer.token(Value::Object(Default::default()))
        ))
        .await;
    assert_eq!((other.status, published.origin.request_count()), (200, 1));
}
