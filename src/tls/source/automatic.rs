//! `acme`: certificates that are obtained while running. Whoever obtains them puts them into [`Issued`].

use std::sync::Arc;

use tokio::sync::watch;

use super::{CertificateSource, Found, Given, Issued};
use crate::{
    tls::{certificate::Certificate, spec::ServerTlsSpec},
    types::At,
};

#[derive(Debug)]
struct Automatic(Issued);

impl CertificateSource for Automatic {
    fn load(&self) -> Result<Vec<Arc<Certificate>>, Vec<String>> {
        Ok(self.0.all())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.0.changes())
    }
}

pub(super) fn compile(spec: &ServerTlsSpec, given: &Given<'_>, _: &At) -> Result<Option<Found>, ()> {
    let Some(_) = &spec.acme else { return Ok(None) };
    let source = Automatic(given.issued.clone());
    // They have no place in the file: nothing that is wrong with one is the author's to mend.
    Ok(Some(Found { certificates: source.0.all(), source: Box::new(source), places: Vec::new() }))
}
