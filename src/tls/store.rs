//! Which certificate a client gets: by the name it asks for, and by the signatures it understands.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{certificate::Certificate, facts::CertificateFacts};

/// Every scheme that a key can sign with here.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
];

/// Certificates of one listener and who gets which. Replaced whole; a handshake sees one state.
#[derive(Debug)]
pub(super) struct Store {
    current: ArcSwap<Shelf>,
}

/// The certificates in the order of the configuration, and their positions by name.
#[derive(Debug)]
pub(super) struct Shelf {
    certificates: Vec<Arc<Certificate>>,
    exact: HashMap<String, Vec<usize>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

impl Shelf {
    pub(super) fn new(certificates: Vec<Arc<Certificate>>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (position, certificate) in certificates.iter().enumerate() {
            for name in &certificate.facts.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(position),
                    None => exact.entry(name.clone()).or_default().push(position),
                }
            }
        }
        Self { certificates, exact, wildcard }
    }

    /// The certificates that are for a name (lower case), best first; those of different keys may share a name.
    fn named(&self, name: &str) -> Option<&[usize]> {
        let parent = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(parent).map(Vec::as_slice)
    }

    /// The certificates that a client gets, best first: those for its name, else the first. Empty while there is none.
    fn positions(&self, name: Option<&str>) -> &[usize] {
        let first: &[usize] = if self.certificates.is_empty() { &[] } else { &[0] };
        name.and_then(|name| self.named(name)).unwrap_or(first)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// The certificates that no client can get: their positions, and that of an earlier one with a name of theirs, unless
    /// they have no name that a client could ask for.
    pub(super) fn never_chosen(&self) -> Vec<(usize, Option<usize>)> {
        // The first one is what everybody else gets.
        let later = self.certificates.iter().enumerate().skip(1);
        later
            .filter_map(|(position, certificate)| {
                let askable = certificate.facts.names.iter().filter(|name| name.parse::<IpAddr>().is_err());
                let mut before = None;
                for name in askable {
                    before = before.or(Some(self.taken_before(position, name)?));
                }
                Some((position, before))
            })
            .collect()
    }

    /// The first of the earlier certificates for a name, if these leave nobody to this one: whoever takes a signature of its
    /// key takes one of theirs.
    fn taken_before(&self, position: usize, name: &str) -> Option<usize> {
        let named = match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.get(parent),
            None => self.exact.get(name),
        };
        let earlier = || named.into_iter().flatten().copied().filter(|&other| other < position);
        let signs = |position: usize, scheme| self.certificates[position].signs_for(&[scheme]);
        let taken = |scheme: &SignatureScheme| !signs(position, *scheme) || earlier().any(|other| signs(other, *scheme));
        earlier().next().filter(|_| SCHEMES.iter().all(taken))
    }

    pub(super) fn certificate(&self, position: usize) -> &CertificateFacts {
        &self.certificates[position].facts
    }

    /// The position of the first certificate for a name.
    pub(super) fn scope(&self, name: Option<&str>) -> Option<usize> {
        self.positions(name).first().copied()
    }

    pub(super) fn covers(&self, host: &str) -> bool {
        self.certificates.iter().any(|certificate| certificate.facts.covers(host))
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &CertificateFacts> {
        self.certificates.iter().map(|certificate| &certificate.facts)
    }
}

impl Store {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { current: ArcSwap::from_pointee(shelf) }
    }
    pub(super) fn current(&self) -> Arc<Shelf> {
        self.current.load_full()
    }
    pub(super) fn replace(&self, shelf: Shelf) {
        self.current.store(Arc::new(shelf));
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shelf = self.current.load();
        // rustls has lower-cased the name.
        let positions = shelf.positions(hello.server_name());
        let offered = hello.signature_schemes();
        let understood = positions.iter().find(|&&position| shelf.certificates[position].signs_for(offered));
        Some(shelf.certificates[*understood.or(positions.first())?].key.clone())
    }
}
