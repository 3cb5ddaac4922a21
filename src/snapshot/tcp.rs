//! Where the connections of a layer-4 listener go.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{SendProxyProtocol, SpliceMode, TcpSpec},
    proxy_protocol::Version,
    types::{HostPattern, Name},
    upstream::Upstream,
};

/// What becomes of connections.
#[derive(Debug)]
pub struct Tcp {
    /// Where they go.
    pub destination: Destination,
    /// How long one may be silent, if that is limited.
    pub idle_timeout: Option<Duration>,
    /// How endpoints are told who the client is, if they are.
    pub send_proxy_protocol: Option<Version>,
    /// May the kernel move the bytes?
    pub splice: bool,
}

/// Where connections go.
#[derive(Debug)]
pub enum Destination {
    /// All to one upstream.
    One(Arc<Upstream>),
    /// By the name that a TLS client asks for.
    Named(Names),
}

/// Upstreams by name.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<String, Arc<Upstream>>,
    /// By what follows the wildcard, with its dot.
    suffixes: HashMap<String, Arc<Upstream>>,
    any: Option<Arc<Upstream>>,
}

impl Tcp {
    /// `None` when an upstream is not there, which was reported: the names are checked with the whole file.
    pub(super) fn compile(spec: &TcpSpec, upstreams: &BTreeMap<Name, Arc<Upstream>>) -> Option<Self> {
        let destination = match &spec.upstream {
            Some(name) => Destination::One(upstreams.get(name)?.clone()),
            None => Destination::Named(Names::compile(&spec.sni, upstreams)?),
        };
        let send_proxy_protocol = match spec.send_proxy_protocol {
            SendProxyProtocol::Off => None,
            SendProxyProtocol::V1 => Some(Version::V1),
            SendProxyProtocol::V2 => Some(Version::V2),
        };
        let splice = spec.splice == SpliceMode::Auto;
        Some(Self { destination, idle_timeout: spec.idle_timeout.limit(), send_proxy_protocol, splice })
    }

    /// Do all connections go to the very same upstreams as by the other one?
    pub fn leads_like(&self, other: &Self) -> bool {
        match (&self.destination, &other.destination) {
            (Destination::One(one), Destination::One(other)) => Arc::ptr_eq(one, other),
            (Destination::Named(names), Destination::Named(others)) => names.lead_like(others),
            _ => false,
        }
    }
}

impl Names {
    fn compile(spec: &BTreeMap<HostPattern, Name>, upstreams: &BTreeMap<Name, Arc<Upstream>>) -> Option<Self> {
        let mut names = Self::default();
        for (host, name) in spec {
            let upstream = upstreams.get(name)?.clone();
            match host {
                HostPattern::Exact(host) => drop(names.exact.insert(host.clone(), upstream)),
                HostPattern::Suffix(suffix) => drop(names.suffixes.insert(suffix.clone(), upstream)),
                HostPattern::Any => names.any = Some(upstream),
            }
        }
        Some(names)
    }

    fn lead_like(&self, other: &Self) -> bool {
        let same = |one: &HashMap<String, Arc<Upstream>>, other: &HashMap<String, Arc<Upstream>>| {
            let leads =
                |(name, upstream): (&String, &Arc<Upstream>)| other.get(name).is_some_and(|other| Arc::ptr_eq(upstream, other));
            one.len() == other.len() && one.iter().all(leads)
        };
        let rest = match (&self.any, &other.any) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        rest && same(&self.exact, &other.exact) && same(&self.suffixes, &other.suffixes)
    }

    /// The upstream of a name in lower case: its own, that of the longest wildcard that covers it, or that of all others.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Upstream>> {
        let named = |name: &str| {
            let dots = name.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0);
            let by_suffix = || dots.map(|dot| &name[dot..]).find_map(|suffix| self.suffixes.get(suffix));
            self.exact.get(name).or_else(by_suffix)
        };
        name.and_then(named).or(self.any.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{endpoint::EndpointRegistry, types::Problems};

    fn names(spec: &[(&str, &str)]) -> Names {
        let (registry, problems) = (EndpointRegistry::default(), Problems::default());
        let upstream = |name: &str| {
            let spec = serde_yaml::from_str("endpoints: ['127.0.0.1:1']").unwrap();
            Upstream::compile(&name.parse().unwrap(), &spec, &registry, &problems.root()).unwrap()
        };
        let upstreams = spec.iter().map(|(_, name)| (name.parse().unwrap(), upstream(name))).collect();
        let spec = spec.iter().map(|(host, name)| (host.parse().unwrap(), name.parse().unwrap())).collect();
        Names::compile(&spec, &upstreams).unwrap()
    }

    #[test]
    fn the_most_specific_name_wins() {
        let names = names(&[("db.example.com", "db"), ("*.example.com", "near"), ("*.b.example.com", "nearer"), ("*", "rest")]);
        let find = |name| names.find(name).map(|upstream| upstream.name().to_string());
        for (name, upstream) in [
            (Some("db.example.com"), "db"),
            (Some("x.example.com"), "near"),
            (Some("y.x.example.com"), "near"),
            (Some("a.b.example.com"), "nearer"),
            (Some("example.com"), "rest"),
            (Some(".example.com"), "rest"),
            (Some("db.example.org"), "rest"),
            (Some(""), "rest"),
            (None, "rest"),
        ] {
            assert_eq!(find(name).as_deref(), Some(upstream), "{name:?}");
        }
    }

    #[test]
    fn without_a_rest_other_names_have_nowhere_to_go() {
        let names = names(&[("db.example.com", "db")]);
        assert!(names.find(Some("db.example.com")).is_some());
        assert!(names.find(Some("b.example.com")).is_none() && names.find(None).is_none());
    }
}
