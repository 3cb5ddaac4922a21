//! HAProxy: frontends, backends and what is between them.
//!
//! The rules of a frontend become rules in the order in which HAProxy asks them, and those become routes in [`super::order`].

mod acl;
mod backend;
mod frontend;
mod parse;
mod rules;

use std::{collections::BTreeMap, path::Path};

use super::{
    Imported,
    draft::{Body, Draft, Names, Route},
    order::{Rule, ordered, without_exceptions},
    report::{ImportError, Report},
};
use parse::{Line, Section};

/// What is known while a configuration is read.
#[derive(Debug, Default)]
struct Ctx {
    report: Report,
    draft: Draft,
    names: Names,
    /// `backend` and `listen` sections, by name.
    backends: BTreeMap<String, Section>,
    /// Our upstreams, by backend.
    used: BTreeMap<String, Result<String, String>>,
}

impl Section {
    /// The last line that begins with these words, of its own or of its defaults.
    fn one(&self, words: &[&str]) -> Option<&Line> {
        let begins = |line: &&Line| words.iter().enumerate().all(|(index, word)| line.word(index) == *word);
        self.lines.iter().rev().find(begins).or_else(|| self.defaults.iter().rev().find(begins))
    }

    /// Bytes only, without HTTP.
    fn is_tcp(&self) -> bool {
        self.one(&["mode"]).is_none_or(|line| line.word(1) == "tcp")
    }

    /// A timeout, as a duration of ours.
    fn timeout(&self, name: &str) -> Option<String> {
        duration(self.one(&["timeout", name])?.word(2))
    }
}

/// A length of time: milliseconds unless there is a unit.
fn duration(text: &str) -> Option<String> {
    let text = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() { format!("{text}ms") } else { text.to_owned() };
    text.parse::<crate::types::Span>().ok().map(|_| text)
}

/// Imports a file.
pub(super) fn import(path: &Path) -> Result<Imported, ImportError> {
    let sections = parse::read(path)?;
    let mut ctx = Ctx::default();
    for section in sections.iter().filter(|section| matches!(section.kind.as_str(), "backend" | "listen")) {
        ctx.backends.insert(section.name.clone(), section.clone());
    }
    let mut all: Vec<(Rule<Body>, Vec<super::matching::Match>)> = Vec::new();
    let http: usize =
        sections.iter().filter(|section| matches!(section.kind.as_str(), "frontend" | "listen") && !section.is_tcp()).count();
    for section in &sections {
        match section.kind.as_str() {
            "frontend" | "listen" => all.extend(ctx.frontend(section, http > 1)),
            "backend" => {}
            "global" => section.lines.iter().for_each(|line| ctx.report.unneeded(&format!("global {}", line.word(0)))),
            "defaults" => {
                for line in &section.lines {
                    let comments = ctx.account(line);
                    ctx.draft.comments.extend(comments);
                }
            }
            "resolvers" | "peers" | "mailers" | "ring" | "log-forward" | "traces" | "userlist" => {
                ctx.report.unneeded(&section.kind)
            }
            _ => {
                let comment = ctx.report.left(&section.head.place, &section.head.text(), "no counterpart");
                ctx.draft.comments.push(comment);
            }
        }
    }
    let names: Vec<String> = all.iter().map(|(rule, _)| rule.body.name.clone()).collect();
    let (rules, failed) = without_exceptions(all);
    for index in failed {
        let comment =
            format!("check the rule for `{}`: not all of its conditions with `!` or `unless` can be told", names[index]);
        ctx.draft.comments.push(comment);
    }
    let done = ordered(rules);
    if done.too_many {
        ctx.draft.comments.push("there are too many rules to compare them all: check their order by `weir explain`".into());
    }
    for dead in done.dead {
        ctx.draft.comments.extend(dead.body.comments);
        ctx.draft.comments.push(format!("never reached, so left out: the rule `{}`", dead.body.name));
    }
    ctx.draft.routes = done
        .rules
        .into_iter()
        .map(|rule| {
            let mut body = rule.body;
            if rule.derived {
                body.comments = vec![format!("as `{}`, which HAProxy asks first", body.name)];
            }
            Route { matches: rule.matches, body }
        })
        .collect();
    // Backends that nobody uses are carried over too.
    for (name, section) in ctx.backends.clone() {
        let unused = section.kind == "backend" && !ctx.used.contains_key(&name);
        if unused && let Err(why) = ctx.upstream(&name) {
            let comment = ctx.left(&section.head, why);
            ctx.draft.comments.push(comment);
        }
    }
    Ok(Imported { draft: ctx.draft, report: ctx.report })
}

impl Ctx {
    fn left(&mut self, line: &Line, why: impl Into<String>) -> String {
        self.report.left(&line.place, &line.text(), why)
    }

    /// Says what becomes of a line that is not a rule.
    fn account(&mut self, line: &Line) -> Option<String> {
        const READ: &str = "mode bind acl use_backend default_backend redirect http-request http-response server server-template balance \
                            default-server cookie compression http-check maxconn retry-on stick";
        const UNNEEDED: &str = "log log-format log-format-sd log-tag option retries fullconn hash-type backlog stats description id \
                                errorloc unique-id-format unique-id-header monitor-uri monitor-net no rate-limit declare capture \
                                guid email-alert load-server-state-from-file grace nbproc persist http-reuse max-keep-alive-queue \
                                source transparent disabled enabled dispatch tcp-check stick-table bind-process";
        let first = line.word(0);
        let has = |list: &str, word: &str| list.split_whitespace().any(|known| known == word);
        match first {
            "timeout" => match line.word(1) {
                "connect" | "client" | "server" | "http-request" | "http-keep-alive" | "check" | "tunnel" => {
                    self.report.carried(&line.place, &line.text());
                }
                other => self.report.unneeded(&format!("timeout {other}")),
            },
            "option" if matches!(line.word(1), "httpchk" | "ssl-hello-chk" | "tcp-check") => {
                self.report.carried(&line.place, &line.text())
            }
            "option" | "no" => self.report.unneeded(&format!("{first} {}", line.word(1))),
            "stats" => self.report.unneeded("stats (the admin listener has a dashboard)"),
            _ if has(READ, first) => self.report.carried(&line.place, &line.text()),
            _ if has(UNNEEDED, first) => self.report.unneeded(first),
            "errorfile" => {
                return Some(self.left(line, "the file has a whole response: write the filter `error_pages` with its body"));
            }
            "reqrep" | "reqirep" | "rspadd" | "reqadd" | "rspdel" | "rspidel" | "reqidel" | "rspirep" | "reqdel" => {
                return Some(self.left(line, "HAProxy itself has it no more: write the filter `headers` or `rewrite`"));
            }
            "filter" => return Some(self.left(line, "it has no such filter")),
            "tcp-request" | "tcp-response" => {
                return match (line.word(1), line.word(2)) {
                    ("inspect-delay", _) | ("content", "accept") => {
                        self.report.unneeded(&format!("{first} {}", line.word(1)));
                        None
                    }
                    _ => Some(self.left(line, "write the filters `ip_access`, `rate_limit` or `concurrency`")),
                };
            }
            _ => return Some(self.left(line, "no counterpart")),
        }
        None
    }
}
