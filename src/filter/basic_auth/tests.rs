use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::{
    filter::{
        Chain,
        tests_support::{Exchange, compile, refused},
    },
    types::{Problem, Problems},
};

/// `open sesame`, by `crypt(3)` and by the `argon2` of Python; the second password is `grün: tea`.
const SLOW: &str = "$2y$10$abcdefghijklmnopqrstuu4SuEsu2LsUrAYUpWQHLMMc4GV5pZTxK";
const FAST: &str = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$dbz1nCBtV1pfQDGSDojrSw$9CATuzYy/WG98HdD75Ab8wBCsMA2r4otjTwFs94HJSo";

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

fn file(content: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("users"), content).unwrap();
    directory
}

fn filter(directory: &TempDir, mut options: serde_json::Value) -> String {
    options["users"] = directory.path().join("users").to_str().unwrap().into();
    format!(r#"[{{"basic_auth": {options}}}]"#)
}

fn chain(content: &str, options: serde_json::Value) -> Chain {
    compile(&filter(&file(content), options))
}

fn read(content: &str) -> (Option<Users>, Vec<Problem>) {
    let (directory, problems) = (file(content), Problems::default());
    let path: ConfigPath = serde_json::from_value(directory.path().join("users").to_str().unwrap().into()).unwrap();
    let users = Users::read(&path, &problems.root().key("users"));
    (users, problems.take())
}

fn verifier(content: &str, turns: Turns, keep: Duration) -> Arc<Verifier> {
    Arc::new(Verifier::new(read(content).0.unwrap(), Arc::new(turns), keep).unwrap())
}

async fn ask(verifier: &Arc<Verifier>, name: &str, password: &str) -> Result<Option<HeaderValue>, ()> {
    let tag = verifier.tag(name, password.as_bytes());
    verifier.clone().verify(tag, name.into(), password.into()).await
}

/// Sends this, waits for the verification if there is one, and tells whether there was.
async fn send(exchange: &mut Exchange, chain: &Chain, authorization: Option<&str>) -> (Result<(), (Reply, &'static str)>, bool) {
    if let Some(authorization) = authorization {
        exchange.set("authorization", authorization);
    }
    let (verdict, waited) = match exchange.begin(chain) {
        Ok(verdict) => (verdict, false),
        Err(later) => (exchange.resume(chain, later.wait().await), true),
    };
    match verdict {
        Verdict::Continue => (Ok(()), waited),
        Verdict::Answer { reply, reason } => (Err((reply, reason)), waited),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_right_password_comes_in_under_its_name_and_is_verified_once() {
    let chain = chain(&format!("# ours\n\r\nann:{SLOW}\r\nbob:{ARGON2}\n"), serde_json::json!({}));
    for (name, password, waits) in
        [("ann", "open sesame", true), ("ann", "open sesame", false), ("bob", "grün: tea", true), ("bob", "grün: tea", false)]
    {
        let mut exchange = Exchange::default();
        exchange.set("x-auth-user", "forged");
        exchange.set("x.auth.user", "forged");
        let (result, waited) = send(&mut exchange, &chain, Some(&basic(name, password))).await;
        assert!(result.is_ok(), "{name}");
        assert_eq!(waited, waits, "{name}");
        assert_eq!((exchange.get("x-auth-user"), exchange.get("authorization")), (Some(name), None));
        assert_eq!(exchange.get("x.auth.user"), None, "some services cannot tell the two apart");
    }
}

#[tokio::test]
async fn the_password_goes_on_if_it_is_asked_to_and_is_verified_each_time_without_a_cache() {
    let options = serde_json::json!({"forward_password": true, "user_header": "x-who", "cache": "0"});
    let chain = chain(&format!("bob:{ARGON2}"), options);
    let sent = basic("bob", "grün: tea").replace("Basic", "bAsIc ");
    for _ in 0..2 {
        let mut exchange = Exchange::default();
        let (result, waited) = send(&mut exchange, &chain, Some(&sent)).await;
        assert!(result.is_ok() && waited);
        assert_eq!((exchange.get("x-who"), exchange.get("authorization")), (Some("bob"), Some(&*sent)));
    }
}

#[tokio::test]
async fn anything_else_is_refused() {
    let chain = chain(&format!("bob:{ARGON2}"), serde_json::json!({"realm": "orders"}));
    for (sent, reason, waits) in [
        (None, "basic_auth_missing", false),
        (Some("Bearer abc".into()), "basic_auth_missing", false),
        (Some("".into()), "basic_auth_missing", false),
        (Some("Basic".into()), "basic_auth_invalid", false),
        (Some("Basic !".into()), "basic_auth_invalid", false),
        (Some(format!("Basic {}", BASE64_STANDARD.encode("bob"))), "basic_auth_invalid", false),
        (Some(format!("Basic {}", BASE64_STANDARD.encode(b"bob:\xff"))), "basic_auth_invalid", false),
        (Some(basic("bob", "grün: tea\0")), "basic_auth_invalid", false),
        (Some(basic("bob", "grün: te")), "basic_auth_invalid", true),
        (Some(basic("bob", "")), "basic_auth_invalid", true),
        (Some(basic("Bob", "grün: tea")), "basic_auth_invalid", true),
        (Some(basic("", "grün: tea")), "basic_auth_invalid", true),
        // What failed is not remembered.
        (Some(basic("bob", "grün: te")), "basic_auth_invalid", true),
    ] {
        let mut exchange = Exchange::default();
        let (result, waited) = send(&mut exchange, &chain, sent.as_deref()).await;
        let (reply, found) = result.unwrap_err();
        assert_eq!((reply.status.as_u16(), found, waited), (401, reason, waits), "{sent:?}");
        assert_eq!(reply.headers[0].1, "Basic realm=\"orders\", charset=\"UTF-8\"");
        assert_eq!(exchange.get("x-auth-user"), None);
    }
    let mut twice = Exchange::default();
    twice.fields.append("authorization", basic("bob", "grün: tea").parse().unwrap());
    twice.fields.append("authorization", basic("bob", "grün: tea").parse().unwrap());
    assert_eq!(send(&mut twice, &chain, None).await.0.unwrap_err().1, "basic_auth_invalid");
}

#[tokio::test]
async fn an_unknown_name_costs_what_a_known_one_costs() {
    let content = format!("ann:{FAST}\nbob:{ARGON2}");
    let users = read(&content).0.unwrap();
    for stranger in 0..4 {
        assert_eq!(users.verify("ann", b"open sesame", stranger).unwrap(), "ann");
        // The hash that stands in is computed, and even the password that is right for it admits nobody.
        assert_eq!(users.verify("eve", b"open sesame", stranger), None);
        assert_eq!(users.verify("eve", "grün: tea".as_bytes(), stranger), None);
    }
    let full = verifier(&content, Turns::new(0, 0), Duration::from_secs(60));
    for name in ["ann", "eve"] {
        assert_eq!(ask(&full, name, "open sesame").await, Err(()), "`{name}` needs a turn");
    }
}

#[tokio::test]
async fn many_requests_with_the_same_password_are_one_verification() {
    // One turn and no place to wait: a second verification would be refused.
    let verifier = verifier(&format!("ann:{SLOW}"), Turns::new(1, 0), Duration::from_secs(60));
    let right = join_all((0..200).map(|_| ask(&verifier, "ann", "open sesame"))).await;
    assert!(right.iter().all(|result| result.as_ref().is_ok_and(Option::is_some)));
    assert!(verifier.known(&verifier.tag("ann", b"open sesame")).is_some());
    assert!(verifier.known(&verifier.tag("ann", b"open sesam")).is_none());
    let passwords: Vec<String> = (0..5).map(|number| format!("wrong {number}")).collect();
    let wrong = join_all(passwords.iter().map(|password| ask(&verifier, "ann", password))).await;
    assert_eq!(wrong.iter().filter(|result| result.is_err()).count(), 4, "others had to wait, and had nowhere to");
    assert_eq!(ask(&verifier, "ann", "wrong 1").await, Ok(None), "the turn is given back");
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_turn_is_told_to_come_again() {
    let verifier = verifier(&format!("ann:{FAST}"), Turns::new(0, 1), Duration::ZERO);
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        assert_eq!(ask(&verifier, "ann", "open sesame").await, Err(()));
    }
    assert!(begun.elapsed() >= Duration::from_secs(10), "both waited: the first gave its place back");
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_ends() {
    let verifier_of = |keep| verifier(&format!("ann:{FAST}"), Turns::new(1, 1), keep);
    let tag = |number: u32| {
        let mut tag = verify::Tag::default();
        tag[..4].copy_from_slice(&number.to_be_bytes());
        tag
    };
    let long = verifier_of(Duration::from_secs(60));
    (0..5000).for_each(|number| long.remember(tag(number), HeaderValue::from_static("ann")));
    assert_eq!(long.known_count(), 4096);
    assert!(long.known(&tag(4999)).is_some() && long.known(&tag(0)).is_none(), "the oldest make room");
    let short = verifier_of(Duration::from_nanos(1));
    short.remember(tag(1), HeaderValue::from_static("ann"));
    assert!(short.known(&tag(1)).is_none());
    let none = verifier_of(Duration::ZERO);
    assert!(ask(&none, "ann", "open sesame").await.unwrap().is_some());
    assert_eq!(none.known_count(), 0);
}

#[test]
fn each_line_that_is_no_slow_hash_is_named() {
    let argon2i = ARGON2.replace("argon2id", "argon2i");
    let huge = ARGON2.replace("m=64", "m=300000");
    for (line, word) in [
        ("ann", "is not `name:hash`"),
        (":x", "name of a user"),
        ("a n:x", "name of a user"),
        ("ann:open-sesame", "fast to guess"),
        ("ann:", "fast to guess"),
        ("ann:$apr1$abcdefgh$G2QxRbsGrXPTb4XhkRa0s0", "fast to guess"),
        ("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "fast to guess"),
        ("ann:rOYMpe4NyOvDY", "fast to guess"),
        (&format!("ann:{}", FAST.replace("2y", "2x")), "fast to guess"),
        (&format!("ann:{argon2i}"), "fast to guess"),
        (&format!("ann:{FAST}x"), "no hash of bcrypt"),
        (&format!("ann:{FAST}:more"), "no hash of bcrypt"),
        (&format!("ann:{}", FAST.replace("$04", "$03")), "4 to 15"),
        (&format!("ann:{}", FAST.replace("$04", "$31")), "4 to 15"),
        ("ann:$argon2id$v=19$m=64,t=1,p=1", "no hash of argon2id"),
        (&format!("ann:{}", ARGON2.replace("m=64", "m=1")), "no hash of argon2id"),
        (&format!("ann:{}", ARGON2.replace("v=19", "v=20")), "no hash of argon2id"),
        (&format!("ann:{huge}"), "at most"),
        (&format!("bob:{FAST}"), "`bob` stands in a line before"),
    ] {
        let (users, problems) = read(&format!("# ours\nbob:{SLOW}\n{line}\n"));
        assert!(users.is_none() && problems.len() == 1, "{line}: {problems:?}");
        let message = &problems[0].message;
        assert!(message.starts_with("line 3 of `") && message.contains(word), "{line}: {message}");
        let secret = line.split_once(':').map_or("", |(_, secret)| secret);
        assert!(secret.len() < 2 || !message.contains(secret), "{message}");
    }
}

#[test]
fn a_cost_that_is_low_is_warned_of_and_mistakes_are_named() {
    let (users, problems) = read(&format!("ann:{SLOW}\nbob:{FAST}\neve:{FAST}"));
    assert!(users.is_some() && problems.len() == 1, "{problems:?}");
    assert!(problems[0].code == Code::Insecure && problems[0].message.starts_with("line 2 of"), "{problems:?}");
    let directory = file(&format!("ann:{SLOW}"));
    for (options, word) in [
        (serde_json::json!({"realm": "a\"b"}), "cannot stand"),
        (serde_json::json!({"user_header": "a b"}), "not the name"),
        (serde_json::json!({"user_header": "Authorization"}), "where the password comes from"),
        (serde_json::json!({"cache": "2h"}), "too long"),
    ] {
        let problems = refused(&filter(&directory, options));
        assert!(problems.len() == 1 && problems[0].message.contains(word), "{problems:?}");
    }
    for content in ["", "# nobody\n"] {
        let problems = refused(&filter(&file(content), serde_json::json!({})));
        assert!(problems.len() == 1 && problems[0].message.contains("holds no user"), "{problems:?}");
    }
    let problems = refused(r#"[{"basic_auth": {"users": "/nonexistent/users"}}]"#);
    assert!(problems.len() == 1 && problems[0].message.contains("cannot read"), "{problems:?}");
    let shown = format!("{:?}", compile(&filter(&directory, serde_json::json!({}))));
    assert!(shown.contains("1 users") && !shown.contains(SLOW), "{shown}");
}
