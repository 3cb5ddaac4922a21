//! Paths in a configuration: relative to the file that names them.

use std::{fmt, path::Path, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The path of a file, resolved against the directory of the configuration file that names it.
///
/// The resolving is the decoder's: it knows which file a value stands in, and recognises the type by
/// [`ConfigPath::MARK`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigPath(PathBuf);

impl ConfigPath {
    /// The serde name by which the decoder recognises a path.
    pub const MARK: &'static str = "weir::ConfigPath";
}

impl std::ops::Deref for ConfigPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}
impl<P: Into<PathBuf>> From<P> for ConfigPath {
    fn from(path: P) -> Self {
        Self(path.into())
    }
}
impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
impl Serialize for ConfigPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.display())
    }
}
impl<'de> Deserialize<'de> for ConfigPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ConfigPath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a file")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConfigPath, E> {
                match text {
                    "" => Err(E::custom("a path must not be empty")),
                    _ => Ok(ConfigPath(text.into())),
                }
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<ConfigPath, D::Error> {
                deserializer.deserialize_str(Visitor)
            }
        }
        deserializer.deserialize_newtype_struct(Self::MARK, Visitor)
    }
}
impl schemars::JsonSchema for ConfigPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Path".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "The path of a file, relative to the file that names it."})
    }
}
