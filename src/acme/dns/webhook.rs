//! An HTTP service that is asked for each record, in the words of lego's `httpreq`, which others understand, too.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DnsProvider;
use crate::{
    tls::Trust,
    types::{At, Code, Secret},
    wire::{AskPatience, Url, ask},
};

const PATIENCE: AskPatience = AskPatience { time: Duration::from_secs(60), bytes: 64 << 10 };

/// A service that writes and removes records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// Below this URL, `POST /present` and `POST /cleanup` get `{"fqdn": "_acme-challenge.example.com.", "value": "..."}`.
    pub url: String,
    /// For `Authorization: Basic`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The password of `user`.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
}

struct Webhook {
    present: Url,
    cleanup: Url,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhook({})", self.present.name())
    }
}

pub(super) fn compile(spec: &WebhookSpec, at: &At) -> Option<Arc<dyn DnsProvider>> {
    let below = |path: &str| Url::parse(&format!("{}/{path}", spec.url.trim_end_matches('/')));
    let (present, cleanup) = match (below("present"), below("cleanup")) {
        (Ok(present), Ok(cleanup)) => (present, cleanup),
        (Err(reason), _) | (_, Err(reason)) => {
            at.key("url").problem(Code::BadValue, reason).hint("as in `https://dns.internal/records`");
            return None;
        }
    };
    let tls = present.client_tls(Trust::System);
    let tls = tls
        .inspect_err(|error| {
            at.key("url").problem(Code::BadCertificate, error.to_string());
        })
        .ok()?;
    let credentials = (!spec.user.is_empty()).then(|| {
        let pair = STANDARD.encode(format!("{}:{}", spec.user, spec.password.expose()));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).expect("base64 is ASCII");
        value.set_sensitive(true);
        value
    });
    if credentials.is_some() && !present.is_tls() && !present.is_loopback() {
        at.key("url").problem(Code::Insecure, "the password goes over the network in cleartext").hint("use `https`");
    }
    Some(Arc::new(Webhook { present, cleanup, tls, authorization: credentials }))
}

impl Webhook {
    async fn post(&self, url: &Url, fqdn: &str, value: &str) -> Result<(), String> {
        let body = serde_json::json!({"fqdn": fqdn, "value": value}).to_string();
        let mut request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::from(body)).map_err(|error| error.to_string())?;
        let answer = ask(url, request, self.tls.clone(), PATIENCE).await.map_err(|reason| format!("{}: {reason}", url.name()))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("{}: the answer is {}", url.name(), answer.status())) }
    }
}

#[async_trait]
impl DnsProvider for Webhook {
    async fn present(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.post(&self.present, fqdn, value).await
    }
    async fn remove(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.post(&self.cleanup, fqdn, value).await
    }
}
