//! Programs side by side in one run: who takes part, what their processes take, and the table of the figures.

mod process;

use std::collections::BTreeMap;

pub use process::Process;

/// One of the programs that are compared.
pub trait Contender: Copy + Ord + 'static {
    const ALL: &'static [Self];
    fn name(self) -> &'static str;
    /// What is started.
    fn program(self) -> &'static str;

    fn is_installed(self) -> bool {
        std::env::split_paths(&search_path()).any(|place| place.join(self.program()).is_file())
    }
}

/// One of the figures that are measured.
pub trait Figure: Copy + Ord + 'static {
    const ALL: &'static [Self];
    fn name(self) -> &'static str;
    fn show(self, value: f64) -> String;
}

/// Debian keeps servers where only root looks.
pub fn search_path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

/// What was measured, of each round.
pub struct Table<F, K>(BTreeMap<(F, K), Vec<f64>>);

/// Those that are installed. `make` is the target that installs the others.
pub fn installed<K: Contender>(make: &str) -> Vec<K> {
    let (there, missing): (Vec<K>, Vec<K>) = K::ALL.iter().partition(|kind| kind.is_installed());
    for kind in missing {
        eprintln!("{} is not installed, so it is left out; `make {make}` installs it where it may", kind.name());
    }
    there
}

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

    /// In Markdown: a row for each figure, a column for each program, the middle one of the values. Beside each value, as
    /// a ratio, how it compares with that of `base`.
    pub fn print(&self, base: Option<K>) {
        let names: Vec<&str> = K::ALL.iter().map(|kind| kind.name()).collect();
        println!("| | {} |", names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        for figure in F::ALL {
            let cells: Vec<String> = K::ALL.iter().map(|kind| self.cell(*figure, *kind, base)).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                println!("| {} | {} |", figure.name(), cells.join(" | "));
            }
        }
    }

    fn cell(&self, figure: F, kind: K, base: Option<K>) -> String {
        let Some(value) = self.middle(figure, kind) else { return String::new() };
        let base = base.and_then(|base| self.middle(figure, base)).filter(|base| *base > 0.0);
        let ratio = base.map(|base| format!(" ({:.2})", value / base)).unwrap_or_default();
        figure.show(value) + &ratio
    }

    fn middle(&self, figure: F, kind: K) -> Option<f64> {
        let mut values = self.0.get(&(figure, kind))?.clone();
        values.sort_by(f64::total_cmp);
        Some(values[values.len() / 2])
    }
}
