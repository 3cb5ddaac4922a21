//! The parameters of a lab request: `?n=10&ms=100`.

use std::{ops::RangeInclusive, time::Duration};

use crate::types::Ratio;

/// A query string, read parameter by parameter. A parameter that is wrong is an error, not the default: an experiment
/// that silently runs with other numbers is worse than none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    fn get(self, name: &str) -> Option<&'a str> {
        self.0
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// True for `?raw` as for `?raw=anything`.
    pub(super) fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A whole number within `range`.
    pub(super) fn number(self, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("`{name}={text}` is not a number from {} to {}", range.start(), range.end())),
        }
    }

    /// Milliseconds, up to `max`.
    pub(super) fn millis(self, name: &str, default: u64, max: Duration) -> Result<Duration, String> {
        self.number(name, default, 0..=max.as_millis() as u64).map(Duration::from_millis)
    }

    /// A share: `50%`, which a browser sends as `50%25`, or `50`.
    pub(super) fn share(self, name: &str, default: Ratio) -> Result<Ratio, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => {
                let percent = text.strip_suffix("%25").or(text.strip_suffix('%')).unwrap_or(text);
                format!("{percent}%").parse().map_err(|error| format!("{name}: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name_and_checked() {
        let query = Query("n=10&raw&ms=1500&rate=50%25");
        assert_eq!(query.number("n", 1, 1..=100), Ok(10));
        assert_eq!(query.number("absent", 7, 1..=100), Ok(7));
        assert_eq!(query.millis("ms", 0, Duration::from_secs(2)), Ok(Duration::from_millis(1500)));
        assert!(query.millis("ms", 0, Duration::from_secs(1)).unwrap_err().contains("0 to 1000"));
        assert!(query.has("raw") && !query.has("aw"));
        for text in ["rate=50", "rate=50%", "rate=50%25"] {
            assert_eq!(Query(text).share("rate", Ratio::percent(1)), Ok(Ratio::percent(50)), "{text}");
        }
        assert!(Query("rate=150%").share("rate", Ratio::percent(1)).is_err());
        assert!(Query("n=ten").number("n", 1, 1..=100).is_err());
    }
}
