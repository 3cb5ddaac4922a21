//! Matchers: which requests a directive is for.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    super::{
        matching::{Match, PathMatch, Value},
        order::canonical,
        text::expression,
    },
    Directive,
};

/// Requests: one of these, and none of those.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Which {
    /// The alternatives.
    pub any: Vec<Match>,
    /// What is left out.
    pub except: Vec<Match>,
}

impl Which {
    /// Every request.
    pub fn all() -> Self {
        Self { any: vec![Match::default()], except: Vec::new() }
    }

    /// What meets both.
    pub fn meet(&self, other: &Self) -> Self {
        let any = self.any.iter().flat_map(|one| other.any.iter().filter_map(|other| one.meet(other)).collect::<Vec<_>>());
        Self { any: any.take(500).collect(), except: [self.except.clone(), other.except.clone()].concat() }
    }
}

/// The named matchers of a site, or why there is none of it.
pub type Named = BTreeMap<String, Result<Which, String>>;

/// `/path*`, `*.php`, `/a/*/b`: a path with `*` in it.
pub fn path(text: &str) -> Option<PathMatch> {
    let stars = text.matches('*').count();
    Some(match (stars, text.strip_suffix('*'), text.strip_prefix('*')) {
        (0, ..) if canonical(text).is_some() => PathMatch::Exact(text.to_owned()),
        (0, ..) => return None,
        (1, Some("" | "/"), _) => PathMatch::Any,
        (1, Some(start), _) => PathMatch::Begins(start.to_owned()),
        (1, _, Some(end)) => PathMatch::Regex(format!("{}$", regex::escape(end))),
        _ => {
            let parts: Vec<String> = text.split('*').map(regex::escape).collect();
            PathMatch::Regex(format!("^{}$", parts.join(".*")))
        }
    })
}

/// Address ranges; `private_ranges` is a name for some.
pub fn ranges(words: &[String]) -> Vec<IpNet> {
    const PRIVATE: [&str; 6] = ["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.1/8", "fd00::/8", "::1/128"];
    let all = words.iter().flat_map(|word| if word == "private_ranges" { PRIVATE.to_vec() } else { vec![word.as_str()] });
    all.filter_map(|text| text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from)))
        .map(|net| net.trunc())
        .collect()
}

/// One condition, as `path /a/* /b`.
pub fn condition(directive: &Directive) -> Result<Which, String> {
    let args = &directive.args;
    let cannot = || format!("there is no such condition of a route: `{}`", directive.words());
    let paths = |all: &[PathMatch]| Which {
        any: all.iter().map(|path| Match { path: path.clone(), ..Match::default() }).collect(),
        except: Vec::new(),
    };
    let one = |matches: Match| Which { any: vec![matches], except: Vec::new() };
    if args.iter().any(|arg| arg.contains('{') && directive.name != "path_regexp") {
        return Err(cannot());
    }
    Ok(match directive.name.as_str() {
        "path" => paths(&args.iter().map(|arg| path(arg)).collect::<Option<Vec<_>>>().ok_or_else(cannot)?),
        "path_regexp" => {
            let regex = expression(args.last().ok_or_else(cannot)?, false).ok_or_else(cannot)?;
            paths(&[PathMatch::Regex(regex)])
        }
        "host" => one(Match {
            hosts: args.iter().map(|arg| arg.to_ascii_lowercase().parse()).collect::<Result<_, _>>().map_err(|_| cannot())?,
            ..Match::default()
        }),
        "method" => one(Match { methods: args.iter().map(|arg| arg.to_uppercase()).collect(), ..Match::default() }),
        "remote_ip" | "client_ip" => {
            let words: Vec<String> = args.iter().filter(|arg| *arg != "forwarded").cloned().collect();
            let clients = ranges(&words);
            if clients.is_empty() {
                return Err(cannot());
            }
            one(Match { clients, ..Match::default() })
        }
        "header" | "header_regexp" => {
            let (name, value) = match (directive.name.as_str(), args.as_slice()) {
                ("header", [name]) => match name.strip_prefix('!') {
                    Some(name) => (name, Value::Present(false)),
                    None => (name.as_str(), Value::Present(true)),
                },
                ("header", [name, value]) => (name.as_str(), wildcard(value)),
                (_, [.., name, regex]) => (name.as_str(), Value::Regex(expression(regex, false).ok_or_else(cannot)?)),
                _ => return Err(cannot()),
            };
            let name = name.to_ascii_lowercase();
            if name == "host" {
                return Err(cannot());
            }
            one(Match { headers: BTreeMap::from([(name, value)]), ..Match::default() })
        }
        "query" => {
            let pair = |arg: &String| arg.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            let pairs = args.iter().map(pair).collect::<Option<Vec<_>>>().ok_or_else(cannot)?;
            let value = |value: String| if value == "*" { Value::Present(true) } else { Value::Exact(value) };
            Which {
                any: pairs
                    .into_iter()
                    .map(|(name, held)| Match { query: BTreeMap::from([(name, value(held))]), ..Match::default() })
                    .collect(),
                except: Vec::new(),
            }
        }
        "not" => {
            let inner = match args.split_first() {
                Some((name, args)) => condition(&Directive {
                    name: name.clone(),
                    args: args.to_vec(),
                    block: None,
                    place: directive.place.clone(),
                })?,
                None => all(directive.inside())?,
            };
            if !inner.except.is_empty() {
                return Err(cannot());
            }
            Which { any: vec![Match::default()], except: inner.any }
        }
        _ => return Err(cannot()),
    })
}

/// All conditions of a block.
pub fn all(block: &[Directive]) -> Result<Which, String> {
    let mut which = Which::all();
    // Values of one kind on several lines are alternatives; fields and exceptions add up.
    let mut kinds: BTreeMap<&str, Vec<Which>> = BTreeMap::new();
    for directive in block {
        kinds.entry(directive.name.as_str()).or_default().push(condition(directive)?);
    }
    for (kind, conditions) in kinds {
        let alternatives = matches!(kind, "path" | "host" | "method" | "remote_ip" | "client_ip" | "query");
        if alternatives {
            let any = conditions.into_iter().flat_map(|condition| condition.any).collect();
            which = which.meet(&Which { any, except: Vec::new() });
        } else {
            which = conditions.iter().fold(which, |which, condition| which.meet(condition));
        }
    }
    Ok(which)
}

/// `*Upgrade*`, `v*`: a value with `*` at its ends.
fn wildcard(text: &str) -> Value {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (None, None) => Value::Exact(text.to_owned()),
        _ if text == "*" => Value::Present(true),
        (start, end) => {
            let (front, back) = (if start.is_some() { "" } else { "^" }, if end.is_some() { "" } else { "$" });
            Value::Regex(format!("{front}{}{back}", regex::escape(text.trim_matches('*'))))
        }
    }
}
