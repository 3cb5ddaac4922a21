//! W3C Trace Context: who caused this request, in the words of `traceparent` and `tracestate`.
//!
//! <https://www.w3.org/TR/trace-context/>. What is malformed counts as absent, as the recommendation has it.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

/// The bytes of a `traceparent` of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, two digits.
const TRACEPARENT_LEN: usize = 55;

/// Members of a `tracestate` that are passed on; the recommendation allows no more.
const MAX_MEMBERS: usize = 32;

/// The only flag of version 00.
const SAMPLED: u8 = 1;

/// A trace: everything that one action at the very front caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

/// One piece of work in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }
    /// As OTLP carries it.
    pub fn bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }
    /// As OTLP carries it.
    pub fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace: TraceId,
    /// The span of the caller.
    pub span: SpanId,
    /// The caller records its part.
    pub sampled: bool,
}

impl Traceparent {
    /// Reads a field value. A later version than ours is read as far as ours goes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (text, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
        let version = hex(&text[..2])? as u8;
        let separated = [2, 35, 52].iter().all(|&at| text[at] == b'-');
        let ends = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if version == 0xff || !separated || !ends {
            return None;
        }
        let trace = TraceId(NonZeroU128::new(hex(&text[3..35])?)?);
        let span = SpanId(NonZeroU64::new(hex(&text[36..52])? as u64)?);
        let sampled = hex(&text[53..])? as u8 & SAMPLED != 0;
        Some(Self { trace, span, sampled })
    }

    /// The field value, in version 00. Flags that only later versions know are not passed on.
    pub fn text(&self) -> [u8; TRACEPARENT_LEN] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        digits(&mut text[3..35], &self.trace.bytes());
        digits(&mut text[36..52], &self.span.bytes());
        text[54] = if self.sampled { b'1' } else { b'0' };
        text
    }
}

/// Lower-case digits only, as the recommendation demands.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn digits(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// May this `tracestate`, of one or several lines, be passed on? One wrong member spoils it all.
pub fn is_tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut members = 0;
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).all(|member| {
        // Empty members are allowed, since joining lines makes them.
        members += usize::from(!member.is_empty());
        members <= MAX_MEMBERS && (member.is_empty() || is_member(member))
    })
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let key_goes_on = |byte: &u8| alphanumeric(*byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    key.first().is_some_and(|first| alphanumeric(*first))
        && key.len() <= 256
        && key.iter().all(key_goes_on)
        && (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<Traceparent> {
        Traceparent::parse(text.as_bytes())
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        let parent = parse(GOOD).unwrap();
        assert_eq!((parent.trace.to_string().as_str(), parent.span.to_string().as_str()), (&GOOD[3..35], &GOOD[36..52]));
        assert!(parent.sampled);
        assert_eq!(parent.text(), GOOD.as_bytes());
        let not = parse(&GOOD.replace("-01", "-02")).unwrap();
        assert!(!not.sampled);
        assert!(not.text().ends_with(b"-00"), "a flag of the future is not passed on");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_ours_goes() {
        for text in [format!("cc{}", &GOOD[2..]), format!("cc{}-what-the-future-brings", &GOOD[2..])] {
            assert_eq!(parse(&text), parse(GOOD), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        let (zero_trace, zero_span) = ("0".repeat(32), "0".repeat(16));
        for text in [
            String::new(),
            GOOD[..54].into(),
            GOOD.to_uppercase(),
            GOOD.replace("4bf9", "4BF9"),
            format!("{GOOD}-"),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            format!("cc{}.", &GOOD[2..]),
            format!("ff{}", &GOOD[2..]),
            format!("0x{}", &GOOD[2..]),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zero_trace),
            GOOD.replace("00f067aa0ba902b7", &zero_span),
            GOOD.replace("-01", "-0x"),
            GOOD.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    fn state(lines: &[&str]) -> bool {
        is_tracestate(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn a_tracestate_is_whole_or_nothing() {
        let many = (0..33).map(|number| format!("k{number}=v")).collect::<Vec<_>>();
        for good in [
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][..],
            &["rojo=1", "congo=2"],
            &["fw529a3039@dt=FfF ,\t 0a_-*/=!~", ""],
            &[&many[..32].join(",")],
            &[&format!("{}={}", "k".repeat(256), "v".repeat(256))],
        ] {
            assert!(state(good), "{good:?}");
        }
        for bad in [
            &["rojo"][..],
            &["Rojo=1"],
            &["=1"],
            &["rojo="],
            &["rojo=1=2"],
            &["rojo=\u{e9}"],
            &["rojo =1"],
            &["rojo=1", "congo"],
            &[&many.join(",")],
            &[&format!("{}=v", "k".repeat(257))],
            &[&format!("k={}", "v".repeat(257))],
        ] {
            assert!(!state(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in any::<Vec<u8>>(), flip in 0..TRACEPARENT_LEN, byte in any::<u8>()) {
            let _ = Traceparent::parse(&text);
            let _ = is_tracestate([text.as_slice()].into_iter());
            let mut near = GOOD.as_bytes().to_vec();
            near[flip] = byte;
            if let Some(parent) = Traceparent::parse(&near) {
                prop_assert_eq!(Traceparent::parse(&parent.text()), Some(parent));
            }
        }
    }
}
