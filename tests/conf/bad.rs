//! Every bad file with what is said about it.

use std::path::{Path, PathBuf};

use weir::cli::check::{CheckArgs, Format, Report, check_files};

/// What `${SECRET}` stands for. Nowhere in any output.
const SECRET: &str = "hunter2";

fn report(file: &Path, format: Format) -> Report {
    let args = CheckArgs { files: vec![file.into()], format, strict: true, print: None, config: None };
    check_files(&args, &weir::snapshot::check, &|name| (name == "SECRET").then(|| SECRET.into()), false)
}

/// Snapshots hold no path of the machine that made them.
fn portable() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    let here = std::env::current_dir().unwrap();
    settings.add_filter(&regex::escape(here.to_str().unwrap()), "[here]");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind_to_scope()
}

fn files(prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/conf").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            path.file_name().unwrap().to_string_lossy().starts_with(prefix) && path.extension().is_some_and(|e| e == "yaml")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn seven_errors_in_one_run() {
    let _portable = portable();
    let file = Path::new("tests/conf/bad_seven.yaml");
    let human = report(file, Format::Human);
    assert_eq!(human.err.matches("error[").count(), 7);
    insta::assert_snapshot!("bad_seven.json", report(file, Format::Json).out);
    insta::assert_snapshot!("bad_seven.sarif", report(file, Format::Sarif).out);
}

#[test]
fn bad_files_say_what_is_wrong() {
    let _portable = portable();
    let files = files("bad_");
    assert!(files.len() >= 15);
    for file in files {
        let Report { err, exit, out } = report(&file, Format::Human);
        assert_eq!((exit, out.as_str()), (1, ""), "{}", file.display());
        insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), err);
    }
}

#[test]
fn warnings_count_only_when_they_are_asked_to() {
    let _portable = portable();
    for file in files("warn_") {
        let Report { err, exit, .. } = report(&file, Format::Human);
        assert_eq!(exit, 2, "{}", file.display());
        insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), err);
        let args = CheckArgs { files: vec![file], format: Format::Human, strict: false, print: None, config: None };
        assert_eq!(check_files(&args, &weir::snapshot::check, &|_| None, false).exit, 0);
    }
}

#[test]
fn a_secret_is_in_no_output() {
    for format in [Format::Human, Format::Json, Format::Sarif] {
        for file in files("") {
            let Report { out, err, .. } = report(&file, format);
            assert!(!out.contains(SECRET) && !err.contains(SECRET), "{}", file.display());
        }
    }
}

#[test]
fn every_code_is_explained() {
    let page = std::fs::read_to_string("docs/diagnostics.md").unwrap();
    let explained: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).filter(|code| code.len() == 5).collect();
    let codes: Vec<&str> = weir::types::Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(explained, codes);
}
