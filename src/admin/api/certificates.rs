//! `/api/v1/certificates`: what is served to whom, and for how long still.

use std::{sync::Arc, time::SystemTime};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Document, time};
use crate::{
    tls::{CertificateFacts, Source},
    types::Name,
};

const DAY: f64 = 24.0 * 3600.0;

/// One certificate of one listener.
#[derive(Debug, Serialize, JsonSchema)]
struct Certificate {
    /// The listener that serves it.
    listener: Name,
    /// The name it goes by.
    name: String,
    /// Every name and address it is for.
    names: Vec<String>,
    /// Who signed it.
    issuer: String,
    /// The first moment it is valid, in RFC 3339.
    not_before: String,
    /// The last moment it is valid, in RFC 3339.
    not_after: String,
    /// Days until then; negative after it.
    days_left: f64,
    /// SHA-256 of the certificate, in hex.
    fingerprint: String,
    /// The file it was read from; absent for one that was made in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Certificate {
    fn new(listener: &Name, facts: CertificateFacts, now: SystemTime) -> Self {
        let seconds = match facts.not_after.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(over) => -over.duration().as_secs_f64(),
        };
        let file = match &facts.source {
            Source::File(path) => Some(path.display().to_string()),
            Source::SelfSigned => None,
        };
        Self {
            listener: listener.clone(),
            name: facts.name,
            names: facts.names,
            issuer: facts.issuer,
            not_before: time(facts.not_before),
            not_after: time(facts.not_after),
            days_left: (seconds / DAY * 10.0).round() / 10.0,
            fingerprint: facts.fingerprint,
            file,
        }
    }
}

/// Every certificate.
#[derive(Debug, Serialize, JsonSchema)]
struct Certificates {
    /// By listener, in the order of the configuration: the first one is served to whoever asks for no known name.
    certificates: Vec<Certificate>,
}

async fn certificates(State(state): State<Arc<AdminState>>) -> Json<Certificates> {
    let now = SystemTime::now();
    let mut certificates = Vec::new();
    for listener in state.store.load().listeners.values() {
        let served = listener.tls.iter().flat_map(|tls| tls.certificates());
        certificates.extend(served.map(|facts| Certificate::new(&listener.name, facts, now)));
    }
    Json(Certificates { certificates })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/certificates", get(certificates))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/certificates", "certificates", "What is served to whom, and for how long still.")
        .answers::<Certificates>(StatusCode::OK, "Every certificate.")
        .done();
}
