//! Names of listeners, routes, upstreams: what users declare once and refer to.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::string_type;

/// A name: 1 to 64 of `A-Z a-z 0-9 _ . -`, not starting with a dot or a dash. Cheap to clone.
///
/// The alphabet keeps names safe as metric labels, in URLs of the admin API, in logs and in HTML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > 64 {
            return Err(format!("a name has 1 to 64 characters, this has {}", text.chars().count()));
        }
        if !text.bytes().all(allowed) || text.starts_with(['.', '-']) {
            if text.contains(':') {
                return Err(format!(
                    "`{text}` is not a name: it looks like an address; endpoints are declared under a name in `upstreams`"
                ));
            }
            return Err(format!("`{text}` is not a name: letters, digits, `_`, `.` and `-`, starting with none of `.` and `-`"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
string_type!(Name, "Name", "A name: letters, digits, `_`, `.`, `-`.", Some("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"));
