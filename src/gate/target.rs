//! The one canonical form of a path: what every matcher, filter and log line sees.
//!
//! What is forwarded is the client's own path, so a path that the services behind us could read in another way
//! than we do is refused rather than guessed at:
//!
//! - `..;x` (and `.;x`): a segment with a parameter is an ordinary segment here, as RFC 3986 section 3.3 has
//!   it; Java servers cut the parameter off first and then see `..`. A rule for `/admin/*` would be walked around.
//! - `//` before a `..`: after merging slashes the `..` takes away the segment in front, without merging the empty one.
//! - `..` next to an encoded slash or backslash (`%2f..`, `%5c..`): harmless until somebody decodes it.
//!
//! A parameter on any other segment (`/a;v=1`) is left alone and is part of the segment: matchers compare it. So is `%5C`: it
//! is a byte of its segment and never a separator.
//!
//! Clients send some visible bytes raw that a URI must not hold. They pass, and go on percent-encoded where the `http` crate
//! cannot hold them, which is the form that browsers send (`written`).

use std::{borrow::Cow, fmt::Write};

use compact_str::CompactString;

use super::Refusal;

/// The canonical form of an absolute path (without query): dot segments removed, raw or as `%2e`; percent-escapes of
/// unreserved characters decoded and all others in upper case; repeated slashes merged; `%2F` and `%5C` left alone; `<`, `>`
/// and the backtick encoded.
///
/// Borrowed when the path was canonical already, as almost every one is. Applying it twice changes nothing.
pub fn canonical(path: &str) -> Result<Cow<'_, str>, Refusal> {
    let bytes = path.as_bytes();
    match bytes.first() {
        Some(b'/') => {}
        Some(&other) => return Err(refuse(other)),
        None => return Err(Refusal::BadTarget),
    }
    let mut previous = 0;
    let mut clean = true;
    for &byte in bytes {
        match CLASS[byte as usize] {
            Class::Plain => {}
            Class::Dot => clean &= previous != b'/',
            Class::Slash => clean &= previous != b'/',
            Class::Percent | Class::Encoded => clean = false,
            Class::Never => return Err(refuse(byte)),
        }
        previous = byte;
    }
    if clean { Ok(Cow::Borrowed(path)) } else { resolve(&decode(path)?).map(Cow::Owned) }
}

/// What a byte of a path is to the first pass.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Dot,
    Slash,
    Percent,
    /// Passes, and goes on percent-encoded.
    Encoded,
    Never,
}

/// Visible ASCII but for the backslash, which some services take for a slash, and for what ends a path. `"`, `<`, `>`, `^`,
/// the backtick, `{`, `|` and `}` are not in RFC 3986 either, but clients send them, and nobody reads them as anything else.
const CLASS: [Class; 256] = {
    let mut table = [Class::Never; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'.' => Class::Dot,
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'<' | b'>' | b'`' => Class::Encoded,
            b'#' | b'?' | b'\\' => Class::Never,
            _ => Class::Plain,
        };
        byte += 1;
    }
    table
};

/// Why a byte may not be in a target.
pub(super) fn refuse(byte: u8) -> Refusal {
    match byte {
        b'#' => Refusal::Fragment,
        b'\\' => Refusal::Backslash,
        0 => Refusal::NulByte,
        _ => Refusal::BadTarget,
    }
}

/// The target as it goes on, where that is not as it came: with the bytes percent-encoded that the `http` crate cannot hold,
/// which are not the same in a path and in a query.
pub(super) fn written(target: &str) -> Option<String> {
    if !target.bytes().any(|byte| unwritten_in_path(byte) || unwritten_in_query(byte)) {
        // Almost no target comes past this.
        return None;
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if !path.bytes().any(unwritten_in_path) && !query.is_some_and(|query| query.bytes().any(unwritten_in_query)) {
        return None;
    }
    let mut written = String::with_capacity(target.len() + 16);
    encode(path, unwritten_in_path, &mut written);
    if let Some(query) = query {
        written.push('?');
        encode(query, unwritten_in_query, &mut written);
    }
    Some(written)
}

/// A query as it goes on; see [`written`].
pub(super) fn written_query(query: &str) -> CompactString {
    let mut written = CompactString::with_capacity(query.len());
    encode(query, unwritten_in_query, &mut written);
    written
}

const fn unwritten_in_path(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'`')
}

const fn unwritten_in_query(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>')
}

/// Appends the text with these bytes, which are ASCII, percent-encoded.
fn encode(text: &str, these: fn(u8) -> bool, out: &mut impl Write) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(these) {
        // Text takes what is written to it.
        let _ = write!(out, "{}%{:02X}", &rest[..at], rest.as_bytes()[at]);
        rest = &rest[at + 1..];
    }
    let _ = out.write_str(rest);
}

/// Decodes what may be decoded without changing the meaning (RFC 3986 section 6.2.2.2).
fn decode(path: &str) -> Result<String, Refusal> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        encode(before, unwritten_in_path, &mut decoded);
        let (escape, tail) = after.split_at_checked(2).ok_or(Refusal::BadEscape)?;
        if !escape.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refusal::BadEscape);
        }
        match u8::from_str_radix(escape, 16).map_err(|_| Refusal::BadEscape)? {
            0 => return Err(Refusal::NulInTarget),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => decoded.push(byte.into()),
            _ => {
                decoded.push('%');
                decoded.extend(escape.chars().map(|c| c.to_ascii_uppercase()));
            }
        }
        rest = tail;
    }
    encode(rest, unwritten_in_path, &mut decoded);
    Ok(decoded)
}

/// Merges slashes and removes dot segments (RFC 3986 section 5.2.4) of a decoded path.
fn resolve(path: &str) -> Result<String, Refusal> {
    let mut resolved = String::with_capacity(path.len());
    let mut merged = false;
    let mut segments = path[1..].split('/').peekable();
    let mut directory = true;
    while let Some(segment) = segments.next() {
        directory = true;
        match segment {
            "" => merged |= segments.peek().is_some(),
            "." => {}
            ".." => {
                let parent = resolved.rfind('/').ok_or(Refusal::PathAboveRoot)?;
                if merged {
                    return Err(Refusal::AmbiguousPath);
                }
                resolved.truncate(parent);
            }
            _ if ambiguous(segment) => return Err(Refusal::AmbiguousPath),
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                directory = false;
            }
        }
    }
    if directory {
        resolved.push('/');
    }
    Ok(resolved)
}

/// Would somebody behind us take a part of this segment for a dot segment?
fn ambiguous(segment: &str) -> bool {
    let name = segment.split_once(';').or_else(|| segment.split_once("%3B")).map(|(name, _)| name);
    if matches!(name, Some("." | "..")) {
        return true;
    }
    let mut parts = segment.split("%2F").flat_map(|part| part.split("%5C"));
    segment.contains('%') && parts.any(|part| part == ".." || dots_with_parameter(part))
}

fn dots_with_parameter(part: &str) -> bool {
    part.strip_prefix("..").is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        for (path, form) in [
            ("/", "/"),
            ("/a/b.c", "/a/b.c"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("/%61%7Eb%2d", "/a~b-"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%252e%252e/b", "/a%252e%252e/b"),
            ("/a;v=1/b;w", "/a;v=1/b;w"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%0d%0ab", "/a%0D%0Ab"),
            ("/a/%2e", "/a/"),
            ("/a%5cb/...%5cc", "/a%5Cb/...%5Cc"),
            ("/a<b>`c", "/a%3Cb%3E%60c"),
            ("/a%3cb/<", "/a%3Cb/%3C"),
            ("/\"{|}^'[]", "/\"{|}^'[]"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(form), "{path}");
        }
        assert!(matches!(canonical("/plain/path.html"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (path, refusal) in [
            ("", Refusal::BadTarget),
            ("a", Refusal::BadTarget),
            ("/..", Refusal::PathAboveRoot),
            ("/a/../../b", Refusal::PathAboveRoot),
            ("/%2e%2e/b", Refusal::PathAboveRoot),
            ("/..;/admin", Refusal::AmbiguousPath),
            ("/a/..;x=1/admin", Refusal::AmbiguousPath),
            ("/a/%2e%2e%3bx/admin", Refusal::AmbiguousPath),
            ("/a/.;/admin", Refusal::AmbiguousPath),
            ("/a//../b", Refusal::AmbiguousPath),
            ("/a//./b/../../c", Refusal::AmbiguousPath),
            ("/a%2f..%2fb", Refusal::AmbiguousPath),
            ("/..%2fb", Refusal::AmbiguousPath),
            ("/a%2f..;%2fb", Refusal::AmbiguousPath),
            ("/a\\b", Refusal::Backslash),
            ("/a%5c..%5cb", Refusal::AmbiguousPath),
            ("/..%5cb", Refusal::AmbiguousPath),
            ("/%5c..", Refusal::AmbiguousPath),
            ("/a%2f..%5Cb", Refusal::AmbiguousPath),
            ("/a%5c%2e%2e;%2fb", Refusal::AmbiguousPath),
            ("/%00", Refusal::NulInTarget),
            ("/%0", Refusal::BadEscape),
            ("/%", Refusal::BadEscape),
            ("/%zz", Refusal::BadEscape),
            ("/%+1", Refusal::BadEscape),
            ("/a#b", Refusal::Fragment),
            ("/a b", Refusal::BadTarget),
            ("/\u{e9}", Refusal::BadTarget),
            ("/a\tb", Refusal::BadTarget),
        ] {
            assert_eq!(canonical(path), Err(refusal), "{path}");
        }
    }

    #[test]
    fn only_what_cannot_be_held_is_written_in_another_way() {
        for (target, form) in [
            ("/a<b?c", Some("/a%3Cb?c")),
            ("/a`?`", Some("/a%60?`")),
            ("/a\"b?q=\"x\"", Some("/a\"b?q=%22x%22")),
            ("/?q=<b>?&`", Some("/?q=%3Cb%3E?&`")),
            ("/a\"{|}^?q=a\\b{|}^`'[]%", None),
            ("*", None),
        ] {
            assert_eq!(written(target).as_deref(), form, "{target}");
            assert!(form.unwrap_or(target).parse::<http::uri::PathAndQuery>().is_ok(), "{target}");
        }
    }

    /// Paths of the pieces that matter, so that most runs reach the interesting code.
    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "%00", "%25", "%3b", ";", "a", "b", "%61", "%c3", "%", "~", "?",
            "#", "<", "`", "\"", "\\",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(path in prop_oneof![paths(), "/[ -~]{0,40}", ".*"]) {
            if let Ok(form) = canonical(&path) {
                prop_assert_eq!(canonical(&form), Ok(Cow::Borrowed(form.as_ref())));
                prop_assert!(form.starts_with('/') && !form.contains("//"));
                prop_assert!(!form.split('/').any(|segment| segment == "." || segment == ".."));
                prop_assert!(form.len() <= path.len() + 2 * path.bytes().filter(|byte| unwritten_in_path(*byte)).count());
                prop_assert!(form.parse::<http::uri::PathAndQuery>().is_ok());
            }
        }
    }
}
