//! Programs side by side in one run: who takes part, and what their processes take.

mod process;

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

/// Debian keeps servers where only root looks.
pub fn search_path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Those that are installed. `make` is the target that installs the others.
pub fn installed<K: Contender>(make: &str) -> Vec<K> {
    let (there, missing): (Vec<K>, Vec<K>) = K::ALL.iter().partition(|kind| kind.is_installed());
    for kind in missing {
        eprintln!("{} is not installed, so it is left out; `make {make}` installs it where it may", kind.name());
    }
    there
}
