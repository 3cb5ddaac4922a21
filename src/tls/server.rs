//! TLS of one listener: compiled from its Spec, and reloaded from its files while it runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::{CertificateDer, CertificateRevocationListDer},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::sync::watch;

use super::{
    certificate::Certificate,
    facts::{CertificateFacts, distinguished},
    key_log::KeyLogFile,
    pem::{self, Fault},
    provider,
    source::{self, CertificateSource, Given, Issued},
    spec::{ClientCertificatesSpec, H3Spec, Misdirected, ServerTlsSpec},
    store::{Shelf, Store},
    tickets::{SharedTickets, TicketSecrets},
};
use crate::types::{At, Code};

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
    sources: Vec<Box<dyn CertificateSource>>,
    /// Where its automatic certificates are, if it wants any.
    pub(super) issued: Option<Issued>,
    tickets: TicketSecrets,
    config: ArcSwap<Configs>,
    /// Its lock makes reloads take turns.
    held: Mutex<Held>,
}

/// What rustls serves with, for each transport.
#[derive(Debug)]
struct Configs {
    tcp: Arc<ServerConfig>,
    quic: Option<Arc<ServerConfig>>,
}

/// What was read last.
#[derive(Debug)]
struct Held {
    /// What `config` was made with.
    clients: Clients,
    /// By source.
    certificates: Vec<Vec<Arc<Certificate>>>,
}

/// Whose certificates clients may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Clients {
    /// Empty without mutual TLS.
    authorities: Vec<CertificateDer<'static>>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl Held {
    fn shelf(&self) -> Shelf {
        Shelf::new(self.certificates.concat())
    }
}

/// Why certificates were not replaced: one line per file at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ReloadError(pub Vec<String>);

impl ServerTls {
    /// Reads and checks everything that the Spec names. Problems are added below `at`; `None` when one of
    /// them is an error. `issued` is where certificates are that are obtained while running.
    pub fn compile(spec: &ServerTlsSpec, offer: Offer, issued: &Issued, now: SystemTime, at: &At) -> Option<Arc<Self>> {
        let provider = provider();
        if spec.certificates.is_empty() && spec.self_signed.is_empty() && spec.acme.is_none() {
            at.problem(Code::MissingKey, "TLS needs a certificate: `certificates`, `acme`, or `self_signed` for development");
            return None;
        }
        let found = source::sources(spec, &Given { provider: &provider, issued, now }, at);
        let clients_at = at.key("client_certificates");
        let clients = Clients::read(spec).map_err(|faults| {
            faults.into_iter().for_each(|(key, index, fault)| {
                let at = clients_at.key(key);
                fault.report(&index.map_or(at.clone(), |index| at.index(index)));
            });
        });
        if spec.key_log.is_some() {
            at.key("key_log")
                .problem(Code::Insecure, "whoever reads this file can read the traffic of this listener")
                .hint("remove it when you have seen what you wanted to see");
        }
        let (found, clients) = (found.ok()?, clients.ok()?);
        warn_stale(&clients, now, &clients_at.key("crl"));

        let shelf = Shelf::new(found.iter().flat_map(|found| found.certificates.clone()).collect());
        warn_never_chosen(&shelf, &found.iter().flat_map(|found| found.places.clone()).collect::<Vec<_>>());
        let store = Arc::new(Store::new(shelf));
        let config = match config(spec, offer, &provider, &store, &clients, issued.tickets()) {
            Ok(config) => ArcSwap::from_pointee(config),
            Err(fault) => {
                fault.report(&clients_at.key("ca"));
                return None;
            }
        };
        let (sources, certificates) = found.into_iter().map(|found| (found.source, found.certificates)).unzip();
        let tickets = issued.tickets().clone();
        let issued = spec.acme.as_ref().map(|_| issued.clone());
        let held = Mutex::new(Held { clients, certificates });
        Some(Arc::new(Self { spec: spec.clone(), offer, provider, store, sources, issued, tickets, config, held }))
    }

    /// Reads all files again. Connections that are open stay as they are; later handshakes see the new
    /// certificates. When any file is at fault everything stays, and the error names each of them.
    ///
    /// Blocks on the disk: not for a thread that serves requests.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let mut held = self.held.lock();
        let (mut faults, mut certificates) = (Vec::new(), Vec::new());
        for source in &self.sources {
            match source.load() {
                Ok(loaded) => certificates.push(loaded),
                Err(found) => faults.extend(found),
            }
        }
        let fresh = Clients::read(&self.spec).map_err(|found| faults.extend(found.into_iter().map(|(.., fault)| fault.message)));
        let Some(fresh) = fresh.ok().filter(|_| faults.is_empty()) else { return Err(ReloadError(faults)) };
        // Other authorities and lists get a new configuration, so that no session of the old ones resumes.
        let replaced = match fresh == held.clients {
            true => None,
            false => Some(
                config(&self.spec, self.offer, &self.provider, &self.store, &fresh, &self.tickets)
                    .map_err(|fault| ReloadError(vec![fault.message]))?,
            ),
        };
        held.certificates = certificates;
        self.store.replace(held.shelf());
        if let Some(config) = replaced {
            self.config.store(Arc::new(config));
            held.clients = fresh;
        }
        Ok(())
    }

    /// Serves what the sources that change by themselves have now. Files are not read.
    pub fn refresh(&self) {
        let mut held = self.held.lock();
        for (source, certificates) in self.sources.iter().zip(&mut held.certificates) {
            if source.changes().is_some()
                && let Ok(loaded) = source.load()
            {
                *certificates = loaded;
            }
        }
        self.store.replace(held.shelf());
    }

    /// Counts the changes after which [`ServerTls::refresh`] has something to do.
    pub(super) fn changes(&self) -> Vec<watch::Receiver<u64>> {
        self.sources.iter().filter_map(|source| source.changes()).collect()
    }

    /// Was it made from the same settings? The files that they name may differ: [`ServerTls::reload`] reads them again.
    pub fn is_like(&self, other: &Self) -> bool {
        self.spec == other.spec && self.offer == other.offer
    }

    /// The files that [`ServerTls::reload`] reads, to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        let clients = self.spec.client_certificates.iter().flat_map(|clients| std::iter::once(&clients.ca).chain(&*clients.crl));
        self.sources.iter().flat_map(|source| source.files()).chain(clients.map(|path| path.to_path_buf())).collect()
    }

    /// The certificates being served, in the order of the configuration.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.store.current().facts().cloned().collect()
    }

    /// Is any certificate for this host or wildcard that was not obtained while running?
    pub fn holds(&self, name: &str) -> bool {
        let held = self.held.lock();
        let own = self.sources.iter().zip(&held.certificates).filter(|(source, _)| source.changes().is_none());
        own.flat_map(|(_, certificates)| certificates).any(|certificate| certificate.facts.covers(name))
    }

    /// Is any certificate for this host (lower case, no port)?
    pub fn covers(&self, host: &str) -> bool {
        self.store.current().covers(host)
    }

    /// Is there a certificate that a client who asks for this name (lower case) gets because of it?
    pub(super) fn knows(&self, name: &str) -> bool {
        self.store.current().knows(name)
    }

    /// Is there no certificate at all, yet?
    pub(super) fn is_empty(&self) -> bool {
        self.store.current().facts().next().is_none()
    }

    /// Which certificate a name (lower case) gets: its position in [`ServerTls::certificates`]. When the
    /// host of a request is in another scope than the name its connection asked for, the answer is 421.
    pub fn scope(&self, sni: Option<&str>) -> Option<usize> {
        self.store.current().scope(sni)
    }

    /// Is a request refused whose Host belongs to another certificate than the name that its connection asked for?
    pub fn refuses_misdirected(&self) -> bool {
        self.spec.misdirected == Misdirected::Refuse
    }

    /// Do endpoints get the certificates of clients?
    pub(super) fn forwards_certificates(&self) -> bool {
        self.spec.client_certificates.as_ref().is_some_and(|clients| clients.forward)
    }

    /// What rustls serves with, at this moment.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load().tcp.clone()
    }

    /// The same over QUIC, where HTTP/3 is spoken.
    pub fn quic_config(&self) -> Option<Arc<ServerConfig>> {
        self.config.load().quic.clone()
    }

    /// How HTTP/3 is offered, where it is.
    pub fn h3(&self) -> Option<&H3Spec> {
        self.spec.h3.on()
    }
}

fn warn_never_chosen(shelf: &Shelf, places: &[At]) {
    for (position, before) in shelf.never_chosen() {
        let Some(place) = places.get(position) else { continue };
        let name = &shelf.certificate(position).name;
        let (why, hint) = match before {
            Some(before) => (
                "all of its names are in earlier certificates of this listener",
                format!("remove it, or `{}`", places[before].path()),
            ),
            None => (
                "it has no DNS name, and clients that ask for no name get the first certificate",
                "put it first, or remove it".to_owned(),
            ),
        };
        place.problem(Code::Unused, format!("the certificate for `{name}` is never used: {why}")).hint(hint);
    }
}

/// A key of `client_certificates`, the position in its list, and what is wrong with the file there.
type ClientFault = (&'static str, Option<usize>, Fault);

impl Clients {
    /// Every fault of every file.
    fn read(spec: &ServerTlsSpec) -> Result<Self, Vec<ClientFault>> {
        let Some(written) = &spec.client_certificates else { return Ok(Self::default()) };
        let mut faults = Vec::new();
        let authorities = pem::certificates(&written.ca).map_err(|fault| faults.push(("ca", None, fault)));
        let mut revoked = Vec::new();
        for (index, path) in written.crl.iter().enumerate() {
            match pem::revocation_lists(path) {
                Ok(lists) => revoked.extend(lists),
                Err(fault) => faults.push(("crl", Some(index), fault)),
            }
        }
        match authorities {
            Ok(authorities) if faults.is_empty() => Ok(Self { authorities, revoked }),
            _ => Err(faults),
        }
    }
}

/// Warns of lists that should have been replaced by newer ones.
fn warn_stale(clients: &Clients, now: SystemTime, at: &At) {
    for list in &clients.revoked {
        let Ok((_, list)) = x509_parser::parse_x509_crl(list) else { continue };
        let seconds = list.next_update().and_then(|next| u64::try_from(next.timestamp()).ok());
        let Some(next) = seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)) else { continue };
        if next < now {
            let (issuer, date) = (distinguished(list.issuer()), humantime::format_rfc3339_seconds(next));
            at.problem(Code::Expiry, format!("the list of `{issuer}` should have been replaced on {date}"))
                .hint("who was revoked since then is still let in");
        }
    }
}

fn config(
    spec: &ServerTlsSpec,
    offer: Offer,
    provider: &Arc<CryptoProvider>,
    store: &Arc<Store>,
    known: &Clients,
    tickets: &TicketSecrets,
) -> Result<Configs, Fault> {
    let internal = |error: rustls::Error| Fault::unusable(format!("TLS cannot be set up: {error}"));
    let versions: &[&SupportedProtocolVersion] = if spec.takes_1_2() { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(internal)?;
    let builder = match &spec.client_certificates {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, known, provider)?),
    };
    let mut config = builder.with_cert_resolver(store.clone());
    config.alpn_protocols = match offer {
        Offer::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Offer::Http1 => vec![b"http/1.1".to_vec()],
        Offer::Nothing => Vec::new(),
    };
    config.ticketer = match spec.acme {
        Some(_) => Arc::new(SharedTickets::new(tickets, purpose(spec, known))),
        None => Ticketer::new().map_err(internal)?,
    };
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    if let Some(path) = &spec.key_log {
        config.key_log = Arc::new(KeyLogFile::new(path.to_path_buf()));
    }
    let quic = spec.h3.on().map(|_| {
        let mut quic = config.clone();
        quic.alpn_protocols = vec![b"h3".to_vec()];
        Arc::new(quic)
    });
    Ok(Configs { tcp: Arc::new(config), quic })
}

/// What sessions of different listeners are told apart by: what is demanded of clients.
fn purpose(spec: &ServerTlsSpec, known: &Clients) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    add(&[u8::from(spec.takes_1_2()), spec.client_certificates.as_ref().map_or(2, |clients| u8::from(clients.required))]);
    known.authorities.iter().for_each(|authority| add(authority));
    add(b"revoked");
    known.revoked.iter().for_each(|list| add(list));
    context.finish().as_ref().to_vec()
}

fn verifier(
    clients: &ClientCertificatesSpec,
    known: &Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let mut roots = RootCertStore::empty();
    for (position, authority) in known.authorities.iter().enumerate() {
        roots.add(authority.clone()).map_err(|error| unfit(&clients.ca, position, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    // An authority without a list has revoked nobody.
    let builder = builder.with_crls(known.revoked.clone()).allow_unknown_revocation_status();
    builder.build().map_err(|error| Fault::unusable(format!("`{}` cannot be used: {error}", clients.ca)))
}

/// A certificate of an authorities' file that cannot be one.
pub(super) fn unfit(path: &Path, position: usize, error: &rustls::Error) -> Fault {
    Fault::unusable(format!("certificate {} of `{}` cannot be an authority: {error}", position + 1, path.display()))
}
