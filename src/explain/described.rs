//! A request as somebody describes it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named;
use crate::{
    snapshot::{Listener, Snapshot},
    types::{OneOrMany, closest, parse_authority},
};

/// A request to be explained.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribedRequest {
    /// The method; GET when left out.
    #[serde(default = "DescribedRequest::default_method")]
    pub method: String,
    /// The URL: `https://example.com/path?query`.
    pub url: String,
    /// Header fields, each with its value or a list of them. `host` stands above the URL's own.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<String>>,
    /// The address that connects; 127.0.0.1 when left out.
    #[serde(default = "DescribedRequest::default_client")]
    pub client: IpAddr,
    /// The name of the listener; the one that the URL leads to when left out.
    #[serde(default)]
    pub listener: Option<String>,
    /// The server name of the TLS handshake; the URL's host when left out.
    #[serde(default)]
    pub sni: Option<String>,
}

impl DescribedRequest {
    /// A GET request without header fields, from this machine.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Self::default_method(),
            url: url.into(),
            headers: BTreeMap::new(),
            client: Self::default_client(),
            listener: None,
            sni: None,
        }
    }
    fn default_method() -> String {
        "GET".into()
    }
    fn default_client() -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

/// Why a description describes no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// The URL.
    #[error("`{0}` is not a URL: write `https://host/path`, or `/path` with a host header")]
    Url(String),
    /// Another scheme.
    #[error("`{0}` is neither http nor https")]
    Scheme(String),
    /// A line break, which would begin another field.
    #[error("the {0} holds a line break, which cannot be sent as one {0}")]
    LineBreak(&'static str),
    /// There is no such listener.
    #[error("there is no listener `{name}`{}", nearest(.known))]
    NoListener {
        /// What was asked for.
        name: String,
        /// The nearest that there is.
        known: Option<String>,
    },
    /// No listener speaks that.
    #[error("no listener speaks {0}")]
    Unspoken(&'static str),
}

fn nearest(known: &Option<String>) -> String {
    known.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// A description taken apart.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) client: IpAddr,
    secure: bool,
    port: u16,
    listener: Option<String>,
    sni: Option<String>,
    fields: Vec<(String, String)>,
}

impl Request {
    pub(super) fn of(described: &DescribedRequest) -> Result<Self, DescriptionError> {
        let (secure, authority, target) = split(&described.url)?;
        let mut fields: Vec<(String, String)> = described
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone())))
            .collect();
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            if authority.is_empty() {
                return Err(DescriptionError::Url(described.url.clone()));
            }
            fields.insert(0, ("host".into(), authority.into()));
        }
        let breaks = |text: &str| text.contains(['\r', '\n']);
        if breaks(&described.method) {
            return Err(DescriptionError::LineBreak("method"));
        }
        if breaks(&target) || breaks(authority) {
            return Err(DescriptionError::LineBreak("URL"));
        }
        if fields.iter().any(|(name, value)| breaks(name) || breaks(value)) {
            return Err(DescriptionError::LineBreak("header field"));
        }
        let port = parse_authority(authority).and_then(|(_, port)| port);
        Ok(Self {
            method: described.method.clone(),
            target,
            client: described.client,
            secure,
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            listener: described.listener.clone(),
            sni: described.sni.clone(),
            fields,
        })
    }

    /// What a client would send.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        bytes.into_bytes()
    }

    /// Clients name the host that they ask for, unless that is an address.
    pub(super) fn sni(&self, host: &str) -> Option<String> {
        let address = host.parse::<IpAddr>().is_ok() || host.starts_with('[');
        self.sni.as_ref().map(|sni| sni.to_ascii_lowercase()).or_else(|| (!address).then(|| host.to_owned()))
    }

    /// The listener, and why that one.
    pub(super) fn listener<'s>(&self, snapshot: &'s Snapshot) -> Result<(&'s Arc<Listener>, String), DescriptionError> {
        if let Some(name) = &self.listener {
            let names = snapshot.listeners.keys().map(|name| name.as_str());
            let listener = named(snapshot, name).ok_or_else(|| DescriptionError::NoListener {
                name: name.clone(),
                known: closest(name, names).map(str::to_owned),
            })?;
            return Ok((listener, "it was asked for".into()));
        }
        let scheme = if self.secure { "https" } else { "http" };
        let speaks = |listener: &&Arc<Listener>| listener.tls.is_some() == self.secure;
        let on_port = |listener: &&Arc<Listener>| {
            listener.addresses.iter().any(|address| address.tcp().is_some_and(|address| address.port() == self.port))
        };
        if let Some(listener) = snapshot.listeners.values().filter(speaks).find(on_port) {
            return Ok((listener, format!("it speaks {scheme} on port {}", self.port)));
        }
        let first = snapshot.listeners.values().find(speaks).ok_or(DescriptionError::Unspoken(scheme))?;
        Ok((first, format!("none speaks {scheme} on port {}, and this is the first that speaks {scheme} at all", self.port)))
    }
}

/// Scheme, authority and target. Nothing of it is corrected: what is wrong with it the gate says.
fn split(url: &str) -> Result<(bool, &str, String), DescriptionError> {
    let (secure, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            return Err(DescriptionError::Scheme(scheme.into()));
        }
        _ => (false, url),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    if rest.starts_with('*') {
        // The asterisk-form of OPTIONS (RFC 9112 section 3.2.4), with a host header.
        return Ok((secure, "", rest.to_owned()));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.is_empty() && target.is_empty() {
        return Err(DescriptionError::Url(url.into()));
    }
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((secure, authority, target))
}
