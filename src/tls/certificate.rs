//! One certificate that can be served: a chain, its key, and what the leaf says.

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    SignatureScheme,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    facts::{self, CertificateFacts, Source, distinguished},
    pem::{self, Fault, Part},
    source::Pair,
    spec::CertificateSpec,
};

/// Made for development: long enough for a project, short enough that nobody builds on it.
const SELF_SIGNED_VALIDITY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Valid since a little before now: the clocks of clients are not ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// A chain with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: CertificateFacts,
}

impl Certificate {
    /// Reads and matches a pair of files.
    pub(super) fn load(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, (Part, Fault)> {
        let chain = pem::certificates(cert).map_err(|fault| (Part::Cert, fault))?;
        let private = pem::private_key(key).map_err(|fault| (Part::Key, fault))?;
        let unusable = |part, reason: String| {
            let path = if part == Part::Cert { cert } else { key };
            (part, Fault::unusable(format!("`{}` cannot be used: {reason}", path.display())))
        };
        let read = CertificateFacts::read(&chain[0], Source::File(cert.to_owned()));
        let facts = read.map_err(|reason| unusable(Part::Cert, reason))?;
        if !facts::has_extensions(&chain[0]) {
            let fault = format!("`{}` is of X.509 version 1, which says no names and which clients refuse", cert.display());
            let hint = "issue it anew with a subjectAltName: with openssl, `-extfile` and `subjectAltName=DNS:www.example.com`";
            return Err((Part::Cert, Fault::unusable(fault).hint(hint)));
        }
        let certified = certify(chain, private, provider).map_err(|reason| unusable(Part::Key, reason))?;
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err((Part::Key, mismatch(cert, key, &certified))),
            Err(error) => return Err(unusable(Part::Cert, error.to_string())),
        }
        order(cert, &certified.cert).map_err(|fault| (Part::Cert, fault))?;
        Ok(Self { key: Arc::new(certified), facts })
    }

    /// The same, with a response of the authority's OCSP service to be stapled.
    pub(super) fn load_stapled(pair: &CertificateSpec, provider: &CryptoProvider) -> Result<Self, (Part, Fault)> {
        let loaded = Self::load(&pair.cert, &pair.key, provider)?;
        let Some(path) = &pair.ocsp else { return Ok(loaded) };
        let response = pem::read(path).map_err(|fault| (Part::Ocsp, fault))?;
        // A sequence, as everything in DER that has parts.
        if response.first() != Some(&0x30) {
            let fault =
                Fault::unusable(format!("`{path}` is no OCSP response in DER")).hint("as `openssl ocsp -respout FILE` writes it");
            return Err((Part::Ocsp, fault));
        }
        let key = CertifiedKey { ocsp: Some(response), ..CertifiedKey::clone(&loaded.key) };
        Ok(Self { key: Arc::new(key), facts: loaded.facts })
    }

    /// Makes a certificate that signs itself, for these names and addresses. ECDSA P-256: what every client takes.
    pub(super) fn self_signed(names: Vec<String>, now: SystemTime, provider: &CryptoProvider) -> Result<Self, String> {
        let make = |names| -> Result<_, rcgen::Error> {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            let mut params = rcgen::CertificateParams::new(names)?;
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, "Weir self-signed");
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            params.not_before = (now - CLOCK_SKEW).into();
            params.not_after = (now + SELF_SIGNED_VALIDITY).into();
            let certificate = params.self_signed(&key)?;
            Ok((certificate.der().clone(), key.serialize_der()))
        };
        let (leaf, key) = make(names).map_err(|error| error.to_string())?;
        let facts = CertificateFacts::read(&leaf, Source::SelfSigned)?;
        let certified = certify(vec![leaf], PrivateKeyDer::Pkcs8(key.into()), provider)?;
        Ok(Self { key: Arc::new(certified), facts })
    }

    /// What proves a name to an authority by tls-alpn-01: RFC 8737 section 3.
    pub(super) fn proof(name: &str, digest: &[u8; 32], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let make = || -> Result<_, rcgen::Error> {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            // An authority asks for an address by its name in the reverse zone (RFC 8738 section 6).
            let named = reverse_address(name).map_or_else(|| name.to_owned(), |address| address.to_string());
            let mut params = rcgen::CertificateParams::new([named])?;
            params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
            Ok((params.self_signed(&key)?.der().clone(), key.serialize_der()))
        };
        let (leaf, key) = make().map_err(|error| error.to_string())?;
        certify(vec![leaf], PrivateKeyDer::Pkcs8(key.into()), provider)
    }

    /// A pair that an authority issued while running.
    pub(super) fn issued(pair: Pair<'_>, authority: &str, provider: &CryptoProvider) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the chain is not valid PEM: {error}"))?;
        let leaf = chain.first().ok_or("the chain is empty")?;
        let facts = CertificateFacts::read(leaf, Source::Acme(authority.to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|_| "the key is not valid PEM")?;
        let certified = certify(chain, key, provider)?;
        certified.keys_match().map_err(|error| format!("the key does not belong to the certificate: {error}"))?;
        Ok(Self { key: Arc::new(certified), facts })
    }

    /// Can it sign in a way that the client understands?
    pub(super) fn signs_for(&self, offered: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(offered).is_some()
    }
}

/// The address of a name in the reverse zone.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = labels.split('.').rev().map(|octet| octet.parse().ok()).collect::<Option<_>>()?;
        return Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?));
    }
    let nibbles: Vec<u8> = name
        .strip_suffix(".ip6.arpa")?
        .split('.')
        .rev()
        .map(|nibble| u8::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1))
        .collect::<Option<_>>()?;
    let octets: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok().filter(|_| nibbles.len() == 32)?))
}

/// A chain with its key, in a form that can sign. Whether they match is not asked here.
pub(super) fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| "its key is of a kind that is not supported, or damaged (RSA from 2048 bits, ECDSA P-256, P-384, P-521 and Ed25519 are)")?;
    Ok(CertifiedKey::new(chain, key))
}

/// The key belongs to another certificate: perhaps to one further down the same file.
fn mismatch(cert: &Path, key: &Path, pair: &CertifiedKey) -> Fault {
    let fault =
        Fault::unusable(format!("the key in `{}` does not belong to the certificate in `{}`", key.display(), cert.display()));
    let further_down = pair
        .cert
        .iter()
        .skip(1)
        .any(|certificate| CertifiedKey::new(vec![certificate.clone()], pair.key.clone()).keys_match().is_ok());
    match further_down {
        true => fault.hint("it belongs to a later certificate of that file; the leaf goes first, then what signed it"),
        false => fault,
    }
}

/// Each certificate is signed by the one after it.
fn order(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), Fault> {
    let mut previous: Option<X509Certificate<'_>> = None;
    for (position, der) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| {
            Fault::unusable(format!("certificate {} of `{}` is not X.509: {error}", position + 1, path.display()))
        })?;
        if let Some(previous) = previous
            && previous.issuer().as_raw() != certificate.subject().as_raw()
        {
            return Err(Fault::unusable(format!(
                "the chain in `{}` is out of order: certificate {} is signed by `{}`, and certificate {} is `{}`",
                path.display(),
                position,
                distinguished(previous.issuer()),
                position + 1,
                distinguished(certificate.subject()),
            ))
            .hint("the leaf goes first, then what signed it, and so on"));
        }
        previous = Some(certificate);
    }
    Ok(())
}
