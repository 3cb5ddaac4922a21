//! Every bad file with what is said about it.

use std::path::Path;

use weir::{
    cli::check::{CheckArgs, Format, Report, check_files},
    config::Loaded,
};

fn report(file: &str, format: Format) -> Report {
    let args = CheckArgs { files: vec![Path::new("tests/conf").join(file)], format, strict: false, print: None };
    check_files(&args, &Loaded::check, &|_| None, false)
}

#[test]
fn seven_errors_in_one_run() {
    let human = report("bad_seven.yaml", Format::Human);
    assert_eq!(human.exit, 1);
    insta::assert_snapshot!(human.err);
    insta::assert_snapshot!("seven_json", report("bad_seven.yaml", Format::Json).out);
    insta::assert_snapshot!("seven_sarif", report("bad_seven.yaml", Format::Sarif).out);
}
