//! What the documentation shows works, and what exists is documented: every configuration in `conf/` and every
//! complete YAML block in the README and in `docs/` is accepted; every key, metric and refusal has its line.
//!
//! A block opened with `yaml` alone is a whole configuration; `yaml fragment` is a part of one and is skipped here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use weir::upstream::Stop;

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

/// What is wrong with a configuration, warnings too, for people; `None` when nothing is.
fn problems(name: &str, text: &str, dir: &Path) -> Option<String> {
    let loaded = weir::snapshot::check(weir::config::parse_str(name, text, dir, &no_variables));
    (!loaded.is_ok() || !loaded.diagnostics.is_empty())
        .then(|| weir::config::render::human(loaded.document.sources(), &loaded.diagnostics, false))
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
    assert!(failures.is_empty(), "{} are not accepted:\n\n{}", failures.len(), failures.join("\n"));
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
    assert!(seen >= 2, "only {seen} complete blocks were found");
    fail_on(failures);
}

#[test]
fn the_page_on_the_gateway_shows_its_file_and_all_of_it() {
    let file = fs::read_to_string(root().join("conf/examples/gateway.yaml")).unwrap();
    let page = fs::read_to_string(root().join("docs/gateway.md")).unwrap();
    let pieces: Vec<&str> =
        page.split("```yaml fragment\n").skip(1).map(|after| after.split("```").next().unwrap_or_default()).collect();
    let mut rest = file.clone();
    for piece in &pieces {
        assert!(file.contains(piece), "not in the file:\n{piece}");
        rest = rest.replace(piece, "");
    }
    let left: Vec<&str> = rest.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    assert_eq!(left, ["routes:"], "what the page does not show");
}

/// Every key that the JSON Schema knows, wherever it stands. Kinds (a strategy, a filter) are keys, too.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                found.extend(properties.keys().cloned());
            }
            members.values().for_each(|member| keys(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_has_a_row_or_a_heading_in_the_reference() {
    let reference = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut known = BTreeSet::new();
    keys(&serde_json::to_value(schemars::schema_for!(weir::config::Spec)).unwrap(), &mut known);
    assert!(known.len() > 60, "{known:?}");
    let explained = |key: &String| {
        let cell = |line: &str| {
            let cell = line.strip_prefix("| `").or_else(|| line.strip_prefix("#### `"))?.split_once('`')?.0;
            Some(cell == key || cell.rsplit_once('.').is_some_and(|(_, last)| last == key))
        };
        reference.lines().any(|line| cell(line) == Some(true))
    };
    let missing: Vec<_> = known.iter().filter(|key| !explained(key)).collect();
    assert!(missing.is_empty(), "not in a table of docs/configuration.md: {missing:?}");
}

#[test]
fn every_refusal_of_the_gate_is_explained() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let refusals = weir::gate::Refusal::ALL.iter().map(|refusal| refusal.reason());
    let missing: Vec<_> = refusals.filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "not in docs/security.md: {missing:?}");
}

#[test]
fn every_word_of_the_access_log_is_in_the_page_on_troubleshooting() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let causes = weir::types::Cause::ALL.iter().map(|cause| cause.word());
    let stops = [Stop::QueueFull, Stop::QueueTimeout, Stop::NoEndpoint].into_iter().map(Stop::reason);
    let words = causes.chain(weir::gate::Refusal::ALL.iter().map(|refusal| refusal.reason())).chain(stops);
    let missing: BTreeSet<_> = words.filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:?}");
}

/// The bytes of a cell such as "`21`, `26`-`3b` (text)".
fn bytes_of(cell: &str) -> Vec<u8> {
    let hex = |text: &str| u8::from_str_radix(text.trim_matches('`'), 16).unwrap_or_else(|_| panic!("{text} in {cell}"));
    // What stands in parentheses is for people.
    let plain = |part: &str| part.split_once(')').map_or("", |(_, rest)| rest).to_owned();
    let mut parts = cell.split(" (");
    let cell = parts.next().unwrap().to_owned() + &parts.map(plain).collect::<String>();
    let item = |item: &str| match item.trim().split_once('-') {
        Some((first, last)) => (hex(first)..=hex(last)).collect::<Vec<_>>(),
        None => vec![hex(item.trim())],
    };
    cell.split(',').flat_map(item).collect()
}

/// For each byte what the columns of the table below a heading say; of a cell the first word counts.
fn byte_table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut table = vec![Vec::new(); 256];
    let section = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    let section = section.split("\n### ").next().unwrap();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let bytes = bytes_of(cells.next().unwrap());
        let words: Vec<String> = cells.map(|cell| cell.split([' ', ';']).next().unwrap().trim_matches('`').to_owned()).collect();
        for byte in bytes {
            assert!(table[usize::from(byte)].is_empty(), "{byte:02x} is there twice");
            table[usize::from(byte)] = words.clone();
        }
    }
    table
}

/// What the gate says of the bytes of an HTTP/1 head.
fn judged(head: &[u8]) -> String {
    use weir::gate::{Admitted, Limits, Refusal, admit_h1, head};
    let limits = Limits::default();
    let judge = || -> Result<Admitted, Refusal> {
        let end = head::scan(head, &limits, &mut 0)?.ok_or(Refusal::IncompleteHead)?;
        admit_h1(&head::parse(&head[..end], &limits)?, false)
    };
    match judge() {
        Err(refusal) => refusal.reason().to_owned(),
        Ok(admitted) if admitted.origin_form.is_some() => "encoded".to_owned(),
        Ok(_) => "passes".to_owned(),
    }
}

/// The same over HTTP/2, where a library reads the target first.
fn judged_h2(target: &[u8]) -> String {
    let Ok(parsed) = http::uri::PathAndQuery::from_maybe_shared(bytes::Bytes::copy_from_slice(target)) else {
        return "reset".to_owned();
    };
    if parsed.as_str().len() < target.len() {
        return "cut".to_owned();
    }
    let uri = http::Uri::builder().scheme("https").authority("a").path_and_query(parsed).build().unwrap();
    let request = http::Request::builder().uri(uri).body(()).unwrap();
    weir::gate::admit_stream(&request.into_parts().0, weir::gate::Version::Http2)
        .map_or_else(|refusal| refusal.reason().to_owned(), |_| "passes".to_owned())
}

#[test]
fn what_the_gate_says_of_every_byte_is_documented() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (targets, fields) = (byte_table(&page, "### Bytes of a target"), byte_table(&page, "### Bytes of a field"));
    let around = |before: &str, byte: u8, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
    for byte in 0..=255 {
        let path = judged(&around("GET /a", byte, "z HTTP/1.1\r\nHost: a\r\n\r\n"));
        let query = judged(&around("GET /?a", byte, "z HTTP/1.1\r\nHost: a\r\n\r\n"));
        let over_h2 = [judged_h2(&around("/a", byte, "z")), judged_h2(&around("/?a", byte, "z"))];
        assert_eq!(targets[usize::from(byte)], [&[path, query], &over_h2[..]].concat(), "{byte:02x} in a target");
        let name = judged(&around("GET / HTTP/1.1\r\nHost: a\r\na", byte, "z: v\r\n\r\n"));
        let name = if byte == b':' { "ends".to_owned() } else { name };
        let value = judged(&around("GET / HTTP/1.1\r\nHost: a\r\nx: a", byte, "z\r\n\r\n"));
        assert_eq!(fields[usize::from(byte)], [name, value], "{byte:02x} in a field");
    }
    // What the table says beside its first words.
    for (target, said) in [
        ("/a%7ez", "passes"),
        ("/a%5cz", "passes"),
        ("/a%2fz", "passes"),
        ("/a%00", "nul_in_target"),
        ("/?%00", "nul_in_target"),
        ("/%5c..", "ambiguous_path"),
        ("/..%2fz", "ambiguous_path"),
        ("/\u{e9}", "bad_target"),
        ("/?\u{e9}", "bad_target"),
    ] {
        assert_eq!(judged(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()), said, "{target}");
        assert_eq!(judged_h2(target.as_bytes()), said, "{target} over HTTP/2");
    }
}

#[test]
fn every_metric_is_explained() {
    let page = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let mut names = BTreeSet::new();
    for file in files(&root().join("src/observe"), "rs") {
        let text = fs::read_to_string(file).unwrap();
        let quoted = text.split("\"weir_").skip(1).filter_map(|rest| rest.split_once('"'));
        names.extend(
            quoted
                .map(|(name, _)| format!("weir_{name}"))
                .filter(|name| name.len() > "weir_".len() && name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())),
        );
    }
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "not in a table of docs/operating.md: {missing:?}");
}

#[test]
fn a_block_is_told_from_a_fragment() {
    let (whole, fragments) = blocks("a\n```yaml\nx: 1\n```\n```yaml fragment\ny\n```\n```sh\nz\n```\n");
    assert_eq!((whole.len(), fragments), (1, 1));
    assert_eq!((whole[0].line, whole[0].text.as_str()), (3, "x: 1\n"));
}
