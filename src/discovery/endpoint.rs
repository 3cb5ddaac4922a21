//! An endpoint as users write it, in the configuration or in a list of its own.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::Place,
    types::{Address, Name},
};

/// Above this a weight says nothing that a smaller one could not, and sums of weights stay far from overflow.
pub const MAX_WEIGHT: u32 = 65_535;

/// One endpoint. Written as a bare address when it has no options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `IP:port`, `[IPv6]:port` or `unix:/path`.
    pub address: Address,
    /// Its share of the traffic relative to the others.
    pub weight: NonZeroU32,
    /// Its group: those with a higher number stand in for those with a lower one.
    pub priority: u8,
    /// The availability zone it is in.
    pub zone: Option<Name>,
}

impl EndpointSpec {
    /// Where it stands among the endpoints of its upstream.
    pub fn place(&self) -> Place {
        Place { priority: self.priority, zone: self.zone.clone() }
    }
}

/// The long form of [`EndpointSpec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointOptions {
    /// `IP:port`, `[IPv6]:port` or `unix:/path`.
    address: Address,
    /// Its share of the traffic relative to the others; 1 to 65535.
    #[serde(default = "EndpointOptions::default_weight")]
    weight: NonZeroU32,
    /// Its group, 0 to 255: endpoints of a higher number get what those of lower numbers cannot carry.
    #[serde(default)]
    priority: u8,
    /// The availability zone it is in, for `locality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Name>,
}

impl EndpointOptions {
    fn default_weight() -> NonZeroU32 {
        NonZeroU32::MIN
    }
}

impl Serialize for EndpointSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { address, weight, priority, zone } = self.clone();
        EndpointOptions { address, weight, priority, zone }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EndpointSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de;
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = EndpointSpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address, or `{address: ..., weight: ...}`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<EndpointSpec, E> {
                let address = text.parse().map_err(E::custom)?;
                Ok(EndpointSpec { address, weight: NonZeroU32::MIN, priority: 0, zone: None })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<EndpointSpec, A::Error> {
                let options = EndpointOptions::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let EndpointOptions { address, weight, priority, zone } = options;
                Ok(EndpointSpec { address, weight, priority, zone })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for EndpointSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let short = generator.subschema_for::<Address>();
        let long = generator.subschema_for::<EndpointOptions>();
        schemars::json_schema!({"anyOf": [short, long]})
    }
}
