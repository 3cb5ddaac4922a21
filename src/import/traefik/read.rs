//! The files: dynamic ones, a static one that names them, and Compose files with labels.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_yaml::Value;

use super::{
    super::{
        report::{ImportError, Place},
        source::Sources,
    },
    Ctx,
    tree::{Lines, at, entries, get, put, text, text_at, texts_at},
};

/// Where things stand, and what belongs to what.
#[derive(Debug, Default)]
pub struct Places {
    files: Vec<(std::rc::Rc<str>, Lines)>,
    /// Of routers of labels: the only service of their container.
    pub services: BTreeMap<String, String>,
}

impl Places {
    /// The place of the last of these keys, in the file that has it deepest.
    pub fn find(&self, keys: &[&str]) -> Place {
        let places = self.files.iter().map(|(file, lines)| Place { file: file.clone(), line: lines.find(keys) });
        places.max_by_key(|place| place.line).unwrap_or_else(|| self.top())
    }

    /// The line that has this text.
    pub fn find_text(&self, text: &str) -> Place {
        let found = self.files.iter().find_map(|(file, lines)| Some(Place { file: file.clone(), line: lines.find_text(text)? }));
        found.unwrap_or_else(|| self.top())
    }

    /// The first line of the first file.
    pub fn top(&self) -> Place {
        Place { file: self.files.first().map_or("".into(), |(file, _)| file.clone()), line: 1 }
    }
}

/// Reads a file and those that it names.
pub(super) fn read(ctx: &mut Ctx, path: &Path) -> Result<(), ImportError> {
    let mut sources = Sources::new(path);
    let tree = one(ctx, &mut sources, path, None)?;
    if get(&tree, "services").is_some() && get(&tree, "http").is_none() {
        compose(ctx, &tree, &variables(path));
        return Ok(());
    }
    if ["http", "tcp", "udp", "tls"].iter().all(|key| get(&tree, key).is_none())
        && get(&tree, "entryPoints").is_none()
        && get(&tree, "providers").is_none()
    {
        let message = "this is no configuration of Traefik: `http`, `entryPoints`, or `services` of a Compose file were expected";
        return Err(ImportError { place: path.display().to_string(), message: message.into() });
    }
    fixed(ctx, &tree);
    merge(&mut ctx.dynamic, dynamic(&tree));
    let provider = at(&tree, &["providers", "file"]).cloned().unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(file) = text_at(&provider, "filename") {
        files.extend(sources.find(&file, "/etc/traefik"));
    }
    if let Some(directory) = text_at(&provider, "directory") {
        for ending in ["yml", "yaml"] {
            files.extend(sources.find(&format!("{}/*.{ending}", directory.trim_end_matches('/')), "/etc/traefik"));
        }
    }
    for file in files {
        let place = ctx.places.top();
        let tree = one(ctx, &mut sources, &file, Some(&place))?;
        merge(&mut ctx.dynamic, dynamic(&tree));
    }
    Ok(())
}

fn one(ctx: &mut Ctx, sources: &mut Sources, path: &Path, from: Option<&Place>) -> Result<Value, ImportError> {
    let source = sources.open(path, from)?;
    let fail = |line: usize, message: String| ImportError { place: format!("{}:{line}", source.name), message };
    if path.extension().is_some_and(|ending| ending == "toml") {
        return Err(fail(1, "TOML is not read: Traefik takes the same as YAML, so convert it".into()));
    }
    // Our own parser has bounds, for aliases too.
    let guarded = crate::config::parse_str(&source.name, &source.text, Path::new(""), &|name| Some(format!("${{{name}}}")));
    let problem = guarded.errors().find(|error| matches!(error.code, crate::types::Code::Syntax | crate::types::Code::TooLarge));
    if let Some(error) = problem {
        return Err(fail(error.place.line, error.message.clone()));
    }
    let tree: Value = serde_yaml::from_str(&source.text)
        .map_err(|error| fail(error.location().map_or(1, |at| at.line()), error.to_string()))?;
    sources.done();
    ctx.places.files.push((source.name, Lines::of(&source.text)));
    Ok(tree)
}

fn dynamic(tree: &Value) -> Value {
    let keep = |(key, _): &(String, &Value)| matches!(key.to_ascii_lowercase().as_str(), "http" | "tcp" | "udp" | "tls");
    Value::Mapping(
        entries(Some(tree))
            .into_iter()
            .filter(keep)
            .map(|(key, value)| (key.to_ascii_lowercase().into(), value.clone()))
            .collect(),
    )
}

fn fixed(ctx: &mut Ctx, tree: &Value) {
    for (key, value) in entries(Some(tree)) {
        match key.to_ascii_lowercase().as_str() {
            "http" | "tcp" | "udp" | "tls" | "providers" => {}
            "entrypoints" => {
                ctx.report.carried(&ctx.place(&["entryPoints"]), "entryPoints");
                let mut whole = serde_yaml::Mapping::new();
                whole.insert("entryPoints".into(), value.clone());
                merge(&mut ctx.fixed, Value::Mapping(whole));
            }
            _ => ctx.report.unneeded(&key),
        }
    }
}

/// Lays one tree over another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => _ = into.insert(key, value),
                }
            }
        }
        (Value::Sequence(into), Value::Sequence(from)) => into.extend(from),
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

/// The variables of the `.env` beside a Compose file.
fn variables(path: &Path) -> BTreeMap<String, String> {
    let file = path.parent().map(|directory| directory.join(".env")).unwrap_or_default();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// A text of a Compose file with its variables replaced. One that is not set is told, and is a name that nobody has.
fn replaced(ctx: &mut Ctx, text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        let (name, behind) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((name, behind)) => (name, behind),
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        let end = name.find([':', '-', '?', '+']).unwrap_or(name.len());
        let (name, fallback) = name.split_at(end);
        let default = fallback.trim_start_matches(':').strip_prefix('-');
        match variables.get(name).map(String::as_str).or(default) {
            Some(value) => out.push_str(value),
            None if name.is_empty() => out.push('$'),
            None => {
                let place = ctx.places.find_text(&format!("${{{name}"));
                let shown = format!("{}.invalid", name.to_ascii_lowercase().replace('_', "-"));
                let how = format!("it is set neither here nor in `.env`: `{shown}` stands for it");
                let comment = ctx.report.differs(&place, &format!("${{{name}}}"), how);
                if !ctx.draft.comments.contains(&comment) {
                    ctx.draft.comments.push(comment);
                }
                out.push_str(&shown);
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The labels of a service, as pairs.
fn labels(value: Option<&Value>) -> Vec<(String, String)> {
    match value {
        Some(Value::Sequence(items)) => items
            .iter()
            .filter_map(text)
            .map(|item| {
                item.split_once('=').map_or((item.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect(),
        Some(map) => entries(Some(map)).into_iter().map(|(key, value)| (key, text(value).unwrap_or_default())).collect(),
        None => Vec::new(),
    }
}

fn compose(ctx: &mut Ctx, tree: &Value, variables: &BTreeMap<String, String>) {
    for (container, service) in entries(get(tree, "services")) {
        // The arguments of Traefik itself are its static configuration.
        let mut arguments = texts_at(service, "command");
        if let Some(Value::String(line)) = get(service, "command") {
            arguments = line.split_whitespace().map(str::to_owned).collect();
        }
        for argument in arguments.iter().filter_map(|argument| argument.strip_prefix("--")) {
            let argument = replaced(ctx, argument, variables);
            let (key, value) = argument.split_once('=').unwrap_or((&argument, "true"));
            if key.to_ascii_lowercase().starts_with("entrypoints.") {
                ctx.report.carried(&ctx.place(&["command"]), key);
                let key = format!("entryPoints.{}", &key[12..]);
                put(&mut ctx.fixed, &key, value);
            }
        }
        let mut pairs = labels(get(service, "labels"));
        pairs.extend(labels(at(service, &["deploy", "labels"])));
        let pairs: Vec<(String, String)> = pairs
            .into_iter()
            .filter(|(key, _)| key.to_ascii_lowercase().starts_with("traefik."))
            .map(|(key, value)| (replaced(ctx, &key[8..], variables), replaced(ctx, &value, variables)))
            .collect();
        let off = pairs.iter().any(|(key, value)| key.eq_ignore_ascii_case("enable") && value == "false");
        if pairs.is_empty() || off {
            continue;
        }
        let (mut routers, mut services): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (key, value) in &pairs {
            let lower = key.to_ascii_lowercase();
            let name = |start: &str| key.get(start.len()..).and_then(|rest| rest.split('.').next()).map(str::to_owned);
            if lower.starts_with("http.routers.") {
                routers.extend(name("http.routers.").filter(|name| !routers.contains(name)));
            } else if lower.starts_with("http.services.") {
                services.extend(name("http.services.").filter(|name| !services.contains(name)));
            } else if !["http.", "tcp.", "udp.", "tls."].iter().any(|start| lower.starts_with(start)) {
                if !matches!(lower.as_str(), "enable" | "port" | "frontend.rule") {
                    ctx.report.unneeded(&format!("label traefik.{key}"));
                }
                continue;
            }
            put(&mut ctx.dynamic, key, value);
        }
        let named =
            |router: &String| pairs.iter().any(|(key, _)| key.eq_ignore_ascii_case(&format!("http.routers.{router}.service")));
        if services.is_empty() && !routers.iter().all(named) {
            services.push(container.clone());
        }
        for service_name in &services {
            let port = text_at_path(&ctx.dynamic, &["http", "services", service_name, "loadBalancer", "server", "port"])
                .or_else(|| port(service))
                .unwrap_or_else(|| "80".into());
            let scheme = text_at_path(&ctx.dynamic, &["http", "services", service_name, "loadBalancer", "server", "scheme"])
                .unwrap_or_else(|| "http".into());
            let host = container_name(&container);
            put(
                &mut ctx.dynamic,
                &format!("http.services.{service_name}.loadBalancer.containers"),
                &format!("{scheme}://{host}:{port}"),
            );
        }
        for router in routers {
            if let [only] = services.as_slice() {
                ctx.places.services.insert(router, only.clone());
            }
        }
    }
}

fn text_at_path(tree: &Value, keys: &[&str]) -> Option<String> {
    at(tree, keys).and_then(text)
}

/// The name by which a container is found in its network.
fn container_name(service: &str) -> String {
    service.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect()
}

/// The port of a container: the first that it exposes.
fn port(service: &Value) -> Option<String> {
    let exposed = texts_at(service, "expose").into_iter().chain(texts_at(service, "ports"));
    let digits = |text: String| {
        let last = text.rsplit(':').next().unwrap_or_default().split(['/', '-']).next().unwrap_or_default().to_owned();
        last.parse::<u16>().is_ok().then_some(last)
    };
    exposed.filter_map(digits).next()
}
