//! Good files mean what YAML says they mean, and what is printed of them means the same.

use std::path::{Path, PathBuf};

use weir::{
    cli::check::{CheckArgs, Format, Print, Report, check_files},
    config::{effective, load, parse_str},
    snapshot::check,
};

/// Files that must be accepted without a word.
fn good() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir("tests/conf")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("good_"))
        .collect();
    files.sort();
    assert!(files.len() >= 4);
    files
}

#[test]
fn good_files_are_accepted_without_a_word() {
    for file in good() {
        let loaded = check(load(&file, &|_| None));
        assert!(loaded.is_ok() && loaded.diagnostics.is_empty(), "{}: {:#?}", file.display(), loaded.diagnostics);
    }
}

#[test]
fn what_is_printed_means_the_same() {
    for file in good() {
        let args = CheckArgs {
            files: vec![file.clone()],
            format: Format::Human,
            strict: true,
            print: Some(Print::Effective),
            config: None,
        };
        let Report { out: first, err, exit } = check_files(&args, &check, &|_| None, false);
        assert_eq!((err.as_str(), exit), ("", 0), "{}", file.display());
        let again = parse_str("effective", &first, Path::new("/"), &|_| None);
        assert!(again.is_ok(), "{first}\n{:#?}", again.diagnostics);
        assert_eq!(effective(&again), first, "{}", file.display());
    }
}

#[test]
fn what_is_printed_holds_no_secret() {
    let text = "
admin: {token: '${SECRET}'}
listeners: {web: {address: '127.0.0.1:${PORT}'}}
routes: [{name: r, match: {host: '${HOST}'}, respond: {body: 'the ${SECRET} $${x}', status: '${STATUS}'}}, {name: s, upstream: u}]
upstreams: {u: {endpoints: ['${END}'], strategy: '${STRATEGY:-random}'}}
";
    let variables = |name: &str| match name {
        "SECRET" => Some("hunter2".to_owned()),
        "PORT" => Some("0".to_owned()),
        "HOST" => Some("example.com".to_owned()),
        "STATUS" => Some("404".to_owned()),
        "END" => Some("127.0.0.1:9".to_owned()),
        _ => None,
    };
    let loaded = check(parse_str("x", text, Path::new("/"), &variables));
    assert!(loaded.is_ok(), "{:#?}", loaded.diagnostics);
    let printed = effective(&loaded);
    for hidden in ["hunter2", "example.com", "404", "127.0.0.1:9\n"] {
        assert!(!printed.contains(hidden), "{hidden}: {printed}");
    }
    let again = parse_str("again", &printed, Path::new("/"), &variables);
    assert!(again.is_ok(), "{printed}\n{:#?}", again.diagnostics);
    let (one, other) = (loaded.spec.unwrap(), again.spec.unwrap());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
