//! What users write under `acme`.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    authority::Authority,
    dns::{ExecSpec, Rfc2136Spec, WebhookSpec},
};
use crate::types::{ConfigPath, OneOrMany, Secret, Span};

/// Certificates that are obtained and renewed by themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcmeSpec {
    /// Who issues them: `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `google-test`, or the URL of a directory. Of a list, the
    /// next one is asked when one fails.
    pub directory: OneOrMany<Authority>,
    /// Whom the authority may write to: addresses of mail.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub contact: OneOrMany<String>,
    /// Where accounts, keys and certificates are kept: a directory, or `redis://HOST` for edges on several machines. Left out, `acme` in
    /// `server.state_dir`, or `/var/lib/weir/acme`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StoragePlace>,
    /// The authorities that are trusted when talking to `directory`, PEM. Those of the system, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigPath>,
    /// The account at the authority that certificates are counted on (external account binding).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eab: Option<EabSpec>,
    /// The kind of certificate, where the authority has several: `shortlived` for six days at Let's Encrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The kind of key that certificates have. Each one has a key of its own.
    pub key: KeyKind,
    /// Prove names by records in the DNS, which wildcards need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSpec>,
}

impl Default for AcmeSpec {
    fn default() -> Self {
        Self {
            directory: OneOrMany(vec![Authority::default()]),
            contact: OneOrMany::default(),
            storage: None,
            ca: None,
            eab: None,
            profile: None,
            key: KeyKind::default(),
            dns: None,
        }
    }
}

/// External account binding: RFC 8555 section 7.3.4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EabSpec {
    /// The name of the key.
    pub kid: String,
    /// The key, in base64url, as the authority shows it.
    pub hmac: Secret,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits, for clients of before 2010.
    Rsa2048,
}

/// How records are written in the DNS. One of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsSpec {
    /// By dynamic updates: BIND, Knot, PowerDNS and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136Spec>,
    /// By a program, which is run for each record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecSpec>,
    /// By an HTTP service that is asked for each record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// How long after the record is written the authority is told to look.
    #[serde(default = "DnsSpec::default_propagation")]
    pub propagation: Span,
}

impl DnsSpec {
    fn default_propagation() -> Span {
        Span::secs(10)
    }
    pub(super) fn wait(&self) -> Duration {
        self.propagation.get()
    }
}

/// A directory, or the address of a Redis, which may have a password in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoragePlace(Secret);

/// What was meant by it.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// This directory.
    Directory(PathBuf),
    /// This Redis.
    Redis(Secret),
}

impl StoragePlace {
    /// The place, or why it is none.
    pub(super) fn place(&self) -> Result<Place, String> {
        let text = self.0.expose();
        if text.starts_with("redis://") || text.starts_with("rediss://") {
            return Ok(Place::Redis(self.0.clone()));
        }
        let path = PathBuf::from(text);
        match path.is_absolute() {
            true => Ok(Place::Directory(path)),
            false if text.contains("://") => Err("a storage is a directory or `redis://HOST`".to_owned()),
            false => Err(format!("`{text}` is no absolute path")),
        }
    }
}

impl Serialize for StoragePlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.place() {
            Ok(Place::Directory(path)) => serializer.collect_str(&path.display()),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StoragePlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for StoragePlace {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StoragePlace".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "An absolute path of a directory, or `redis://HOST:PORT`."})
    }
}
