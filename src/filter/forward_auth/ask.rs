//! The question: what a service is told of a request.
//!
//! A GET without a body, whatever the request is. Services read different fields: `X-Forwarded-*` those made for
//! Traefik and Caddy, `X-Original-*` those made for nginx. All of them get all, in Weir's own words.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::names::Shown;
use crate::{
    filter::{Call, FilterRequest, Take, field_text},
    types::Client,
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What the client asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    url: String,
    /// Where the path begins in it.
    path: usize,
}

impl Wanted {
    fn new(scheme: &str, host: &str, uri: &str) -> Self {
        // An HTTP/1.0 client may name no host, and then only the path is known.
        let url = if host.is_empty() { uri.to_owned() } else { format!("{scheme}://{host}{uri}") };
        Self { path: url.len() - uri.len(), url }
    }

    /// The whole URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The path and the query.
    pub(super) fn uri(&self) -> &str {
        &self.url[self.path..]
    }
}

/// How the service of one filter is asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) target: String,
    pub(super) host: Option<HeaderValue>,
    pub(super) shown: Shown,
    pub(super) within: Duration,
    pub(super) max_body: usize,
}

impl Question {
    /// The call, and what the client asked for. `None` for a request that cannot be told of, which the gate does not let
    /// through.
    pub(super) fn ask(&self, request: &FilterRequest<'_>) -> Option<(Call, Wanted)> {
        let mut fields = self.shown(request)?;
        let host = authority(request);
        let uri = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let wanted = Wanted::new(request.client.scheme.as_str(), host, &uri);
        let own = [
            (FORWARDED_METHOD, value(request.method)?),
            (ORIGINAL_METHOD, value(request.method)?),
            (FORWARDED_PROTO, HeaderValue::from_static(request.client.scheme.as_str())),
            (FORWARDED_URI, value(&uri)?),
            (ORIGINAL_URL, value(wanted.url())?),
            (FORWARDED_FOR, address(request.client)?),
            (REAL_IP, address(request.client)?),
        ];
        for (name, value) in own {
            fields.insert(name, value);
        }
        let host = Some(host).filter(|host| !host.is_empty()).map(value);
        fields.remove(FORWARDED_HOST);
        if let Some(host) = host.clone() {
            fields.insert(FORWARDED_HOST, host?);
        }
        if let Some(host) = self.host.clone().map(Some).or(host) {
            fields.insert(header::HOST, host?);
        }
        let call = Call {
            method: Method::GET,
            target: self.target.clone(),
            fields,
            body: None,
            client: request.client.ip,
            within: self.within,
            take: Take::Body(self.max_body),
        };
        Some((call, wanted))
    }

    /// The client's own fields that the service sees.
    fn shown(&self, request: &FilterRequest<'_>) -> Option<HeaderMap> {
        let (mut fields, mut sound) = (HeaderMap::with_capacity(16), true);
        request.fields.each(&mut |name, value| {
            if self.shown.holds(name) {
                match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                    (Ok(name), Ok(value)) => drop(fields.append(name, value)),
                    _ => sound = false,
                }
            }
        });
        sound.then_some(fields)
    }
}

/// The host by which the route was chosen, with the port that the client used. What a trusted proxy says of another
/// host does not count here: a verdict about one host must not open another.
fn authority<'a>(request: &'a FilterRequest<'_>) -> &'a str {
    let told = field_text(&*request.fields, FORWARDED_HOST.as_str());
    let same = |told: &&str| {
        let (host, rest) = told.split_at_checked(request.host.len()).unwrap_or_default();
        let port = rest.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        host.eq_ignore_ascii_case(request.host) && port
    };
    told.filter(same).unwrap_or(request.host)
}

/// The client alone, not the proxies on its way: what stands before it in a list is what the client made up.
fn address(client: &Client) -> Option<HeaderValue> {
    if client.ip.is_unspecified() { Some(HeaderValue::from_static("unknown")) } else { value(&client.ip.to_string()) }
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes())).ok()
}
