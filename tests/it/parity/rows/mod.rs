//! The rows, by what they are about.

mod bodies;
mod bodiless;
mod failing;
mod fields;
mod interim;
mod leaving;
mod pooled;
mod trailers;

use super::{Pair, row::Row};

/// All rows, as they are for this pair.
pub fn all(pair: Pair) -> Vec<Row> {
    let all: Vec<Row> = [
        bodies::rows(pair),
        trailers::rows(pair),
        interim::rows(pair),
        bodiless::rows(pair),
        fields::rows(pair),
        leaving::rows(pair),
        failing::rows(pair),
        pooled::rows(pair),
    ]
    .concat();
    let mut names: Vec<&str> = all.iter().map(|row| row.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "two rows have one name: {names:?}");
    all
}
