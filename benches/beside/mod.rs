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

/// Measures those that are installed in turns, so many times. `make` is the target that installs the others.
pub async fn rounds<F: Figure, K: Contender>(
    make: &str,
    rounds: usize,
    mut measure: impl AsyncFnMut(K) -> anyhow::Result<Vec<(F, f64)>>,
) -> anyhow::Result<Table<F, K>> {
    let mut table = Table(BTreeMap::new());
    let (there, missing): (Vec<K>, Vec<K>) = K::ALL.iter().partition(|kind| kind.is_installed());
    for kind in missing {
        eprintln!("{} is not installed, so it is left out; `make {make}` installs it where it may", kind.name());
    }
    for round in 1..=rounds {
        for kind in there.iter().copied() {
            eprintln!("round {round} of {rounds}: {}", kind.name());
            for (figure, value) in measure(kind).await? {
                table.0.entry((figure, kind)).or_default().push(value);
            }
        }
    }
    Ok(table)
}

impl<F: Figure, K: Contender> Table<F, K> {
    /// In Markdown: a row for each figure, a column for each program, the middle one of the values.
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
        let Some(values) = self.0.get(&(figure, kind)) else { return String::new() };
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        figure.show(values[values.len() / 2])
    }
}
