//! What a word without quotes means in the core schema of YAML 1.2 (section 10.3.2).

use super::document::Scalar;

/// Nothing: written as such, not come from an empty variable.
pub(super) fn is_null(scalar: &Scalar) -> bool {
    scalar.plain && scalar.written.is_none() && matches!(Plain::of(&scalar.text), Plain::Null)
}

/// A word without quotes.
#[derive(Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Plain {
    pub(super) fn of(text: &str) -> Plain {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
            "true" | "True" | "TRUE" => return Plain::Bool(true),
            "false" | "False" | "FALSE" => return Plain::Bool(false),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Plain::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
            _ => {}
        }
        let (negative, digits) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let radix = |digits: &str, radix| match digits.bytes().next() {
            Some(b'+' | b'-') | None => None,
            _ => u64::from_str_radix(digits, radix).ok(),
        };
        let number = if let Some(digits) = digits.strip_prefix("0x") {
            radix(digits, 16)
        } else if let Some(digits) = digits.strip_prefix("0o") {
            radix(digits, 8)
        } else {
            radix(digits, 10).filter(|_| digits == "0" || !digits.starts_with('0'))
        };
        match number {
            Some(number) if !negative => return Plain::Unsigned(number),
            Some(number) => {
                if let Some(number) = 0i64.checked_sub_unsigned(number) {
                    return Plain::Signed(number);
                }
            }
            None => {}
        }
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
            && (digits.contains(['.', 'e', 'E']) || digits.len() > 19);
        match text.parse::<f64>() {
            Ok(number) if numeric && digits.bytes().any(|b| b.is_ascii_digit()) => Plain::Float(number),
            _ => Plain::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_the_type_of_the_core_schema() {
        for (text, plain) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("on", Plain::Text),
            ("0", Plain::Unsigned(0)),
            ("80", Plain::Unsigned(80)),
            ("-1", Plain::Signed(-1)),
            ("0x1F", Plain::Unsigned(31)),
            ("0o17", Plain::Unsigned(15)),
            ("1.5", Plain::Float(1.5)),
            ("1e3", Plain::Float(1000.0)),
            ("-.5", Plain::Float(-0.5)),
            ("127.0.0.1", Plain::Text),
            ("1.2.3", Plain::Text),
            ("-", Plain::Text),
            ("0x", Plain::Text),
            ("0x+1", Plain::Text),
            ("1_000", Plain::Text),
            (".", Plain::Text),
            ("e5", Plain::Text),
            ("inf", Plain::Text),
        ] {
            assert_eq!(Plain::of(text), plain, "{text}");
        }
    }
}
