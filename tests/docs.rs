//! What the documentation shows works: every configuration in `conf/` and every complete YAML block in the README
//! and in `docs/` is accepted.
//!
//! A block opened with `yaml` alone is a whole configuration; `yaml fragment` is a part of one and is skipped here.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Variables as on a machine where none of ours is set.
fn no_variables(_: &str) -> Option<String> {
    None
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `dir` with this extension, sorted.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is wrong with a configuration, for people; `None` when it can be used.
fn problems(name: &str, text: &str, dir: &Path) -> Option<String> {
    let loaded = weir::snapshot::check(weir::config::parse_str(name, text, dir, &no_variables));
    (!loaded.is_ok()).then(|| weir::config::render::human(loaded.document.sources(), &loaded.diagnostics, false))
}

/// A fenced block that is a whole configuration.
struct Block {
    /// The line of its first line, from 1.
    line: usize,
    text: String,
}

/// The complete YAML blocks of a Markdown text, and the number of its fragments.
fn blocks(markdown: &str) -> (Vec<Block>, usize) {
    let (mut whole, mut fragments) = (Vec::new(), 0);
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let text: String =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").flat_map(|line| [line, "\n"]).collect();
        match info.trim() {
            "yaml" => whole.push(Block { line: number + 2, text }),
            "yaml fragment" => fragments += 1,
            other => assert!(!other.starts_with("yaml") && !other.starts_with("yml"), "line {}: `{other}`", number + 1),
        }
    }
    (whole, fragments)
}

fn fail_on(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} do not compile:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_file_in_conf_is_accepted() {
    // What `include` names holds parts; they are read with the file that includes them.
    let included = |path: &Path| path.components().any(|part| part.as_os_str() == "services");
    let confs: Vec<_> = files(&root().join("conf"), "yaml").into_iter().filter(|path| !included(path)).collect();
    assert!(confs.len() >= 30, "only {} configurations were found", confs.len());
    let check = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        problems(&path.strip_prefix(root()).unwrap().display().to_string(), &text, path.parent().unwrap())
    };
    fail_on(confs.into_iter().filter_map(check).collect());
}

#[test]
fn an_include_brings_its_routes() {
    let path = root().join("conf/examples/include/main.yaml");
    let loaded = weir::config::parse_str("main.yaml", &fs::read_to_string(&path).unwrap(), path.parent().unwrap(), &no_variables);
    let routes: Vec<_> = loaded.spec.unwrap().routes.iter().map(|route| route.name.to_string()).collect();
    assert_eq!(routes, ["fallback", "orders", "users"]);
}

#[test]
fn every_complete_block_in_the_documentation_is_accepted() {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    let (mut failures, mut seen) = (Vec::new(), 0);
    for page in pages {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let (whole, _) = blocks(&fs::read_to_string(&page).unwrap());
        for block in whole {
            seen += 1;
            failures.extend(problems(&format!("{name} (block at line {})", block.line), &block.text, root()));
        }
    }
    assert!(seen >= 3, "only {seen} complete blocks were found");
    fail_on(failures);
}

#[test]
fn a_block_is_told_from_a_fragment() {
    let (whole, fragments) = blocks("a\n```yaml\nx: 1\n```\n```yaml fragment\ny\n```\n```sh\nz\n```\n");
    assert_eq!((whole.len(), fragments), (1, 1));
    assert_eq!((whole[0].line, whole[0].text.as_str()), (3, "x: 1\n"));
}
