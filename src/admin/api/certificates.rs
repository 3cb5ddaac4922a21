//! `/api/v1/certificates`: what is served to whom, for how long still, and how those stand that are obtained by themselves.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{AdminState, Refused},
    Document,
    applied::refuse,
    extract::InPath,
    time,
};
use crate::{
    acme::{Phase, Standing},
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
    /// Where it comes from: `file`, `self_signed` or `acme`.
    source: &'static str,
    /// The file it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The authority that it was obtained from.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
}

impl Certificate {
    fn new(listener: &Name, facts: CertificateFacts, now: SystemTime) -> Self {
        let (source, file, authority) = match facts.source {
            Source::File(path) => ("file", Some(path.display().to_string()), None),
            Source::SelfSigned => ("self_signed", None, None),
            Source::Acme(authority) => ("acme", None, Some(authority)),
        };
        Self {
            listener: listener.clone(),
            name: facts.name,
            names: facts.names,
            issuer: facts.issuer,
            not_before: time(facts.not_before),
            not_after: time(facts.not_after),
            days_left: days_left(facts.not_after, now),
            fingerprint: facts.fingerprint,
            source,
            file,
            authority,
        }
    }
}

/// To a tenth; negative when it is over.
fn days_left(not_after: SystemTime, now: SystemTime) -> f64 {
    let seconds = match not_after.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    };
    (seconds / DAY * 10.0).round() / 10.0
}

/// A name that a certificate is obtained and renewed for.
#[derive(Debug, Serialize, JsonSchema)]
struct Automatic {
    /// A host name, a wildcard or an address.
    name: String,
    /// `held`: there is a certificate. `ordering`: an order is under way. `waiting`: there is none, and an attempt is due or was made.
    state: &'static str,
    /// Who issued the certificate that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    /// The last moment it is valid, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    /// Days until then; negative after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<f64>,
    /// When it is renewed, or the next attempt is made, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// A client asked for it: no configuration names it.
    on_demand: bool,
}

impl Automatic {
    fn new(standing: Standing, now: SystemTime) -> Self {
        Self {
            state: match standing.phase {
                Phase::Waiting => "waiting",
                Phase::Ordering => "ordering",
                Phase::Held => "held",
            },
            name: standing.name,
            authority: standing.authority,
            not_after: standing.not_after.map(time),
            days_left: standing.not_after.map(|not_after| days_left(not_after, now)),
            // One that is due now has no time.
            next: standing.next.filter(|next| *next > now).map(time),
            failures: standing.failures,
            last_error: standing.last_error,
            on_demand: standing.on_demand,
        }
    }
}

/// Every certificate.
#[derive(Debug, Serialize, JsonSchema)]
struct Certificates {
    /// By listener, in the order of the configuration: the first one is served to whoever asks for no known name.
    certificates: Vec<Certificate>,
    /// The names that certificates are obtained for, with or without one.
    automatic: Vec<Automatic>,
}

async fn certificates(State(state): State<Arc<AdminState>>) -> Json<Certificates> {
    let now = SystemTime::now();
    let snapshot = state.store.load();
    let mut certificates = Vec::new();
    for listener in snapshot.listeners.values() {
        let served = listener.tls.iter().flat_map(|tls| tls.certificates());
        certificates.extend(served.map(|facts| Certificate::new(&listener.name, facts, now)));
    }
    let automatic = snapshot.acme.standings().into_iter().map(|standing| Automatic::new(standing, now)).collect();
    Json(Certificates { certificates, automatic })
}

/// What is ordered.
#[derive(Debug, Serialize, JsonSchema)]
struct Ordered {
    name: String,
}

async fn renew(State(state): State<Arc<AdminState>>, InPath(name): InPath<String>) -> Response {
    let acme = &state.store.load().acme;
    if acme.renew(&name) {
        log::info!("acme: the certificate for {name} is renewed now, as ordered through the admin API");
        (StatusCode::ACCEPTED, Json(Ordered { name })).into_response()
    } else {
        refuse(Refused::NotFound(format!("no certificate is obtained by itself for {name}")))
    }
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/certificates", get(certificates)).route("/api/v1/certificates/{name}/renew", post(renew))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/certificates", "certificates", "What is served to whom, and for how long still.")
        .answers::<Certificates>(StatusCode::OK, "Every certificate.")
        .done();
    document
        .operation(
            "post",
            "/api/v1/certificates/{name}/renew",
            "renew_certificate",
            "Renews a certificate now, or tries again to obtain one.",
        )
        .parameter("name", "A name of `automatic`.")
        .answers::<Ordered>(StatusCode::ACCEPTED, "An order is made; how it ends, `automatic` says.")
        .fails(StatusCode::NOT_FOUND, "No certificate is obtained for that name.")
        .done();
}
