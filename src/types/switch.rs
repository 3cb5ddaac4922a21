//! Sections that one word stands for: `off` or `false` for none, `auto` or `true` for one with all its defaults.

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
        Ok(match written(deserializer, &["off", "false"], "`off`")? {
            Written::Word(_) => Switch::Off,
            Written::Options(options) => Switch::On(options),
        })
    }
}

/// A section that is off unless it is there: `true` for all its defaults, or options.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered<T>(Switch<T>);

impl<T> Default for Offered<T> {
    fn default() -> Self {
        Self(Switch::Off)
    }
}

impl<T> Offered<T> {
    /// The options, unless it is off.
    pub fn on(&self) -> Option<&T> {
        self.0.on()
    }

    /// Is it off?
    pub fn is_off(&self) -> bool {
        self.on().is_none()
    }
}

impl<T: Serialize + PartialEq + Default> Serialize for Offered<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.on() {
            None => serializer.serialize_bool(false),
            Some(options) if *options == T::default() => serializer.serialize_bool(true),
            Some(options) => options.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Offered<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match written(deserializer, &["true", "on", "false", "off"], "`true`, `false`")? {
            Written::Word(0 | 1) => Switch::On(T::default()),
            Written::Word(_) => Switch::Off,
            Written::Options(options) => Switch::On(options),
        }))
    }
}

impl<T: JsonSchema> JsonSchema for Offered<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Offered_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let options = generator.subschema_for::<T>();
        schemars::json_schema!({"anyOf": [{"type": "boolean"}, options]})
    }
}

/// One of the words, by its position, or options.
enum Written<T> {
    Word(usize),
    Options(T),
}

/// Reads one of these words, of which `shown` are told of, or options.
fn written<'de, T, D>(deserializer: D, words: &'static [&'static str], shown: &'static str) -> Result<Written<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    use serde::de;
    struct Visitor<T>(&'static [&'static str], &'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = Written<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}, or options", self.1)
        }
        fn visit_bool<E: de::Error>(self, on: bool) -> Result<Written<T>, E> {
            self.visit_str(if on { "true" } else { "false" })
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Written<T>, E> {
            let word = self.0.iter().position(|word| *word == text);
            word.map(Written::Word).ok_or_else(|| E::custom(format!("`{text}` is neither {} nor options", self.1)))
        }
        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Written<T>, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Written::Options)
        }
    }
    deserializer.deserialize_any(Visitor(words, shown, std::marker::PhantomData))
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
        Ok(Auto(match written(deserializer, &["auto", "true"], "`auto`")? {
            Written::Word(_) => T::default(),
            Written::Options(options) => options,
        }))
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
