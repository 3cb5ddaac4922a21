//! nginx: its `http` and `stream` blocks.
//!
//! A server becomes the rules that nginx asks one after the other (exact locations, `^~`, expressions, prefixes), and those become
//! routes in [`super::order`].

mod access;
mod content;
mod listen;
mod location;
mod map_back;
mod parse;
mod proxy;
mod rewrite;
mod server;
mod stream;
mod upstream;
mod value;
mod words;

use std::{collections::BTreeMap, path::Path};

use super::{
    Imported,
    directive::Directive,
    draft::{Draft, Names},
    report::{ImportError, Report},
};
use words::{Fate, fate, why};

/// What is known while a configuration is read.
#[derive(Debug, Default)]
struct Ctx {
    report: Report,
    draft: Draft,
    /// Names of upstreams that are taken.
    names: Names,
    /// The `upstream` blocks, by name.
    declared: BTreeMap<String, Directive>,
    /// Our upstreams, by what was asked for: scheme and place.
    used: BTreeMap<String, usize>,
    /// `limit_req_zone` and `limit_conn_zone`: key and rate, by name.
    zones: BTreeMap<String, (String, String)>,
}

/// Where a directive is looked up: in its block, then in those around it.
#[derive(Debug, Clone, Default)]
struct Scope<'d> {
    levels: Vec<&'d [Directive]>,
    /// What `set` makes constant.
    constants: BTreeMap<String, String>,
}

impl<'d> Scope<'d> {
    fn inner(&self, block: &'d [Directive]) -> Self {
        let mut scope = self.clone();
        scope.levels.push(block);
        for set in block.iter().filter(|directive| directive.name == "set" && directive.args.len() == 2) {
            let value = value::with_constants(set.arg(1), &scope.constants);
            // One that is made of others may be long, and what is made of that longer.
            if !value.contains('$') && value.len() <= 4096 {
                scope.constants.insert(set.arg(0).trim_start_matches('$').to_owned(), value);
            }
        }
        scope
    }

    /// The directive of this name that counts here.
    fn one(&self, name: &str) -> Option<&'d Directive> {
        self.levels.iter().rev().find_map(|level| level.iter().rev().find(|directive| directive.name == name))
    }

    /// Its first argument.
    fn value(&self, name: &str) -> Option<&'d str> {
        self.one(name).map(|directive| directive.arg(0))
    }

    fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("on")
    }

    /// All of these names, of the innermost level that has any.
    fn all(&self, names: &[&str]) -> Vec<&'d Directive> {
        let of = |level: &&'d [Directive]| {
            let level: &'d [Directive] = level;
            level.iter().filter(|directive| names.contains(&directive.name.as_str())).collect::<Vec<_>>()
        };
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The text with constants in their places.
    fn text(&self, text: &str) -> String {
        value::with_constants(text, &self.constants)
    }
}

impl Ctx {
    /// Says what becomes of each directive of a block, apart from those that are read elsewhere. The comments for what is left.
    fn account(&mut self, block: &[Directive]) -> Vec<String> {
        let mut comments = Vec::new();
        let pass = block.iter().any(|directive| matches!(directive.name.as_str(), "fastcgi_pass" | "uwsgi_pass" | "scgi_pass"));
        for directive in block {
            match fate(&directive.name) {
                Fate::Unneeded => self.report.unneeded(&directive.name),
                Fate::Read => self.report.carried(&directive.place, &directive.words()),
                // Those of another level count where there is a `_pass`, which is told of.
                Fate::WithPass if pass => {}
                Fate::WithPass => self.report.unneeded(&directive.name),
                Fate::Unknown => comments.push(self.left(directive, why(&directive.name))),
            }
        }
        comments
    }

    fn left(&mut self, directive: &Directive, why: impl Into<String>) -> String {
        let words = match directive.block {
            Some(_) => format!("{} {{...}}", directive.words()),
            None => directive.words(),
        };
        self.report.left(&directive.place, &words, why)
    }

    fn differs(&mut self, directive: &Directive, how: impl Into<String>) -> String {
        self.report.differs(&directive.place, &directive.words(), how)
    }
}

/// Imports a file and all that it includes.
pub(super) fn import(path: &Path) -> Result<Imported, ImportError> {
    let mut ctx = Ctx::default();
    let all = parse::read(path, &mut ctx.report)?;
    // A file of `sites-enabled` is what stands inside of `http`.
    let whole = all.iter().any(|directive| matches!(directive.name.as_str(), "http" | "stream" | "events"));
    if whole {
        let comments = ctx.account(&all);
        ctx.draft.comments.extend(comments);
        for block in &all {
            match block.name.as_str() {
                "http" => ctx.http(block.inside()),
                "stream" => ctx.stream(block.inside()),
                _ => {}
            }
        }
    } else {
        ctx.http(&all);
    }
    Ok(Imported { draft: ctx.draft, report: ctx.report })
}

impl Ctx {
    fn http(&mut self, block: &[Directive]) {
        let comments = self.account(block);
        self.draft.comments.extend(comments);
        for directive in block {
            let name = directive.arg(0).to_owned();
            match directive.name.as_str() {
                "upstream" => {
                    self.declared.insert(name, directive.clone());
                }
                "limit_req_zone" | "limit_conn_zone" => self.zone(directive),
                "map" => self.map(directive),
                _ => {}
            }
        }
        let scope = Scope::default().inner(block);
        let servers: Vec<_> =
            block.iter().filter(|directive| directive.name == "server").map(|found| server::Server::read(self, found)).collect();
        self.servers(&scope, &servers);
        self.unused();
    }

    /// `limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s`.
    fn zone(&mut self, directive: &Directive) {
        let option = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name));
        let zone = option("zone=").and_then(|zone| zone.split(':').next()).unwrap_or_default().to_owned();
        let rate = option("rate=").unwrap_or_default().replace("r/", "/");
        self.zones.insert(zone, (directive.arg(0).to_owned(), rate));
    }

    /// The `map` for upgrades needs nothing; others make variables that there are none of here.
    fn map(&mut self, directive: &Directive) {
        if directive.arg(0) == "$http_upgrade" {
            return self.report.unneeded("map $http_upgrade");
        }
        let comment = self.left(directive, "routes match header fields, and there are no variables of one's own");
        self.draft.comments.push(comment);
    }

    /// Upstreams that no location names are carried over too.
    fn unused(&mut self) {
        let names: Vec<String> = self.declared.keys().cloned().collect();
        for name in names {
            if !self.used.keys().any(|key| key.rsplit_once("://").is_some_and(|(_, place)| place == name)) {
                let place = self.declared[&name].place.clone();
                if let Err(why) = self.upstream("http", &name, &Scope::default(), &place) {
                    let comment = self.report.left(&place, &format!("upstream {name}"), why);
                    self.draft.comments.push(comment);
                }
            }
        }
    }
}
