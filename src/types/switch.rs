//! Sections that one word stands for: `off` for none, `auto` for one with all its defaults.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A section that may be switched `off`.
#[derive(Debug, Clone, PartialEq)]
pub enum Switch<T> {
    /// Switched off.
    Off,
    /// On, with these options.
    On(T),
}

impl<T: Default> Default for Switch<T> {
    fn default() -> Self {
        Switch::On(T::default())
    }
}

impl<T> Switch<T> {
    /// The options, unless switched off.
    pub fn on(&self) -> Option<&T> {
        match self {
            Switch::Off => None,
            Switch::On(options) => Some(options),
        }
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Switch::Off => serializer.serialize_str("off"),
            Switch::On(options) => options.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de;
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Switch<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or options")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch<T>, E> {
                match text {
                    "off" | "false" => Ok(Switch::Off),
                    _ => Err(E::custom(format!("`{text}` is neither `off` nor options"))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Switch::On)
            }
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Switch_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let options = generator.subschema_for::<T>();
        schemars::json_schema!({"anyOf": [{"enum": ["off", false]}, options]})
    }
}

/// Options, or the word `auto` for all their defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Auto<T>(pub T);

impl<T> std::ops::Deref for Auto<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize + PartialEq + Default> Serialize for Auto<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == T::default() { serializer.serialize_str("auto") } else { self.0.serialize(serializer) }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Auto<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de;
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> de::Visitor<'de> for Visitor<T> {
            type Value = Auto<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, or options")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Auto<T>, E> {
                match text {
                    "auto" | "true" => Ok(Auto(T::default())),
                    _ => Err(E::custom(format!("`{text}` is neither `auto` nor options"))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Auto<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Auto)
            }
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Auto<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Auto_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let options = generator.subschema_for::<T>();
        schemars::json_schema!({"anyOf": [{"const": "auto"}, options]})
    }
}
