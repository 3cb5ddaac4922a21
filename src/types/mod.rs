//! Layer 0: the words of the domain. No I/O, no Pingora, no configuration text.
//!
//! A value of one of these types is valid by construction: each parses from the text that a user
//! writes ([`std::str::FromStr`]) and prints as that text again.

mod address;
mod cause;
mod cidr;
mod client;
mod country;
mod driver;
mod fields;
mod host;
mod maps;
mod name;
mod path;
mod problem;
mod registry;
mod reply;
mod request_id;
mod secret;
mod switch;
mod template;
mod text;
mod units;
mod version;

pub use address::{Address, AddressError};
pub use cause::{Cause, Phase, Stage, Who};
pub use cidr::{Cidr, CidrSet};
pub use client::{Client, Scheme, TlsClient};
pub use country::{Countries, Country, Whereabouts};
pub use driver::Driver;
pub use fields::{Fields, FieldsMut, RequestHead, is_cookie_name};
pub use host::{HostError, HostPattern, bare_host, parse_authority};
pub use maps::{give_back, header_map};
pub use name::Name;
pub use path::ConfigPath;
pub use problem::{Added, At, Code, Problem, Problems, Seg, Severity, YamlPath, closest, nearest, unreadable};
pub use reply::{BodyStream, Reply};
pub use request_id::RequestId;
pub use secret::Secret;
pub use switch::{Auto, Offered, Switch};
pub use template::{Part, Template, TemplateError};
pub use text::{OneOrMany, Regexp, hex};
pub use units::{Rate, Ratio, Size, Span, UnitError};
pub use version::Version;

/// Implements serde and JSON Schema for a type that is written as one string and parsed by `FromStr`.
///
/// Serialisation uses `Display`, so a value prints as its user would write it. YAML numbers and
/// booleans are taken by their spelling: `port: 80` and `port: "80"` mean the same.
#[macro_export]
macro_rules! string_type {
    ($type:ty, $schema_name:literal, $description:literal, $pattern:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let pattern: Option<&str> = $pattern;
                match pattern {
                    Some(pattern) => schemars::json_schema!({"type": "string", "description": $description, "pattern": pattern}),
                    None => schemars::json_schema!({"type": "string", "description": $description}),
                }
            }
        }
    };
}
