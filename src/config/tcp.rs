//! What users write under `listeners.*.tcp`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{HostPattern, Name, Span};

/// A listener that passes bytes on and reads none of them, but for the name in a TLS greeting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpSpec {
    /// Where connections go. Either this or `sni`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// Where they go by the name that a TLS client asks for, which is read without terminating TLS: a name, a wildcard,
    /// or `*` for every other name and for none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sni: BTreeMap<HostPattern, Name>,
    /// Without a byte in either direction; `0s` for as long as both sides like.
    #[serde(default = "TcpSpec::default_idle_timeout")]
    pub idle_timeout: Span,
    /// Tell endpoints who the client is.
    #[serde(default)]
    pub send_proxy_protocol: SendProxyProtocol,
    /// Let the kernel move bulk data from socket to socket.
    #[serde(default)]
    pub splice: SpliceMode,
}

impl TcpSpec {
    fn default_idle_timeout() -> Span {
        Span::secs(3600)
    }

    /// Every upstream it names, with the key that does.
    pub fn upstreams(&self) -> impl Iterator<Item = (Vec<String>, &Name)> {
        let one = self.upstream.iter().map(|name| (vec!["upstream".into()], name));
        one.chain(self.sni.iter().map(|(host, name)| (vec!["sni".into(), host.to_string()], name)))
    }
}

/// The PROXY protocol toward endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendProxyProtocol {
    /// Not spoken.
    #[default]
    Off,
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// When the kernel moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpliceMode {
    /// For data in bulk, between sockets without TLS.
    #[default]
    Auto,
    /// Never: bytes are copied through Weir.
    Off,
}
