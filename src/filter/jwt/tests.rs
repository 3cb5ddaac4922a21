use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::{
    filter::{
        Chain,
        tests_support::{Exchange, compile, refused},
    },
    types::Problem,
};

#[path = "../../../tests/it/support/tokens.rs"]
mod tokens;
use tokens::{ALGORITHMS, Issuer, encoded, forged, issuer, key_set, now};

fn file(content: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keys"), content).unwrap();
    directory
}

fn filter(directory: &tempfile::TempDir, mut options: Value) -> String {
    options["keys"]["file"] = directory.path().join("keys").to_str().unwrap().into();
    json!([{"jwt": options}]).to_string()
}

fn chain(issuers: &[&Issuer], options: Value) -> Chain {
    compile(&filter(&file(&key_set(issuers)), options))
}

fn bearing(token: &str) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.set("authorization", &format!("Bearer {token}"));
    exchange
}

/// The reason why this token is refused, or `None`.
fn reason(chain: &Chain, token: &str) -> Option<&'static str> {
    bearing(token).request(chain).err().map(|(_, reason)| reason)
}

#[test]
fn every_algorithm_verifies_what_it_signed_and_nothing_else() {
    let issuers = ALGORITHMS.map(|algorithm| issuer(algorithm, algorithm));
    let all: Vec<&Issuer> = issuers.iter().collect();
    let chain = chain(&all, json!({}));
    for issuer in &issuers {
        let token = issuer.token(json!({"sub": "ann"}));
        assert_eq!(reason(&chain, &token), None, "{}", issuer.id);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut broken = BASE64.decode(signature).unwrap();
        broken[7] ^= 1;
        assert_eq!(reason(&chain, &format!("{signed}.{}", encoded(&broken))), Some("jwt_signature"), "{}", issuer.id);
        assert_eq!(reason(&chain, &format!("{signed}.")), Some("jwt_signature"), "{}", issuer.id);
        // By the key of each other issuer, under this one's name.
        for other in &issuers {
            let header = json!({"alg": issuer.id, "kid": issuer.id});
            let expected = (other.id != issuer.id).then_some("jwt_signature");
            assert_eq!(
                reason(&chain, &other.token_with(header, json!({"exp": now() + 60}))),
                expected,
                "{} {}",
                issuer.id,
                other.id
            );
        }
        // Under the name of each other key: that one does not do this.
        for other in &issuers {
            let header = json!({"alg": issuer.id, "kid": other.id});
            let expected = (other.id != issuer.id).then_some("jwt_algorithm");
            assert_eq!(
                reason(&chain, &issuer.token_with(header, json!({"exp": now() + 60}))),
                expected,
                "{} {}",
                issuer.id,
                other.id
            );
        }
    }
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let rsa = issuer("RS256", "k");
    let mut any = issuer("PS256", "p");
    any.jwk.as_object_mut().unwrap().remove("alg");
    let chain = chain(&[&rsa, &any], json!({}));
    let claims = json!({"sub": "admin", "exp": now() + 60});
    let n = BASE64.decode(rsa.jwk["n"].as_str().unwrap()).unwrap();
    for secret in [n.as_slice(), rsa.jwk["n"].as_str().unwrap().as_bytes(), rsa.jwk.to_string().as_bytes(), b""] {
        for header in [json!({"alg": "HS256", "kid": "k"}), json!({"alg": "HS256"}), json!({"alg": "RS256", "kid": "k"})] {
            assert!(reason(&chain, &forged(secret, header.clone(), claims.clone())).is_some(), "{header}");
        }
    }
    for none in ["none", "None", "NONE", "nOnE", "", "rs256", "HS256 ", "RS1"] {
        for signature in ["", "AA"] {
            let token =
                format!("{}.{}.{signature}", encoded(json!({"alg": none, "kid": "k"}).to_string()), encoded(claims.to_string()));
            assert_eq!(reason(&chain, &token), Some("jwt_algorithm"), "{none}");
        }
    }
    // A key that does not say what it is for does what its kind can do.
    let header = |algorithm: &str| json!({"alg": algorithm, "kid": "p"});
    assert_eq!(reason(&chain, &any.token_with(header("PS256"), claims.clone())), None);
    assert_eq!(reason(&chain, &any.token_with(header("RS256"), claims.clone())), Some("jwt_signature"));
    assert_eq!(reason(&chain, &any.token_with(header("ES256"), claims.clone())), Some("jwt_algorithm"));
    // What a token brings along is nothing to go by.
    let stranger = issuer("RS256", "k");
    let header = json!({"alg": "RS256", "kid": "k", "jwk": stranger.jwk, "jku": "https://evil.test/jwks.json", "x5u": "https://evil.test/x"});
    assert_eq!(reason(&chain, &stranger.token_with(header, claims.clone())), Some("jwt_signature"));
    assert_eq!(
        reason(&chain, &stranger.token_with(json!({"alg": "RS256", "kid": "z", "jwk": stranger.jwk}), claims)),
        Some("jwt_key")
    );
}

proptest! {
    #[test]
    fn a_token_that_was_touched_is_no_token(place in any::<Index>(), letter in "[A-Za-z0-9._=-]|") {
        static CHAIN: LazyLock<(Chain, Vec<String>)> = LazyLock::new(|| {
            let issuers = ["HS256", "ES256", "EdDSA"].map(|algorithm| issuer(algorithm, algorithm));
            let tokens = issuers.iter().map(|issuer| issuer.token(json!({"sub": "ann"}))).collect();
            (chain(&issuers.each_ref(), json!({"cache": "0"})), tokens)
        });
        for token in &CHAIN.1 {
            let place = place.index(token.len());
            let touched = format!("{}{letter}{}", &token[..place], &token[place + 1..]);
            prop_assert_eq!(reason(&CHAIN.0, &touched).is_none(), touched == *token, "{}", touched);
        }
    }
}

#[test]
fn the_examples_of_the_standards_verify() {
    // RFC 7515 appendices A.1 to A.4; RFC 8037 appendix A.4.
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        (
            json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ),
        (
            json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
            format!("eyJhbGciOiJSUzI1NiJ9.{claims}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"),
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            format!("eyJhbGciOiJFUzI1NiJ9.{claims}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
        ),
        (
            json!({"kty": "EC", "crv": "P-521", "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk", "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}),
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn".to_owned(),
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(),
        ),
    ];
    for (jwk, token) in examples {
        let set = json!({"keys": [jwk]}).to_string();
        let keys = keys::KeySet::of_file(set.as_bytes()).unwrap();
        let parsed = Token::parse(&token).unwrap();
        assert_eq!(keys.verify(&parsed, &[]), Ok(()), "{}", parsed.algorithm);
        // It expired in 2011, or claims nothing at all.
        let (directory, refused) = (file(&set), ["jwt_expired", "jwt_malformed"]);
        assert!(reason(&compile(&filter(&directory, json!({}))), &token).is_some_and(|reason| refused.contains(&reason)));
    }
}

#[test]
fn times_are_looked_at_with_leeway() {
    let issuer = issuer("ES256", "k");
    let strict = chain(&[&issuer], json!({"leeway": "10s", "cache": "0"}));
    let now = now();
    for (claims, expected) in [
        (json!({"exp": now + 60}), None),
        (json!({"exp": now - 5}), None),
        (json!({"exp": now as f64 + 60.5}), None),
        (json!({"exp": now - 15}), Some("jwt_expired")),
        (json!({"exp": 0}), Some("jwt_expired")),
        (json!({"exp": -1}), Some("jwt_expired")),
        (json!({"exp": null}), Some("jwt_malformed")),
        (json!({"exp": (now + 60).to_string()}), Some("jwt_malformed")),
        (json!({"exp": [now + 60]}), Some("jwt_malformed")),
        (json!({"exp": now + 60, "nbf": now + 5}), None),
        (json!({"exp": now + 60, "nbf": now + 20}), Some("jwt_early")),
        (json!({"exp": now + 60, "nbf": "0"}), Some("jwt_malformed")),
        (json!({"exp": now + 60, "iat": now + 20}), Some("jwt_early")),
        (json!({"exp": now + 60, "iat": now - 20}), None),
        (json!({"exp": now + 60, "iat": {}}), Some("jwt_malformed")),
        (json!({}), Some("jwt_expired")),
    ] {
        let token = issuer.token_with(json!({"alg": "ES256", "kid": "k"}), claims.clone());
        assert_eq!(reason(&strict, &token), expected, "{claims}");
    }
    let (specs, _) = problems(&filter(&file(&key_set(&[&issuer])), json!({"require_expiry": false})));
    let lenient = specs.unwrap();
    assert_eq!(reason(&lenient, &issuer.token_with(json!({"alg": "ES256"}), json!({}))), None);
    assert_eq!(reason(&lenient, &issuer.token_with(json!({"alg": "ES256"}), json!({"exp": 1}))), Some("jwt_expired"));
}

/// The chain, where there are only warnings, and they.
fn problems(filters: &str) -> (Option<Chain>, Vec<Problem>) {
    let problems = crate::types::Problems::default();
    let specs: Vec<crate::filter::FilterSpec> = serde_json::from_str(filters).unwrap();
    (crate::filter::Chains::default().build("route r", &specs, &problems.root().key("filters")), problems.take())
}

#[test]
fn issuer_audience_type_scopes_and_claims_are_asked_for() {
    let issuer = issuer("EdDSA", "k");
    let good = json!({"iss": "https://a.test", "aud": ["x", "api"], "scope": "read write", "tenant": "acme", "level": 3,
        "realm_access": {"roles": ["user", "admin"]}});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = good.clone();
        change(&mut claims);
        issuer.token(claims)
    };
    let chain = chain(
        &[&issuer],
        json!({
            "issuer": ["https://a.test", "https://b.test"], "audience": "api", "type": "at+jwt", "scopes": ["read", "write"], "require": "level",
            "claims": {"tenant": ["acme", "other"], "/realm_access/roles": "admin", "level": ["3", "1e20", "100000000000000000000"]}
        }),
    );
    assert_eq!(reason(&chain, &with(&|_| ())), Some("jwt_type"));
    let typed = |kind: Value, change: &dyn Fn(&mut Value)| {
        let mut claims = good.clone();
        claims["exp"] = (now() + 60).into();
        change(&mut claims);
        issuer.token_with(json!({"alg": "EdDSA", "typ": kind}), claims)
    };
    let at = json!("at+jwt");
    for (kind, change, expected) in [
        (at.clone(), &(|_: &mut Value| ()) as &dyn Fn(&mut Value), None),
        (json!("application/AT+JWT"), &|_| (), None),
        (json!("JWT"), &|_| (), Some("jwt_type")),
        (json!("x/at+jwt"), &|_| (), Some("jwt_type")),
        (at.clone(), &|claims| claims["iss"] = "https://b.test".into(), None),
        (at.clone(), &|claims| claims["iss"] = "https://a.test/".into(), Some("jwt_issuer")),
        (at.clone(), &|claims| claims["iss"] = json!(["https://a.test"]), Some("jwt_issuer")),
        (at.clone(), &|claims| claims["iss"] = Value::Null, Some("jwt_issuer")),
        (at.clone(), &|claims| claims["aud"] = "api".into(), None),
        (at.clone(), &|claims| claims["aud"] = "apis".into(), Some("jwt_audience")),
        (at.clone(), &|claims| claims["aud"] = json!([]), Some("jwt_audience")),
        (at.clone(), &|claims| claims["aud"] = json!([["api"]]), Some("jwt_audience")),
        (at.clone(), &|claims| drop(claims.as_object_mut().unwrap().remove("aud")), Some("jwt_audience")),
        (at.clone(), &|claims| claims["scope"] = "write  read x".into(), None),
        (at.clone(), &|claims| claims["scope"] = "read".into(), Some("jwt_scope")),
        (at.clone(), &|claims| claims["scope"] = "readwrite".into(), Some("jwt_scope")),
        (at.clone(), &|claims| (claims["scope"], claims["scp"]) = (Value::Null, json!(["read", "write"])), None),
        (at.clone(), &|claims| claims["tenant"] = "Acme".into(), Some("jwt_claim")),
        (at.clone(), &|claims| claims["tenant"] = json!(["z", "other"]), None),
        (at.clone(), &|claims| claims["tenant"] = json!({"acme": 1}), Some("jwt_claim")),
        (at.clone(), &|claims| claims["realm_access"]["roles"] = json!(["user"]), Some("jwt_claim")),
        (at.clone(), &|claims| claims["level"] = 4.into(), Some("jwt_claim")),
        (at.clone(), &|claims| claims["level"] = json!([4, 1e20]), Some("jwt_claim")),
        (at.clone(), &|claims| claims["level"] = Value::Null, Some("jwt_claim")),
    ] {
        let token = typed(kind.clone(), change);
        assert_eq!(
            reason(&chain, &token),
            expected,
            "{kind} {}",
            String::from_utf8_lossy(&BASE64.decode(token.split('.').nth(1).unwrap()).unwrap())
        );
    }
    // Without an audience of its own, it takes no token that is for somebody (RFC 7519 section 4.1.3).
    let nobody = self::chain(&[&issuer], json!({}));
    assert_eq!(reason(&nobody, &issuer.token(json!({"aud": "api"}))), Some("jwt_audience"));
    assert_eq!(reason(&nobody, &issuer.token(json!({}))), None);
    assert_eq!(reason(&self::chain(&[&issuer], json!({"audience": "*"})), &issuer.token(json!({"aud": "api"}))), None);
}

#[test]
fn the_endpoint_is_told_and_nobody_else_can_tell_it() {
    let issuer = issuer("HS256", "k");
    let headers = json!({"x-user": "sub", "x-roles": "/realm/roles", "x-admin": "admin"});
    let chain = chain(&[&issuer], json!({"claims_to_headers": headers, "optional": true}));
    let forge = |exchange: &mut Exchange| {
        for name in ["x-user", "x.user", "x-roles", "x-admin"] {
            exchange.fields.append(name, "forged".parse().unwrap());
            exchange.fields.append(name, "twice".parse().unwrap());
        }
    };
    for _ in 0..2 {
        let mut exchange = bearing(&issuer.token(json!({"sub": "ann", "realm": {"roles": ["a", "b", 3]}, "admin": null})));
        forge(&mut exchange);
        exchange.request(&chain).unwrap();
        assert_eq!(
            (exchange.get("x-user"), exchange.get("x-roles"), exchange.get("x-admin").or(exchange.get("x.user"))),
            (Some("ann"), Some("a,b,3"), None)
        );
        assert_eq!((exchange.get("authorization"), exchange.fields.get_all("x-user").iter().count()), (None, 1));
        assert!(exchange.keeping.personal, "the answer is not for others");
    }
    let mut anonymous = Exchange::default();
    forge(&mut anonymous);
    anonymous.request(&chain).unwrap();
    let mut refused = bearing("a.b.c");
    forge(&mut refused);
    assert_eq!(refused.request(&chain).unwrap_err().1, "jwt_malformed");
    for exchange in [anonymous, refused] {
        assert!(["x-user", "x.user", "x-roles", "x-admin"].iter().all(|name| exchange.get(name).is_none()));
    }
}

#[test]
fn a_claim_that_could_be_read_as_something_else_is_told_nobody() {
    let issuer = issuer("HS256", "k");
    let chain = chain(&[&issuer], json!({"claims_to_headers": {"x-c": "c"}}));
    for (claim, expected) in [
        (json!("a"), Ok("a".into())),
        (json!(""), Ok("".into())),
        (json!("a, b"), Ok("a, b".into())),
        (json!("Jürgen"), Ok("Jürgen".into())),
        (json!(9007199254740993_u64), Ok("9007199254740993".into())),
        (json!(u64::MAX), Ok("18446744073709551615".into())),
        (json!(1.5), Ok("1.5".into())),
        // Longer ones lose digits, so that two people would be one.
        (serde_json::from_str("18446744073709551616").unwrap(), Err("jwt_header")),
        (json!(["a", -1e16]), Err("jwt_header")),
        (json!(true), Ok("true".into())),
        (json!([]), Ok(String::new())),
        (json!(["a"]), Ok("a".into())),
        (json!("a\r\nx-admin: 1"), Err("jwt_header")),
        (json!("a\0"), Err("jwt_header")),
        (json!("a\u{85}b"), Err("jwt_header")),
        (json!(" a"), Err("jwt_header")),
        (json!("a\t"), Err("jwt_header")),
        (json!(["a", "b,admin"]), Err("jwt_header")),
        (json!(["a", " b"]), Err("jwt_header")),
        (json!(["a", ""]), Err("jwt_header")),
        (json!(["a", null]), Err("jwt_header")),
        (json!({"a": 1}), Err("jwt_header")),
    ] {
        let mut exchange = bearing(&issuer.token(json!({"c": claim})));
        let found = exchange.request(&chain).map(|()| String::from_utf8(exchange.fields["x-c"].as_bytes().to_vec()).unwrap());
        assert_eq!(
            found.map_err(|(reply, reason)| (reply.status.as_u16(), reason)),
            expected.map_err(|reason| (403, reason)),
            "{claim}"
        );
    }
}

#[test]
fn a_refusal_tells_clients_little_and_the_log_much() {
    let issuer = issuer("HS256", "k");
    let chain = chain(&[&issuer], json!({"realm": "orders", "scopes": ["read", "a:b"]}));
    let stranger = self::issuer("HS256", "k");
    let mut twice = bearing(&issuer.token(json!({"scope": "read a:b"})));
    twice.fields.append("authorization", "Bearer x".parse().unwrap());
    let invalid = "Bearer realm=\"orders\", error=\"invalid_token\"";
    for (mut exchange, status, reason, challenge) in [
        (Exchange::default(), 401, "jwt_missing", "Bearer realm=\"orders\""),
        (bearing(""), 401, "jwt_malformed", invalid),
        (bearing(&"a".repeat(20_000)), 401, "jwt_malformed", invalid),
        (twice, 401, "jwt_malformed", invalid),
        (bearing(&stranger.token(json!({}))), 401, "jwt_signature", invalid),
        (bearing(&issuer.token(json!({"exp": 1}))), 401, "jwt_expired", invalid),
        (
            bearing(&issuer.token(json!({}))),
            403,
            "jwt_scope",
            "Bearer realm=\"orders\", error=\"insufficient_scope\", scope=\"read a:b\"",
        ),
    ] {
        let (reply, found) = exchange.request(&chain).unwrap_err();
        assert_eq!((reply.status.as_u16(), found), (status, reason));
        assert_eq!(reply.headers, [(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]);
    }
}

#[test]
fn the_token_is_taken_from_where_it_is_looked_for() {
    let issuer = issuer("HS256", "k");
    let token = issuer.token(json!({}));
    let places = json!({"from": ["cookie:session", "query:token", "header:x-token"]});
    let chain = chain(&[&issuer], places);
    let mut exchange = Exchange { query: Some(format!("a=1&token={token}")), ..Exchange::default() };
    exchange.set("cookie", &format!("a=1; session={token}; b=2"));
    exchange.set("x-token", "whatever");
    exchange.set("authorization", "Bearer other");
    exchange.request(&chain).unwrap();
    assert_eq!((exchange.get("cookie"), exchange.forward.as_deref()), (Some("a=1; b=2"), Some("/?a=1")));
    assert_eq!((exchange.get("x-token"), exchange.get("authorization")), (None, Some("Bearer other")));
    let keeping = self::chain(&[&issuer], json!({"forward_token": true}));
    let mut exchange = bearing(&token);
    exchange.request(&keeping).unwrap();
    assert_eq!(exchange.get("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(bearing(&token).request(&chain).unwrap_err().1, "jwt_missing");
}

#[test]
fn keys_that_are_for_something_else_are_left_out() {
    let good = issuer("RS256", "good");
    let mut pem = issuer("ES256", "published");
    pem.jwk["d"] = "AAAA".into();
    let short = json!({"kty": "RSA", "kid": "short", "n": encoded([0xff; 128]), "e": "AQAB"});
    let keys = [
        (good.jwk.clone(), ""),
        (short.clone(), "1024"),
        (pem.jwk, "private part"),
        (json!({"kty": "RSA", "kid": "enc", "use": "enc", "n": good.jwk["n"], "e": "AQAB"}), "not for signatures"),
        (json!({"kty": "RSA", "key_ops": ["sign"], "n": good.jwk["n"], "e": "AQAB"}), "not for verifying"),
        (json!({"kty": "RSA", "alg": "RSA-OAEP", "n": good.jwk["n"], "e": "AQAB"}), "`alg`"),
        (json!({"kty": "RSA", "alg": "ES256", "n": good.jwk["n"], "e": "AQAB"}), "`alg`"),
        (json!({"kty": "RSA", "n": good.jwk["n"]}), "no `e`"),
        (json!({"kty": "RSA", "n": "*", "e": "AQAB"}), "base64url"),
        (json!({"kty": "EC", "crv": "secp256k1", "x": "", "y": ""}), "secp256k1"),
        (json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "32 bytes"),
        (json!({"kty": "EC", "crv": "P-256", "x": encoded([1; 32]), "y": encoded([1; 32])}), "no point"),
        (json!({"kty": "OKP", "crv": "X25519", "x": "AA"}), "X25519"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "no key of Ed25519"),
        (json!({"kty": "oct", "k": "AAAA"}), "32 bytes"),
        (json!({"kty": "AKP", "alg": "ML-DSA-44"}), "AKP"),
        (json!({}), "type"),
        (json!(1), "no object"),
    ];
    let set = json!({"keys": keys.iter().map(|(key, _)| key).collect::<Vec<_>>()}).to_string();
    let found = keys::KeySet::of_file(set.as_bytes()).unwrap();
    let words: Vec<&str> = keys.iter().skip(1).map(|(_, word)| *word).collect();
    assert!(
        found.skipped.len() == words.len() && found.skipped.iter().zip(words).all(|(said, word)| said.contains(word)),
        "{:#?}",
        found.skipped
    );
    assert_eq!(format!("{found:?}"), "1 key");
    // A secret that is published is none.
    let secret = issuer("HS256", "s");
    assert!(keys::KeySet::of_jwks(key_set(&[&secret]).as_bytes(), false).unwrap_err().contains("others can read"));
    for (content, word) in [
        (String::new(), "not JSON"),
        ("{}".into(), "no list `keys`"),
        (json!({"keys": []}).to_string(), "it is empty"),
        (json!({"keys": [short]}).to_string(), "key \"short\": an RSA key has 2048 to 8192 bits, and this one has 1024"),
        (json!({"keys": vec![json!({}); 129]}).to_string(), "more than 128 keys"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into(), "private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), "certificate"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(), "no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n".into(), "not PEM"),
        ("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n".into(), "no `-----BEGIN PUBLIC KEY-----`"),
    ] {
        let problems = refused(&filter(&file(&content), json!({})));
        assert!(problems.len() == 1 && problems[0].message.contains(word), "{content}: {problems:?}");
    }
}

/// The issuer's public key, as `openssl pkey -pubout` prints it.
fn pem(issuer: &Issuer) -> String {
    let part = |name: &str| BASE64.decode(issuer.jwk[name].as_str().unwrap_or_default()).unwrap();
    let point = || [vec![4], part("x"), part("y")].concat();
    let key = match issuer.jwk["crv"].as_str() {
        None => {
            RsaPublicKeyComponents { n: part("n"), e: part("e") }.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
        }
        Some("Ed25519") => ParsedPublicKey::new(&signature::ED25519, part("x")),
        Some("P-256") => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point()),
        Some("P-384") => ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point()),
        Some(_) => ParsedPublicKey::new(&signature::ECDSA_P521_SHA512_FIXED, point()),
    };
    let der: PublicKeyX509Der<'_> = key.unwrap().as_der().unwrap();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
}

#[test]
fn public_keys_may_be_in_pem_and_have_no_names() {
    let issuers = ["RS256", "ES256", "ES384", "ES512", "EdDSA"].map(|algorithm| issuer(algorithm, "k"));
    let all = compile(&filter(&file(&issuers.each_ref().map(pem).concat()), json!({})));
    for issuer in &issuers {
        assert_eq!(reason(&all, &issuer.token(json!({}))), None, "{}", issuer.jwk);
        let header = json!({"alg": issuer.jwk["alg"]});
        assert_eq!(reason(&all, &issuer.token_with(header, json!({"exp": now() + 60}))), None, "{}", issuer.jwk);
    }
    let stranger = issuer("ES256", "k");
    assert_eq!(reason(&all, &stranger.token(json!({}))), Some("jwt_signature"));
    let many: String = (0..5).map(|_| pem(&issuer("ES256", "k"))).collect();
    assert!(refused(&filter(&file(&many), json!({})))[0].message.contains("need ids"));
}

#[test]
fn a_token_that_names_no_key_is_tried_on_some() {
    let issuers = ["1", "2", "3", "4", "5"].map(|id| issuer("EdDSA", id));
    let chain = chain(&issuers.each_ref(), json!({}));
    for (issuer, expected) in issuers.iter().zip([None, None, None, None, Some("jwt_key")]) {
        let nameless = issuer.token_with(json!({"alg": "EdDSA"}), json!({"exp": now() + 60}));
        assert_eq!(reason(&chain, &nameless), expected, "{}", issuer.id);
        assert_eq!(reason(&chain, &issuer.token(json!({}))), None, "{}", issuer.id);
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "0123456789abcdef0123456789abcdef";
    let filters = json!([{"jwt": {"keys": {"secret": secret}}}]);
    let spec: Vec<crate::filter::FilterSpec> = serde_json::from_value(filters.clone()).unwrap();
    let chain = compile(&filters.to_string());
    let token = forged(secret.as_bytes(), json!({"alg": "HS256"}), json!({"exp": now() + 60}));
    assert_eq!(reason(&chain, &token), None);
    assert_eq!(reason(&chain, &forged(b"another", json!({"alg": "HS256"}), json!({"exp": now() + 60}))), Some("jwt_signature"));
    for shown in [format!("{spec:?}"), serde_json::to_string(&spec).unwrap(), format!("{chain:?}")] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn mistakes_are_named() {
    let with = |options: Value| {
        let mut filter = json!({"keys": {"secret": "0123456789abcdef0123456789abcdef"}});
        filter.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        json!([{"jwt": filter}]).to_string()
    };
    for (options, word) in [
        (json!({"keys": {}}), "without keys"),
        (json!({"keys": {"secret": "short"}}), "32 bytes or more"),
        (json!({"keys": {"secret": "x", "url": "https://a.test"}}), "only one of"),
        (json!({"keys": {"file": "/nonexistent/keys"}}), "cannot use"),
        (json!({"keys": {"url": "a.test"}}), "https://"),
        (json!({"keys": {"url": "http://a.test/"}}), "put their own keys"),
        (json!({"keys": {"url": "https://u:p@a.test/"}}), "no password"),
        (json!({"keys": {"url": "http://localhost/", "refresh": "1s"}}), "all the time"),
        (json!({"keys": {"url": "http://localhost/", "min_refresh": "0"}}), "all the time"),
        (json!({"keys": {"url": "https://localhost/", "ca": "/nonexistent/ca.pem"}}), "cannot read"),
        (json!({"algorithms": "HS512"}), "no key is for any"),
        (json!({"algorithms": ["RS256", "ES256"]}), "no key is for any"),
        (json!({"keys": {"url": "http://localhost/"}, "algorithms": "HS256"}), "no key is for any"),
        (json!({"leeway": "10m"}), "valid too long"),
        (json!({"cache": "2h"}), "nothing is gained"),
        (json!({"scopes": ["read write"]}), "is no scope"),
        (json!({"claims": {"a": []}}), "no value"),
        (json!({"from": []}), "no place"),
        (json!({"from": "header:te"}), "`te` belongs"),
        (json!({"from": "header:X-User", "claims_to_headers": {"x-user": "sub"}}), "also a field"),
        (json!({"claims_to_headers": {"authorization": "sub"}}), "means something else"),
        (json!({"claims_to_headers": {"a b": "sub"}}), "not the name"),
        (json!({"claims_to_headers": {"x-a": "sub", "X-A": "iss"}}), "there twice"),
        (json!({"realm": "a\"b"}), "cannot stand"),
    ] {
        let problems = refused(&with(options.clone()));
        assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
    }
    for (options, word) in [
        (json!({"require_expiry": false}), "never expires"),
        (json!({"keys": {"url": "http://a.test/", "allow_http": true}}), "put their own keys"),
    ] {
        let (chain, problems) = problems(&with(options.clone()));
        assert!(chain.is_some() && problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
    }
    for (text, word) in
        [("none", "nobody has signed"), ("None", "nobody has signed"), ("HS265", "`HS256`"), ("x", "allowed here")]
    {
        assert!(text.parse::<Algorithm>().unwrap_err().contains(word), "{text}");
    }
    assert!(["", "/"].iter().all(|text| text.parse::<ClaimPath>().is_err()));
}
