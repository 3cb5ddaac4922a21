//! TLS of one listener: compiled from its Spec, and reloaded from its files while it runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::CertificateDer,
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    certificate::Certificate,
    facts::CertificateFacts,
    pem::{self, Fault},
    provider,
    spec::{ClientCertificatesSpec, MinVersion, ServerTlsSpec},
    store::{Shelf, Store},
};
use crate::types::{At, Code, parse_authority};

/// Certificates that expire sooner are warned of: authorities renew 30 days ahead.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Sessions kept for clients that resume without a ticket (few: TLS 1.2 without the extension), at most
/// some 10 KiB each with a chain of client certificates.
const SESSIONS: usize = 4096;

/// The protocols that a listener agrees on inside of TLS (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1 and HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// None: whatever the client names is not looked at, and not answered.
    Nothing,
}

impl Offer {
    /// HTTP, with version 2 or without.
    pub fn http(h2: bool) -> Self {
        if h2 { Offer::Http2 } else { Offer::Http1 }
    }
}

/// TLS of one listener.
#[derive(Debug)]
pub struct ServerTls {
    spec: ServerTlsSpec,
    offer: Offer,
    provider: Arc<CryptoProvider>,
    store: Arc<Store>,
    self_signed: Option<Arc<Certificate>>,
    config: ArcSwap<ServerConfig>,
    /// The authorities that `config` was made with. Its lock makes reloads take turns.
    authorities: Mutex<Vec<CertificateDer<'static>>>,
}

/// Why certificates were not replaced: one line per file at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ReloadError(pub Vec<String>);

impl ServerTls {
    /// Reads and checks everything that the Spec names. Problems are added below `at`; `None` when one of
    /// them is an error.
    pub fn compile(spec: &ServerTlsSpec, offer: Offer, now: SystemTime, at: &At) -> Option<Arc<Self>> {
        let provider = provider();
        if spec.certificates.is_empty() && spec.self_signed.is_empty() {
            at.problem(Code::MissingKey, "TLS needs a certificate: `certificates`, or `self_signed` for development");
            return None;
        }
        let loaded = load(spec, &provider, |index, part, fault| {
            report(&at.key("certificates").index(index).key(part), fault);
        });
        for (index, certificate) in loaded.iter().enumerate() {
            let Some(certificate) = certificate else { continue };
            warn_expiry(&certificate.facts, now, &at.key("certificates").index(index).key("cert"));
        }
        let self_signed = self_signed(&spec.self_signed, now, &provider, &at.key("self_signed"));
        let ca_at = at.key("client_certificates").key("ca");
        let authorities = authorities(spec).map_err(|fault| report(&ca_at, fault));

        let mut certificates = loaded.into_iter().collect::<Option<Vec<_>>>()?;
        let (self_signed, authorities) = (self_signed.ok()?, authorities.ok()?);
        certificates.extend(self_signed.clone());
        let shelf = Shelf::new(certificates)?;
        warn_never_chosen(&shelf, spec, at);
        let store = Arc::new(Store::new(shelf));
        let config = match config(spec, offer, &provider, &store, &authorities) {
            Ok(config) => ArcSwap::from_pointee(config),
            Err(fault) => {
                report(&ca_at, fault);
                return None;
            }
        };
        let authorities = Mutex::new(authorities);
        Some(Arc::new(Self { spec: spec.clone(), offer, provider, store, self_signed, config, authorities }))
    }

    /// Reads all files again. Connections that are open stay as they are; later handshakes see the new
    /// certificates. When any file is at fault everything stays, and the error names each of them.
    ///
    /// Blocks on the disk: not for a thread that serves requests.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let mut held = self.authorities.lock();
        let mut faults = Vec::new();
        let loaded = load(&self.spec, &self.provider, |_, _, fault| faults.push(fault.message));
        let fresh = authorities(&self.spec).map_err(|fault| faults.push(fault.message));
        let (Some(mut certificates), Ok(fresh)) = (loaded.into_iter().collect::<Option<Vec<_>>>(), fresh) else {
            return Err(ReloadError(faults));
        };
        certificates.extend(self.self_signed.clone());
        // Other authorities get a new configuration, so that no session of the old ones resumes.
        let replaced = match fresh == *held {
            true => None,
            false => Some(
                config(&self.spec, self.offer, &self.provider, &self.store, &fresh)
                    .map_err(|fault| ReloadError(vec![fault.message]))?,
            ),
        };
        let Some(shelf) = Shelf::new(certificates) else { return Ok(()) };
        self.store.replace(shelf);
        if let Some(config) = replaced {
            self.config.store(Arc::new(config));
            *held = fresh;
        }
        Ok(())
    }

    /// Was it made from the same settings? The files that they name may differ: [`ServerTls::reload`] reads them again.
    pub fn is_like(&self, other: &Self) -> bool {
        self.spec == other.spec && self.offer == other.offer
    }

    /// The files that [`ServerTls::reload`] reads, to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        let pairs = self.spec.certificates.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        let ca = self.spec.client_certificates.iter().map(|clients| &clients.ca);
        pairs.chain(ca).map(|path| path.to_path_buf()).collect()
    }

    /// The certificates being served, in the order of the configuration.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.store.current().facts().cloned().collect()
    }

    /// Is any certificate for this host (lower case, no port)?
    pub fn covers(&self, host: &str) -> bool {
        self.store.current().covers(host)
    }

    /// Which certificate a name (lower case) gets: its position in [`ServerTls::certificates`]. When the
    /// host of a request is in another scope than the name its connection asked for, the answer is 421.
    pub fn scope(&self, sni: Option<&str>) -> usize {
        self.store.current().scope(sni)
    }

    /// What rustls serves with, at this moment.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

/// Every pair of files, `None` where a fault was reported.
fn load(
    spec: &ServerTlsSpec,
    provider: &CryptoProvider,
    mut report: impl FnMut(usize, &'static str, Fault),
) -> Vec<Option<Arc<Certificate>>> {
    let pairs = spec.certificates.iter().enumerate();
    pairs
        .map(|(index, pair)| match Certificate::load(&pair.cert, &pair.key, provider) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err((part, fault)) => {
                report(index, part.key(), fault);
                None
            }
        })
        .collect()
}

fn report(at: &At, fault: Fault) {
    let added = at.problem(fault.code, fault.message);
    if let Some(hint) = fault.hint {
        added.hint(hint);
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

fn warn_never_chosen(shelf: &Shelf, spec: &ServerTlsSpec, at: &At) {
    let place = |position: usize| match position < spec.certificates.len() {
        true => at.key("certificates").index(position).key("cert"),
        false => at.key("self_signed"),
    };
    for (position, before) in shelf.never_chosen() {
        let name = &shelf.certificate(position).name;
        let (why, hint) = match before {
            Some(before) => (
                "all of its names are in earlier certificates of this listener",
                format!("remove it, or `{}`", place(before).path()),
            ),
            None => (
                "it has no DNS name, and clients that ask for no name get the first certificate",
                "put it first, or remove it".to_owned(),
            ),
        };
        place(position).problem(Code::Unused, format!("the certificate for `{name}` is never used: {why}")).hint(hint);
    }
}

/// The certificate for `self_signed`, if any name is given. `Err` when a problem was reported.
fn self_signed(names: &[String], now: SystemTime, provider: &CryptoProvider, at: &At) -> Result<Option<Arc<Certificate>>, ()> {
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
    match Certificate::self_signed(names, now, provider) {
        Ok(certificate) => Ok(Some(Arc::new(certificate))),
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

/// What may sign client certificates; empty without mutual TLS.
fn authorities(spec: &ServerTlsSpec) -> Result<Vec<CertificateDer<'static>>, Fault> {
    spec.client_certificates.as_ref().map_or(Ok(Vec::new()), |clients| pem::certificates(&clients.ca))
}

fn config(
    spec: &ServerTlsSpec,
    offer: Offer,
    provider: &Arc<CryptoProvider>,
    store: &Arc<Store>,
    authorities: &[CertificateDer<'static>],
) -> Result<ServerConfig, Fault> {
    let internal = |error: rustls::Error| Fault::unusable(format!("TLS cannot be set up: {error}"));
    let versions: &[&SupportedProtocolVersion] = match spec.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(internal)?;
    let builder = match &spec.client_certificates {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, authorities, provider)?),
    };
    let mut config = builder.with_cert_resolver(store.clone());
    config.alpn_protocols = match offer {
        Offer::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Offer::Http1 => vec![b"http/1.1".to_vec()],
        Offer::Nothing => Vec::new(),
    };
    config.ticketer = Ticketer::new().map_err(internal)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(config)
}

fn verifier(
    clients: &ClientCertificatesSpec,
    authorities: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let mut roots = RootCertStore::empty();
    for (position, authority) in authorities.iter().enumerate() {
        roots.add(authority.clone()).map_err(|error| unfit(&clients.ca, position, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| Fault::unusable(format!("`{}` cannot be used: {error}", clients.ca)))
}

/// A certificate of an authorities' file that cannot be one.
pub(super) fn unfit(path: &Path, position: usize, error: &rustls::Error) -> Fault {
    Fault::unusable(format!("certificate {} of `{}` cannot be an authority: {error}", position + 1, path.display()))
}
