//! An endpoint as users write it: in the configuration ([`ListedEndpoint`]), or where endpoints are found ([`EndpointSpec`]).

use std::{fmt, marker::PhantomData, num::NonZeroU32, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

use super::Target;
use crate::{
    endpoint::Place,
    types::{Address, Name},
};

/// Above this a weight says nothing that a smaller one could not, and sums of weights stay far from overflow.
pub const MAX_WEIGHT: u32 = u16::MAX as u32;

/// One endpoint that was found, or that an operator adds. Written as a bare address when it has no options.
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

impl From<EndpointOptions> for EndpointSpec {
    fn from(EndpointOptions { address, weight, priority, zone }: EndpointOptions) -> Self {
        Self { address, weight, priority, zone }
    }
}

impl From<Address> for EndpointSpec {
    fn from(address: Address) -> Self {
        Self { address, weight: NonZeroU32::MIN, priority: 0, zone: None }
    }
}

impl Serialize for EndpointSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { address, weight, priority, zone } = self.clone();
        EndpointOptions { address, weight, priority, zone }.serialize(serializer)
    }
}

/// One endpoint as the configuration lists it. Written as a bare address when it has no options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEndpoint {
    /// Where it is.
    pub target: Target,
    /// Its share of the traffic relative to the others; it gets none with 0.
    pub weight: u16,
    /// Its group: those with a higher number stand in for those with a lower one.
    pub priority: u8,
    /// The availability zone it is in.
    pub zone: Option<Name>,
    /// It is not used.
    pub disabled: bool,
}

impl ListedEndpoint {
    /// Its share of the traffic. `None` when it is to get none, as if it were not listed.
    pub fn share(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.weight.into()).filter(|_| !self.disabled)
    }
}

/// The long form of [`ListedEndpoint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListedOptions {
    /// `IP:port`, `[IPv6]:port`, `name:port`, `http://name`, `https://name` or `unix:/path`.
    address: Target,
    /// Its share of the traffic relative to the others, 0 to 65535. With 0 it gets none.
    #[serde(default = "ListedOptions::default_weight")]
    weight: u16,
    /// Its group, 0 to 255: endpoints of a higher number get what those of lower numbers cannot carry.
    #[serde(default)]
    priority: u8,
    /// The availability zone it is in, for `locality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Name>,
    /// Leave it out for now: it gets no requests and no health checks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

impl ListedOptions {
    fn default_weight() -> u16 {
        1
    }
}

impl From<ListedOptions> for ListedEndpoint {
    fn from(ListedOptions { address, weight, priority, zone, disabled }: ListedOptions) -> Self {
        Self { target: address, weight, priority, zone, disabled }
    }
}

impl From<Target> for ListedEndpoint {
    fn from(target: Target) -> Self {
        Self { target, weight: ListedOptions::default_weight(), priority: 0, zone: None, disabled: false }
    }
}

impl From<EndpointSpec> for ListedEndpoint {
    fn from(EndpointSpec { address, weight, priority, zone }: EndpointSpec) -> Self {
        Self { target: address.into(), weight: weight.get().try_into().unwrap_or(u16::MAX), priority, zone, disabled: false }
    }
}

impl Serialize for ListedEndpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { target, weight, priority, zone, disabled } = self.clone();
        ListedOptions { address: target, weight, priority, zone, disabled }.serialize(serializer)
    }
}

/// Reads a bare address, or a map of options.
struct Either<Short, Long, Spec>(PhantomData<(Short, Long, Spec)>);

impl<'de, Short, Long, Spec> de::Visitor<'de> for Either<Short, Long, Spec>
where
    Short: FromStr<Err: fmt::Display> + Into<Spec>,
    Long: Deserialize<'de> + Into<Spec>,
{
    type Value = Spec;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, or `{address: ..., weight: ...}`")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Spec, E> {
        text.parse::<Short>().map(Into::into).map_err(E::custom)
    }
    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Spec, A::Error> {
        Long::deserialize(de::value::MapAccessDeserializer::new(map)).map(Into::into)
    }
}

impl<'de> Deserialize<'de> for EndpointSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either::<Address, EndpointOptions, Self>(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ListedEndpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either::<Target, ListedOptions, Self>(PhantomData))
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

impl JsonSchema for ListedEndpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListedEndpoint".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let short = generator.subschema_for::<Target>();
        let long = generator.subschema_for::<ListedOptions>();
        schemars::json_schema!({"anyOf": [short, long]})
    }
}
