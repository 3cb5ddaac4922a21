//! Address ranges: `192.0.2.0/24`, `2001:db8::/32`, or one bare address.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

use crate::string_type;

/// One range of addresses. An IPv4 range also holds the IPv4-mapped IPv6 form of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Is the address in this range?
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let net: IpNet = text
            .parse()
            .map_err(|_| format!("`{text}` is not an address range; write `192.0.2.0/24`, `2001:db8::/32` or one address"))?;
        if net.addr() != net.network() {
            return Err(format!("`{text}` has bits set behind its prefix; did you mean `{}`?", net.trunc()));
        }
        Ok(Self(canonical(net)))
    }
}

/// The bits in front of the IPv4 address in an IPv4-mapped IPv6 one (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// A range of IPv4-mapped addresses is the IPv4 range: addresses are compared in their IPv4 form, so it would hold none.
fn canonical(net: IpNet) -> IpNet {
    let (IpAddr::V4(address), Some(prefix)) = (net.addr().to_canonical(), net.prefix_len().checked_sub(MAPPED)) else {
        return net;
    };
    Ipv4Net::new(address, prefix).map_or(net, IpNet::V4)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}
string_type!(Cidr, "AddressRange", "A range of addresses (`192.0.2.0/24`) or one address.", None);

/// Several ranges. Empty holds no address.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct CidrSet(Vec<Cidr>);

impl CidrSet {
    /// Is the address in any of the ranges? Linear: these lists are short, and a route's cost is not its filters'.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|cidr| cidr.contains(address))
    }
    /// True when it holds no range at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Cidr> for CidrSet {
    fn from_iter<I: IntoIterator<Item = Cidr>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        let set: CidrSet = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()].into_iter().collect();
        assert!(set.contains("10.1.2.3".parse().unwrap()));
        assert!(set.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(set.contains("::1".parse().unwrap()));
        assert!(!set.contains("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_range_of_mapped_addresses_is_the_ipv4_range() {
        for (text, printed) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
            ("::/0", "::/0"),
            ("::fffe:0:0/96", "::fffe:0:0/96"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), printed, "{text}");
        }
        let range: Cidr = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(range.contains("10.1.2.3".parse().unwrap()) && range.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!range.contains("11.1.2.3".parse().unwrap()));
    }

    #[test]
    fn host_bits_are_a_mistake() {
        assert!("10.0.0.1/8".parse::<Cidr>().unwrap_err().contains("10.0.0.0/8"));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
    }
}
