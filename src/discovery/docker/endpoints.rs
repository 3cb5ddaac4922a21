//! From containers to the endpoints of one upstream: labels, ports and addresses.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
};

use super::{Container, Diagnostic, Phase, Seen, diagnostic::shown};
use crate::{
    discovery::{EndpointSpec, Found, MAX_WEIGHT},
    types::{Address, Name, nearest},
};

/// The upstream that a container's endpoint is of. A container without it is none of our business.
pub const UPSTREAM: &str = "weir.upstream";
const PORT: &str = "weir.port";
const WEIGHT: &str = "weir.weight";
const PRIORITY: &str = "weir.priority";
const ZONE: &str = "weir.zone";
const NETWORK: &str = "weir.network";
/// Labels of routes go on after this.
pub const ROUTE: &str = "weir.route.";
const KNOWN: [&str; 6] = [UPSTREAM, PORT, WEIGHT, PRIORITY, ZONE, NETWORK];
/// The engine's word for having no network of its own.
const HOST: &str = "host";

/// What an endpoint cannot be made of: the label at fault, if there is one, and why.
type Fault = (Option<&'static str>, String);

/// The endpoints of this upstream in the order of their addresses, and what stands in the way of further ones.
///
/// A container with a label that cannot be read is left out, as the whole file is when it has a mistake: what
/// was meant by a weight or a priority is not for us to guess. A label that nobody knows changes nothing.
pub(super) fn of(upstream: &Name, network: Option<&str>, seen: &Seen) -> (Vec<Found>, Vec<Diagnostic>) {
    let (mut found, mut diagnostics) = (Vec::new(), Vec::new());
    for container in seen.containers.iter().filter(|container| container.labels.get(UPSTREAM).is_some_and(|of| of == &**upstream))
    {
        diagnostics.extend(unknown(container));
        match endpoint(container, network, seen.own_networks.as_deref()) {
            Ok(endpoint) => match container.phase {
                Phase::Ready => found.push(Found { endpoint, leaving: false }),
                Phase::Leaving => found.push(Found { endpoint, leaving: true }),
                Phase::Starting | Phase::Unhealthy | Phase::Paused | Phase::Down => {}
            },
            Err((label, message)) => diagnostics.push(Diagnostic::new(&container.name, label, message)),
        }
    }
    // One that stays before one that leaves, should both have one address.
    found.sort_by_key(|found| (found.endpoint.address.clone(), found.leaving));
    let mut seen = HashSet::new();
    found.retain(|found| seen.insert(found.endpoint.address.clone()));
    (found, diagnostics)
}

fn unknown(container: &Container) -> impl Iterator<Item = Diagnostic> {
    let labels = container.labels.keys().map(String::as_str);
    labels.filter(|label| !KNOWN.contains(label) && !label.starts_with(ROUTE)).map(|label| {
        let hint = nearest(label, KNOWN).unwrap_or_default();
        Diagnostic::new(&container.name, Some(label), format!("there is no such label; {hint}"))
    })
}

fn endpoint(container: &Container, network: Option<&str>, own: Option<&[String]>) -> Result<EndpointSpec, Fault> {
    let weight = label(container, WEIGHT, "a weight goes from 1 to 65535", |text| {
        text.parse().ok().filter(|weight: &NonZeroU32| weight.get() <= MAX_WEIGHT)
    })?;
    let priority = label(container, PRIORITY, "a priority goes from 0 to 255", |text| text.parse().ok())?;
    let zone = label(container, ZONE, "a zone is a name: letters, digits, `_`, `.` and `-`", |text| text.parse().ok())?;
    let port = port(container)?;
    let wanted = container.labels.get(NETWORK).map(String::as_str);
    let ip = match wanted.or(network) {
        Some(network) => address_in(container, network, own).map_err(|message| (wanted.map(|_| NETWORK), message)),
        None => address(container, own).map_err(|message| (None, message)),
    }?;
    let address = Address::Tcp(SocketAddr::new(ip, port));
    Ok(EndpointSpec { address, weight: weight.unwrap_or(NonZeroU32::MIN), priority: priority.unwrap_or(0), zone })
}

fn label<T>(
    container: &Container,
    label: &'static str,
    rule: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Fault> {
    let text = container.labels.get(label).map(|text| text.trim());
    text.map(|text| read(text).ok_or_else(|| (Some(label), format!("`{}`: {rule}", shown(text))))).transpose()
}

fn port(container: &Container) -> Result<u16, Fault> {
    let named = label(container, PORT, "a port goes from 1 to 65535", |text| text.parse().ok().filter(|port| *port != 0))?;
    match (named, &container.ports[..]) {
        (Some(port), _) => Ok(port),
        (None, [port]) => Ok(*port),
        (None, []) => Err((None, format!("its image exposes no port, so say which to use: `{PORT}: 8080`"))),
        (None, ports) => {
            Err((None, format!("it exposes the ports {}, so say which to use: `{PORT}: {}`", listed(ports), ports[0])))
        }
    }
}

/// The address in the network of this name, also without the project that Compose puts before it.
fn address_in(container: &Container, network: &str, own: Option<&[String]>) -> Result<IpAddr, String> {
    let of_project = container.project.as_ref().map(|project| format!("{project}_{network}"));
    let names = [Some(network), of_project.as_deref()];
    let Some((name, address)) = names.into_iter().flatten().find_map(|name| container.networks.get_key_value(name)) else {
        return Err(match container.networks.is_empty() {
            true => format!("it is in no network, thus not in `{}`", shown(network)),
            false => format!("it is not in the network `{}`, but in {}", shown(network), listed(container.networks.keys())),
        });
    };
    (*address).map_or_else(|| unaddressed(name, own), Ok)
}

fn address(container: &Container, own: Option<&[String]>) -> Result<IpAddr, String> {
    let mut networks = container.networks.iter();
    match (networks.next(), networks.next()) {
        (None, _) => Err("it is in no network, so it cannot be reached".into()),
        (Some((name, address)), None) => (*address).map_or_else(|| unaddressed(name, own), Ok),
        (Some(_), Some(_)) => {
            let shared = |name: &String| own.is_some_and(|own| own.contains(name));
            let mut reached = container.networks.iter().filter(|(name, _)| shared(name)).filter_map(|(_, address)| *address);
            let networks = listed(container.networks.keys());
            let unclear = format!("it is in several networks, {networks}: say in which one to reach it with the label {NETWORK}");
            reached.next().ok_or(unclear)
        }
    }
}

/// What shares the network of its host is on the host's loopback, for those who are there.
fn unaddressed(network: &str, own: Option<&[String]>) -> Result<IpAddr, String> {
    match (network, own) {
        (HOST, None) => Ok(Ipv4Addr::LOCALHOST.into()),
        (HOST, Some(own)) if own.iter().any(|network| network == HOST) => Ok(Ipv4Addr::LOCALHOST.into()),
        (HOST, Some(_)) => Err("it is in the network of the host, which cannot be reached from Weir's own container".into()),
        _ => Err(format!("it has no address in the network `{}`", shown(network))),
    }
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| shown(&item.to_string())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{
        super::container::tests::{answer, read},
        *,
    };

    fn seen(containers: impl IntoIterator<Item = Container>, own: Option<&[&str]>) -> Seen {
        let own_networks = own.map(|own| own.iter().map(ToString::to_string).collect());
        Seen { containers: containers.into_iter().map(Arc::new).collect(), own_networks, ..Seen::default() }
    }

    fn app(labels: &[(&str, &str)], networks: &[(&str, &str)]) -> Container {
        read(answer("app-1", &[&[(UPSTREAM, "app")], labels].concat(), networks))
    }

    const BRIDGE: &[(&str, &str)] = &[("bridge", "172.17.0.2")];

    /// The one endpoint, or what is said instead.
    fn one(container: Container, network: Option<&str>, own: Option<&[&str]>) -> Result<String, String> {
        let (found, diagnostics) = of(&"app".parse().unwrap(), network, &seen([container], own));
        match (&found[..], &diagnostics[..]) {
            ([found], []) => Ok(found.endpoint.address.to_string()),
            ([], [diagnostic]) => Err(diagnostic.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn labels_say_what_the_endpoint_is() {
        let labels = [("weir.port", " 8080 "), ("weir.weight", "3"), ("weir.priority", "1"), ("weir.zone", "a")];
        let (found, diagnostics) = of(&"app".parse().unwrap(), None, &seen([app(&labels, BRIDGE)], None));
        let spec = &found[0].endpoint;
        assert_eq!((spec.address.to_string(), spec.weight.get(), spec.priority), ("172.17.0.2:8080".into(), 3, 1));
        assert_eq!(spec.zone.as_deref(), Some("a"));
        assert!(diagnostics.is_empty() && !found[0].leaving);
        assert!(of(&"other".parse().unwrap(), None, &seen([app(&labels, BRIDGE)], None)).0.is_empty());
    }

    #[test]
    fn each_bad_label_is_one_diagnostic_that_names_it() {
        for (label, value, words) in [
            ("weir.port", "http", "container app-1: label weir.port: `http`: a port goes from 1 to 65535"),
            ("weir.port", "0", "a port goes"),
            ("weir.weight", "0", "a weight goes from 1"),
            ("weir.weight", "65536", "a weight goes from 1"),
            ("weir.priority", "256", "label weir.priority"),
            ("weir.zone", "a b", "label weir.zone"),
            ("weir.network", "none", "label weir.network: it is not in the network `none`, but in bridge"),
        ] {
            let port = if label == "weir.port" { "weir.zone" } else { "weir.port" };
            let error = one(app(&[(port, "80"), (label, value)], BRIDGE), None, None).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        // One that nobody knows changes nothing else.
        let (found, diagnostics) =
            of(&"app".parse().unwrap(), None, &seen([app(&[("weir.port", "80"), ("weir.wieght", "2")], BRIDGE)], None));
        assert_eq!(found.len(), 1);
        let text = diagnostics[0].to_string();
        assert_eq!(text, "container app-1: label weir.wieght: there is no such label; did you mean `weir.weight`?");
    }

    #[test]
    fn the_port_is_the_only_one_that_is_exposed() {
        let with = |ports: serde_json::Value| {
            let mut json = answer("app-1", &[(UPSTREAM, "app")], BRIDGE);
            json["Config"]["ExposedPorts"] = ports;
            one(read(json), None, None)
        };
        assert_eq!(with(json!({"8080/tcp": {}, "53/udp": {}})).unwrap(), "172.17.0.2:8080");
        assert!(with(json!({})).unwrap_err().contains("exposes no port"));
        assert!(with(json!({"80/tcp": {}, "443/tcp": {}})).unwrap_err().contains("it exposes the ports 80, 443"));
    }

    #[test]
    fn the_address_is_that_in_the_network_that_both_are_in() {
        let port = ("weir.port", "80");
        let both: &[(&str, &str)] = &[("back", "10.1.0.2"), ("front", "10.2.0.2")];
        let at = |network: Option<&str>, own: Option<&[&str]>| one(app(&[port], both), network, own);
        assert_eq!(at(Some("front"), None).unwrap(), "10.2.0.2:80");
        assert_eq!(at(None, Some(&["front", "other"])).unwrap(), "10.2.0.2:80");
        assert!(at(None, Some(&["other"])).unwrap_err().contains("it is in several networks, back, front"));
        assert!(at(None, None).unwrap_err().contains("label weir.network"));
        let labelled = app(&[port, ("weir.network", "back")], both);
        assert_eq!(one(labelled, Some("front"), None).unwrap(), "10.1.0.2:80", "the label has the last word");
        let of_project = app(&[port, ("com.docker.compose.project", "shop")], &[("shop_back", "10.1.0.3"), ("x", "10.9.0.1")]);
        assert_eq!(one(of_project, Some("back"), None).unwrap(), "10.1.0.3:80");
        assert!(one(app(&[port], &[]), None, None).unwrap_err().contains("in no network"));
        assert!(one(app(&[port], &[("none", "")]), None, None).unwrap_err().contains("no address in the network `none`"));
    }

    #[test]
    fn the_network_of_the_host_is_reached_from_the_host() {
        let host = || app(&[("weir.port", "80")], &[("host", "")]);
        assert_eq!(one(host(), None, None).unwrap(), "127.0.0.1:80");
        assert_eq!(one(host(), None, Some(&["host"])).unwrap(), "127.0.0.1:80");
        assert!(one(host(), None, Some(&["front"])).unwrap_err().contains("network of the host"));
    }

    #[test]
    fn only_those_that_can_serve_are_found_and_each_address_once() {
        let at = |id: &str, phase: Phase, address: &str| {
            let json = answer(id, &[(UPSTREAM, "app"), ("weir.port", "80")], &[("bridge", address)]);
            Container { phase, ..read(json) }
        };
        let containers = [
            at("a", Phase::Leaving, "10.0.0.1"),
            at("b", Phase::Ready, "10.0.0.1"),
            at("c", Phase::Leaving, "10.0.0.2"),
            at("d", Phase::Starting, "10.0.0.3"),
            at("e", Phase::Unhealthy, "10.0.0.4"),
            at("f", Phase::Paused, "10.0.0.5"),
        ];
        let (found, diagnostics) = of(&"app".parse().unwrap(), None, &seen(containers, None));
        let found: Vec<_> = found.iter().map(|found| (found.endpoint.address.to_string(), found.leaving)).collect();
        assert_eq!(found, [("10.0.0.1:80".into(), false), ("10.0.0.2:80".into(), true)]);
        assert!(diagnostics.is_empty());
    }
}
