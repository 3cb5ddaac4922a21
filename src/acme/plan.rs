//! What one configuration wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::ClientConfig;

use super::{
    authority::Authority,
    dns::{self, DnsProvider},
    spec::{AcmeSpec, KeyKind, Place},
};
use crate::{
    tls::{OnDemandSpec, Trust, client_config},
    types::{At, Code, Name, Secret, bare_host, parse_authority},
    wire::Url,
};

/// Where things are kept unless the configuration says otherwise.
const STORAGE: &str = "/var/lib/weir/acme";

/// How certificates are obtained.
#[derive(Debug)]
pub struct Settings {
    pub(super) authorities: Vec<Authority>,
    pub(super) contact: Vec<String>,
    pub(super) place: Place,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) eab: Option<(String, Secret)>,
    pub(super) profile: Option<String>,
    pub(super) key: KeyKind,
    pub(super) dns: Option<Arc<dyn DnsProvider>>,
    pub(super) propagation: Duration,
}

/// Which names, and how.
#[derive(Debug)]
pub struct Plan {
    /// How.
    pub settings: Arc<Settings>,
    /// Host names, wildcards and addresses without brackets, in lower case.
    pub names: BTreeSet<String>,
    /// The listeners on which clients may ask for names that are not among them.
    pub on_demand: BTreeMap<Name, OnDemand>,
    /// A listener serves cleartext HTTP, so an authority may ask there.
    pub cleartext: bool,
}

/// Who may have a certificate that nobody has written down.
#[derive(Debug, Clone)]
pub struct OnDemand {
    pub(super) ask: Url,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) wait: Duration,
    pub(super) per_client: u32,
    pub(super) per_domain: u32,
}

/// Why no certificate can be obtained for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is no host name, wildcard or address.
    NoName,
    /// A wildcard, and names are not proven by the DNS.
    Wildcard,
    /// It is no name of the public DNS, which every authority in the list needs.
    NotPublic,
}

impl AcmeSpec {
    /// The settings. Problems are added below `at`; `None` when one of them is an error.
    pub fn compile(&self, state_dir: Option<&Path>, at: &At) -> Option<Settings> {
        let mut sound = true;
        let mut wrong = |at: At, message: String, hint: &str| {
            at.problem(Code::BadValue, message).hint(hint);
            sound = false;
        };
        if self.directory.is_absent() {
            wrong(at.key("directory"), "somebody must issue the certificates".to_owned(), "write `letsencrypt`");
        }
        let mut contact = Vec::new();
        for (index, address) in self.contact.iter().enumerate() {
            let mail = address.strip_prefix("mailto:").unwrap_or(address);
            if mail.contains('@') && mail.is_ascii() && !mail.contains([' ', ',', '?', ':']) {
                contact.push(format!("mailto:{mail}"));
            } else {
                wrong(at.key("contact").index(index), format!("`{address}` is no address of mail"), "as in `ops@example.com`");
            }
        }
        let place = match &self.storage {
            None => Some(Place::Directory(state_dir.map_or_else(|| PathBuf::from(STORAGE), |directory| directory.join("acme")))),
            Some(storage) => storage
                .place()
                .map_err(|reason| wrong(at.key("storage"), reason, "as in `/var/lib/weir/acme` or `redis://127.0.0.1:6379`"))
                .ok(),
        };
        let eab = self.eab.as_ref().map(|eab| (eab.kid.clone(), eab.hmac.clone()));
        if let Some((_, hmac)) = &eab
            && URL_SAFE_NO_PAD.decode(hmac.expose().trim_end_matches('=')).is_err()
        {
            wrong(at.key("eab").key("hmac"), "the key is not base64url".to_owned(), "copy it as the authority shows it");
        }
        let dns = match &self.dns {
            None => None,
            Some(spec) => match dns::compile(spec, &at.key("dns")) {
                Some(dns) => Some(dns),
                None => {
                    sound = false;
                    None
                }
            },
        };
        let trust = self.ca.as_ref().map_or(Trust::System, |ca| Trust::File(ca));
        let tls = client_config(trust, None).map_err(|error| {
            let key = if self.ca.is_some() { "ca" } else { "directory" };
            at.key(key).problem(Code::BadCertificate, error.to_string());
        });
        let mut tls = tls.ok().filter(|_| sound)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Settings {
            authorities: self.directory.to_vec(),
            contact,
            place: place?,
            tls: Arc::new(tls),
            eab,
            profile: self.profile.clone(),
            key: self.key,
            propagation: self.dns.as_ref().map_or(Duration::ZERO, |dns| dns.wait()),
            dns,
        })
    }
}

impl Settings {
    /// The directory in which things are kept, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(path) => Some(path),
            Place::Redis(_) => None,
        }
    }

    /// Can a certificate be obtained for this name, as [`issuable`] has it?
    pub fn fits(&self, name: &str) -> Result<(), Unfit> {
        if name.starts_with("*.") && self.dns.is_none() {
            return Err(Unfit::Wildcard);
        }
        let public = self.authorities.iter().all(Authority::is_public);
        if public && !is_public(name) { Err(Unfit::NotPublic) } else { Ok(()) }
    }
}

/// A host name, `*.` and a host name, or an address, as a certificate has it. `None` for anything else.
pub fn issuable(text: &str) -> Option<String> {
    if let Ok(address) = bare_host(text).parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let (wildcard, host) = text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest));
    match parse_authority(host)? {
        // Underscores are for service records, and no certificate has them.
        (host, None) if !host.starts_with('[') && !host.contains('_') => Some(format!("{wildcard}{host}")),
        _ => None,
    }
}

/// Could the whole internet know this name? RFC 6761 and RFC 6762 name those that it cannot.
fn is_public(name: &str) -> bool {
    const LOCAL: [&str; 9] = ["localhost", "local", "internal", "test", "invalid", "example", "lan", "home.arpa", "onion"];
    if let Ok(address) = name.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(ip) => {
                !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_documentation())
            }
            IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()),
        };
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    host.contains('.')
        && !LOCAL.iter().any(|local| host.strip_suffix(local).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

impl OnDemand {
    /// Reads what the user wrote. Problems are added below `at`; `None` when one of them is an error.
    pub fn compile(spec: &OnDemandSpec, at: &At) -> Option<Self> {
        let refused = |message: String, hint: &str| {
            at.key("ask").problem(Code::BadValue, message).hint(hint);
        };
        let ask = match Url::parse(&spec.ask) {
            Ok(ask) => ask,
            Err(reason) => {
                refused(reason, "as in `http://127.0.0.1:8080/allowed`");
                return None;
            }
        };
        let tls = ask.client_tls(Trust::System);
        let tls = tls.map_err(|error| refused(error.to_string(), "ask a service on this machine by `http://`")).ok()?;
        if spec.wait.get().is_zero() {
            at.key("wait").problem(Code::BadValue, "no certificate is there at once").hint("give it some seconds");
            return None;
        }
        Some(Self { ask, tls, wait: spec.wait.get(), per_client: spec.per_client.get(), per_domain: spec.per_domain.get() })
    }
}

impl Plan {
    /// Is a certificate for this name wanted, or one for a wildcard that covers it?
    pub fn covers(&self, name: &str) -> bool {
        self.names.contains(name) || wildcard_for(name).is_some_and(|wildcard| self.names.contains(&wildcard))
    }
}

/// The wildcard that covers a host name. None does an address, or a wildcard.
pub(super) fn wildcard_for(name: &str) -> Option<String> {
    let (_, parent) = name.split_once('.').filter(|(label, _)| *label != "*" && name.parse::<IpAddr>().is_err())?;
    Some(format!("*.{parent}"))
}

/// Drops names that a wildcard among them covers: one certificate serves them all.
pub fn without_covered(names: &mut BTreeSet<String>) {
    let wildcards: BTreeSet<String> = names.iter().filter(|name| name.starts_with("*.")).cloned().collect();
    names.retain(|name| wildcard_for(name).is_none_or(|wildcard| !wildcards.contains(&wildcard)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{OneOrMany, Problems};

    #[test]
    fn a_name_is_read_as_a_certificate_has_it() {
        for (text, name) in [
            ("Example.COM.", "example.com"),
            ("*.example.com", "*.example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8::1]", "2001:db8::1"),
        ] {
            assert_eq!(issuable(text).as_deref(), Some(name), "{text}");
        }
        for wrong in ["", "*", "a b", "a.*.b", "*.*.b", "example.com:443", "_acme.example.com", "*.[::1]", "https://a.b"] {
            assert_eq!(issuable(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_public_authority_issues_for_public_names() {
        let settings = |spec: AcmeSpec| spec.compile(None, &Problems::default().root()).unwrap();
        let public = settings(AcmeSpec::default());
        for name in ["example.com", "a.b.co.uk", "198.18.0.1", "2001:db8::1"] {
            assert_eq!(public.fits(name), Ok(()), "{name}");
        }
        for name in ["localhost", "app", "a.test", "b.internal", "printer.local", "10.0.0.1", "127.0.0.1", "::1", "fd00::1"] {
            assert_eq!(public.fits(name), Err(Unfit::NotPublic), "{name}");
        }
        assert_eq!(public.fits("*.example.com"), Err(Unfit::Wildcard));
        let own = AcmeSpec { directory: OneOrMany(vec!["https://ca.test/dir".parse().unwrap()]), ..AcmeSpec::default() };
        assert_eq!(settings(own).fits("app"), Ok(()));
    }

    #[test]
    fn a_wildcard_serves_what_it_covers() {
        let mut names: BTreeSet<String> =
            ["*.a.test", "x.a.test", "y.x.a.test", "a.test", "10.0.0.1"].map(str::to_owned).into_iter().collect();
        without_covered(&mut names);
        let left: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(left, ["*.a.test", "10.0.0.1", "a.test", "y.x.a.test"]);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let yaml = "{contact: [mailto:ops@example.com, nobody], storage: acme, eab: {kid: a, hmac: 'no base64!'}}";
        let spec: AcmeSpec = serde_yaml::from_str(yaml).unwrap();
        let problems = Problems::default();
        assert!(spec.compile(None, &problems.root()).is_none());
        let found: Vec<String> = problems.take().iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        assert_eq!(
            found,
            [
                "contact[1]: `nobody` is no address of mail",
                "storage: `acme` is no absolute path",
                "eab.hmac: the key is not base64url"
            ]
        );
    }
}
