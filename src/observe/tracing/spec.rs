//! What users write under `observability.tracing`.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    string_type,
    types::{ConfigPath, Ratio, Switch},
};

/// Spans of requests, for a collector that speaks OTLP over gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracingSpec {
    /// The collector: `http://127.0.0.1:4317`, or `https://`.
    pub otlp: OtlpAddress,
    /// The authority of the collector's certificate, in PEM. Those that the system trusts, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigPath>,
    /// The share of traces that begin here and are recorded. Those that a caller began are recorded if it records them.
    #[serde(default = "TracingSpec::default_sample")]
    pub sample: Ratio,
    /// Whose traces are continued: `trusted_proxies` of the listener, or `anyone`.
    #[serde(default)]
    pub continue_from: ContinueFrom,
    /// The name under which the collector files the spans.
    #[serde(default = "TracingSpec::default_service")]
    pub service: String,
}

impl TracingSpec {
    fn default_sample() -> Ratio {
        Ratio::percent(1)
    }
    fn default_service() -> String {
        "weir".into()
    }
    /// The default of `observability.tracing`.
    pub fn off() -> Switch<Self> {
        Switch::Off
    }
}

/// Whose `traceparent` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContinueFrom {
    /// That of the listener's `trusted_proxies`. The request of anybody else begins a trace, with a link to theirs.
    #[default]
    TrustedProxies,
    /// Everybody's. A stranger decides then which of his requests are recorded here and behind.
    Anyone,
}

/// Where a collector listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpAddress(Uri);

impl OtlpAddress {
    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
    /// Is it reached over TLS?
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl FromStr for OtlpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is no OTLP address: {why}; write one such as `http://127.0.0.1:4317`");
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(wrong("it must begin with `http://` or `https://`")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it must not hold a user or a password"));
        }
        if authority.port_u16().is_none() {
            return Err(wrong("it has no port, which for gRPC is usually 4317"));
        }
        if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/")) {
            return Err(wrong("OTLP over gRPC has no path"));
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for OtlpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}", self.0.authority().map_or("", |authority| authority.as_str()))
    }
}

string_type!(
    OtlpAddress,
    "OtlpAddress",
    "`http://` or `https://`, host and port of a collector that speaks OTLP over gRPC.",
    None
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in ["http://127.0.0.1:4317", "https://collector.example:443", "http://[::1]:4317", "http://otel:4317/"] {
            let address: OtlpAddress = good.parse().unwrap();
            assert_eq!(address.to_string(), good.trim_end_matches('/'));
            assert_eq!(address.is_tls(), good.starts_with("https"));
        }
        for (bad, why) in [
            ("", "no URL"),
            ("127.0.0.1:4317", "begin with"),
            ("collector", "begin with"),
            ("ftp://x:1", "begin with"),
            ("http://x", "no port"),
            ("http://u:p@x:1", "password"),
            ("http://x:4318/v1/traces", "no path"),
            ("http://x:1/?a", "no path"),
        ] {
            let error = bad.parse::<OtlpAddress>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let spec: TracingSpec = serde_yaml::from_str("otlp: http://127.0.0.1:4317").unwrap();
        assert_eq!(
            (spec.sample, spec.continue_from, spec.service.as_str()),
            (Ratio::percent(1), ContinueFrom::TrustedProxies, "weir")
        );
        assert!(serde_yaml::from_str::<TracingSpec>("sample: 1%").is_err());
    }
}
