//! Rules of routers: ``Host(`a`) && (PathPrefix(`/x`) || !Method(`POST`))``.

use std::collections::BTreeMap;

use super::super::{
    matching::{Match, PathMatch, Value},
    order::canonical,
    text::expression,
};
use crate::types::HostPattern;

/// Parentheses deeper than this are no rule.
const MAX_DEPTH: usize = 32;
/// More ways to meet a rule are too many for routes.
const MAX_WAYS: usize = 200;

/// One way to meet a rule: this, and none of these.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Way {
    /// What must hold.
    pub matches: Match,
    /// What must not.
    pub except: Vec<Match>,
}

/// The ways to meet a rule; `Err` says what there is nothing for.
pub fn parse(text: &str) -> Result<Vec<Way>, String> {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let ways = parser.any()?;
    if !parser.rest.is_empty() {
        return Err(format!("`{}` is not understood", parser.rest));
    }
    Ok(ways)
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Result<Vec<Way>, String> {
        let mut ways = self.all()?;
        while self.take("||") {
            ways.extend(self.all()?);
        }
        if ways.len() > MAX_WAYS { Err("there are too many ways to meet it".into()) } else { Ok(ways) }
    }

    fn all(&mut self) -> Result<Vec<Way>, String> {
        let mut ways = self.one()?;
        while self.take("&&") {
            let other = self.one()?;
            let both = |way: &Way| {
                let met = other.iter().filter_map(|other| {
                    let except = [way.except.clone(), other.except.clone()].concat();
                    Some(Way { matches: way.matches.meet(&other.matches)?, except })
                });
                met.collect::<Vec<_>>()
            };
            ways = ways.iter().flat_map(both).collect();
            if ways.len() > MAX_WAYS {
                return Err("there are too many ways to meet it".into());
            }
        }
        Ok(ways)
    }

    fn one(&mut self) -> Result<Vec<Way>, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is too deep".into());
        }
        let found = if self.take("!") {
            let ways = self.one()?;
            if ways.iter().any(|way| !way.except.is_empty()) {
                return Err("`!` of `!` cannot be told as a route".into());
            }
            vec![Way { matches: Match::default(), except: ways.into_iter().map(|way| way.matches).collect() }]
        } else if self.take("(") {
            let ways = self.any()?;
            if !self.take(")") {
                return Err("a parenthesis is not closed".into());
            }
            ways
        } else {
            self.function()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn function(&mut self) -> Result<Vec<Way>, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        self.rest = self.rest[end..].trim_start();
        if name.is_empty() || !self.take("(") {
            return Err(format!("`{}` is no condition", if name.is_empty() { self.rest } else { &name }));
        }
        let mut args = Vec::new();
        while !self.take(")") {
            let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '`' | '"' | '\'')) else {
                return Err(format!("`{name}` is not closed"));
            };
            let Some((arg, rest)) = self.rest[1..].split_once(quote) else { return Err(format!("`{name}` is not closed")) };
            args.push(arg.to_owned());
            self.rest = rest.trim_start();
            self.take(",");
        }
        Ok(condition(&name, &args)?.into_iter().map(|matches| Way { matches, except: Vec::new() }).collect())
    }
}

fn condition(name: &str, args: &[String]) -> Result<Vec<Match>, String> {
    let cannot = || format!("there is no such condition of a route: `{name}({})`", args.join(", "));
    let paths = |make: &dyn Fn(&str) -> Option<PathMatch>| {
        let paths = args.iter().map(|arg| make(arg).map(|path| Match { path, ..Match::default() }));
        paths.collect::<Option<Vec<_>>>().ok_or_else(cannot)
    };
    let field = |value: Value| match args {
        [name, ..] => Ok(vec![Match { headers: BTreeMap::from([(name.to_ascii_lowercase(), value)]), ..Match::default() }]),
        [] => Err(cannot()),
    };
    if matches!(name, "Header" | "Headers" | "HeaderRegexp" | "HeadersRegexp")
        && args.first().is_some_and(|name| name.eq_ignore_ascii_case("host"))
    {
        return Err(cannot());
    }
    match name {
        "Host" | "HostHeader" => {
            let hosts = args.iter().map(|arg| arg.to_ascii_lowercase().parse()).collect::<Result<Vec<HostPattern>, _>>();
            Ok(vec![Match { hosts: hosts.map_err(|error| error.to_string())?, ..Match::default() }])
        }
        "HostRegexp" => {
            let hosts = args
                .iter()
                .map(|arg| host(arg))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| format!("hosts are not matched by expressions: `{}`", args.join(", ")))?;
            Ok(vec![Match { hosts: if hosts.contains(&HostPattern::Any) { Vec::new() } else { hosts }, ..Match::default() }])
        }
        "Path" => paths(&|arg| match arg.contains('{') {
            true => variables(arg).map(|regex| PathMatch::Regex(format!("^{regex}$"))),
            false => canonical(arg).map(|path| PathMatch::Exact(path.to_owned())),
        }),
        "PathPrefix" => paths(&|arg| match arg {
            "/" | "" => Some(PathMatch::Any),
            arg if arg.contains('{') => variables(arg).map(|regex| PathMatch::Regex(format!("^{regex}"))),
            arg => arg.starts_with('/').then(|| PathMatch::Begins(arg.to_owned())),
        }),
        "PathRegexp" => paths(&|arg| expression(arg, false).map(PathMatch::Regex)),
        "Method" => Ok(vec![Match { methods: args.iter().map(|arg| arg.to_uppercase()).collect(), ..Match::default() }]),
        "Header" | "Headers" => field(Value::Exact(args.get(1).ok_or_else(cannot)?.clone())),
        "HeaderRegexp" | "HeadersRegexp" => {
            field(Value::Regex(expression(args.get(1).ok_or_else(cannot)?, false).ok_or_else(cannot)?))
        }
        "Query" => {
            let (name, value) = match args {
                [name, value] => (name.as_str(), Some(value.as_str())),
                [pair] => pair.split_once('=').map_or((pair.as_str(), None), |(name, value)| (name, Some(value))),
                _ => return Err(cannot()),
            };
            let value = value.map_or(Value::Present(true), |value| Value::Exact(value.to_owned()));
            Ok(vec![Match { query: BTreeMap::from([(name.to_owned(), value)]), ..Match::default() }])
        }
        "ClientIP" => {
            let net = |arg: &String| {
                arg.parse::<ipnet::IpNet>()
                    .map(|net| net.trunc())
                    .or_else(|_| arg.parse::<std::net::IpAddr>().map(Into::into))
                    .ok()
            };
            let clients = args.iter().map(net).collect::<Option<Vec<_>>>().ok_or_else(cannot)?;
            Ok(vec![Match { clients, ..Match::default() }])
        }
        _ => Err(cannot()),
    }
}

/// `{name:[a-z]+}` and `{name}` in a path of version 2, as an expression.
fn variables(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, inside)) = rest.split_once('{') {
        out.push_str(&regex::escape(plain));
        let (inside, behind) = inside.split_once('}')?;
        let pattern = inside.split_once(':').map_or("[^/]+", |(_, pattern)| pattern);
        out.push_str(&format!("(?:{pattern})"));
        rest = behind;
    }
    out.push_str(&regex::escape(rest));
    expression(&out, false)
}

/// `{any:.+}`, `{sub:[a-z]+}.example.com`, `^.+\.example\.com$` as hosts of ours.
fn host(text: &str) -> Option<HostPattern> {
    let plain = text.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
    if matches!(plain.as_str(), ".+" | ".*") || plain.starts_with('{') && plain.ends_with('}') && plain.matches('{').count() == 1
    {
        return Some(HostPattern::Any);
    }
    let rest = match plain.strip_prefix('{') {
        Some(inside) => inside.split_once('}')?.1.strip_prefix('.')?,
        None => {
            [".+.", ".*.", "[^.]+.", "[a-z0-9-]+.", "[a-z]+.", "[a-zA-Z0-9-]+."].iter().find_map(|any| plain.strip_prefix(any))?
        }
    };
    format!("*.{rest}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_the_ways_to_meet_it() {
        let ways = parse("Host(`a.example`, `b.example`) && (PathPrefix(`/x`) || Path(`/y`)) && !Method(`POST`)").unwrap();
        assert_eq!(ways.len(), 2);
        assert!(ways.iter().all(|way| way.matches.hosts.len() == 2 && way.except.len() == 1));
        assert_eq!(ways[0].matches.path, PathMatch::Begins("/x".into()));
        for bad in ["Host(`a", "Host(`a`) &&", "(Host(`a`)", "Nothing(`a`)", "Host(`a b`)", "", "HostRegexp(`[a`)"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"(".repeat(100)).is_err());
    }
}
