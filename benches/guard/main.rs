//! What a request costs in instructions and allocations, part by part and whole: held against `baseline.json`, growth fails.
//!
//! `make guard` compares, `make guard-update` writes the baseline; `ARGS='route h1'` names scenes by parts of their names. Time is not
//! measured, so other work on the machine does not matter. A scene is a function and a line in `scenes::SCENES`.

mod baseline;
mod callgrind;
mod count;
mod scenes;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    thread,
};

use self::{
    baseline::{Baseline, Counts, Verdict, surroundings},
    scenes::{SCENES, Scene},
};

/// Rounds before counting begins: what is made once is there then.
const WARM_UP: u64 = 300;
/// Rounds that are counted. With those before, fewer than lines fit into the queue of the access log.
const ROUNDS: u64 = 2000;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--scene", name] => play(name),
        ["--update"] => update(),
        ref parts => compare(parts),
    }
}

/// The part of the process that callgrind runs. Says how often one round allocates.
fn play(name: &str) -> ExitCode {
    let (_, scene) = SCENES.iter().find(|(known, _)| *known == name).expect("a scene");
    let mut round = scene();
    (0..WARM_UP).for_each(|_| round());
    let allocations = count::weir_guard_counted(&mut || (0..ROUNDS).for_each(|_| round()));
    println!("{:.1}", allocations as f64 / ROUNDS as f64);
    ExitCode::SUCCESS
}

/// Writes the baseline. Scenes that are within the tolerance keep their figures, so that a diff shows what has changed.
fn update() -> ExitCode {
    let mut now = Baseline { made_with: surroundings(), scenes: count_all(SCENES) };
    if let Some(before) = Baseline::read().filter(|before| before.made_with == now.made_with) {
        for (name, before) in before.scenes {
            now.scenes.entry(name).and_modify(|now| {
                if now.verdict(&before) == Verdict::Same {
                    *now = before;
                }
            });
        }
    }
    now.write();
    ExitCode::SUCCESS
}

/// Counts scenes, as many at a time as there are processors.
fn count_all(scenes: &[(&'static str, Scene)]) -> BTreeMap<String, Counts> {
    let (next, counted) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let worker = || {
        while let Some((name, _)) = scenes.get(next.fetch_add(1, Relaxed)) {
            let counts = callgrind::count(name);
            println!("{name:<28} {:>9} instructions {:>7} allocations", counts.instructions, counts.allocations);
            counted.lock().expect("no scene has failed").insert((*name).to_owned(), counts);
        }
    };
    let workers = thread::available_parallelism().map_or(1, |workers| workers.get());
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    counted.into_inner().expect("no scene has failed")
}

/// Compares the scenes with these parts in their names, or all.
fn compare(parts: &[&str]) -> ExitCode {
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part));
    let scenes: Vec<_> = SCENES.iter().filter(|(name, _)| wanted(name)).copied().collect();
    assert!(!scenes.is_empty(), "no scene has one of {parts:?} in its name");
    let before = Baseline::read().expect("a baseline, as `make guard-update` writes it");
    let now = count_all(&scenes);
    let (mut more, mut less) = (false, false);
    println!();
    for (name, counts) in &now {
        let Some(before) = before.scenes.get(name) else {
            println!("{name}: not in the baseline");
            more = true;
            continue;
        };
        let verdict = counts.verdict(before);
        if verdict != Verdict::Same {
            tell(name, before, counts);
        }
        (more, less) = (more || verdict == Verdict::More, less || verdict == Verdict::Less);
    }
    for name in before.scenes.keys().filter(|name| wanted(name) && !now.contains_key(*name)) {
        println!("{name}: in the baseline, and no scene any more");
        more = true;
    }
    let differences = before.differences(&surroundings());
    differences.iter().for_each(|difference| println!("the baseline is of other tools: {difference}"));
    let update = "run `make guard-update` and commit benches/guard/baseline.json";
    match (more, less) {
        (true, _) if !differences.is_empty() => println!("FAILED: if the tools are the reason, {update}"),
        (true, _) => println!("FAILED: make it cheaper; if it has to cost that, say why in the commit, {update}"),
        (false, true) => println!("ok, and less than before: {update}, so that it stays so"),
        (false, false) => println!("ok: all are within 3 % of the baseline"),
    }
    if more { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn tell(name: &str, before: &Counts, now: &Counts) {
    let percent = 100.0 * now.growth(before);
    println!("{name}: {} instructions, before {} ({percent:+.1} %)", now.instructions, before.instructions);
    println!("    {} allocations, before {}", now.allocations, before.allocations);
    for (function, was, now) in now.grown(before) {
        let was = was.map_or("under 1 %".to_owned(), |was| was.to_string());
        println!("    {now:>9}, before {was:>9}: {function}");
    }
    println!("    all of it: callgrind_annotate {}", callgrind::profile(name).display());
}
