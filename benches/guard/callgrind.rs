//! One scene, in a process of its own under callgrind.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    process::Command,
};

use super::{ROUNDS, baseline::Counts, count::SWITCHES};

/// Functions that take less than one in so many of the instructions are not written down.
const SMALL: u64 = 100;

/// What callgrind has written about a scene, for `callgrind_annotate`.
pub fn profile(scene: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guard").join(format!("{scene}.out"))
}

/// Counts what the scene takes for one round.
pub fn count(scene: &str) -> Counts {
    let profile = profile(scene);
    fs::create_dir_all(profile.parent().expect("a directory")).expect("a directory for profiles");
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind", "--dump-line=no"]);
    command.args(SWITCHES.map(|switch| format!("--toggle-collect={switch}")));
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(std::env::current_exe().expect("this program")).args(["--scene", scene]);
    // The environment is on the stack, and must not move it.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = command.env_clear().env("PATH", path).output().unwrap_or_else(|error| panic!("valgrind: {error}"));
    let told = String::from_utf8_lossy(&output.stdout);
    let allocations = told.trim().parse().ok().filter(|_| output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    let allocations = allocations.unwrap_or_else(|| panic!("{scene}: {}\n{told}{errors}", output.status));
    let text = fs::read_to_string(&profile).unwrap_or_else(|error| panic!("{}: {error}", profile.display()));
    let functions = functions(&text);
    let instructions = functions.values().sum::<u64>();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    assert_eq!(total, Some(instructions), "{}: the functions do not add up", profile.display());
    assert!(instructions > 0, "{scene}: nothing was counted");
    let large = functions.into_iter().filter(|(_, own)| *own >= instructions / SMALL).map(|(name, own)| (name, own / ROUNDS));
    Counts { instructions: instructions / ROUNDS, allocations, functions: large.collect() }
}

/// The instructions of each function itself.
///
/// The format: `fn=(7) name` (later `fn=(7)`) begins a function, `calls=` comes before a line with what a call took, which is counted
/// where it was called, and any other line of numbers is a position and its instructions.
fn functions(text: &str) -> BTreeMap<String, u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut own = BTreeMap::new();
    let (mut current, mut of_call) = (String::new(), false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if line.starts_with('f') {
                current = plain(names.get(number).expect("a function that was named"));
            }
        } else if line.starts_with("calls=") {
            of_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let instructions = line.split(' ').nth(1).map_or(0, |count| count.parse::<u64>().expect("a count"));
            if !std::mem::take(&mut of_call) {
                *own.entry(current.clone()).or_default() += instructions;
            }
        }
    }
    own
}

/// A function's name without callgrind's mark of a recursion, as in `name'2`.
fn plain(name: &str) -> String {
    let is_mark = |end: &str| end.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('\'').filter(|(_, end)| is_mark(end)).map_or(name, |(name, _)| name).to_owned()
}
