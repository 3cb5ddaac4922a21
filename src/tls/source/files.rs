//! `certificates`: pairs of files, which are read again when they change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::crypto::CryptoProvider;

use super::{CertificateSource, Found, Given};
use crate::{
    tls::{
        certificate::Certificate,
        facts::CertificateFacts,
        pem::Fault,
        spec::{CertificateSpec, ServerTlsSpec},
    },
    types::{At, Code},
};

/// Certificates that expire sooner are warned of: authorities renew 30 days ahead.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug)]
struct Files {
    pairs: Vec<CertificateSpec>,
    provider: Arc<CryptoProvider>,
}

pub(super) fn compile(spec: &ServerTlsSpec, given: &Given<'_>, at: &At) -> Result<Option<Found>, ()> {
    if spec.certificates.is_empty() {
        return Ok(None);
    }
    let at = at.key("certificates");
    let source = Files { pairs: spec.certificates.clone(), provider: given.provider.clone() };
    let loaded = source.read(|index, part, fault| fault.report(&at.index(index).key(part)));
    let places: Vec<At> = (0..loaded.len()).map(|index| at.index(index).key("cert")).collect();
    for (certificate, place) in loaded.iter().zip(&places) {
        let Some(certificate) = certificate else { continue };
        warn_expiry(&certificate.facts, given.now, place);
        if certificate.facts.names.is_empty() {
            let message = format!(
                "the certificate `{}` has no subjectAltName, and clients look for their name nowhere else",
                certificate.facts.name
            );
            place.problem(Code::Ineffective, message).hint("issue it anew with a subjectAltName: the common name does not count");
        }
    }
    let certificates = loaded.into_iter().collect::<Option<Vec<_>>>().ok_or(())?;
    Ok(Some(Found { source: Box::new(source), certificates, places }))
}

impl Files {
    /// Every pair of files, `None` where a fault was reported.
    fn read(&self, mut report: impl FnMut(usize, &'static str, Fault)) -> Vec<Option<Arc<Certificate>>> {
        let pairs = self.pairs.iter().enumerate();
        pairs
            .map(|(index, pair)| match Certificate::load_stapled(pair, &self.provider) {
                Ok(certificate) => Some(Arc::new(certificate)),
                Err((part, fault)) => {
                    report(index, part.key(), fault);
                    None
                }
            })
            .collect()
    }
}

impl CertificateSource for Files {
    fn load(&self) -> Result<Vec<Arc<Certificate>>, Vec<String>> {
        let mut faults = Vec::new();
        let loaded = self.read(|_, _, fault| faults.push(fault.message));
        loaded.into_iter().collect::<Option<Vec<_>>>().ok_or(faults)
    }

    fn files(&self) -> Vec<PathBuf> {
        let all = self.pairs.iter().flat_map(|pair| [Some(&pair.cert), Some(&pair.key), pair.ocsp.as_ref()]);
        all.flatten().map(|path| path.to_path_buf()).collect()
    }
}

fn warn_expiry(facts: &CertificateFacts, now: SystemTime, at: &At) {
    let date = |time| humantime::format_rfc3339_seconds(time);
    let name = &facts.name;
    if facts.not_before > now {
        at.problem(Code::Expiry, format!("the certificate for `{name}` is not valid before {}", date(facts.not_before)));
    } else if facts.not_after < now {
        at.problem(Code::Expiry, format!("the certificate for `{name}` expired on {}", date(facts.not_after)))
            .hint("clients refuse it; renew it");
    } else if facts.not_after < now + EXPIRES_SOON {
        let days = facts.not_after.duration_since(now).map_or(0, |left| left.as_secs() / 86_400);
        at.problem(Code::Expiry, format!("the certificate for `{name}` expires in {days} days, on {}", date(facts.not_after)));
    }
}
