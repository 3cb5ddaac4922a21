//! `self_signed`: a certificate that is made in memory, for development.

use std::sync::Arc;

use super::{CertificateSource, Found, Given};
use crate::{
    tls::{certificate::Certificate, spec::ServerTlsSpec},
    types::{At, Code, parse_authority},
};

#[derive(Debug)]
struct SelfSigned(Arc<Certificate>);

impl CertificateSource for SelfSigned {
    fn load(&self) -> Result<Vec<Arc<Certificate>>, Vec<String>> {
        Ok(vec![self.0.clone()])
    }
}

pub(super) fn compile(spec: &ServerTlsSpec, given: &Given<'_>, at: &At) -> Result<Option<Found>, ()> {
    let (names, at) = (&spec.self_signed, at.key("self_signed"));
    let mut all_good = true;
    for (index, name) in names.iter().enumerate() {
        if !can_be_signed(name) {
            all_good = false;
            at.index(index)
                .problem(Code::BadValue, format!("`{name}` is neither a host name nor an IP address"))
                .hint("as in `localhost`, `*.example.test` or `127.0.0.1`");
        }
    }
    if !all_good || names.is_empty() {
        return if all_good { Ok(None) } else { Err(()) };
    }
    let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    match Certificate::self_signed(names, given.now, given.provider) {
        Ok(certificate) => {
            let certificate = Arc::new(certificate);
            let certificates = vec![certificate.clone()];
            Ok(Some(Found { source: Box::new(SelfSigned(certificate)), certificates, places: vec![at] }))
        }
        Err(reason) => {
            at.problem(Code::BadCertificate, format!("no certificate could be made: {reason}"));
            Err(())
        }
    }
}

/// A host name, `*.` and a host name, or an address without brackets.
fn can_be_signed(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let plain = parse_authority(host).is_some_and(|(parsed, _)| parsed == host.to_ascii_lowercase());
    name.parse::<std::net::IpAddr>().is_ok() || (plain && !host.starts_with('['))
}
