//! Quantities with their unit in the value: durations, sizes, rates, shares.

use std::{fmt, str::FromStr, time::Duration};

use crate::string_type;

/// Why a quantity was refused. The text is shown to the user behind the offending value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// Splits `250ms` into its digits (with at most one decimal point) and its unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn number(digits: &str, text: &str, what: &str) -> Result<f64, UnitError> {
    digits.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| UnitError(format!("`{text}` is not {what}")))
}

/// A duration: `250ms`, `10s`, `1.5s`, `1m30s`, `1h`, `2d`. `0` and `off` are zero; any other bare number is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

impl Span {
    /// The longest accepted duration: far beyond any sensible setting, far below overflow.
    pub const MAX: Span = Span::secs(366 * 24 * 3600);

    /// Whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
    /// Whole milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
    /// The standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
    /// `None` for zero, which users write to mean "no limit".
    pub fn limit(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

/// The units of a duration and their length in milliseconds, the longest first.
const SPAN_UNITS: [(&str, f64); 5] = [("d", 86_400e3), ("h", 3600e3), ("m", 60e3), ("s", 1e3), ("ms", 1.0)];

/// The unit that was meant.
fn meant(unit: &str) -> Option<&'static str> {
    match unit {
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "msec" | "millis" | "milliseconds" => Some("ms"),
        "hr" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        _ => None,
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const WHAT: &str = "a duration; write a number and a unit: `250ms`, `10s`, `1m30s`, `1h`, `2d`, or `off` for none";
        if matches!(text, "0" | "off") {
            return Ok(Self::default());
        }
        let not = || UnitError(format!("`{text}` is not {WHAT}"));
        let (mut rest, mut micros) = (text, 0.0);
        let mut units = SPAN_UNITS.iter();
        while !rest.is_empty() {
            let (digits, after) = split(rest);
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, more) = after.split_at(end);
            if unit.is_empty() && !digits.is_empty() {
                return Err(UnitError(format!("`{text}` has no unit; did you mean `{text}s` or `{text}ms`?")));
            }
            // Each unit once, the longer ones first.
            let Some((_, millis)) = units.find(|(name, _)| *name == unit) else {
                return Err(match meant(unit) {
                    Some(unit) if !digits.is_empty() && rest == text && more.is_empty() => {
                        UnitError(format!("`{text}` is not a duration; did you mean `{digits}{unit}`?"))
                    }
                    _ => not(),
                });
            };
            micros += number(digits, text, WHAT)? * millis * 1e3;
            rest = more;
        }
        if text.is_empty() {
            return Err(not());
        }
        if micros > Self::MAX.0.as_micros() as f64 {
            return Err(UnitError(format!("`{text}` is longer than a year")));
        }
        Ok(Self(Duration::from_micros(micros.round() as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        for (unit, size) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)] {
            if micros >= size && micros.is_multiple_of(size) {
                return write!(f, "{}{unit}", micros / size);
            }
        }
        if micros == 0 { f.write_str("0s") } else { write!(f, "{}ms", micros as f64 / 1e3) }
    }
}
string_type!(
    Span,
    "Duration",
    "A duration: a number and a unit (ms, s, m, h, d), as in `250ms`, `10s`, `1m30s`; `off` for none.",
    Some(r"^(0|off|([0-9.]+ ?(ms|s|m|h|d))+|.*\$\{.*)$")
);

/// A number of bytes: `512B`, `10KB` (1000), `8KiB` (1024), and so on up to `TiB`. `K`, `M`, `G` and `T` are `KiB` and so on, as in
/// nginx and HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

impl Size {
    /// Bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const WHAT: &str = "a size; write a number and a unit: `512B`, `8KiB`, `10MB`, `1GiB`";
        if text == "0" {
            return Ok(Self(0));
        }
        let (digits, unit) = split(text);
        let unit = match unit {
            "kB" => "KB",
            "k" | "K" => "KiB",
            "m" | "M" => "MiB",
            "g" | "G" => "GiB",
            "t" | "T" => "TiB",
            unit => unit,
        };
        let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError(match (digits, unit) {
                ("", _) => format!("`{text}` is not {WHAT}"),
                (_, "") => format!("`{text}` has no unit; did you mean `{text}B`, `{text}KiB` or `{text}MiB`?"),
                _ => format!("`{text}` is not {WHAT}"),
            }));
        };
        let bytes = number(digits, text, WHAT)? * *scale as f64;
        if bytes > (1u64 << 53) as f64 {
            return Err(UnitError(format!("`{text}` is too large")));
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) =
            SIZE_UNITS.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale)).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}
string_type!(
    Size,
    "Size",
    "A number of bytes with its unit: `512B`, `8KiB`, `10MB`, `10M`.",
    Some(r"^(0|[0-9.]+ ?([KMGT]i?B|kB|B|[kKmMgGtT])|.*\$\{.*)$")
);

/// So many per period: `100/s`, `6000/m`, `10/h`; as a byte rate, `500B/s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    amount: u64,
    period: Duration,
    bytes: bool,
}

impl Rate {
    /// `amount` per second.
    pub const fn per_second(amount: u64) -> Self {
        Self { amount, period: Duration::from_secs(1), bytes: false }
    }
    /// `amount` bytes per second.
    pub const fn bytes_per_second(amount: u64) -> Self {
        Self { amount, period: Duration::from_secs(1), bytes: true }
    }
    /// How many (requests, or bytes) in one second.
    pub fn each_second(self) -> f64 {
        self.amount as f64 / self.period.as_secs_f64()
    }
    /// How many in one [`Rate::period`].
    pub const fn amount(self) -> u64 {
        self.amount
    }
    /// Of bytes, not of requests.
    pub const fn is_bytes(self) -> bool {
        self.bytes
    }
    /// The period that the user wrote.
    pub const fn period(self) -> Duration {
        self.period
    }
}

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad =
            || UnitError(format!("`{text}` is not a rate; write an amount per period: `100/s`, `6000/m`, `10/h` or `500B/s`"));
        if text == "0" {
            return Ok(Self::per_second(0));
        }
        let (amount, period) = text.split_once('/').ok_or_else(bad)?;
        let period = Duration::from_secs(match period.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(bad()),
        });
        let amount = amount.trim();
        if let Ok(amount) = amount.parse() {
            return Ok(Self { amount, period, bytes: false });
        }
        let size: Size = amount.parse().map_err(|_| bad())?;
        Ok(Self { amount: size.get(), period, bytes: true })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes {
            Size(self.amount).fmt(f)?
        } else {
            self.amount.fmt(f)?
        }
        f.write_str(match self.period.as_secs() {
            60 => "/m",
            3600 => "/h",
            86_400 => "/d",
            _ => "/s",
        })
    }
}
string_type!(
    Rate,
    "Rate",
    "An amount per period: `100/s`, `6000/m`, `500B/s`.",
    Some(r"^(0|[0-9.]+ ?([KMGT]i?B|kB|B|[kKmMgGtT])?/[smhd]|.*\$\{.*)$")
);

/// A share of a whole, `0%` to `100%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// A share given in percent. Panics outside 0 to 100, so use it for constants.
    pub const fn percent(percent: u8) -> Self {
        assert!(percent <= 100);
        Self(percent as f64 / 100.0)
    }
    /// The share as a number from 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.strip_suffix('%').map(str::trim_end);
        match digits.and_then(|digits| digits.parse::<f64>().ok()) {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            Some(_) => Err(UnitError(format!("`{text}` is not between `0%` and `100%`"))),
            None => Err(UnitError(format!("`{text}` is not a share; write a percentage such as `20%`"))),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded so that 0.57 prints as 57 and not as 56.99999999999999.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}
string_type!(Ratio, "Share", "A share from `0%` to `100%`.", Some(r"^([0-9.]+ ?%|.*\$\{.*)$"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_prints_as_it_is_written() {
        for text in ["250ms", "10s", "1m", "90m", "1h", "2d", "0s", "1.5ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for (text, printed) in
            [("1m30s", "90s"), ("1h30m", "90m"), ("1d12h", "36h"), ("1s500ms", "1500ms"), ("off", "0s"), ("0", "0s")]
        {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), printed, "{text}");
        }
        for (text, printed) in [("10M", "10MiB"), ("10m", "10MiB"), ("4k", "4KiB"), ("1G", "1GiB")] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), printed, "{text}");
        }
        for text in ["1B", "1KB", "8KiB", "10MB", "1GiB", "1500B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["100/s", "6000/m", "500B/s", "1KiB/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["0%", "20%", "57%", "0.1%", "100%"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_a_hint() {
        assert!("10".parse::<Span>().unwrap_err().to_string().contains("10s"));
        assert!("1 sec".parse::<Span>().unwrap_err().to_string().contains("`1s`"));
        for text in ["", "s", "-1s", "1e3s", "1..2s", "99999d", "٣s", "30s1m", "1m1m", "1m30", "1m 30", "s30", "1m30secs", "On"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "KiB", "-1B", "1kib", "99999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "100", "/s", "100/x", "100/s/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for text in ["", "20", "101%", "-1%", "NaN%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }
}
