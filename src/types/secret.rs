//! Values that never print.

use std::{
    cell::Cell,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

thread_local! {
    /// Set while this thread serialises something only to compare it.
    static COMPARING: Cell<bool> = const { Cell::new(false) };
}

/// Keyed anew in each process, so that a mark tells nothing about the secret.
static MARKS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A secret string: `Debug`, `Display` and serialisation show a placeholder, never the value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What replaces the value wherever it would be shown.
    pub const HIDDEN: &'static str = "[hidden]";

    /// The serde name by which the decoder recognises a secret that is written out in the file, to keep it out of snippets.
    pub const MARK: &'static str = "weir::Secret";

    /// Runs `serialise` with secrets written as marks by which different ones can be told apart, within this process and
    /// without showing them. What comes of it is for comparing, and must not be printed either.
    pub fn told_apart<T>(serialise: impl FnOnce() -> T) -> T {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                COMPARING.set(self.0);
            }
        }
        let _restore = Restore(COMPARING.replace(true));
        serialise()
    }

    /// The value itself. Call this where the secret is used and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// True for the empty string, which means "not set".
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}
impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_str() {
            "" => serializer.serialize_str(""),
            secret if COMPARING.get() => serializer.collect_str(&format_args!("{} {:x}", Self::HIDDEN, MARKS.hash_one(secret))),
            _ => serializer.serialize_str(Self::HIDDEN),
        }
    }
}
impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.into()))
            }
            fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
                deserializer.deserialize_str(Visitor)
            }
        }
        deserializer.deserialize_newtype_struct(Self::MARK, Visitor)
    }
}
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "A secret; best written as `${VAR}` or `${file:/run/secrets/name}`."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_apart_without_being_shown() {
        let json = |secret: &str| serde_json::to_string(&Secret::from(secret.to_owned())).unwrap();
        assert_eq!(json("hunter2"), json("swordfish"));
        let marks = Secret::told_apart(|| [json("hunter2"), json("hunter2"), json("swordfish")]);
        assert_eq!(marks[0], marks[1]);
        assert_ne!(marks[0], marks[2]);
        assert!(!marks.concat().contains("hunter2"));
        assert_eq!(json("hunter2"), format!("\"{}\"", Secret::HIDDEN), "only while comparing");
    }
}
