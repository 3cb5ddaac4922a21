//! Dynamic updates (RFC 2136), signed with a key that the server shares (RFC 8945).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, ResponseCode, update_message},
    rr::{Name, RData, Record, RecordSet, TSigner, rdata::TXT, rdata::tsig::TsigAlgorithm},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::DnsProvider;
use crate::{
    types::{Address, At, Code, Secret},
    wire::dial,
};

/// For one update, the connection included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far the clocks of both sides may be apart, in seconds: RFC 8945 section 10.
const FUDGE: u16 = 300;

/// How long others may keep the record, in seconds: it is there for a minute.
const TTL: u32 = 60;

/// A name server that takes updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rfc2136Spec {
    /// The primary server of the zone: an address, with a port if it is not 53.
    pub server: String,
    /// The zone that is updated, as in `example.com`.
    pub zone: String,
    /// The name of the key.
    pub key_name: String,
    /// The key, in base64, as `tsig-keygen` writes it.
    pub key: Secret,
    /// The algorithm of the key.
    #[serde(default)]
    pub algorithm: Algorithm,
}

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

impl From<Algorithm> for TsigAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        }
    }
}

struct Rfc2136 {
    server: SocketAddr,
    zone: Name,
    signer: TSigner,
}

impl std::fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rfc2136({}, {})", self.server, self.zone)
    }
}

pub(super) fn compile(spec: &Rfc2136Spec, at: &At) -> Option<Arc<dyn DnsProvider>> {
    let wrong = |key: &str, message: String, hint: &str| {
        at.key(key).problem(Code::BadValue, message).hint(hint);
    };
    let address = spec.server.parse::<SocketAddr>().ok().or_else(|| Some((spec.server.parse::<IpAddr>().ok()?, 53).into()));
    if address.is_none() {
        wrong("server", format!("`{}` is no address", spec.server), "as in `192.0.2.53` or `[2001:db8::53]:5353`");
    }
    let absolute = |key: &str, text: &str| {
        let name = Name::from_ascii(text).ok();
        if name.is_none() {
            wrong(key, format!("`{text}` is no name of the DNS"), "as in `example.com`");
        }
        let mut name = name?;
        name.set_fqdn(true);
        Some(name)
    };
    let (zone, key_name) = (absolute("zone", &spec.zone), absolute("key_name", &spec.key_name));
    let key = STANDARD.decode(spec.key.expose()).ok();
    if key.is_none() {
        wrong("key", "the key is not base64".to_owned(), "copy what stands behind `secret` in the server's configuration");
    }
    let signer = TSigner::new(key?, spec.algorithm.into(), key_name?, FUDGE);
    let signer = signer.map_err(|error| wrong("algorithm", error.to_string(), "as in `hmac-sha256`")).ok()?;
    Some(Arc::new(Rfc2136 { server: address?, zone: zone?, signer }))
}

impl Rfc2136 {
    fn record(&self, fqdn: &str, value: &str) -> Result<RecordSet, String> {
        let name = Name::from_ascii(fqdn).map_err(|error| error.to_string())?;
        if !self.zone.zone_of(&name) {
            return Err(format!("`{fqdn}` is not in the zone `{}`", self.zone));
        }
        let record = Record::from_rdata(name, TTL, RData::TXT(TXT::new(vec![value.to_owned()])));
        Ok(RecordSet::from(record))
    }

    async fn send(&self, mut update: Message) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let verifier = update.finalize(&self.signer, now).map_err(|error| error.to_string())?;
        let bytes = update.to_vec().map_err(|error| error.to_string())?;
        let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
        let exchange = async {
            let mut stream = dial(&Address::Tcp(self.server), None, None).await.map_err(|error| error.to_string())?;
            let failed = |error: std::io::Error| error.to_string();
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await.map_err(failed)?;
            stream.flush().await.map_err(failed)?;
            let mut answer = vec![0; usize::from(stream.read_u16().await.map_err(failed)?)];
            stream.read_exact(&mut answer).await.map_err(failed)?;
            Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let answer = answer.map_err(|reason| format!("the name server {}: {reason}", self.server))?;
        let refused = |reason: &dyn std::fmt::Display| format!("the name server {} refuses the update: {reason}", self.server);
        let read = Message::from_vec(&answer).map_err(|error| refused(&error))?;
        // Errors about the key itself are not signed (RFC 8945 section 5.3.2).
        if read.metadata.response_code != ResponseCode::NoError {
            return Err(refused(&read.metadata.response_code));
        }
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    async fn present(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.send(update_message::append(self.record(fqdn, value)?, self.zone.clone(), false, false)).await
    }
    async fn remove(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.send(update_message::delete_by_rdata(self.record(fqdn, value)?, self.zone.clone(), false)).await
    }
}
