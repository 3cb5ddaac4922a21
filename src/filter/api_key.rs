//! The `api_key` filter: who may come in, by a secret that was handed out to each client.
//!
//! Keys are looked up by a keyed hash whose own key lives as long as the configuration, so the time that a look-up
//! takes tells nothing about the keys: who asks cannot know, let alone choose, what is compared (the "double HMAC"
//! defence). Neither keys nor what clients send stand in any message.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use aws_lc_rs::{
    digest, hmac,
    rand::{SecureRandom, SystemRandom},
};
use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Filter, FilterRequest, Slot, Verdict,
    alike::remove_alike,
    credential::{CredentialPlace, Sent, is_realm},
    headers::field_name,
    small_file,
};
use crate::types::{At, Code, ConfigPath, OneOrMany, Reply, Secret};

/// The longest file of keys: some ten thousand clients.
const MAX_FILE: u64 = 4 << 20;

/// A shorter key can be guessed by asking often enough.
const SHORT: usize = 16;

/// Admits by a key that the client sends. Without a valid one the answer is 401.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySpec {
    /// Where clients put the key: `header:NAME`, `cookie:NAME`, `query:NAME` or `bearer` (`Authorization: Bearer`). The
    /// first that a request has counts.
    #[serde(default = "ApiKeySpec::default_from")]
    pub from: OneOrMany<CredentialPlace>,
    /// Clients by name, each with its key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Secret>,
    /// A file with further clients, one `name:key` to a line; a key may stand there as `sha256:` and its hash in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ConfigPath>,
    /// The header field that tells the endpoint the client's name. What a client sends in it itself is removed.
    #[serde(default = "ApiKeySpec::default_client_header")]
    pub client_header: String,
    /// Leave the key in the request that is forwarded.
    #[serde(default)]
    pub forward_key: bool,
    /// The name of the protected space, for `WWW-Authenticate`.
    #[serde(default = "ApiKeySpec::default_realm")]
    pub realm: String,
}

impl ApiKeySpec {
    fn default_from() -> OneOrMany<CredentialPlace> {
        OneOrMany(vec![CredentialPlace::Header(HeaderName::from_static("x-api-key"))])
    }
    fn default_client_header() -> String {
        "x-api-client".into()
    }
    fn default_realm() -> String {
        "api".into()
    }

    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let client_header_at = at.key("client_header");
        if self.keys.is_empty() && self.file.is_none() {
            at.problem(Code::MissingKey, "`api_key` without any key admits nobody").hint("add `keys` or `file`");
            sound = false;
        }
        if self.from.is_absent() {
            at.key("from").problem(Code::MissingKey, "no place is left for a key").hint("write `header:x-api-key`");
            sound = false;
        }
        for (index, place) in self.from.iter().enumerate() {
            let at = if self.from.len() == 1 { at.key("from") } else { at.key("from").index(index) };
            sound &= match place {
                CredentialPlace::Header(name) if name.as_str().eq_ignore_ascii_case(&self.client_header) => {
                    at.problem(Code::Conflict, format!("`{name}` is also the field that tells the client's name"))
                        .also(client_header_at.path(), "this one")
                        .hint("choose another `client_header`");
                    false
                }
                CredentialPlace::Header(name) => field_name(name.as_str(), &at).is_some(),
                _ => true,
            };
        }
        let client_header = field_name(&self.client_header, &client_header_at);
        let quotable = is_realm(&self.realm, &at.key("realm"));
        let challenge = HeaderValue::from_str(&self.challenge()).ok().filter(|_| quotable);
        let mut keys = Keys::new(at)?;
        for (name, key) in &self.keys {
            let at = at.key("keys").key(name.clone());
            if key.expose().len() < SHORT && !key.is_empty() {
                at.problem(Code::Insecure, format!("the key of `{name}` is shorter than {SHORT} characters"))
                    .hint("make it of 32 random characters");
            }
            sound &= keys.add(name, Given::Plain(key.expose()), None, &at);
        }
        if let Some(file) = &self.file {
            sound &= keys.add_file(file, &at.key("file"));
        }
        let filter = ApiKey {
            from: self.from.to_vec(),
            keys,
            client_header: client_header?,
            forward_key: self.forward_key,
            challenge: challenge?,
        };
        sound.then(|| -> Arc<dyn Filter> { Arc::new(filter) })
    }

    /// RFC 9110 wants one with every 401; there is a registered scheme for bearers only.
    fn challenge(&self) -> String {
        let scheme = if self.from.first() == Some(&CredentialPlace::Bearer) { "Bearer" } else { "ApiKey" };
        format!("{scheme} realm=\"{}\"", self.realm)
    }
}

/// The clients, by the keyed hash of the SHA-256 of their keys.
struct Keys {
    secret: hmac::Key,
    clients: HashMap<[u8; 32], HeaderValue>,
}

/// A key as users write it.
enum Given<'a> {
    Plain(&'a str),
    Hash([u8; 32]),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} clients", self.clients.len())
    }
}

impl Keys {
    fn new(at: &At) -> Option<Self> {
        let mut secret = [0; 32];
        if SystemRandom::new().fill(&mut secret).is_err() {
            at.problem(Code::Conflict, "the system gives no random numbers, without which keys cannot be kept");
            return None;
        }
        Some(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &secret), clients: HashMap::new() })
    }

    fn slot(&self, given: &Given<'_>) -> [u8; 32] {
        let plain;
        let hash = match given {
            Given::Plain(key) => {
                plain = digest::digest(&digest::SHA256, key.as_bytes());
                plain.as_ref()
            }
            Given::Hash(hash) => hash,
        };
        let mut slot = [0; 32];
        slot.copy_from_slice(hmac::sign(&self.secret, hash).as_ref());
        slot
    }

    /// The client whose key this is.
    fn client(&self, sent: &str) -> Option<&HeaderValue> {
        self.clients.get(&self.slot(&Given::Plain(sent)))
    }

    /// Adds one client; `line` is where it stands in a file. False when a problem was reported.
    fn add(&mut self, name: &str, given: Given<'_>, line: Option<usize>, at: &At) -> bool {
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        let value = HeaderValue::from_str(name).ok().filter(|_| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
        let Some(value) = value else {
            at.problem(Code::BadValue, format!("{place}the name of a client has visible ASCII characters only"));
            return false;
        };
        if let Given::Plain(key) = given
            && (key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()))
        {
            at.problem(
                Code::BadValue,
                format!("{place}the key of `{name}` is empty, or holds more than visible ASCII characters"),
            );
            return false;
        }
        if let Some(other) = self.clients.insert(self.slot(&given), value) {
            let other = String::from_utf8_lossy(other.as_bytes()).into_owned();
            at.problem(Code::Duplicate, format!("{place}`{name}` has the same key as `{other}`"));
            return false;
        }
        true
    }

    fn add_file(&mut self, file: &ConfigPath, at: &At) -> bool {
        let Some(text) = small_file::read_text(file, MAX_FILE, at) else { return false };
        let before = self.clients.len();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line.split_once(':').map(|(name, key)| (name.trim(), key.trim()));
            let given = parsed.and_then(|(name, key)| {
                let given = match key.strip_prefix("sha256:") {
                    Some(hex) => Given::Hash(unhex(hex.trim())?),
                    None => Given::Plain(key),
                };
                Some((name, given))
            });
            let Some((name, given)) = given else {
                // Not what it says: that may be a key.
                at.problem(Code::BadValue, format!("line {} of `{file}` is not `name:key`", index + 1))
                    .hint("a key may be written as `sha256:` and 64 hexadecimal digits");
                return false;
            };
            if !self.add(name, given, Some(index + 1), at) {
                return false;
            }
        }
        let any = self.clients.len() > before;
        if !any {
            at.problem(Code::BadValue, format!("`{file}` holds no key")).hint("write one `name:key` to a line");
        }
        any
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = [0; 32];
    if text.len() != 2 * out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    Some(out)
}

#[derive(Debug)]
struct ApiKey {
    from: Vec<CredentialPlace>,
    keys: Keys,
    client_header: HeaderName,
    forward_key: bool,
    challenge: HeaderValue,
}

impl ApiKey {
    fn refuse(&self, reason: &'static str) -> Verdict {
        Verdict::Answer { reply: Reply::status(401).with(header::WWW_AUTHENTICATE, self.challenge.clone()), reason }
    }
}

impl Filter for ApiKey {
    fn kind(&self) -> &'static str {
        "api_key"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let client = match self.from.iter().map(|place| place.sent(request)).find(|sent| !matches!(sent, Sent::Nothing)) {
            None | Some(Sent::Nothing) => return self.refuse("api_key_missing"),
            Some(Sent::Unusable) => None,
            Some(Sent::One(sent)) => self.keys.client(&sent),
        };
        let Some(client) = client else { return self.refuse("api_key_invalid") };
        remove_alike(request.fields, std::slice::from_ref(&self.client_header));
        request.fields.set(self.client_header.clone(), client.clone());
        request.keeping.personal = true;
        if !self.forward_key {
            // From every place: what was not looked at may be a key, too.
            for place in &self.from {
                if !matches!(place.sent(request), Sent::Nothing) {
                    place.remove(request);
                }
            }
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    const KEY: &str = "0123456789abcdef";

    fn filter(options: serde_json::Value) -> String {
        format!(r#"[{{"api_key": {options}}}]"#)
    }

    fn with_key(options: &str) -> String {
        let mut options: serde_json::Value = serde_json::from_str(options).unwrap();
        options["keys"] = serde_json::json!({"mobile": KEY});
        filter(options)
    }

    #[test]
    fn a_known_key_comes_in_under_its_name_and_goes_no_further() {
        let chain = compile(&with_key(r#"{}"#));
        let mut exchange = Exchange::default();
        exchange.set("x-api-key", KEY);
        exchange.set("x-api-client", "forged");
        exchange.set("x.api.client", "forged");
        exchange.request(&chain).unwrap();
        assert_eq!((exchange.get("x-api-client"), exchange.get("x-api-key")), (Some("mobile"), None));
        assert_eq!(exchange.get("x.api.client"), None, "some services cannot tell the two apart");
        let keeping = compile(&with_key(r#"{"forward_key": true, "client_header": "x-who"}"#));
        let mut exchange = Exchange::default();
        exchange.set("x-api-key", KEY);
        exchange.request(&keeping).unwrap();
        assert_eq!((exchange.get("x-who"), exchange.get("x-api-key")), (Some("mobile"), Some(KEY)));
    }

    #[test]
    fn no_key_and_a_wrong_one_are_refused() {
        let chain = compile(&with_key(r#"{"realm": "orders"}"#));
        for (sent, reason) in [
            (None, "api_key_missing"),
            (Some(""), "api_key_invalid"),
            (Some("0123456789abcdeg"), "api_key_invalid"),
            (Some("0123456789abcdef0"), "api_key_invalid"),
        ] {
            let mut exchange = Exchange::default();
            if let Some(sent) = sent {
                exchange.set("x-api-key", sent);
            }
            let (reply, found) = exchange.request(&chain).unwrap_err();
            assert_eq!((reply.status.as_u16(), found), (401, reason), "{sent:?}");
            assert_eq!(reply.headers[0], (header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey realm=\"orders\"")));
        }
        let mut two = Exchange::default();
        two.fields.append("x-api-key", KEY.parse().unwrap());
        two.fields.append("x-api-key", "other".parse().unwrap());
        assert_eq!(two.request(&chain).unwrap_err().1, "api_key_invalid");
    }

    #[test]
    fn keys_are_found_in_queries_and_as_bearers() {
        let chain = compile(&with_key(r#"{"from": ["query:key", "bearer"]}"#));
        for (query, forward) in [
            ("key=0123456789abcdef", "/"),
            ("a=1&key=0123456789abcdef&b", "/?a=1&b"),
            ("key=%30123456789abcdef&keys=2", "/?keys=2"),
        ] {
            let mut exchange = Exchange { query: Some(query.into()), ..Exchange::default() };
            exchange.request(&chain).unwrap();
            assert_eq!(exchange.forward.as_deref(), Some(forward), "{query}");
        }
        let mut rewritten = Exchange {
            query: Some("key=0123456789abcdef&a".into()),
            forward: Some("/x?key=0123456789abcdef&a".into()),
            ..Exchange::default()
        };
        rewritten.request(&chain).unwrap();
        assert_eq!(rewritten.forward.as_deref(), Some("/x?a"));
        let mut twice = Exchange { query: Some("key=0123456789abcdef&key=x".into()), ..Exchange::default() };
        assert_eq!(twice.request(&chain).unwrap_err().1, "api_key_invalid");
        let mut bearer = Exchange::default();
        bearer.set("authorization", "bearer 0123456789abcdef");
        bearer.request(&chain).unwrap();
        assert_eq!((bearer.get("authorization"), bearer.forward.as_deref()), (None, None));
        let mut basic = Exchange::default();
        basic.set("authorization", "Basic 0123456789abcdef");
        assert_eq!(basic.request(&chain).unwrap_err().1, "api_key_missing");
    }

    #[test]
    fn a_file_holds_keys_and_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let computed: String =
            digest::digest(&digest::SHA256, b"hashed-secret-key").as_ref().iter().map(|b| format!("{b:02X}")).collect();
        std::fs::write(&path, format!("# ours\n\n a : plain:key \r\nb:sha256:{computed}\n")).unwrap();
        let chain = compile(&filter(serde_json::json!({"file": path})));
        for (key, client) in [("plain:key", Some("a")), ("hashed-secret-key", Some("b")), (&computed, None)] {
            let mut exchange = Exchange::default();
            exchange.set("x-api-key", key);
            assert_eq!(exchange.request(&chain).is_ok(), client.is_some(), "{key}");
            assert_eq!(exchange.get("x-api-client"), client);
        }
        for (content, word) in [
            ("", "holds no key"),
            ("a\n", "line 1 of"),
            ("a:b\nc:sha256:12", "line 2 of"),
            ("a:b\nc:b", "the same key as `a`"),
            ("a:", "is empty"),
            (":b", "name of a client"),
            ("a:b c", "visible ASCII"),
        ] {
            std::fs::write(&path, content).unwrap();
            let problems = refused(&filter(serde_json::json!({"file": path})));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{content}: {problems:?}");
        }
    }

    #[test]
    fn no_key_is_ever_shown() {
        let spec: ApiKeySpec = serde_json::from_value(serde_json::json!({"keys": {"a": KEY}})).unwrap();
        let chain = compile(&with_key(r#"{}"#));
        for shown in [format!("{spec:?}"), serde_json::to_string(&spec).unwrap(), format!("{chain:?}")] {
            assert!(!shown.contains(KEY), "{shown}");
        }
        let problems = refused(&filter(serde_json::json!({"keys": {"a": KEY, "b": KEY}})));
        assert!(!format!("{problems:?}").contains(KEY));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{}"#, "admits nobody"),
            (r#"{"keys": {"a": "0123456789abcdef"}, "from": []}"#, "no place is left"),
            (r#"{"keys": {"a": "0123456789abcdef"}, "from": "header:te"}"#, "`te` belongs"),
            (r#"{"keys": {"a": "0123456789abcdef"}, "from": "header:x-api-client"}"#, "also the field"),
            (r#"{"keys": {"a": "0123456789abcdef"}, "client_header": "a b"}"#, "not the name"),
            (r#"{"keys": {"a": "0123456789abcdef"}, "realm": "a\"b"}"#, "cannot stand"),
            (r#"{"keys": {"a": ""}}"#, "is empty"),
            (r#"{"keys": {"a b": "0123456789abcdef"}}"#, "name of a client"),
            (r#"{"keys": {"a": "0123456789abcdef", "b": "0123456789abcdef"}}"#, "the same key"),
            (r#"{"file": "/nonexistent/keys"}"#, "there is no such file"),
        ] {
            let problems = refused(&format!(r#"[{{"api_key": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
