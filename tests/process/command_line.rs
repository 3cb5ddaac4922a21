//! Exit codes, and what is printed where.

use std::process::Output;

use serde_json::Value;

use crate::{
    child::{weir, write},
    support::edge::edge,
};

const SEVEN: &str = "tests/conf/bad_seven.yaml";

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// Exits with this code, having written nothing to standard output.
#[track_caller]
fn fails(output: &Output, code: i32) {
    assert_eq!((output.status.code(), out(output)), (Some(code), ""), "{}", err(output));
}

#[tokio::test]
async fn run_shows_what_is_wrong_with_the_file_and_exits_with_1() {
    let run = weir(&["run", "--config", SEVEN]).await;
    fails(&run, 1);
    assert_eq!(err(&run).lines().count(), 7, "{}", err(&run));
    let codes =
        |text: &str, before: &str| -> Vec<String> { text.split(before).skip(1).map(|rest| rest[..5].to_owned()).collect() };
    let checked = weir(&["check", SEVEN]).await;
    assert_eq!(codes(err(&run), "\"code\":\""), codes(err(&checked), "error["), "check says what run says");
}

#[tokio::test]
async fn run_without_its_file_says_which() {
    let run = weir(&["run", "--config", "/nonexistent/weir.yaml"]).await;
    fails(&run, 1);
    assert!(err(&run).contains("/nonexistent/weir.yaml"), "{}", err(&run));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = taken.local_addr().expect("an address").to_string();
    let edge = edge().yaml("");
    let (path, config) = (write(&edge), edge.config());
    let [listener, admin] = ["listeners:\n  web:\n    address: 127.0.0.1:0", "admin:\n  address: 127.0.0.1:0"];
    for section in [listener, admin] {
        assert!(config.contains(section), "{config}");
        std::fs::write(&path, config.replace(section, &section.replace("127.0.0.1:0", &address))).expect("write");
        let run = weir(&["run", "-c", path.to_str().expect("UTF-8")]).await;
        fails(&run, 1);
        assert!(err(&run).contains(&format!("weir cannot start: cannot listen on {address}")), "{}", err(&run));
        assert!(err(&run).contains("in use"), "{}", err(&run));
    }
}

#[tokio::test]
async fn check_exits_with_what_it_found() {
    let good = edge();
    let path = write(&good);
    let path = path.to_str().expect("UTF-8");
    let fine = weir(&["check", path]).await;
    fails(&fine, 0);
    assert!(err(&fine).ends_with("weir.yaml: ok\n"), "{}", err(&fine));
    fails(&weir(&["check", path, SEVEN]).await, 1);
    // A route that another one hides is a warning.
    let twice = "routes: [{name: a, respond: {status: 200}}, {name: b, respond: {status: 200}}]\n";
    std::fs::write(good.file("twice.yaml"), format!("listeners: {{web: {{address: '127.0.0.1:0'}}}}\n{twice}")).expect("write");
    let twice = good.file("twice.yaml");
    let twice = twice.to_str().expect("UTF-8");
    let warned = weir(&["check", twice]).await;
    fails(&warned, 0);
    assert!(err(&warned).contains("warning["), "{}", err(&warned));
    fails(&weir(&["check", "--strict", twice]).await, 2);
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_exits_with_64() {
    for arguments in [
        &[][..],
        &["check"],
        &["serve"],
        &["check", "--format", "xml", SEVEN],
        &["run", "--port", "80"],
        &["--verbose"],
        &["demo", "--http", "8080"],
    ] {
        let refused = weir(arguments).await;
        fails(&refused, 64);
        assert!(err(&refused).contains("Usage:") || err(&refused).contains("--help"), "{arguments:?}: {}", err(&refused));
    }
}

#[tokio::test]
async fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["run", "--help"], &["help", "check"], &["demo", "--help"]] {
        let help = weir(arguments).await;
        assert_eq!((help.status.code(), err(&help)), (Some(0), ""), "{arguments:?}");
        assert!(out(&help).contains("Usage: weir"), "{}", out(&help));
    }
    let version = weir(&["--version"]).await;
    assert_eq!((version.status.code(), out(&version)), (Some(0), &*format!("weir {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn the_seven_errors_are_there_for_machines_too() {
    let json = weir(&["check", "--format", "json", SEVEN]).await;
    assert_eq!((json.status.code(), err(&json)), (Some(1), ""));
    let json: Value = serde_json::from_str(out(&json)).expect("JSON");
    assert_eq!((&json["errors"], json["diagnostics"].as_array().map(Vec::len)), (&7.into(), Some(7)), "{json:#}");
    let sarif = weir(&["check", "--format", "sarif", SEVEN]).await;
    assert_eq!((sarif.status.code(), err(&sarif)), (Some(1), ""));
    let sarif: Value = serde_json::from_str(out(&sarif)).expect("JSON");
    assert_eq!((&sarif["version"], sarif["runs"][0]["results"].as_array().map(Vec::len)), (&"2.1.0".into(), Some(7)));
}

/// All words that a schema offers anywhere: keys of objects, and members of `enum`.
fn words(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                found.extend(properties.keys().cloned());
            }
            if let Some(Value::Array(words)) = members.get("enum") {
                found.extend(words.iter().filter_map(|word| word.as_str().map(str::to_owned)));
            }
            members.values().for_each(|member| words(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_schema_knows_every_kind() {
    let schema = weir(&["schema"]).await;
    assert_eq!((schema.status.code(), err(&schema)), (Some(0), ""));
    let schema: Value = serde_json::from_str(out(&schema)).expect("JSON");
    let mut known = Vec::new();
    words(&schema["$defs"], &mut known);
    let kinds = [weir::balance::StrategySpec::KINDS, weir::filter::FilterSpec::KINDS, &["http", "tcp"]].concat();
    assert!(kinds.len() > 15);
    for kind in kinds {
        assert!(known.iter().any(|word| word == kind), "`{kind}` is not in the schema");
    }
}

#[tokio::test]
async fn what_is_printed_as_effective_parses_again() {
    for file in ["conf/weir.yaml", "conf/demo.yaml", "tests/conf/good_yaml.yaml"] {
        let printed = weir(&["check", "--print", "effective", file]).await;
        assert_eq!(printed.status.code(), Some(0), "{}", err(&printed));
        let directory = tempfile::tempdir().expect("a directory");
        let again = directory.path().join("again.yaml");
        std::fs::write(&again, out(&printed)).expect("write");
        let again = weir(&["check", "--print", "effective", again.to_str().expect("UTF-8")]).await;
        assert_eq!((again.status.code(), out(&again)), (Some(0), out(&printed)), "{file}: {}", err(&again));
    }
}

#[tokio::test]
async fn the_demo_prints_its_configuration() {
    let printed = weir(&["demo", "--print-config"]).await;
    assert_eq!((printed.status.code(), err(&printed)), (Some(0), ""));
    assert_eq!(out(&printed), std::fs::read_to_string("conf/demo.yaml").expect("the file"));
}

#[tokio::test]
async fn import_writes_a_configuration_and_sums_up() {
    let source = "tests/conf/import/nginx/rules.conf";
    let imported = weir(&["import", "nginx", source]).await;
    assert_eq!(imported.status.code(), Some(0), "{}", err(&imported));
    assert!(out(&imported).contains("\nroutes:\n") && out(&imported).contains("# not carried over: "), "{}", out(&imported));
    assert!(err(&imported).starts_with("carried over: ") && err(&imported).contains("\nnot needed: "), "{}", err(&imported));

    let directory = tempfile::TempDir::new().expect("a directory");
    let file = directory.path().join("weir.yaml");
    let path = file.to_str().expect("UTF-8");
    fails(&weir(&["import", "nginx", source, "--output", path]).await, 0);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), out(&imported));
    fails(&weir(&["check", path]).await, 0);
    // What is there is not written over.
    let again = weir(&["import", "nginx", source, "--output", path]).await;
    fails(&again, 1);
    assert!(err(&again).contains("exists"), "{}", err(&again));

    let missing = weir(&["import", "haproxy", "/nonexistent/haproxy.cfg"]).await;
    fails(&missing, 1);
    assert!(err(&missing).contains("/nonexistent/haproxy.cfg: cannot read"), "{}", err(&missing));
    fails(&weir(&["import", "apache", source]).await, 64);
}
