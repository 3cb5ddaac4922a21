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
pub(crate) const ROUTE: &str = "weir.route.";
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
