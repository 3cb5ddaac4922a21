//! The HTTP probe.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    connect::{Dial, connect},
    http1, http2,
    status::StatusRange,
};
use crate::types::{Address, At, Code, OneOrMany, Regexp};

/// A request that must be answered with an accepted status, and optionally with an accepted body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// The method. The request has no body.
    #[serde(default = "HttpProbeSpec::default_method")]
    pub method: String,
    /// The path to ask for.
    #[serde(default = "HttpProbeSpec::default_path")]
    pub path: String,
    /// The Host to send; the endpoint's own address when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port to ask at; the endpoint's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Header fields to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Accepted statuses.
    #[serde(default = "HttpProbeSpec::default_status")]
    pub status: OneOrMany<StatusRange>,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// An expression that must match the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_regex: Option<Regexp>,
    /// Members that the JSON body must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, serde_json::Value>,
}

impl HttpProbeSpec {
    fn default_path() -> String {
        "/".into()
    }
    fn default_method() -> String {
        "GET".into()
    }
    fn default_status() -> OneOrMany<StatusRange> {
        OneOrMany(vec![StatusRange::one(200)])
    }
    /// Must the body be looked at?
    fn judges_body(&self) -> bool {
        !self.json.is_empty() || self.body.is_some() || self.body_regex.is_some()
    }
}

impl HttpProbeSpec {
    /// The compiled form. What cannot be asked for is a problem at its key.
    pub(super) fn compile(&self, at: &At) -> Option<HttpProbe> {
        let mut ok = true;
        let mut refuse = |at: At, message: String| {
            at.problem(Code::BadValue, message);
            ok = false;
        };
        // Both go into the request as they are, so nothing in them may end a line or a token.
        if !self.path.starts_with('/') || !self.path.bytes().all(|b| b.is_ascii_graphic()) || self.path.contains('#') {
            refuse(at.key("path"), format!("`{}` is not a path to ask for; write `/health`", self.path.escape_default()));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)))
        {
            refuse(at.key("host"), format!("`{}` is not a host", host.escape_default()));
        }
        if self.status.is_empty() {
            refuse(at.key("status"), "no status is accepted, so no check could pass".into());
        }
        let method = Method::from_bytes(self.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
        if method.is_none() {
            refuse(
                at.key("method"),
                format!("`{}` is not a method to ask with; write `GET` or `HEAD`", self.method.escape_default()),
            );
        }
        if method == Some(Method::HEAD) && self.judges_body() {
            refuse(at.key("method"), "the response to HEAD has no body to look at; write `GET`".into());
        }
        let mut fields = HeaderMap::new();
        for (text, value) in &self.headers {
            let at = at.key("headers").key(text.clone());
            let (name, value) = (HeaderName::from_bytes(text.as_bytes()), HeaderValue::from_str(value));
            match (name, value) {
                (Ok(name), _) if name == header::HOST => refuse(at, "write `host` of the probe instead".into()),
                (Ok(name), _) if OWN.contains(&name) => refuse(at, format!("`{name}` is set by Weir")),
                (Ok(name), Ok(value)) => drop(fields.insert(name, value)),
                _ => refuse(at, format!("`{}` is not a header field", text.escape_default())),
            }
        }
        let method = method.filter(|_| ok)?;
        Some(HttpProbe { spec: self.clone(), method, fields })
    }
}

/// The HTTP probe, ready to ask.
#[derive(Debug)]
pub(super) struct HttpProbe {
    spec: HttpProbeSpec,
    method: Method,
    fields: HeaderMap,
}

/// Fields of the connection and of a body that there is not.
const OWN: [HeaderName; 5] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];

/// A JSON body above this says more than whether an endpoint is well.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// What is said of a longer one.
pub(super) const BODY_TOO_LARGE: &str = "the body is over 64 KiB";
/// The response header of a health check is short. 16 KiB is what most servers send at most.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// How probes present themselves, for the logs of what they ask.
pub(super) const USER_AGENT: &str = "weir-health";

impl HttpProbe {
    /// Asks once, in the version that requests are sent in. Redirects are not followed: a 302 is a status
    /// like any other. The caller sets the time.
    pub(super) async fn probe(&self, address: &Address, dial: &Dial) -> Result<(), String> {
        let address = self.at(address)?;
        let (stream, http2) = connect(&address, dial).await?;
        let host = self.spec.host.clone().unwrap_or_else(|| address.authority());
        if http2 {
            let scheme = if dial.tls.is_some() { "https" } else { "http" };
            http2::ask(stream, scheme, &host, self).await
        } else {
            http1::ask(stream, &host, self).await
        }
    }

    /// Where to ask an endpoint of this address.
    fn at(&self, address: &Address) -> Result<Address, String> {
        match (self.spec.port, address.tcp()) {
            (None, _) => Ok(address.clone()),
            (Some(port), Some(address)) => Ok(SocketAddr::new(address.ip(), port.get()).into()),
            (Some(port), None) => Err(format!("a unix socket has no port {port}")),
        }
    }

    /// What to ask for.
    pub(super) fn path(&self) -> &str {
        &self.spec.path
    }

    /// How to ask.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The fields of the request beside Host and those of the connection, as the user has spelt them.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [("User-Agent", USER_AGENT), ("Accept", "*/*")].into_iter();
        let own = own.filter(|(name, _)| !self.fields.contains_key(*name));
        own.chain(self.spec.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The same for HTTP/2.
    pub(super) fn fields(&self) -> HeaderMap {
        let mut fields = self.fields.clone();
        fields.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        fields.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        fields
    }

    /// Is this status accepted? `Ok(true)` when the body must be looked at as well.
    pub(super) fn judge_status(&self, status: u16) -> Result<bool, String> {
        if !self.spec.status.iter().any(|accepted| accepted.contains(status)) {
            return Err(format!("status {status}"));
        }
        Ok(self.spec.judges_body())
    }

    /// Is this body accepted?
    pub(super) fn judge_body(&self, body: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(body);
        if let Some(part) = self.spec.body.as_deref().filter(|part| !text.contains(part)) {
            return Err(format!("the body does not contain `{part}`"));
        }
        if let Some(expression) = self.spec.body_regex.as_ref().filter(|expression| !expression.is_match(&text)) {
            return Err(format!("the body does not match `{expression}`"));
        }
        if self.spec.json.is_empty() {
            return Ok(());
        }
        let body: serde_json::Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON".to_owned())?;
        for (member, want) in &self.spec.json {
            match body.get(member) {
                Some(got) if got == want => {}
                Some(got) => return Err(format!("json member {member} is {}", shortened(got))),
                None => return Err(format!("json member {member} is missing")),
            }
        }
        Ok(())
    }
}

/// A value for a log line: an endpoint must not decide how long that gets.
fn shortened(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
