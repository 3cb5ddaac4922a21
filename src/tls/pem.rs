//! Certificates and keys as files, and what can be wrong with them.

use std::{fs::File, io::Read, path::Path};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};

use crate::types::{At, Code};

/// A chain with its key has a few KiB, all public authorities together have 300.
const MAX_BYTES: u64 = 1 << 20;

/// The mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The file of a pair that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Cert,
    Key,
    Ocsp,
}

impl Part {
    pub(super) fn key(self) -> &'static str {
        match self {
            Part::Cert => "cert",
            Part::Key => "key",
            Part::Ocsp => "ocsp",
        }
    }
}

/// Why a file is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn unusable(message: impl Into<String>) -> Self {
        Self { code: Code::BadCertificate, message: message.into(), hint: None }
    }
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
    /// Adds it to the problems of a configuration.
    pub(super) fn report(self, at: &At) {
        let added = at.problem(self.code, self.message);
        if let Some(hint) = self.hint {
            added.hint(hint);
        }
    }
}

/// Reads a file whole. Only regular files: a pipe would block the start, and cannot be read again.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |reason: &dyn std::fmt::Display| Fault {
        code: Code::UnreadableFile,
        message: format!("cannot read `{}`: {reason}", path.display()),
        hint: None,
    };
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(&"it has more than 1 MiB"));
    }
    // Editors of Windows write a mark in front of a text, which is none of it.
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// The certificates of a file, in their order; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::unusable(format!("`{}` is not valid PEM: {error}", path.display())))?;
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(nothing(path, "certificate", "CERTIFICATE", &text)),
    }
}

/// The lists of revoked certificates of a file; at least one.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let text = read(path)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::unusable(format!("`{}` is not valid PEM: {error}", path.display())))?;
    match lists.is_empty() {
        false => Ok(lists),
        true => Err(nothing(path, "list of revoked certificates", "X509 CRL", &text)),
    }
}

/// The first private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = read(path)?;
    if encrypted(&text) {
        return Err(Fault::unusable(format!("the key in `{}` is encrypted", path.display()))
            .hint("an edge starts without anyone to type a password; decrypt it with `openssl pkey -in … -out …`"));
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(nothing(path, "private key", "PRIVATE KEY", &text)),
        Err(error) => Err(Fault::unusable(format!("`{}` is not valid PEM: {error}", path.display()))),
    }
}

/// Names what the file holds instead of what is looked for.
fn nothing(path: &Path, what: &str, label: &str, text: &[u8]) -> Fault {
    let labels = labels(text);
    let path = path.display();
    if labels.is_empty() {
        let openssl = match label {
            "CERTIFICATE" => "x509",
            "X509 CRL" => "crl",
            _ => "pkey",
        };
        return Fault::unusable(format!("`{path}` is not PEM: it has no `-----BEGIN {label}-----`"))
            .hint(format!("a DER file is turned into PEM by `openssl {openssl} -inform DER -in … -out …`"));
    }
    let found = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    let fault = Fault::unusable(format!("`{path}` has no {what}, only {found}"));
    let swapped = labels.iter().any(|found| match label {
        "CERTIFICATE" => found.ends_with("PRIVATE KEY"),
        "PRIVATE KEY" => found == "CERTIFICATE",
        _ => false,
    });
    if swapped { fault.hint("are `cert` and `key` swapped?") } else { fault }
}

/// The labels of the sections, each once.
fn labels(text: &[u8]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let label = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        match label {
            // Eight are enough to see what kind of file it is.
            Some(label) if labels.len() < 8 && !labels.iter().any(|known| known == label) => labels.push(label.to_owned()),
            _ => {}
        }
    }
    labels
}

/// PKCS #8 says so in its label, the older formats in a header of the section.
fn encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().any(|line| line.contains("BEGIN ENCRYPTED PRIVATE KEY") || line.trim() == "Proc-Type: 4,ENCRYPTED")
}
