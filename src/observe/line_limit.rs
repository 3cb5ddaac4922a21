//! How many lines of one kind may be written, and how many were suppressed.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Kinds remembered at a time. A configuration has fewer; the bound is for keys that nobody foresaw.
const KINDS: usize = 4096;

/// Allows `burst` lines of a kind in each window. A window begins with its first line.
#[derive(Debug)]
pub(super) struct LineLimit<K> {
    burst: u32,
    window: Duration,
    kinds: HashMap<K, Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl<K: Hash + Eq> LineLimit<K> {
    pub(super) fn new(burst: u32, window: Duration) -> Self {
        Self { burst, window, kinds: HashMap::new() }
    }

    /// `None` when the line must not be written, else how many lines of this kind were suppressed since the last one.
    pub(super) fn admit(&mut self, kind: K, now: Instant) -> Option<u64> {
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.kinds.clear();
        }
        let window = self.kinds.entry(kind).or_insert(Window { since: now, lines: 0, suppressed: 0 });
        if now.saturating_duration_since(window.since) >= self.window {
            (window.since, window.lines) = (now, 0);
        }
        if window.lines >= self.burst {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_its_burst_in_each_window() {
        let (mut limit, start) = (LineLimit::new(2, Duration::from_secs(1)), Instant::now());
        let mut at = |kind, millis| limit.admit(kind, start + Duration::from_millis(millis));
        assert_eq!([at("a", 0), at("a", 500), at("a", 998), at("a", 999)], [Some(0), Some(0), None, None]);
        assert_eq!(at("b", 999), Some(0), "another kind");
        assert_eq!([at("a", 1000), at("a", 1001), at("a", 1002)], [Some(2), Some(0), None], "the next window");
        assert_eq!(at("a", 60_000), Some(1));
    }

    #[test]
    fn kinds_are_bounded() {
        let (mut limit, now) = (LineLimit::new(1, Duration::from_secs(1)), Instant::now());
        for kind in 0..3 * KINDS {
            assert_eq!(limit.admit(kind, now), Some(0));
            assert!(limit.kinds.len() <= KINDS);
        }
    }
}
