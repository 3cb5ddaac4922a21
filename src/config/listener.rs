//! What users write under `listeners`.

use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TcpSpec;
use crate::{
    filter::FilterSpec,
    gate::UnderscoreFields,
    tls::ServerTlsSpec,
    types::{Address, Cidr, OneOrMany, Rate, Size, Span},
};

/// One place to accept connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    /// One address or a list of them.
    pub address: OneOrMany<Address>,
    /// Answer every request with a 308 to the same host and path over TLS.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// Terminate TLS. Cleartext when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSpec>,
    /// Limits and timeouts of HTTP.
    #[serde(default)]
    pub http: HttpSpec,
    /// Pass bytes on instead of serving HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSpec>,
    /// Require the PROXY protocol (v1 or v2) from these peers, refuse it from all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocolSpec>,
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Cidr>,
    /// What happens to every request of this listener, before a route is chosen, and to every response, after the
    /// route's own filters: Weir's own answers and those to requests that no route serves, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterSpec>,
    /// Connections at a time on this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroUsize>,
}

/// PROXY protocol, as sent by HAProxy, Envoy and cloud load balancers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocolSpec {
    /// The peers that must send it.
    pub from: Vec<Cidr>,
}

/// Limits and timeouts of HTTP on a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSpec {
    /// Offer HTTP/2 on TLS.
    pub h2: bool,
    /// Accept HTTP/2 with prior knowledge in cleartext.
    pub h2c: bool,
    /// For the whole header block, from its first byte, and for the TLS handshake: 408.
    pub header_timeout: Span,
    /// Without a byte of the request body (408), of the response body from the endpoint, or taken of it by the client (a
    /// cut); `0s` for none.
    pub body_idle_timeout: Span,
    /// The slowest request body that is put up with, after 10 s: 408.
    pub min_body_rate: Rate,
    /// How long an idle connection is kept.
    pub keepalive_timeout: Span,
    /// Requests on one connection, after which it closes.
    pub max_requests_per_connection: NonZeroU32,
    /// The whole header block: 431. One field may have half of it; the target a quarter (414).
    pub max_header_bytes: Size,
    /// Header fields: 431.
    pub max_header_count: NonZeroU32,
    /// Request fields with `_` in their names, which many services cannot tell from `-`: drop, forward or refuse them.
    pub underscore_fields: UnderscoreFields,
    /// HTTP/2 streams open at a time on one connection, and requests over HTTP/3.
    pub h2_max_concurrent_streams: NonZeroU32,
}

impl Default for HttpSpec {
    fn default() -> Self {
        const fn number(number: u32) -> NonZeroU32 {
            NonZeroU32::new(number).unwrap()
        }
        Self {
            h2: true,
            h2c: false,
            header_timeout: Span::secs(10),
            body_idle_timeout: Span::secs(30),
            min_body_rate: Rate::bytes_per_second(500),
            keepalive_timeout: Span::secs(60),
            max_requests_per_connection: const { number(10_000) },
            max_header_bytes: Size::bytes(32 * 1024),
            max_header_count: const { number(100) },
            underscore_fields: UnderscoreFields::Drop,
            h2_max_concurrent_streams: const { number(100) },
        }
    }
}
