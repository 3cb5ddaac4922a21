//! A tree of YAML, and the text that it is written as: short mappings on one line, long ones in blocks, each scalar quoted where it must be.

use std::fmt::Write;

/// Longer lines are written as blocks.
const WIDTH: usize = 110;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A text, quoted where YAML would take it for something else.
    Text(String),
    /// A number or a boolean, as it is.
    Bare(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in this order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number or a boolean.
    pub fn bare(value: impl ToString) -> Self {
        Self::Bare(value.to_string())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Node::text(text)).collect())
    }

    /// One text alone, several as a list.
    pub fn one_or_many<T: AsRef<str>>(texts: &[T]) -> Self {
        match texts {
            [one] => Self::text(one.as_ref()),
            many => Self::texts(many.iter().map(AsRef::as_ref)),
        }
    }

    /// A mapping.
    pub fn map<const N: usize>(entries: [(&str, Node); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        match self {
            Node::Text(_) | Node::Bare(_) => false,
            Node::List(items) => items.is_empty(),
            Node::Map(entries) => entries.is_empty(),
        }
    }

    fn flow(&self, out: &mut String) {
        match self {
            Node::Text(text) => out.push_str(&scalar(text)),
            Node::Bare(text) => out.push_str(text),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.flow(out);
                }
                out.push(']');
            }
            Node::Map(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    let _ = write!(out, "{}{}: ", if index == 0 { "" } else { ", " }, scalar(key));
                    value.flow(out);
                }
                out.push('}');
            }
        }
    }

    /// Writes it behind a `key:` or a `-` that ends at this column, and a line end. Blocks go to `indent`.
    fn write(&self, out: &mut String, column: usize, indent: usize) {
        let mut line = String::new();
        self.flow(&mut line);
        let block = column + line.chars().count() > WIDTH;
        match self {
            Node::Map(entries) if block && !entries.is_empty() => {
                out.push('\n');
                for (key, value) in entries {
                    entry(out, indent, key, value);
                }
            }
            Node::List(items) if block && !items.is_empty() => {
                out.push('\n');
                for value in items {
                    item(out, indent, value);
                }
            }
            _ => {
                let _ = writeln!(out, " {line}");
            }
        }
    }
}

/// Writes `key: value`.
pub fn entry(out: &mut String, indent: usize, key: &str, value: &Node) {
    let key = scalar(key);
    let _ = write!(out, "{:indent$}{key}:", "");
    value.write(out, indent + key.chars().count() + 2, indent + 2);
}

/// Writes `- value`. A mapping that is too long for a line begins on that of the dash.
pub fn item(out: &mut String, indent: usize, value: &Node) {
    let mut text = String::new();
    value.write(&mut text, indent + 2, indent + 2);
    // A block begins with a line end and its own indentation, in whose last two columns the dash stands.
    let rest = text.strip_prefix('\n').map_or(&text[1..], |block| &block[indent + 2..]);
    let _ = write!(out, "{:indent$}- {rest}", "");
}

/// Writes a comment, a line for each of its lines.
pub fn comment(out: &mut String, indent: usize, text: &str) {
    for line in text.lines() {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(out, "{:indent$}# {}", "", line.trim_end());
    }
}

/// A text as a scalar in any place, flow lists included. What stands for a variable in our files is written so that it does not.
fn scalar(text: &str) -> String {
    let text = text.replace("${", "$${");
    if is_plain(&text) {
        return text;
    }
    if text.contains(['\\', '"'])
        && !text.chars().any(|c| c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
    {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Can it stand without quotes, and stay a text?
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf"];
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ':' | '+' | '@' | '%' | '=');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    // `0x1f`, `1e3`, `1_000`, and `12:30`, which is a number to older readers.
    let digits = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b'_' | b':' | b'x' | b'o');
    let number = text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(digits);
    // An address with a port is all digits and signs, and no number to anybody.
    let address =
        text.matches('.').count() == 3 && text.parse::<std::net::SocketAddr>().is_ok() || text.parse::<ipnet::Ipv4Net>().is_ok();
    // `/*` is how a prefix ends here, and stands in every other line.
    let body = text.strip_suffix("/*").unwrap_or(text);
    starts
        && body.chars().all(allowed)
        && !text.ends_with(':')
        && (!number || address)
        && !text.contains("::")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(node: &Node) -> serde_yaml::Value {
        let mut text = String::new();
        entry(&mut text, 0, "key", node);
        item(&mut text, 0, &Node::bare(1));
        let text = text.replace("- 1\n", "");
        let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        value["key"].clone()
    }

    #[test]
    fn what_is_plain_stays_plain() {
        for text in ["example.com", "/v1/*", "10.0.0.1:80", "10.0.0.0/8", "30s", "certs/a.pem", "unix:/run/a.sock", "app:80"] {
            assert_eq!(scalar(text), text);
        }
        for text in
            ["*.example.com", "[::1]:80", "true", "1.2", "443", "", "a: b", "a #b", "^/x", "off", "{host}", "a,b", "0x10", "1e3"]
        {
            assert_ne!(scalar(text), text);
        }
        assert_eq!(scalar(r"^/a\.b$"), r"'^/a\.b$'");
        assert_eq!(scalar("/${1}x"), "\"/$${1}x\"");
    }

    #[test]
    fn long_mappings_are_blocks() {
        let long = Node::map([("a", Node::text("x".repeat(60))), ("b", Node::texts(["y".repeat(60), "z".repeat(60)]))]);
        let mut out = String::new();
        item(&mut out, 2, &Node::map([("kind", long)]));
        let (x, y, z) = ("x".repeat(60), "y".repeat(60), "z".repeat(60));
        assert_eq!(out, format!("  - kind:\n      a: {x}\n      b:\n        - {y}\n        - {z}\n"));
    }

    fn nodes() -> impl Strategy<Value = Node> {
        let leaf =
            prop_oneof![any::<String>().prop_map(Node::Text), "[-#:,{}'\"\\[\\] \n\ta0*&!|>%@`.~]{0,12}".prop_map(Node::Text)];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Node::List),
                proptest::collection::btree_map("[ -~]{0,50}", inner, 0..5).prop_map(|map| Node::Map(map.into_iter().collect())),
            ]
        })
    }

    fn value(node: &Node) -> serde_yaml::Value {
        let own = |text: &str| text.replace("${", "$${").into();
        match node {
            Node::Text(text) | Node::Bare(text) => own(text),
            Node::List(items) => serde_yaml::Value::Sequence(items.iter().map(value).collect()),
            Node::Map(entries) => serde_yaml::Value::Mapping(entries.iter().map(|(key, node)| (own(key), value(node))).collect()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_what_is_read(node in nodes()) {
            prop_assert_eq!(read_back(&node), value(&node));
        }
    }
}
