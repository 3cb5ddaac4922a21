//! ACLs and conditions: what a rule asks of a request.

use std::collections::BTreeMap;

use super::super::{
    matching::{Match, PathMatch, Value},
    order::canonical,
    text::expression,
};
use crate::types::HostPattern;

/// One way to meet a condition: this, and none of these.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// What must hold.
    pub matches: Match,
    /// What must not.
    pub except: Vec<Match>,
}

/// The listeners of a frontend.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// In cleartext: name and port.
    pub clear: Vec<(String, String)>,
    /// Over TLS.
    pub tls: Vec<(String, String)>,
}

/// The ACLs of a section, by name; those that cannot be told with the reason.
pub type Acls = BTreeMap<String, Result<Vec<Match>, String>>;

/// What one test of an ACL asks, as matches of which one must hold.
pub fn criterion(words: &[String], listeners: &Listeners) -> Result<Vec<Match>, String> {
    let Some((fetch, rest)) = words.split_first() else { return Err("there is no test".into()) };
    let cannot = || format!("there is no such condition of a route: `{fetch}`");
    let (mut ignore_case, mut method) = (false, None);
    let mut values: Vec<&str> = Vec::new();
    let mut rest = rest.iter();
    let mut flags = true;
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" if flags => ignore_case = true,
            "-m" if flags => method = rest.next().map(String::as_str),
            "-n" if flags => {}
            "-f" | "-M" | "-u" if flags => return Err("values are written in the configuration, and not in a file".into()),
            "--" if flags => flags = false,
            word => {
                flags = false;
                values.push(word);
            }
        }
    }
    // `hdr(host),lower`: what is compared without regard to case anyway.
    let (sample, converters) = fetch.split_once(',').unwrap_or((fetch, ""));
    if converters.split(',').any(|converter| !matches!(converter, "" | "lower" | "host_only" | "field(1" | ":)" | "url_dec")) {
        return Err(cannot());
    }
    let (name, argument) = sample.strip_suffix(')').and_then(|sample| sample.split_once('(')).unwrap_or((sample, ""));
    let argument = argument.split(',').next().unwrap_or_default();
    let name = name.strip_prefix("req.").or_else(|| name.strip_prefix("http_")).unwrap_or(name);
    let (base, suffix) = match name.rsplit_once('_') {
        Some((base @ ("path" | "hdr" | "url" | "urlp" | "base" | "cook" | "fhdr"), kind)) => (base, kind),
        _ => (name, method.unwrap_or("str")),
    };
    let each = |one: &dyn Fn(&str) -> Result<Match, String>| values.iter().map(|value| one(value)).collect::<Result<Vec<_>, _>>();
    let value_of = |value: &str| -> Result<Value, String> {
        let escaped = regex::escape(value);
        let flag = if ignore_case { "(?i)" } else { "" };
        Ok(match suffix {
            "str" if !ignore_case => Value::Exact(value.to_owned()),
            "str" => Value::Regex(format!("(?i)^{escaped}$")),
            "beg" => Value::Regex(format!("{flag}^{escaped}")),
            "end" => Value::Regex(format!("{flag}{escaped}$")),
            "sub" | "dom" | "dir" => Value::Regex(format!("{flag}{escaped}")),
            "reg" => Value::Regex(expression(value, ignore_case).ok_or_else(cannot)?),
            _ => return Err(cannot()),
        })
    };
    match (base, argument.to_ascii_lowercase().as_str()) {
        ("always_true" | "TRUE" | "HTTP" | "HTTP_1.1" | "HTTP_1.0" | "HTTP_URL_SLASH", _) => Ok(vec![Match::default()]),
        ("always_false" | "FALSE", _) => Ok(Vec::new()),
        ("METH_GET", _) => Ok(vec![Match { methods: vec!["GET".into(), "HEAD".into()], ..Match::default() }]),
        (meth, _) if meth.starts_with("METH_") => Ok(vec![Match { methods: vec![meth[5..].to_owned()], ..Match::default() }]),
        ("method", _) if suffix == "str" => {
            Ok(vec![Match { methods: values.iter().map(|value| value.to_uppercase()).collect(), ..Match::default() }])
        }
        ("LOCALHOST", _) => Ok(vec![Match { clients: vec!["127.0.0.0/8".parse().map_err(|_| cannot())?], ..Match::default() }]),
        ("src", _) => {
            let net = |value: &&str| {
                value
                    .parse::<ipnet::IpNet>()
                    .map(|net| net.trunc())
                    .or_else(|_| value.parse::<std::net::IpAddr>().map(Into::into))
            };
            let clients = values
                .iter()
                .map(net)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| "clients are told by address ranges".to_owned())?;
            Ok(vec![Match { clients, ..Match::default() }])
        }
        ("ssl_fc", _) => Ok(at(&listeners.tls, listeners.clear.is_empty())),
        ("dst_port", _) => {
            let all = listeners.clear.iter().chain(&listeners.tls);
            let own: Vec<_> = all.clone().filter(|(_, port)| values.contains(&port.as_str())).cloned().collect();
            Ok(at(&own, own.len() == all.count()))
        }
        ("hdr" | "fhdr", "host") | ("ssl_fc_sni", _) => each(&|value| {
            host(suffix, value)
                .ok_or_else(|| format!("hosts are matched as `example.com` or `*.example.com`, and not by `{sample} {value}`"))
        }),
        ("hdr" | "fhdr", header) if suffix == "found" => {
            Ok(vec![Match { headers: BTreeMap::from([(header.to_owned(), Value::Present(true))]), ..Match::default() }])
        }
        ("hdr_cnt", header) if header != "host" => {
            let there = match values.as_slice() {
                ["gt", "0"] | ["ge", "1"] | ["1"] => true,
                ["0"] | ["eq", "0"] | ["lt", "1"] => false,
                _ => return Err(cannot()),
            };
            Ok(vec![Match { headers: BTreeMap::from([(header.to_owned(), Value::Present(there))]), ..Match::default() }])
        }
        ("hdr" | "fhdr", header) if !header.is_empty() => {
            each(&|value| Ok(Match { headers: BTreeMap::from([(header.to_owned(), value_of(value)?)]), ..Match::default() }))
        }
        ("cook" | "cookie", _) if !argument.is_empty() => {
            let start = format!("(^|; ?){}=", regex::escape(argument));
            let held =
                |text: String| Match { headers: BTreeMap::from([("cookie".to_owned(), Value::Regex(text))]), ..Match::default() };
            match suffix {
                "found" => Ok(vec![held(start)]),
                "str" => each(&|value| Ok(held(format!("{start}{}(;|$)", regex::escape(value))))),
                _ => Err(cannot()),
            }
        }
        ("urlp" | "url_param", _) if !argument.is_empty() && suffix == "found" => {
            Ok(vec![Match { query: BTreeMap::from([(argument.to_owned(), Value::Present(true))]), ..Match::default() }])
        }
        ("urlp" | "url_param", _) if !argument.is_empty() => {
            each(&|value| Ok(Match { query: BTreeMap::from([(argument.to_owned(), value_of(value)?)]), ..Match::default() }))
        }
        ("path" | "url", _) => {
            let paths =
                values.iter().map(|value| path(suffix, value, ignore_case).ok_or_else(cannot)).collect::<Result<Vec<_>, _>>()?;
            Ok(paths.into_iter().map(|path| Match { path, ..Match::default() }).collect())
        }
        _ => Err(cannot()),
    }
}

/// At these listeners; anywhere when those are all.
fn at(own: &[(String, String)], all: bool) -> Vec<Match> {
    match (own.is_empty(), all) {
        (true, _) => Vec::new(),
        (_, true) => vec![Match::default()],
        _ => vec![Match { listeners: own.iter().map(|(name, _)| name.clone()).collect(), ..Match::default() }],
    }
}

/// Hosts are compared without regard to case, and without the port.
fn host(kind: &str, value: &str) -> Option<Match> {
    let value = value.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let patterns = match kind {
        "str" => vec![value],
        "end" if value.starts_with('.') => vec![format!("*{value}")],
        // `^(.*\.)?example\.com$` and the like.
        "reg" => {
            let plain = value.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
            let optional = ["(.*.)?", "(.+.)?", "([^.]+.)?"].iter().find_map(|any| plain.strip_prefix(any));
            let below = [".*.", ".+.", "[^.]+.", "(.*).", "(.+)."].iter().find_map(|any| plain.strip_prefix(any));
            match (optional, below) {
                (Some(host), _) => vec![host.to_owned(), format!("*.{host}")],
                (_, Some(host)) => vec![format!("*.{host}")],
                _ => vec![plain],
            }
        }
        _ => return None,
    };
    let hosts = patterns.iter().map(|pattern| pattern.parse::<HostPattern>().ok()).collect::<Option<Vec<_>>>()?;
    Some(Match { hosts, ..Match::default() })
}

fn path(kind: &str, value: &str, ignore_case: bool) -> Option<PathMatch> {
    let flag = if ignore_case { "(?i)" } else { "" };
    let escaped = regex::escape(value);
    let cased = ignore_case && value.bytes().any(|b| b.is_ascii_alphabetic());
    Some(match kind {
        "str" if !cased && canonical(value).is_some() => PathMatch::Exact(value.to_owned()),
        "str" => PathMatch::Regex(format!("{flag}^{escaped}$")),
        "beg" if !cased && value.starts_with('/') => PathMatch::Begins(value.to_owned()),
        "beg" => PathMatch::Regex(format!("{flag}^{escaped}")),
        "end" => PathMatch::Regex(format!("{flag}{escaped}$")),
        "sub" => PathMatch::Regex(format!("{flag}{escaped}")),
        "dir" => PathMatch::Regex(format!("{flag}/{}(/|$)", regex::escape(value.trim_matches('/')))),
        "reg" => PathMatch::Regex(expression(value, ignore_case)?),
        _ => return None,
    })
}

/// `if a b or { test } !c`, `unless ...`, as the ways to meet it.
pub fn condition(words: &[String], acls: &Acls, listeners: &Listeners) -> Result<Vec<Way>, String> {
    let Some((mut kind, words)) = words.split_first() else { return Ok(vec![Way::default()]) };
    // What is not over TLS has listeners of its own.
    let (negative, positive) = ("unless".to_owned(), "if".to_owned());
    let flipped: Vec<String> = std::iter::once("!".to_owned()).chain(words.iter().cloned()).collect();
    let mut words = words;
    if *kind == negative && words.join(" ") == "{ ssl_fc }" {
        (kind, words) = (&positive, &flipped);
    }
    let mut all = Vec::new();
    let mut ways = vec![Way::default()];
    let mut words = words.iter().peekable();
    let mut negated = false;
    while let Some(word) = words.next() {
        let mut word = word.as_str();
        if matches!(word, "or" | "||") {
            all.append(&mut ways);
            ways = vec![Way::default()];
            continue;
        }
        while let Some(rest) = word.strip_prefix('!') {
            negated = !negated;
            word = rest;
        }
        if word.is_empty() {
            continue;
        }
        let (found, is_tls) = if word == "{" {
            let inside: Vec<String> = words.by_ref().take_while(|word| *word != "}").cloned().collect();
            (criterion(&inside, listeners)?, inside.first().is_some_and(|fetch| fetch == "ssl_fc"))
        } else {
            match acls.get(word) {
                Some(found) => (found.clone()?, false),
                None => (criterion(&[word.to_owned()], listeners).map_err(|_| format!("there is no ACL `{word}`"))?, false),
            }
        };
        let found = if negated && is_tls { at(&listeners.clear, listeners.tls.is_empty()) } else { found };
        if negated && !is_tls {
            ways.iter_mut().for_each(|way| way.except.extend(found.iter().cloned()));
        } else {
            let meet = |way: &Way| {
                found
                    .iter()
                    .filter_map(|found| Some(Way { matches: way.matches.meet(found)?, ..way.clone() }))
                    .collect::<Vec<_>>()
            };
            ways = ways.iter().flat_map(meet).collect();
        }
        negated = false;
        if ways.len() > 200 {
            return Err("there are too many ways to meet it".into());
        }
    }
    all.append(&mut ways);
    if kind == "unless" {
        if all.iter().any(|way| !way.except.is_empty()) {
            return Err("`unless` with `!` in it cannot be told as a route".into());
        }
        return Ok(vec![Way { matches: Match::default(), except: all.into_iter().map(|way| way.matches).collect() }]);
    }
    Ok(all)
}
