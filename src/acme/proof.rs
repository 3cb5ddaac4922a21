//! How a name is proven to an authority: RFC 8555 section 8, RFC 8737.
//!
//! What answers is in the storage, so that any edge that shares it can answer.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::ChallengeType;
use serde::{Deserialize, Serialize};

use super::{
    dns::DnsProvider,
    storage::{Shelf, Storage, read_json, write_json},
};
use crate::types::bare_host;

/// In front of what answers by tls-alpn-01, which goes by name and not by token. A token has no dot.
const BY_NAME: &str = "name.";

/// A way to prove a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Http,
    Tls,
    Dns,
}

impl Way {
    pub(super) fn of(kind: &ChallengeType) -> Option<Way> {
        [Way::Http, Way::Tls, Way::Dns].into_iter().find(|way| way.kind() == *kind)
    }

    pub(super) fn kind(self) -> ChallengeType {
        match self {
            Way::Http => ChallengeType::Http01,
            Way::Tls => ChallengeType::TlsAlpn01,
            Way::Dns => ChallengeType::Dns01,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Way::Http => "http-01",
            Way::Tls => "tls-alpn-01",
            Way::Dns => "dns-01",
        }
    }

    /// The ways that are open for a name, the one to try now first: another one after each attempt that failed.
    pub(super) fn open(name: &str, dns: bool, cleartext: bool, failures: u32) -> Vec<Way> {
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        if name.starts_with("*.") || (dns && !is_address) {
            // Who has set up the DNS for it has a reason: a port that is closed to the internet, most often.
            return vec![Way::Dns];
        }
        let mut ways = if cleartext { vec![Way::Http, Way::Tls] } else { vec![Way::Tls] };
        let turn = failures as usize % ways.len();
        ways.rotate_left(turn);
        ways
    }
}

/// What answers an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The name that is proven.
    pub(super) name: String,
    /// The key authorisation: RFC 8555 section 8.1.
    pub(super) authorization: String,
}

/// Something that answers, and must be taken away.
#[derive(Debug)]
pub(super) enum Shown {
    Stored(String),
    Record { fqdn: String, value: String },
}

/// Gives answers, and takes them away.
#[derive(Debug, Clone)]
pub(super) struct Prover {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dns: Option<Arc<dyn DnsProvider>>,
    pub(super) propagation: Duration,
}

impl Prover {
    /// Makes an answer ready. The error is for people.
    pub(super) async fn show(&self, way: Way, token: &str, answer: Answer) -> Result<Shown, String> {
        let key = match way {
            Way::Http => token.to_owned(),
            Way::Tls => format!("{BY_NAME}{}", answer.name),
            Way::Dns => return self.show_record(&answer).await,
        };
        write_json(&self.storage, Shelf::Challenges, &key, &answer).await.map_err(|error| error.to_string())?;
        Ok(Shown::Stored(key))
    }

    async fn show_record(&self, answer: &Answer) -> Result<Shown, String> {
        let dns = self.dns.as_ref().ok_or("`acme.dns` is not configured")?;
        let fqdn = format!("_acme-challenge.{}.", answer.name.strip_prefix("*.").unwrap_or(&answer.name));
        let value = URL_SAFE_NO_PAD.encode(sha256(&answer.authorization));
        dns.present(&fqdn, &value).await?;
        tokio::time::sleep(self.propagation).await;
        Ok(Shown::Record { fqdn, value })
    }

    /// Takes answers away. What cannot be taken away is told, and does no harm.
    pub(super) async fn hide(&self, shown: Vec<Shown>) {
        for shown in shown {
            let hidden = match &shown {
                Shown::Stored(key) => self.storage.remove(Shelf::Challenges, key).await.map_err(|error| error.to_string()),
                Shown::Record { fqdn, value } => match &self.dns {
                    Some(dns) => dns.remove(fqdn, value).await,
                    None => Ok(()),
                },
            };
            if let Err(reason) = hidden {
                log::warn!("acme: what proved a name cannot be removed: {reason}");
            }
        }
    }
}

/// What an authority gets by http-01 that asks for this token at this host.
pub(super) async fn by_token(storage: &Arc<dyn Storage>, token: &str, host: &str) -> Option<String> {
    let answer: Answer = read_json(storage, Shelf::Challenges, token).await.ok().flatten()?;
    (answer.name == bare_host(host)).then_some(answer.authorization)
}

/// What an authority gets by tls-alpn-01 that asks for this name.
pub(super) async fn by_name(storage: &Arc<dyn Storage>, name: &str) -> Option<[u8; 32]> {
    let key = format!("{BY_NAME}{name}");
    let answer: Answer = read_json(storage, Shelf::Challenges, &key).await.ok().flatten()?;
    Some(sha256(&answer.authorization))
}

/// A token has at least 128 bits in base64url: RFC 8555 section 8.1.
pub(super) fn is_token(text: &str) -> bool {
    (22..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().expect("a digest of SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_way_is_tried_after_a_failure() {
        let ways = |name, dns, cleartext, failures| Way::open(name, dns, cleartext, failures);
        assert_eq!(ways("a.test", false, true, 0), [Way::Http, Way::Tls]);
        assert_eq!(ways("a.test", false, true, 1), [Way::Tls, Way::Http]);
        assert_eq!(ways("a.test", false, true, 2), [Way::Http, Way::Tls]);
        assert_eq!(ways("a.test", false, false, 1), [Way::Tls]);
        assert_eq!(ways("a.test", true, true, 3), [Way::Dns]);
        assert_eq!(ways("*.a.test", true, true, 0), [Way::Dns]);
        assert_eq!(ways("192.0.2.1", true, true, 0), [Way::Http, Way::Tls], "an address has no records");
    }

    #[test]
    fn a_token_is_no_path() {
        assert!(is_token("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"));
        for wrong in ["", "short", "../../../etc/passwd0000", "name.example.com0000000", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa/b"] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }
}
