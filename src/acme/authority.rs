//! Certificate authorities that are known by name.

use std::{fmt, str::FromStr};

use crate::{string_type, wire::Url};

/// Name, directory, and the directory of the one for trying things out.
const KNOWN: [(&str, &str, Option<&str>); 5] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", Some(STAGING)),
    ("letsencrypt-staging", STAGING, None),
    ("zerossl", "https://acme.zerossl.com/v2/DV90", None),
    ("google", "https://dv.acme-v02.api.pki.goog/directory", Some(GOOGLE_TEST)),
    ("google-test", GOOGLE_TEST, None),
];
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const GOOGLE_TEST: &str = "https://dv.acme-v02.test-api.pki.goog/directory";

/// An authority: one that is known by name, or the URL of its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    name: String,
    url: String,
    staging: Option<&'static str>,
}

impl Authority {
    /// How it is written, and shown.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The authority that mistakes are made at without counting against the limits of this one.
    pub(super) fn staging(&self) -> Option<Authority> {
        self.staging.map(|url| Authority { name: format!("{} for trying", self.name), url: url.to_owned(), staging: None })
    }

    /// Does it issue certificates for public names only?
    pub(super) fn is_public(&self) -> bool {
        KNOWN.iter().any(|(_, url, _)| *url == self.url)
    }

    /// Let's Encrypt has accounts that nobody needs to have registered before.
    pub(super) fn binds_accounts(&self) -> bool {
        !self.name.starts_with("letsencrypt")
    }

    /// What its account is stored as.
    pub(super) fn key(&self) -> String {
        let plain =
            |character: char| if character.is_ascii_alphanumeric() || matches!(character, '.' | '-') { character } else { '_' };
        self.url.trim_start_matches("https://").chars().map(plain).collect()
    }
}

impl Default for Authority {
    fn default() -> Self {
        let (name, url, staging) = KNOWN[0];
        Self { name: name.to_owned(), url: url.to_owned(), staging }
    }
}

impl FromStr for Authority {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((name, url, staging)) = KNOWN.iter().find(|(name, url, _)| *name == text || *url == text) {
            return Ok(Self { name: (*name).to_owned(), url: (*url).to_owned(), staging: *staging });
        }
        let names = KNOWN.map(|(name, ..)| format!("`{name}`")).join(", ");
        match Url::parse(text) {
            Ok(url) if url.is_tls() || url.is_loopback() => {
                Ok(Self { name: text.to_owned(), url: text.to_owned(), staging: None })
            }
            Ok(_) => Err(format!("`{text}`: accounts are not told to an authority without TLS; write `https://`")),
            Err(_) => Err(format!("`{text}` is no authority; write {names}, or the URL of a directory")),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
string_type!(
    Authority,
    "Authority",
    "A certificate authority: `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `google-test`, or the URL of an ACME directory.",
    None
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_name_or_a_url() {
        let parse = |text: &str| text.parse::<Authority>();
        let known = parse("letsencrypt").unwrap();
        assert_eq!((known.url(), known.staging().unwrap().url()), (KNOWN[0].1, STAGING));
        assert_eq!(parse(KNOWN[0].1).unwrap(), known, "the URL of one that is known is that one");
        let own = parse("https://ca.internal:14000/dir").unwrap();
        assert_eq!((own.key().as_str(), own.staging(), own.is_public()), ("ca.internal_14000_dir", None, false));
        assert!(known.is_public() && parse("http://127.0.0.1/dir").is_ok());
        for (wrong, says) in
            [("letsencript", "write `letsencrypt`"), ("http://ca.internal/dir", "https://"), ("", "no authority")]
        {
            assert!(parse(wrong).unwrap_err().contains(says), "{wrong}");
        }
    }
}
