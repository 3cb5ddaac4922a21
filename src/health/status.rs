//! The statuses that a health check accepts.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

/// One status or a range: `204`, `200-399`, `2xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Only this status.
    pub const fn one(status: u16) -> Self {
        Self { first: status, last: status }
    }
    /// Is it one of them?
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let range = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => number(class).filter(|class| *class < 10).map(|class| (class * 100, class * 100 + 99)),
            (None, Some((first, last))) => number(first).zip(number(last)),
            (None, None) => number(text).map(|status| (status, status)),
        };
        match range {
            Some((first, last)) if first <= last && (200..600).contains(&first) && last < 600 => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is not a status of a response; write a number from 200 to 599, `200-399` or `2xx`")),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { serializer.serialize_u16(self.first) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StatusRange;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or a range such as `200-399` or `2xx`")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StatusRange, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A status or a range of them: `200`, `200-399`, `2xx`.",
            "anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, {"type": "string"}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_ranges_and_classes() {
        for (text, printed, inside, outside) in [
            ("204", "204", 204, 200),
            ("200-399", "200-399", 302, 400),
            ("2xx", "200-299", 299, 300),
            ("500 - 599", "500-599", 599, 499),
        ] {
            let range: StatusRange = text.parse().unwrap();
            assert_eq!(range.to_string(), printed);
            assert!(range.contains(inside) && !range.contains(outside), "{text}");
        }
        for text in ["", "100", "600", "1xx", "xx", "12xx", "300-200", "200-600", "ok", "65536"] {
            assert!(text.parse::<StatusRange>().unwrap_err().contains("`2xx`"), "{text}");
        }
    }
}
