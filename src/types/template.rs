//! Text with `{variables}`, split once at compile time and filled in for each request or log line. `{{` and `}}` are the
//! braces themselves.

use std::fmt;

/// Text with places for values of type `V`, which names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<V>(Vec<Part<V>>);

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<V> {
    /// Text as it is.
    Text(Box<str>),
    /// The place of a value.
    Value(V),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// `{name}` where no such variable exists.
    Unknown(String),
    /// A brace without its partner.
    Unbalanced,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Unknown(name) => write!(f, "there is no variable `{{{name}}}` here"),
            TemplateError::Unbalanced => f.write_str("a brace without its partner: variables are `{name}`, braces `{{` and `}}`"),
        }
    }
}

impl<V: Copy> Template<V> {
    /// Splits the text at its variables, of which `known` lists all that may be used.
    pub fn parse(text: &str, known: &[(&str, V)]) -> Result<Self, TemplateError> {
        Self::parse_with(text, |name| known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    /// As [`Template::parse`]; `find` says which variable a name stands for.
    pub fn parse_with(text: &str, mut find: impl FnMut(&str) -> Option<V>) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            plain.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                plain.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let inside = rest.strip_prefix('{').ok_or(TemplateError::Unbalanced)?;
            let (name, after) = inside.split_once('}').ok_or(TemplateError::Unbalanced)?;
            let value = find(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Value(value));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts))
    }

    /// The text, when it has no variable at all.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Text and variables, in order.
    pub fn parts(&self) -> &[Part<V>] {
        &self.0
    }

    /// The pieces of text between the variables.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Value(_) => None,
        })
    }

    /// The variables, in order.
    pub fn values(&self) -> impl Iterator<Item = V> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(value) => Some(*value),
        })
    }

    /// The text with every variable filled in by `value`, which appends to the text so far.
    pub fn fill(&self, mut value: impl FnMut(V, &mut String)) -> String {
        let mut out = String::with_capacity(64);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(variable) => value(*variable, &mut out),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, char)] = &[("a", 'A'), ("b", 'B')];

    #[test]
    fn variables_are_filled_in_and_text_is_kept() {
        let template = Template::parse("x{a}{b} y", KNOWN).unwrap();
        assert_eq!(template.fill(|name, out| out.push(name)), "xAB y");
        assert_eq!(template.literal(), None);
        assert_eq!(Template::parse("plain", KNOWN).unwrap().literal(), Some("plain"));
        assert_eq!(Template::parse("", KNOWN).unwrap().literal(), Some(""));
        assert_eq!(Template::parse("{{a}} {{{{", KNOWN).unwrap().literal(), Some("{a} {{"));
        assert_eq!(Template::parse("{{{a}}}", KNOWN).unwrap().fill(|name, out| out.push(name)), "{A}");
    }

    #[test]
    fn a_mistake_is_named() {
        assert_eq!(Template::parse("{c}", KNOWN), Err(TemplateError::Unknown("c".into())));
        for text in ["{a", "a}", "{a}}", "{", "{{a}"] {
            assert_eq!(Template::parse(text, KNOWN), Err(TemplateError::Unbalanced), "{text}");
        }
    }
}
