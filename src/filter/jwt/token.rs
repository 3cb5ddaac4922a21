//! What a token says, before and after it is believed (RFC 7515 section 7.1: the compact form).
//!
//! Whatever two readers could read in two ways is refused: padding, spare bits and foreign characters of base64, names
//! that an object has twice, at any depth. Of the header only what says how to verify is looked at; keys, and addresses
//! of keys, that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) are nothing to go by.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess},
};
use serde_json::{Map, Value};

/// The longest token. Servers take 8 to 16 KiB for all fields of a request.
pub(super) const MAX_TOKEN: usize = 16 << 10;

/// A token of which nothing is believed yet.
#[derive(Debug)]
pub(super) struct Token<'t> {
    /// `alg`, as it was written.
    pub(super) algorithm: String,
    /// `kid`: which key is said to have signed it.
    pub(super) key_id: Option<String>,
    /// `typ`: what kind of token it is said to be.
    pub(super) kind: Option<String>,
    /// What is signed.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
    payload: &'t str,
}

/// It is no token, or one that must not be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, Malformed> {
        if text.len() > MAX_TOKEN {
            return Err(Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Malformed)?;
        if payload.contains('.') {
            return Err(Malformed);
        }
        let mut header = object(header)?;
        // `crit` names what must be understood, and nothing that could be named there is; `b64` is such a one (RFC 7797).
        // What is compressed or encrypted is no token of this kind.
        if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
            return Err(Malformed);
        }
        let mut text = |name: &str| match header.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Malformed),
        };
        Ok(Self {
            algorithm: text("alg")?.ok_or(Malformed)?,
            key_id: text("kid")?,
            kind: text("typ")?,
            signed: signed.as_bytes(),
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Malformed)?,
            payload,
        })
    }

    /// What it claims. To be asked of a token whose signature was verified.
    pub(super) fn claims(&self) -> Result<Value, Malformed> {
        object(self.payload).map(Value::Object)
    }
}

fn object(encoded: &str) -> Result<Map<String, Value>, Malformed> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Malformed)?;
    // The library goes no deeper than 128 levels.
    match serde_json::from_slice(&json) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        _ => Err(Malformed),
    }
}

/// JSON in which no object has a name twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Strict;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut found = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    found.push(item);
                }
                Ok(Strict(found.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut found = Map::new();
                while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if found.insert(name, value).is_some() {
                        return Err(de::Error::custom("a name is there twice"));
                    }
                }
                Ok(Strict(found.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(header), encode(payload))
    }

    #[test]
    fn a_token_has_three_parts() {
        let text =
            token(r#"{"alg":"RS256","kid":"k","typ":"JWT","jku":"https://evil.test","jwk":{"kty":"oct"}}"#, r#"{"sub":"a"}"#);
        let token = Token::parse(&text).unwrap();
        assert_eq!((&*token.algorithm, token.key_id.as_deref(), token.kind.as_deref()), ("RS256", Some("k"), Some("JWT")));
        assert_eq!((token.signature.as_slice(), token.claims()), (&b"sig"[..], Ok(serde_json::json!({"sub": "a"}))));
        assert_eq!(token.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        assert!(Token::parse(&good).is_ok());
        let (head, _) = good.rsplit_once('.').unwrap();
        for text in [
            "",
            ".",
            "..",
            "...",
            "a.b",
            head,
            &format!("{good}.c2ln"),
            &format!("{good}="),
            &format!("{good} "),
            &format!("{head}.c2l+"),
            &format!("{head}.c2\nln"),
            // Bits that belong to nothing.
            &format!("{head}.c2lnZZ"),
            &format!(".{good}"),
            &token(r#"{"alg":"RS256","alg":"HS256"}"#, "{}"),
            &token(r#"{"alg":"RS256","kid":"a","kid":"b"}"#, "{}"),
            &token(r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, "{}"),
            &token(r#"{"alg":"RS256","crit":[]}"#, "{}"),
            &token(r#"{"alg":"RS256","b64":false}"#, "{}"),
            &token(r#"{"alg":"RS256","b64":true}"#, "{}"),
            &token(r#"{"alg":"RS256","zip":"DEF"}"#, "{}"),
            &token(r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#, "{}"),
            &token(r#"{"alg":["RS256"]}"#, "{}"),
            &token(r#"{"alg":"RS256","kid":1}"#, "{}"),
            &token(r#"{"alg":null}"#, "{}"),
            &token(r#"{}"#, "{}"),
            &token(r#"["alg"]"#, "{}"),
            &token(r#"{"alg":"RS256"} x"#, "{}"),
            &format!("{}.{}", good, "a".repeat(MAX_TOKEN)),
        ] {
            assert_eq!(Token::parse(text).map(|_| ()), Err(Malformed), "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        for payload in ["", "[]", "1", "{", r#"{"sub":"a","sub":"b"}"#, r#"{"a":[{"b":1,"b":2}]}"#, "{\"\u{0}", "{}{}", &deep] {
            let text = token(r#"{"alg":"RS256"}"#, payload);
            assert_eq!(Token::parse(&text).unwrap().claims(), Err(Malformed), "{payload}");
        }
        let latin = format!(
            "{}.{}.c2ln",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
            BASE64_URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}")
        );
        assert_eq!(Token::parse(&latin).unwrap().claims(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn strangers_bytes_do_no_harm(text in ".{0,200}", header in "[ -~]{0,60}", payload in any::<Vec<u8>>()) {
            let _ = Token::parse(&text).map(|token| token.claims());
            let _ = Token::parse(&token(&header, &text)).map(|token| token.claims());
            let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
            let text = format!("{}.{payload}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#));
            let _ = Token::parse(&text).map(|token| token.claims());
        }
    }
}
