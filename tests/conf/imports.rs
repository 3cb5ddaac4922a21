//! Configurations of other programs, imported: the result is what it was, and is accepted.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weir::{
    config::{Loaded, parse_str, render},
    import::{Kind, import},
    types::Code,
};

const FIXTURES: &str = "tests/conf/import";

/// The configurations of a program, but not what they include.
fn sources(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FIXTURES).join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What `weir check` says of it, but for the files of the machine that it was for.
#[track_caller]
fn accepted(name: &str, text: &str) -> Loaded {
    let loaded = weir::snapshot::check(parse_str(name, text, Path::new("/nonexistent"), &|_| None));
    let absent = [Code::UnreadableFile, Code::BadCertificate];
    let errors: Vec<_> = loaded.errors().filter(|error| !absent.contains(&error.code)).cloned().collect();
    assert!(errors.is_empty(), "{}\n{text}", render::human(loaded.document.sources(), &errors, false));
    loaded
}

fn imported(kind: Kind, directory: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path("import/snapshots");
    let _scope = settings.bind_to_scope();
    for file in sources(directory) {
        let imported = import(kind, &file).unwrap_or_else(|error| panic!("{error}"));
        let text = imported.config();
        accepted(&file.display().to_string(), &text);
        for left in &imported.report.left {
            let comment = format!("# not carried over: {left}");
            assert!(text.contains(&comment), "{comment}: is in the summary and not in the file\n{text}");
        }
        let name = format!("{directory}_{}", file.file_stem().unwrap().to_str().unwrap());
        insta::assert_snapshot!(name, format!("{text}\n=== summary ===\n{}", imported.report));
    }
}

#[test]
fn nginx() {
    imported(Kind::Nginx, "nginx");
}

#[test]
fn haproxy() {
    imported(Kind::Haproxy, "haproxy");
}

#[test]
fn caddy() {
    imported(Kind::Caddy, "caddy");
}

#[test]
fn traefik() {
    imported(Kind::Traefik, "traefik");
}

/// Writes a file of its own, and says why it cannot be imported.
fn refused(kind: Kind, text: &str) -> String {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("conf");
    std::fs::write(&file, text).unwrap();
    let error = import(kind, &file).expect_err(text).to_string();
    error.replace(directory.path().to_str().unwrap(), "DIR")
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    for (kind, text, says) in [
        (Kind::Nginx, "http {\n  server {\n", "DIR/conf:2: the block of `server` is not closed by `}`"),
        (Kind::Nginx, "events {}\nhttp {}}\n", "DIR/conf:2: unexpected `}`: no block is open"),
        (Kind::Nginx, "worker_processes 1", "DIR/conf:1: `worker_processes` is not ended by `;`"),
        (Kind::Nginx, "a;\n\nb 'x;\n", "DIR/conf:3: a text that begins with ' here is not closed"),
        (
            Kind::Haproxy,
            "bind :80\n",
            "DIR/conf:1: `bind` stands in no section: `frontend`, `backend`, `listen` and so on begin one",
        ),
        (Kind::Haproxy, "global\n log \"x\n", "DIR/conf:2: a text that begins with \" is not closed on its line"),
        (Kind::Caddy, "a.example {\n respond ok\n", "DIR/conf:1: the block of `a.example` is not closed by `}`"),
        (Kind::Caddy, "(x) {\n import x\n}\n:80 {\n import x\n}\n", "DIR/conf:2: snippets import each other without an end"),
        (
            Kind::Traefik,
            "a: 1\n",
            "DIR/conf: this is no configuration of Traefik: `http`, `entryPoints`, or `services` of a Compose file were expected",
        ),
        (Kind::Nginx, "events {}\ninclude conf;\n", "DIR/conf:2: `DIR/conf` includes itself"),
    ] {
        assert_eq!(refused(kind, text), says, "{text}");
    }
    let error = import(Kind::Nginx, Path::new("/nonexistent/nginx.conf")).expect_err("no file").to_string();
    assert!(error.starts_with("/nonexistent/nginx.conf: cannot read"), "{error}");
}

/// Imports a text, whatever it is: an answer, no panic. What comes of it is YAML that can be read, and has a meaning.
fn survives(kind: Kind, text: &str) {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("conf");
    std::fs::write(&file, text).unwrap();
    if let Ok(imported) = import(kind, &file) {
        let config = imported.config();
        let loaded = parse_str("imported.yaml", &config, directory.path(), &|_| None);
        assert!(loaded.errors().all(|error| error.code != Code::Syntax), "{config}");
    }
}

/// The words of a program's fixtures, in any order.
fn soup(directory: &str) -> impl Strategy<Value = String> + use<> {
    let texts = sources(directory).into_iter().map(|file| std::fs::read_to_string(file).unwrap());
    let words: Vec<String> =
        texts.flat_map(|text| text.split_inclusive([' ', '\n', ';', '{', '}']).map(str::to_owned).collect::<Vec<_>>()).collect();
    proptest::collection::vec(proptest::sample::select(words), 0..120).prop_map(|words| words.concat())
}

/// A fixture with damage.
fn damaged(directory: &str) -> impl Strategy<Value = String> + use<> {
    let texts: Vec<String> = sources(directory).into_iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let damage = (any::<prop::sample::Index>(), 0..60usize, "[-{};:$/.*~^'\"#\\\\ \na0|()@=<>]{0,8}");
    (proptest::sample::select(texts), proptest::collection::vec(damage, 1..4)).prop_map(|(text, damages)| {
        let mut bytes = text.into_bytes();
        for (at, cut, put) in damages {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_of_nginx(text in prop_oneof![soup("nginx"), damaged("nginx")]) {
        survives(Kind::Nginx, &text);
    }

    #[test]
    fn any_words_of_haproxy(text in prop_oneof![soup("haproxy"), damaged("haproxy")]) {
        survives(Kind::Haproxy, &text);
    }

    #[test]
    fn any_words_of_caddy(text in prop_oneof![soup("caddy"), damaged("caddy")]) {
        survives(Kind::Caddy, &text);
    }

    #[test]
    fn any_words_of_traefik(text in damaged("traefik")) {
        survives(Kind::Traefik, &text);
    }

    #[test]
    fn any_rule_of_traefik(rule in "(Host|PathPrefix|Path|Method|&&|\\|\\||!|\\(|\\)|`/?[a-z.*{}]{0,6}`|,| ){0,14}") {
        let text = format!("http:\n  routers:\n    r: {{rule: \"{rule}\", service: s}}\n  services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}}}\n");
        survives(Kind::Traefik, &text);
    }
}
