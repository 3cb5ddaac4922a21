//! The HTTP probe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    connect::{Dial, connect},
    http1, http2,
};
use crate::types::{Address, At, Code};

/// A GET that must answer with an accepted status, and optionally with accepted JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// The path to ask for.
    #[serde(default = "HttpProbeSpec::default_path")]
    pub path: String,
    /// The Host to send; the endpoint's own address when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Accepted statuses.
    #[serde(default = "HttpProbeSpec::default_status")]
    pub status: Vec<u16>,
    /// Members that the JSON body must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, serde_json::Value>,
}

impl HttpProbeSpec {
    fn default_path() -> String {
        "/".into()
    }
    fn default_status() -> Vec<u16> {
        vec![200]
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
        for (index, status) in self.status.iter().enumerate() {
            if !(200..600).contains(status) {
                refuse(at.key("status").index(index), format!("{status} is not the status of an answer: 200 to 599"));
            }
        }
        ok.then(|| HttpProbe { spec: self.clone() })
    }
}

/// The HTTP probe, ready to ask.
#[derive(Debug)]
pub(super) struct HttpProbe {
    spec: HttpProbeSpec,
}

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
        let (stream, http2) = connect(address, dial).await?;
        let host = self.spec.host.clone().unwrap_or_else(|| address.authority());
        if http2 {
            let scheme = if dial.tls.is_some() { "https" } else { "http" };
            http2::ask(stream, scheme, &host, self).await
        } else {
            http1::ask(stream, &host, self).await
        }
    }

    /// What to ask for.
    pub(super) fn path(&self) -> &str {
        &self.spec.path
    }

    /// Is this status accepted? `Ok(true)` when the body must be looked at as well.
    pub(super) fn judge_status(&self, status: u16) -> Result<bool, String> {
        if !self.spec.status.contains(&status) {
            return Err(format!("status {status}"));
        }
        Ok(!self.spec.json.is_empty())
    }

    /// Is this body accepted?
    pub(super) fn judge_body(&self, body: &[u8]) -> Result<(), String> {
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
