//! The `request_id` filter: one id per request, for the upstream, the client and the log.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict, headers::field_name};
use crate::types::{self, At};

/// Gives each request an id: sent to the upstream and back to the client in a header field, and logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestIdSpec {
    /// The header field.
    pub header: String,
    /// Keep the id that the client sent, if it has 1 to 128 visible ASCII characters. Leave this off where
    /// strangers connect: they could make their requests look like others' in your logs.
    pub trust: bool,
}

impl Default for RequestIdSpec {
    fn default() -> Self {
        Self { header: "x-request-id".into(), trust: false }
    }
}

impl RequestIdSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let header = field_name(&self.header, &at.key("header"))?;
        Some(Arc::new(RequestId { header, trust: self.trust }))
    }
}

#[derive(Debug)]
struct RequestId {
    header: HeaderName,
    trust: bool,
}

/// Longer ids are not ids: they go into every log line.
const MAX_LENGTH: usize = 128;

fn valid(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

impl Filter for RequestId {
    fn kind(&self) -> &'static str {
        "request_id"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let name = self.header.as_str();
        let sent = self.trust.then(|| request.fields.get(name)).flatten().filter(|id| valid(id));
        if let Some(sent) = sent.and_then(|id| std::str::from_utf8(id).ok()) {
            *request.request_id = types::RequestId::from(sent);
        } else if !valid(request.request_id.as_bytes()) {
            // The gate gives ids too; what has one keeps it, so that all log lines of a request agree.
            *request.request_id = types::RequestId::new(SystemTime::now());
        }
        if let Ok(value) = HeaderValue::from_str(request.request_id) {
            request.fields.set(self.header.clone(), value);
        }
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, _: &mut Slot) {
        if let Ok(value) = HeaderValue::from_str(response.request_id) {
            response.fields.set(self.header.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn an_id_is_made_and_goes_both_ways() {
        let chain = compile(r#"[{"request_id": {}}]"#);
        let mut exchange = Exchange { request_id: "".into(), ..Exchange::default() };
        exchange.set("x-request-id", "forged");
        exchange.request(&chain).expect("goes on");
        let id: uuid::Uuid = exchange.request_id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(exchange.get("x-request-id"), Some(&*exchange.request_id));
        let fields = exchange.response(&chain, 200);
        assert_eq!(fields["x-request-id"], &*exchange.request_id);
    }

    #[test]
    fn the_id_of_the_gate_is_kept() {
        let mut exchange = Exchange { request_id: "from-the-gate".into(), ..Exchange::default() };
        exchange.request(&compile(r#"[{"request_id": {"header": "x-id"}}]"#)).unwrap();
        assert_eq!(exchange.get("x-id"), Some("from-the-gate"));
    }

    #[test]
    fn a_clients_id_is_kept_only_when_trusted_and_valid() {
        let chain = compile(r#"[{"request_id": {"trust": true}}]"#);
        let long = "a".repeat(129);
        for (sent, kept) in [("abc-1", true), ("a b", false), (&long, false), ("", false)] {
            let mut exchange = Exchange::default();
            exchange.set("x-request-id", sent);
            exchange.request(&chain).unwrap();
            assert_eq!(&*exchange.request_id == sent, kept, "{sent}");
        }
    }

    #[test]
    fn the_header_must_be_one() {
        assert!(refused(r#"[{"request_id": {"header": "a b"}}]"#)[0].message.contains("`a b`"));
        assert!(refused(r#"[{"request_id": {"header": "content-length"}}]"#)[0].message.contains("content-length"));
    }
}
