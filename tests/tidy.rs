//! Conventions that no compiler checks. Each test names what to do about what it finds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms of `src/` and their layers: a room imports only from lower ones. What is beside the
/// layers (the command line, the test backends) may import everything and is imported by nobody else.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["types"]),
    (1, &["observe", "endpoint", "resilience", "pace"]),
    (2, &["balance", "health", "discovery", "tls", "proxy_protocol", "quic", "cache", "filter", "gate", "geo", "tunnel", "wire"]),
    (3, &["upstream", "route", "acme"]),
    (4, &["config"]),
    (5, &["snapshot"]),
    (6, &["exchange"]),
    (7, &["proxy", "lane", "l4", "explain"]),
    (8, &["listener"]),
    (9, &["admin"]),
    // What changes a running edge, what puts the parts together, and what happens to the whole from outside.
    (10, &["control"]),
    (11, &["server"]),
    (BESIDE, &["lab", "import", "cli"]),
];
const BESIDE: u8 = u8::MAX;

/// Rooms that know a room of their own layer, and why.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("endpoint", "resilience", "an endpoint keeps its breaker, which knows no endpoint"),
    ("observe", "endpoint", "what is shown of endpoints is read from the endpoints themselves"),
    ("discovery", "tls", "an engine is asked over TLS"),
    ("wire", "tls", "a connection that failed says what was wrong with a certificate"),
    ("quic", "wire", "a socket of UDP is made as one of TCP is"),
    ("health", "wire", "a check is made on a connection as requests are"),
    ("filter", "cache", "a filter says what its route wants of the cache"),
    ("filter", "tls", "the keys of tokens are fetched over TLS"),
    ("filter", "wire", "and on a connection as all that Weir asks of others"),
    ("lane", "l4", "a connection that leaves HTTP is joined by the relay of layer 4"),
    ("route", "upstream", "an action names the upstream that it forwards to"),
];

/// What knows nothing of Pingora, in code or by name, nor of these rooms, and why.
const UNAWARE: &[(&str, &[&str], &str)] = &[
    ("src/exchange", &["lane", "proxy"], "what becomes of a request is decided once, whichever driver carries it"),
    ("src/wire", &["lane", "proxy"], "connections are bytes, whoever speaks over them"),
    ("src/lane", &["proxy"], "a driver owes nothing to the other one"),
    ("src/upstream/attempts.rs", &["lane", "proxy"], "the one loop over attempts, for both drivers, calls and layer 4"),
    ("src/upstream/fault.rs", &["lane", "proxy"], "the one verdict on a failure, to which each driver translates its errors"),
];

/// Where code names Pingora's crates, and why.
const ON_PINGORA: &[(&str, &str)] = &[
    ("src/balance/selection.rs", "its load balancer asks for candidates"),
    ("src/discovery", "its load balancer is given endpoints as its `Backend`s"),
    ("src/health/check.rs", "a check of ours is a `HealthCheck` of its load balancer"),
    ("src/listener", "it is handed requests as sessions on streams of its own traits"),
    ("src/proxy", "the driver that carries requests by its phases"),
    ("src/upstream", "its load balancer, its peers, and our connections behind its connector"),
];

/// What is done in these places alone, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "find_and_tell(",
        &["src/exchange/decide.rs", "src/route"],
        "one way to a route, for what is served, explained and replayed",
    ),
    (
        "Attempts::new",
        &["src/exchange", "src/l4/open.rs", "src/upstream/call.rs"],
        "one loop over attempts for all who make them",
    ),
    ("Outcome::begin(", &["src/exchange/connection.rs", "src/l4/record.rs"], "one outcome for each exchange and each connection"),
    ("process_new_http(", &["src/listener/h1.rs", "src/listener/stream.rs"], "a request comes to Pingora when it is decided on"),
    ("HttpPeer::new(", &["src/upstream/peer.rs"], "one file knows the options of a peer"),
    (
        "TcpStream::connect(",
        &["src/wire", "src/discovery/docker"],
        "endpoints are dialled in `wire`, and others asked; an engine is neither",
    ),
];

/// Exported by macro at the root of the crate; they live in `types`.
const MACROS: &[&str] = &["string_type", "registry"];

/// A file tells one story, which rarely takes more.
const MAX_LINES: usize = 600;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[("src/config/document.rs", "one parser, from the events of YAML to a tree with places")];

/// Below the repository's root, all files with this ending.
fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), ending, &mut found);
    found.sort();
    found
}

fn root() -> PathBuf {
    // Asked at run time, where cargo sets it too: the test may be run on another checkout.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Fails with all findings at once.
#[track_caller]
fn none(findings: &[String], advice: &str) {
    assert!(findings.is_empty(), "{advice}:\n  {}\n", findings.join("\n  "));
}

fn word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Code without its comments, so that documentation may refer upward.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms in `crate::room::…`, `crate::{room::…, other}` and `weir::…`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|before| word(before) || before == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.extend(first_word(rest)),
            Some(list) => rooms.extend(heads(list)),
        }
    }
    rooms
}

/// The first word of each item of a `{…}` list, up to its end.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut fresh, mut found) = (0, true, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && word(character) => {
                found.extend(first_word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let found: String = text.chars().take_while(|character| word(*character)).collect();
    (!found.is_empty()).then_some(found)
}

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(layer, _)| *layer)
}

/// `src/tls/pem.rs` and `src/tls.rs` are in `tls`; the crate's own roots are in no room.
fn room(path: &Path) -> Option<String> {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

#[test]
fn layers_import_downward() {
    let mut findings = Vec::new();
    for path in files("src", ".rs") {
        let Some(own) = room(&path) else { continue };
        let Some(own_layer) = layer(&own) else {
            findings.push(format!("{}: the room `{own}` has no layer", shown(&path)));
            continue;
        };
        for other in imports(&code(&read(&path))) {
            let neighbours = NEIGHBOURS.iter().any(|(from, to, _)| (*from, *to) == (own.as_str(), other.as_str()));
            if other == own || neighbours || MACROS.contains(&other.as_str()) {
                continue;
            }
            match layer(&other) {
                None => findings.push(format!("{}: imports `{other}`, which has no layer", shown(&path))),
                Some(_) if own_layer == BESIDE => {}
                Some(layer) if layer >= own_layer => {
                    findings.push(format!("{} (layer {own_layer}): imports `{other}` (layer {layer})", shown(&path)));
                }
                Some(_) => {}
            }
        }
    }
    none(&findings, "a room imports only from lower layers; move what is shared down, or enter a new room in LAYERS");
}

/// Files of the edge itself: neither tests, nor what is beside the layers.
fn edge() -> Vec<PathBuf> {
    let is_test = |path: &Path| path.iter().any(|part| part == "tests") || path.to_str().unwrap().ends_with("tests.rs");
    let beside = |path: &Path| room(path).and_then(|room| layer(&room)) == Some(BESIDE);
    files("src", ".rs").into_iter().filter(|path| !is_test(path.strip_prefix(root()).unwrap()) && !beside(path)).collect()
}

/// Is the file this place, or below it?
fn is_in(path: &Path, place: &str) -> bool {
    path.starts_with(root().join(place))
}

#[test]
fn policy_names_no_driver() {
    let mut findings = Vec::new();
    for (place, rooms, reason) in UNAWARE {
        let within: Vec<_> = files("src", ".rs").into_iter().filter(|path| is_in(path, place)).collect();
        if within.is_empty() {
            findings.push(format!("{place}: is in UNAWARE and is not there"));
        }
        for path in within {
            let code = code(&read(&path));
            if code.to_lowercase().contains("pingora") {
                findings.push(format!("{}: names Pingora ({reason})", shown(&path)));
            }
            for room in imports(&code).iter().filter(|room| rooms.contains(&room.as_str())) {
                findings.push(format!("{}: names the driver `{room}` ({reason})", shown(&path)));
            }
        }
    }
    none(&findings, "what is decided must not depend on who carries it; put what a driver needs into the driver");
}

/// Does the code name one of Pingora's crates?
fn names_pingora(code: &str) -> bool {
    code.match_indices("pingora").any(|(at, _)| {
        let whole = !code[..at].chars().next_back().is_some_and(word);
        let name = first_word(&code[at..]).unwrap_or_default();
        whole && code[at + name.len()..].starts_with("::")
    })
}

#[test]
fn pingora_is_used_where_it_belongs() {
    let users: Vec<_> = files("src", ".rs").into_iter().filter(|path| names_pingora(&code(&read(path)))).collect();
    let known = |path: &Path| ON_PINGORA.iter().any(|(place, _)| is_in(path, place));
    let mut findings: Vec<_> = users.iter().filter(|path| !known(path)).map(|path| shown(path)).collect();
    for (place, _) in ON_PINGORA.iter().filter(|(place, _)| !users.iter().any(|path| is_in(path, place))) {
        findings.push(format!("{place}: is in ON_PINGORA and uses nothing of it"));
    }
    none(&findings, "keep Pingora's types in the rooms that carry them, or enter the place in ON_PINGORA with the reason");
}

#[test]
fn what_is_done_once_is_done_in_one_place() {
    let mut findings = Vec::new();
    for (what, places, reason) in ONLY_IN {
        let found: Vec<_> = edge().into_iter().filter(|path| has_word(&code(&read(path)), what)).collect();
        for path in found.iter().filter(|path| !places.iter().any(|place| is_in(path, place))) {
            findings.push(format!("{}: `{what}` ({reason})", shown(path)));
        }
        for place in places.iter().filter(|place| !found.iter().any(|path| is_in(path, place))) {
            findings.push(format!("{place}: has no `{what}` any more"));
        }
    }
    none(&findings, "use what is there, or enter the place in ONLY_IN");
}

/// The rooms of a map, and the layers that it gives them: the rows `| layer | room | ...`.
fn map(text: &str) -> BTreeSet<(u8, String)> {
    let row = |line: &str| {
        let mut cells = line.trim_start_matches("//!").trim().strip_prefix('|')?.split('|').map(str::trim);
        let layer = cells.next()?.parse().ok()?;
        let room = cells.next()?.trim_matches(|character| matches!(character, '[' | ']' | '`'));
        Some((layer, room.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_maps_show_the_layers() {
    let below = |layer: &u8| *layer != BESIDE;
    let rooms = LAYERS.iter().flat_map(|(layer, rooms)| rooms.iter().map(|room| (*layer, (*room).to_owned())));
    let rooms: BTreeSet<_> = rooms.filter(|(layer, _)| below(layer)).collect();
    let mut findings = Vec::new();
    for page in ["src/lib.rs", "docs/architecture.md"] {
        let map = map(&read(&root().join(page)));
        findings.extend(rooms.symmetric_difference(&map).map(|(layer, room)| format!("{page}: `{room}` in layer {layer}")));
    }
    for (layer, room) in &rooms {
        let head = fs::read_to_string(root().join(format!("src/{room}/mod.rs"))).unwrap_or_default();
        let told = head.strip_prefix("//! Layer ").and_then(|rest| rest.split_once(':'));
        if let Some((told, _)) = told.filter(|(told, _)| *told != layer.to_string()) {
            findings.push(format!("src/{room}/mod.rs: says layer {told}, and is in layer {layer}"));
        }
    }
    none(&findings, "what is told of the layers differs from LAYERS");
}

#[test]
fn names_of_pingora_and_rows_of_a_map_are_found() {
    assert!(names_pingora("use pingora_core::Error;") && names_pingora("x: pingora::Y"));
    assert!(!names_pingora("for_pingora::x()") && !names_pingora("(\"pingora_proxy\", pingora_io!(x))"));
    let rows = "//! | layer | room |\n//! | 1 | [`a`] | x |\n| 10 | `b` | y |\n| - | [`c`] | z |";
    assert_eq!(map(rows), BTreeSet::from([(1, "a".to_owned()), (10, "b".to_owned())]));
}

#[test]
fn imports_are_found_in_every_form() {
    let found = |text: &str| imports(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("use crate::types::{At, Code};"), "types");
    assert_eq!(
        found("use crate::{\n    config::{self, Spec},\n    route::Table, registry,\n};\nuse other::x;"),
        "config registry route"
    );
    assert_eq!(found("let x = crate::tls::y(); pub(crate) fn z() { $crate::macro_only::x }"), "tls");
    assert_eq!(found("pub(in crate::upstream) use a::b; mycrate::x"), "upstream");
    assert_eq!(code("a\n  // crate::x\nb"), "a\nb");
}

/// Lines that wave a lint through, and why an expectation cannot hold there.
const WAVED_THROUGH: &[(&str, &str, &str)] = &[(
    "tests/it/support/mod.rs",
    "dead_code",
    "several test binaries share the fixtures, and each leaves some unused that another one uses",
)];

#[test]
fn nothing_is_waved_through_or_left_for_later() {
    // In two parts, so that this file does not find itself.
    let forbidden = [
        ("#[al", "low("),
        ("#![al", "low("),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("todo", "!("),
        ("unimplemented", "!("),
        ("#[ig", "nore"),
    ]
    .map(|(one, two)| format!("{one}{two}"));
    let mut findings = Vec::new();
    for path in ["src", "tests", "benches"].into_iter().flat_map(|below| files(below, ".rs")) {
        for (number, line) in read(&path).lines().enumerate() {
            let known = WAVED_THROUGH.iter().any(|(file, lint, _)| shown(&path) == *file && line.contains(&format!("({lint},")));
            for found in forbidden.iter().filter(|words| !known && has_word(line, words)) {
                findings.push(format!("{}:{}: `{found}`", shown(&path), number + 1));
            }
        }
    }
    none(&findings, "write `#[expect(.., reason)]` for an exception to a lint, and finish what is begun");
}

/// Is it in the line, not as a part of a longer word?
fn has_word(line: &str, words: &str) -> bool {
    line.match_indices(words).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(word);
        let after = line[at + words.len()..].chars().next().is_some_and(word);
        let part_of_longer = before && words.starts_with(word) || after && words.ends_with(word);
        !part_of_longer
    })
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    let mut long = BTreeSet::new();
    for path in files("src", ".rs") {
        let (lines, name) = (read(&path).lines().count(), shown(&path));
        if lines > MAX_LINES {
            if LONG_FILES.iter().all(|(known, _)| *known != name) {
                findings.push(format!("{name}: {lines} lines"));
            }
            long.insert(name);
        }
    }
    for (name, _) in LONG_FILES.iter().filter(|(name, _)| root().join(name).exists() && !long.contains(*name)) {
        findings.push(format!("{name}: is in LONG_FILES and is not long"));
    }
    none(&findings, "split by concept, or enter the file in LONG_FILES with the reason");
}

/// The kinds that `registry!` declares anywhere in `src/`.
fn kinds() -> Vec<String> {
    let mut kinds = Vec::new();
    for path in files("src", ".rs") {
        let text = code(&read(&path));
        for (at, _) in text.match_indices("\nregistry! {") {
            let block = &text[at + 1..];
            let block = &block[..block.find("\n}").unwrap_or(block.len())];
            let kind = |line: &str| Some(line.trim().strip_suffix("\",")?.rsplit_once(") = \"")?.1.to_owned());
            kinds.extend(block.lines().filter_map(kind));
        }
    }
    kinds
}

#[test]
fn every_kind_is_shown_and_explained() {
    let kinds = kinds();
    assert!(kinds.iter().any(|kind| kind == "round_robin"), "the registries were not found: {kinds:?}");
    let configurations: Vec<String> = files("conf", ".yaml").iter().map(|path| code_of_yaml(&read(path))).collect();
    let documents: Vec<String> = files("docs", ".md").iter().map(|path| read(path)).collect();
    let mut findings = Vec::new();
    for kind in kinds {
        if !configurations.iter().any(|text| text.lines().any(|line| has_word(line, &kind))) {
            findings.push(format!("`{kind}` is in no file of conf/"));
        }
        if !documents.iter().any(|text| has_word(text, &kind)) {
            findings.push(format!("`{kind}` is in no file of docs/"));
        }
    }
    none(&findings, "every strategy, filter and probe has an example in conf/ and a line in docs/");
}

/// Without comments: an example is something that runs.
fn code_of_yaml(text: &str) -> String {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default())
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn links_of_the_documentation_resolve() {
    let mut findings = Vec::new();
    let mut pages = files("docs", ".md");
    pages.extend(
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docker/README.md"]
            .map(|name| root().join(name))
            .into_iter()
            .filter(|path| path.exists()),
    );
    for page in &pages {
        for link in links(&read(page)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            if !target.exists() {
                findings.push(format!("{}: {link}", shown(page)));
            } else if let Some(anchor) = anchor
                && target.extension().is_some_and(|ending| ending == "md")
                && !anchors(&read(&target)).contains(anchor)
            {
                findings.push(format!("{}: {link}: no such heading", shown(page)));
            }
        }
    }
    none(&findings, "these links lead nowhere");
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let linked: BTreeSet<PathBuf> = links(&read(&root().join("README.md")))
        .iter()
        .map(|link| root().join(link.split('#').next().unwrap_or_default()))
        .collect();
    let missing: Vec<_> = files("docs", ".md").iter().filter(|page| !linked.contains(*page)).map(|page| shown(page)).collect();
    none(&missing, "a page that the README does not link is not found");
}

#[test]
fn every_example_is_mentioned() {
    let mut pages: Vec<String> = files("docs", ".md").iter().map(|page| read(page)).collect();
    pages.push(read(&root().join("README.md")));
    let examples = files("conf/examples", ".yaml");
    assert!(examples.len() > 20, "the examples were not found");
    // What an example includes is mentioned by the example.
    let included = |path: &Path| path.components().any(|part| part.as_os_str() == "services");
    let mentioned = |path: &Path| {
        let below = path.strip_prefix(root().join("conf/examples")).unwrap().display().to_string();
        pages.iter().any(|page| has_word(page, &below))
    };
    let missing: Vec<_> = examples.iter().filter(|path| !included(path) && !mentioned(path)).map(|path| shown(path)).collect();
    none(&missing, "an example that no page mentions is not found");
}

/// Markdown without its code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    };
    text.lines().filter(outside).collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        for (at, _) in line.match_indices("](") {
            let inside_code = line[..at].matches('`').count() % 2 == 1;
            if let Some((target, _)) = line[at + 2..].split_once(')')
                && !inside_code
            {
                found.push(target.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// The headings as GitHub turns them into anchors.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|character| word(*character) || matches!(character, ' ' | '-'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_and_headings_are_found() {
    let text = "# A `b`: c\nsee [x](y.md#z) and ![i](i.png \"t\"), not `[a](b)`\n```\n[no](no.md)\n# no\n```\n";
    assert_eq!(links(text), ["y.md#z", "i.png"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b-c".to_owned()]));
}
