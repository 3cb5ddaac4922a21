//! Input that means harm, or none at all: every text gets an answer, soon.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use weir::{
    config::{Loaded, parse_str, render},
    types::Code,
};

/// For a small text, on a machine that is busy with other things, without optimisation.
const SOON: Duration = Duration::from_secs(5);
/// For ten megabytes.
const LATER: Duration = Duration::from_secs(60);

/// Reads, checks and shows; panics when that takes too long.
fn read(text: &str, bound: Duration) -> Loaded {
    let start = Instant::now();
    let loaded = parse_str("hostile.yaml", text, Path::new(""), &|name| (name == "A").then(|| "a".repeat(1000))).check();
    render::human(loaded.document.sources(), &loaded.diagnostics, false);
    render::sarif(loaded.document.sources(), &loaded.diagnostics);
    let took = start.elapsed();
    assert!(took < bound, "{took:?} for {} bytes", text.len());
    assert!(loaded.diagnostics.len() <= 50);
    loaded
}

fn is_refused(text: &str, code: Code) {
    let loaded = read(text, LATER);
    assert!(loaded.diagnostics.iter().any(|d| d.code == code), "{:?}", loaded.diagnostics.first());
}

const GOOD: &str = include_str!("good_full.yaml");

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&String::from_utf8_lossy(&bytes), SOON);
    }

    #[test]
    fn any_yaml_punctuation(text in "([-?:,{}#&*!|>'\"%@`a0\\[\\]\t \n]|\\$\\{|: |- |<<|\\.\\.\\.|---|é){0,120}") {
        read(&text, SOON);
    }

    #[test]
    fn a_good_file_with_damage(at in 0..GOOD.len(), cut in 0..40usize, put in "[-?:,{}#&*!|>'\"a0$\\[\\]\t \n]{0,6}") {
        let mut bytes = GOOD.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        read(&String::from_utf8_lossy(&bytes), SOON);
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        writeln!(text, "a{level}: &a{level} [{}]", below.trim_end_matches(", ")).unwrap();
    }
    is_refused(&text, Code::TooLarge);
    is_refused("a: &a [*a]", Code::TooLarge);
    is_refused("a: *nothing", Code::Syntax);
}

#[test]
fn deep_nesting_is_refused() {
    for (open, count) in [("[", 100), ("[", 1_000_000), ("{a: ", 100_000), ("- ", 100_000), ("? ", 100_000), ("&a ", 1000)] {
        let loaded = read(&open.repeat(count), LATER);
        assert!(!loaded.is_ok(), "{open}");
    }
    let mut text = String::new();
    for level in 0..200 {
        writeln!(text, "{}a:", " ".repeat(level)).unwrap();
    }
    is_refused(&text, Code::TooLarge);
    let mut text = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        writeln!(text, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    is_refused(&text, Code::TooLarge);
}

#[test]
fn a_long_text_is_read_once() {
    // Near the bound; without optimisation a part of that, which tells linear from quadratic just as well.
    let long = if cfg!(debug_assertions) { 2 << 20 } else { 9 << 20 };
    let shapes = [
        "x".repeat(long),
        "é".repeat(long / 2),
        "\"".to_owned() + &"x".repeat(long),
        "|\n".to_owned() + &" line\n".repeat(long / 6),
        "a: é\n".repeat(long / 6),
        "#".repeat(long),
        "\n".repeat(long),
        " ".repeat(long),
        "&".repeat(long),
        "!".repeat(long),
        "a: ".to_owned() + &"${A}".repeat(long / 4),
        "a: ".to_owned() + &"${".repeat(long / 2),
        "--- ".repeat(long / 4),
        "[x, ".to_owned() + &"x, ".repeat(long / 3),
        "{".to_owned() + &"x, ".repeat(long / 3),
        "- x\n".repeat(long / 4),
    ];
    for text in shapes {
        read(&text, LATER);
    }
    is_refused(&"x".repeat(11 << 20), Code::TooLarge);
}

/// As many faults as possible, in as large a file as possible: the decoder tries again after each.
#[test]
fn many_faults_in_a_large_file() {
    let mut text = "listeners: {web: {address: 127.0.0.1:0}}\nroutes:\n".to_owned();
    for route in 0..40_000 {
        writeln!(
            text,
            "- {{name: r{route}, upstream: u{route}, timeout: soon, colour: red, respond: {{status: ok, body: [], x: 1}}}}"
        )
        .unwrap();
    }
    let loaded = read(&text, LATER);
    assert_eq!(loaded.diagnostics.len(), 50);

    let mut text = "listeners: {web: {address: 127.0.0.1:0}}\nroutes:\n- name: r\n  match:\n    query:\n".to_owned();
    for key in 0..100_000 {
        writeln!(text, "      key{key}: {{exact: }}").unwrap();
    }
    assert_eq!(read(&text, LATER).diagnostics.len(), 50);
}

#[test]
fn a_large_good_file_is_read() {
    let mut text = "listeners: {web: {address: 127.0.0.1:0}}\nupstreams: {u: {endpoints: [127.0.0.1:1]}}\nroutes:\n".to_owned();
    for route in 0..50_000 {
        writeln!(text, "- {{name: r{route}, match: {{host: h{route}.example.com, path: /a/b/*}}, upstream: u}}").unwrap();
    }
    let loaded = read(&text, LATER);
    assert!(loaded.is_ok(), "{:?}", loaded.diagnostics.first());
    assert_eq!(loaded.spec.unwrap().routes.len(), 50_000);
}
