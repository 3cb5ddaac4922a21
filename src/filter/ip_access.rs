//! The `ip_access` filter: who may come in, by address.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, Slot, Verdict};
use crate::types::{At, Cidr, CidrSet, Code, OneOrMany, Reply};

/// Admits by the client's address (the one that `trusted_proxies` vouch for). Refused clients get 403.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpAccessSpec {
    /// Only these may come in. Left out: everybody.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub allow: OneOrMany<Cidr>,
    /// These may not, even where `allow` names them.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub deny: OneOrMany<Cidr>,
}

impl IpAccessSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        if self.allow.is_absent() && self.deny.is_absent() {
            at.problem(Code::MissingKey, "`ip_access` without any address admits everybody").hint("add `allow` or `deny`");
            return None;
        }
        let set = |ranges: &[Cidr]| ranges.iter().copied().collect::<CidrSet>();
        Some(Arc::new(IpAccess { allow: set(&self.allow), deny: set(&self.deny) }))
    }
}

#[derive(Debug)]
struct IpAccess {
    allow: CidrSet,
    deny: CidrSet,
}

impl Filter for IpAccess {
    fn kind(&self) -> &'static str {
        "ip_access"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let ip = request.client.ip;
        let refused = self.deny.contains(ip) || !(self.allow.is_empty() || self.allow.contains(ip));
        if refused { Verdict::Answer { reply: Reply::status(403), reason: "ip_denied" } } else { Verdict::Continue }
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn deny_wins_and_allow_excludes_the_rest() {
        for (options, ip, status) in [
            (r#"{"allow": "192.0.2.0/24"}"#, "192.0.2.1", None),
            (r#"{"allow": "192.0.2.0/24"}"#, "::ffff:192.0.2.1", None),
            (r#"{"allow": "192.0.2.0/24"}"#, "198.51.100.1", Some((403, "ip_denied"))),
            (r#"{"allow": "192.0.2.0/24", "deny": ["192.0.2.1"]}"#, "192.0.2.1", Some((403, "ip_denied"))),
            (r#"{"allow": "192.0.2.0/24", "deny": ["192.0.2.1"]}"#, "192.0.2.2", None),
            (r#"{"deny": ["2001:db8::/32"]}"#, "2001:db8::1", Some((403, "ip_denied"))),
            (r#"{"deny": ["2001:db8::/32"]}"#, "192.0.2.2", None),
        ] {
            let mut exchange = Exchange::default();
            exchange.client.ip = ip.parse().unwrap();
            let refusal = exchange.request(&compile(&format!(r#"[{{"ip_access": {options}}}]"#))).err();
            assert_eq!(refusal.map(|(reply, reason)| (reply.status.as_u16(), reason)), status, "{options} {ip}");
        }
    }

    #[test]
    fn no_address_at_all_is_a_mistake() {
        assert!(refused(r#"[{"ip_access": {}}]"#)[0].hint.as_ref().unwrap().contains("allow"));
    }
}
