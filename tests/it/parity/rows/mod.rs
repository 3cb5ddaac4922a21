//! The rows, by what they are about.

mod bodies;

use super::{Pair, row::Row};

/// All rows, as they are for this pair.
pub fn all(pair: Pair) -> Vec<Row> {
    let all: Vec<Row> = [bodies::rows(pair)].concat();
    let mut names: Vec<&str> = all.iter().map(|row| row.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "two rows have one name: {names:?}");
    all
}
