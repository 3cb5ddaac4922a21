//! Media types that a filter is for: one, all of a kind, or all with a suffix.

use std::{fmt, str::FromStr};

use crate::string_type;

/// A media type, or several: `text/html`, `text/*`, `application/*+json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    /// In lower case.
    kind: String,
    subtype: Subtype,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subtype {
    /// This one.
    One(String),
    /// All that end so: `+json`, or nothing.
    Ending(String),
}

impl MediaRange {
    /// Is this `Content-Type` one of them? Its parameters do not matter.
    pub(super) fn has(&self, content_type: &[u8]) -> bool {
        let name = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let Some(slash) = name.iter().position(|byte| *byte == b'/') else { return false };
        let (kind, subtype) = (&name[..slash], &name[slash + 1..]);
        kind.eq_ignore_ascii_case(self.kind.as_bytes())
            && match &self.subtype {
                Subtype::One(one) => subtype.eq_ignore_ascii_case(one.as_bytes()),
                Subtype::Ending(ending) => {
                    let rest = subtype.len().checked_sub(ending.len());
                    rest.is_some_and(|rest| subtype[rest..].eq_ignore_ascii_case(ending.as_bytes()))
                }
            }
    }
}

/// What names are made of (RFC 6838 section 4.2).
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

impl FromStr for MediaRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let refused = || format!("`{text}` is not a media type; write `text/html`, `text/*` or `application/*+json`");
        let (kind, subtype) = lower.split_once('/').ok_or_else(refused)?;
        let subtype = match subtype.strip_prefix('*') {
            Some(ending) if ending.is_empty() || ending.starts_with('+') && is_name(&ending[1..]) => {
                Subtype::Ending(ending.to_owned())
            }
            None if is_name(subtype) => Subtype::One(subtype.to_owned()),
            _ => return Err(refused()),
        };
        if is_name(kind) { Ok(Self { kind: kind.to_owned(), subtype }) } else { Err(refused()) }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subtype {
            Subtype::One(one) => write!(f, "{}/{one}", self.kind),
            Subtype::Ending(ending) => write!(f, "{}/*{ending}", self.kind),
        }
    }
}
string_type!(MediaRange, "MediaRange", "A media type, or several: `text/html`, `text/*`, `application/*+json`.", None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_what_they_say() {
        for (range, has, has_not) in [
            ("text/html", &["text/html", "Text/HTML; charset=utf-8"][..], &["text/htm", "text", "xtext/html", ""][..]),
            ("TEXT/*", &["text/css", "text/x-y"], &["image/svg+xml", "text"]),
            ("application/*+json", &["application/ld+json", "application/PROBLEM+JSON ;a=b"], &["application/json", "a/x+json"]),
        ] {
            let parsed: MediaRange = range.parse().unwrap();
            assert_eq!(parsed.to_string(), range.to_ascii_lowercase());
            assert!(has.iter().all(|kind| parsed.has(kind.as_bytes())), "{range}");
            assert!(!has_not.iter().any(|kind| parsed.has(kind.as_bytes())), "{range}");
        }
        for text in ["", "text", "*", "*/*", "text/", "/html", "text/h*", "text/*json", "text/*+", "a b/c", "text/html; q=1"] {
            assert!(text.parse::<MediaRange>().is_err(), "{text}");
        }
    }
}
