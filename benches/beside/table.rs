//! The table of the figures: a row for each figure, a column for each program.

use std::collections::BTreeMap;

use super::beside::Contender;

/// One of the figures that are measured.
pub trait Figure: Copy + Ord + 'static {
    const ALL: &'static [Self];
    fn name(self) -> &'static str;
    fn show(self, value: f64) -> String;
}

/// What was measured, of each round.
pub struct Table<F, K>(BTreeMap<(F, K), Vec<f64>>);

impl<F: Figure, K: Contender> Table<F, K> {
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Measures these in turns, so many times.
    pub async fn rounds(
        &mut self,
        there: &[K],
        rounds: usize,
        mut measure: impl AsyncFnMut(K) -> anyhow::Result<Vec<(F, f64)>>,
    ) -> anyhow::Result<()> {
        for round in 1..=rounds {
            for kind in there.iter().copied() {
                eprintln!("round {round} of {rounds}: {}", kind.name());
                for (figure, value) in measure(kind).await? {
                    self.0.entry((figure, kind)).or_default().push(value);
                }
            }
        }
        Ok(())
    }

    /// In Markdown, the middle one of the values.
    pub fn print(&self) {
        let names: Vec<&str> = K::ALL.iter().map(|kind| kind.name()).collect();
        println!("| | {} |", names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        for figure in F::ALL {
            let cells: Vec<String> = K::ALL.iter().map(|kind| self.cell(*figure, *kind)).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                println!("| {} | {} |", figure.name(), cells.join(" | "));
            }
        }
    }

    fn cell(&self, figure: F, kind: K) -> String {
        let Some(mut values) = self.0.get(&(figure, kind)).cloned() else { return String::new() };
        values.sort_by(f64::total_cmp);
        figure.show(values[values.len() / 2])
    }
}
