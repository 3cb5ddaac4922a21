//! nginx's variables in a text, in the words of our templates.

use std::collections::BTreeMap;

pub use super::super::text::{expression, millis, whole};

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// `$name` or `${name}`.
    Variable(String),
}

/// The pieces of a text.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, end) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                // A group of an expression is one digit.
                let digit = after.starts_with(|c: char| c.is_ascii_digit());
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                let end = if digit { 1 } else { end };
                (&after[..end], end)
            }
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            plain.push('$');
            rest = after;
            continue;
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Variable(name.to_owned()));
        rest = &after[end..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

/// Constants of `set`, put in their places. One that is made of itself stays.
pub fn with_constants(text: &str, constants: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => out.push_str(&text),
            Part::Variable(name) => match constants.get(&name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("${{{name}}}")),
            },
        }
    }
    out
}

/// Where a text is used: each place has variables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A field of a request.
    Request,
    /// A field of a response.
    Response,
    /// The target of a redirect.
    Redirect,
}

/// A text as a template; the variable that there is nothing for otherwise.
pub fn template(text: &str, used: Use) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Variable(name) => out.push_str(&variable(&name, used).ok_or(name)?),
        }
    }
    // `?` and the arguments are one word here.
    Ok(out.replace("?{query}", "{query}").replace("&{query}", ""))
}

fn variable(name: &str, used: Use) -> Option<String> {
    let common = match name {
        "host" | "http_host" => Some("{host}"),
        "remote_addr" | "realip_remote_addr" | "binary_remote_addr" if used != Use::Redirect => Some("{client_ip}"),
        "request_id" if used != Use::Redirect => Some("{request_id}"),
        _ => None,
    };
    if let Some(found) = common {
        return Some(found.to_owned());
    }
    match used {
        Use::Response => (name == "upstream_addr").then(|| "{endpoint}".to_owned()),
        Use::Redirect => Some(
            match name {
                "scheme" => "{scheme}",
                "request_uri" => "{path}{query}",
                "uri" | "document_uri" => "{path}",
                "args" | "query_string" => "{query}",
                "is_args" => "",
                _ => return None,
            }
            .to_owned(),
        ),
        Use::Request => Some(match name {
            "scheme" => "{scheme}".to_owned(),
            "request_method" => "{method}".to_owned(),
            "uri" | "document_uri" => "{path}".to_owned(),
            "request_uri" => "{path}?{query}".to_owned(),
            "args" | "query_string" => "{query}".to_owned(),
            "ssl_client_s_dn" => "{client_cert}".to_owned(),
            name => {
                let (kind, name) = name.split_once('_')?;
                match kind {
                    "http" => format!("{{header:{}}}", name.replace('_', "-")),
                    "cookie" => format!("{{cookie:{name}}}"),
                    "arg" => format!("{{query:{name}}}"),
                    _ => return None,
                }
            }
        }),
    }
}

/// A length of time as nginx writes it: `60`, `30s`, `500ms`, `1m`, `1h`, `1d`.
pub fn duration(text: &str) -> Option<String> {
    match text {
        "" => None,
        text if text.bytes().all(|b| b.is_ascii_digit()) => Some(format!("{text}s")),
        text if text.parse::<crate::types::Span>().is_ok() => Some(text.to_owned()),
        _ => None,
    }
}

/// A size as nginx writes it: `1024`, `8k`, `10m`, `1g`; `0` is none.
pub fn size(text: &str) -> Option<String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    digits.parse::<u64>().ok()?;
    Some(match unit {
        "" => format!("{digits}B"),
        "k" | "K" => format!("{digits}KiB"),
        "m" | "M" => format!("{digits}MiB"),
        "g" | "G" => format!("{digits}GiB"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_both_forms() {
        let text = |text: &str| Part::Text(text.into());
        let variable = |name: &str| Part::Variable(name.into());
        assert_eq!(
            parts("a$b-${c}d$1x$"),
            [text("a"), variable("b"), text("-"), variable("c"), text("d"), variable("1"), text("x$")]
        );
    }

    #[test]
    fn a_text_is_a_template() {
        assert_eq!(template("https://$host$request_uri", Use::Redirect).unwrap(), "https://{host}{path}{query}");
        assert_eq!(template("/new$uri$is_args$args", Use::Redirect).unwrap(), "/new{path}{query}");
        assert_eq!(template("/new?$args", Use::Redirect).unwrap(), "/new{query}");
        assert_eq!(template("{$http_x_user}", Use::Request).unwrap(), "{{{header:x-user}}}");
        assert_eq!(template("$made_up", Use::Redirect), Err("made_up".into()));
    }
}
