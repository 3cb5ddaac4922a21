//! What was counted before, and how it compares.

use std::{collections::BTreeMap, fs, process::Command};

use serde::{Deserialize, Serialize};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard/baseline.json");

/// Instructions may grow by so much, which is several times what they differ by from run to run.
const TOLERANCE: f64 = 0.03;
/// Allocations are the same in each run, but for a memory that grows now and then.
const ALLOCATIONS: f64 = 0.5;

/// What a scene takes for one round.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub instructions: u64,
    pub allocations: f64,
    /// Instructions of the largest functions themselves.
    pub functions: BTreeMap<String, u64>,
}

/// All that is in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What the counts depend on besides the code.
    pub made_with: BTreeMap<String, String>,
    pub scenes: BTreeMap<String, Counts>,
}

impl Baseline {
    /// The one in the repository, if it is one.
    pub fn read() -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(FILE).ok()?).ok()
    }

    pub fn write(&self) {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        fs::write(FILE, text + "\n").unwrap_or_else(|error| panic!("{FILE}: {error}"));
    }

    /// What of its surroundings differs from these.
    pub fn differences(&self, here: &BTreeMap<String, String>) -> Vec<String> {
        let other = here.iter().filter(|(key, value)| self.made_with.get(*key) != Some(value));
        let was = |key: &str| self.made_with.get(key).map_or("nothing", String::as_str);
        other.map(|(key, value)| format!("{key} is {value}, and was {}", was(key))).collect()
    }
}

/// What the counts of this machine depend on besides the code.
pub fn surroundings() -> BTreeMap<String, String> {
    let told = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // Copying and searching memory go by it.
    #[cfg(target_arch = "x86_64")]
    let wide = if std::arch::is_x86_feature_detected!("avx2") { "with AVX2" } else { "without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let wide = "";
    let processor = format!("{} {wide}", std::env::consts::ARCH).trim().to_owned();
    BTreeMap::from([
        ("libc".into(), told("getconf", "GNU_LIBC_VERSION")),
        ("processor".into(), processor),
        ("rustc".into(), told("rustc", "--version")),
        ("valgrind".into(), told("valgrind", "--version")),
    ])
}

/// How a scene compares with what it took before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Less,
    More,
}

impl Counts {
    pub fn verdict(&self, before: &Counts) -> Verdict {
        let allocations = self.allocations - before.allocations;
        if self.growth(before) > TOLERANCE || allocations > ALLOCATIONS {
            Verdict::More
        } else if self.growth(before) < -TOLERANCE || allocations < -ALLOCATIONS {
            Verdict::Less
        } else {
            Verdict::Same
        }
    }

    /// By which part the instructions have grown.
    pub fn growth(&self, before: &Counts) -> f64 {
        self.instructions as f64 / before.instructions as f64 - 1.0
    }

    /// The functions that have grown most, and what they took before; `None` for what was too small to be written down.
    pub fn grown(&self, before: &Counts) -> Vec<(&str, Option<u64>, u64)> {
        let before = |name: &str| before.functions.get(name).copied();
        let grown = |(_, was, now): &(&str, Option<u64>, u64)| now.saturating_sub(was.unwrap_or(0));
        let mut functions: Vec<_> = self.functions.iter().map(|(name, now)| (name.as_str(), before(name), *now)).collect();
        functions.retain(|function| grown(function) > 0);
        functions.sort_by_key(|function| std::cmp::Reverse(grown(function)));
        functions.truncate(8);
        functions
    }
}
