//! Where records are written that prove names by dns-01.

mod exec;
mod rfc2136;
mod webhook;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::spec::DnsSpec;
use crate::types::{At, Code};

pub use exec::ExecSpec;
pub use rfc2136::Rfc2136Spec;
pub use webhook::WebhookSpec;

/// Writes records. The error is for people, and has no secret in it.
#[async_trait]
pub(super) trait DnsProvider: fmt::Debug + Send + Sync {
    /// Adds a TXT record. `fqdn` ends with a dot. Others of the same name stay.
    async fn present(&self, fqdn: &str, value: &str) -> Result<(), String>;

    /// Removes what [`DnsProvider::present`] has added.
    async fn remove(&self, fqdn: &str, value: &str) -> Result<(), String>;
}

/// The provider. Problems are added below `at`; `None` when one of them is an error.
pub(super) fn compile(spec: &DnsSpec, at: &At) -> Option<Arc<dyn DnsProvider>> {
    let mut made: Vec<Option<Arc<dyn DnsProvider>>> = Vec::new();
    if let Some(spec) = &spec.rfc2136 {
        made.push(rfc2136::compile(spec, &at.key("rfc2136")));
    }
    if let Some(spec) = &spec.exec {
        made.push(exec::compile(spec, &at.key("exec")));
    }
    if let Some(spec) = &spec.webhook {
        made.push(webhook::compile(spec, &at.key("webhook")));
    }
    if made.len() != 1 {
        at.problem(Code::Conflict, "records are written in one way").hint("write one of `rfc2136`, `exec` and `webhook`");
        return None;
    }
    made.pop().flatten()
}
