//! Which certificate a client gets: by the name it asks for, and by the signatures it understands.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{certificate::Certificate, facts::CertificateFacts};

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
    /// `None` without a certificate: there must be a first one.
    pub(super) fn new(certificates: Vec<Arc<Certificate>>) -> Option<Self> {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (position, certificate) in certificates.iter().enumerate() {
            for name in &certificate.facts.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(position),
                    None => exact.entry(name.clone()).or_default().push(position),
                }
            }
        }
        (!certificates.is_empty()).then_some(Self { certificates, exact, wildcard })
    }

    /// The certificates for a name (lower case), best first; those of different keys may share a name.
    fn positions(&self, name: Option<&str>) -> &[usize] {
        let named = name.and_then(|name| {
            let parent = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(parent)
        });
        named.map_or(&[0], Vec::as_slice)
    }

    /// The position of the first certificate for a name.
    pub(super) fn scope(&self, name: Option<&str>) -> usize {
        self.positions(name)[0]
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
        Some(shelf.certificates[*understood.unwrap_or(&positions[0])].key.clone())
    }
}
