//! An upstream of many endpoints.

use std::{net::SocketAddr, sync::Arc};

use weir::{
    discovery::{ListedEndpoint, Target},
    endpoint::EndpointRegistry,
    types::{Address, Problems},
    upstream::{Upstream, UpstreamSpec},
};

/// So many endpoints of unequal weights, with a strategy without options.
pub fn upstream(strategy: &str, endpoints: u32) -> Arc<Upstream> {
    let mut spec: UpstreamSpec = serde_yaml::from_str("endpoints: []").expect("a valid spec");
    let name = format!("{strategy}: {{}}");
    let deserializer = serde_yaml::Deserializer::from_str(&name);
    spec.strategy = serde_yaml::with::singleton_map::deserialize(deserializer).expect("a strategy without options");
    let address = |index: u32| SocketAddr::from((std::net::Ipv4Addr::from(0x7f00_0001 + index), 80));
    spec.endpoints = (0..endpoints)
        .map(|index| ListedEndpoint { weight: (index % 3 + 1) as u16, ..Target::from(Address::from(address(index))).into() })
        .collect();
    let upstream =
        Upstream::compile(&"pool".parse().expect("a name"), &spec, &EndpointRegistry::default(), &Problems::default().root());
    let upstream = upstream.expect("a valid upstream");
    upstream.publish();
    upstream
}
