//! Faults of the edge that are known and not mended yet. An entry whose row holds fails the test: delete it then.

use super::Pair;

/// A row that does not hold on some pairs.
pub struct Known {
    pub row: &'static str,
    /// Client and endpoint: `any`, `h1`, `h2` (with TLS or without), or the name of one kind.
    pub pairs: (&'static str, &'static str),
    pub why: &'static str,
}

pub const KNOWN: &[Known] = &[];

impl Known {
    pub fn of(row: &str, pair: Pair) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.row == row && pair.is(known.pairs.0, known.pairs.1))
    }
}
