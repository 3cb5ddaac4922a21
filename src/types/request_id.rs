//! The id of a request.

use std::{fmt, ops::Deref, sync::Arc, time::SystemTime};

use rand::Rng;
use uuid::{Builder, fmt::Hyphenated};

/// The id that log lines, error pages and services name a request by. One of our own is in place: most are made for a line that
/// nobody writes.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Made([u8; Hyphenated::LENGTH]),
    Given(Arc<str>),
}

impl RequestId {
    /// A fresh one for a request of this moment: UUID version 7 (RFC 9562), which sorts by time, to the millisecond.
    pub fn new(now: SystemTime) -> Self {
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut random = [0; 10];
        rand::rng().fill(&mut random);
        let mut text = [0; Hyphenated::LENGTH];
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_hyphenated().encode_lower(&mut text);
        Self(Form::Made(text))
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self(Form::Given(text.into()))
    }
}

impl Deref for RequestId {
    type Target = str;
    fn deref(&self) -> &str {
        match &self.0 {
            // Hexadecimal digits and hyphens.
            Form::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
            Form::Given(text) => text,
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_and_sort_by_time() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let ids: Vec<_> = [1, 2, 1_790_000_000_000].map(|millis| RequestId::new(at(millis))).into_iter().collect();
        for id in &ids {
            let parsed: uuid::Uuid = id.parse().unwrap();
            assert_eq!((parsed.get_version_num(), parsed.get_variant(), id.len()), (7, uuid::Variant::RFC4122, 36));
        }
        assert!(ids.is_sorted_by(|one, next| **one < **next), "{ids:?}");
        assert_ne!(RequestId::new(at(7)), RequestId::new(at(7)));
        assert_eq!(RequestId::from("theirs").to_string(), "theirs");
    }
}
