//! What the importers do with texts: expressions and lengths of time.

/// An expression of PCRE as one of ours, if it is one.
pub fn expression(text: &str, ignore_case: bool) -> Option<String> {
    // The slash needs no backslash.
    let text = text.replace("\\/", "/");
    let text = if ignore_case { format!("(?i){text}") } else { text };
    regex::RegexBuilder::new(&text).size_limit(1 << 20).build().ok().map(|_| text)
}

/// The expression so that it matches the whole path, with the same groups.
pub fn whole(expression: &str) -> String {
    let (flags, bare) = match expression.strip_prefix("(?i)") {
        Some(bare) => ("(?i)", bare),
        None => ("", expression),
    };
    match (bare.contains('|'), bare.starts_with('^'), bare.ends_with('$') && !bare.ends_with("\\$")) {
        (false, true, true) => expression.to_owned(),
        (false, true, false) => format!("{flags}{bare}.*$"),
        (false, false, true) => format!("{flags}^.*?{bare}"),
        _ => format!("{flags}^.*?(?:{bare}).*$"),
    }
}

/// The milliseconds of a duration of ours.
pub fn millis(text: &str) -> u128 {
    text.parse::<crate::types::Span>().map_or(0, |span| span.get().as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_made_to_match_the_whole_path() {
        for (expression, made) in
            [("^/a/(.*)$", "^/a/(.*)$"), ("^/a/", "^/a/.*$"), ("/a$", "^.*?/a$"), ("(?i)^/a|/b$", "(?i)^.*?(?:^/a|/b$).*$")]
        {
            assert_eq!(whole(expression), made);
            assert!(regex::Regex::new(made).is_ok());
        }
    }
}
