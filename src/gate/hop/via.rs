//! Via: who a request has passed, and whether it goes in a circle (RFC 9110 section 7.6.3).

use crate::{
    gate::{Refusal, syntax::elements},
    types::Version,
};

/// The name of every Weir in Via.
pub const PSEUDONYM: &str = "weir";

/// How many Weirs a request may have passed before it comes here.
///
/// All of them have the same pseudonym, so a chain of them (an edge, a region, a sidecar: three or four) must not be
/// taken for a circle; and a circle costs one exchange at a time per pass, all open at once, so the number must be
/// small. Eight is twice the longest chain we can think of.
pub const MAX_PASSES: usize = 8;

/// What to append to Via for a request that was received in this version.
///
/// `existing` are the values of Via that the request has. The received-by part is compared as a whole and
/// whatever its case; a comment that holds our name does not count.
pub fn via<'a>(existing: impl Iterator<Item = &'a [u8]>, version: Version) -> Result<&'static str, Refusal> {
    let passes = existing.flat_map(elements).filter(|entry| is_ours(entry)).count();
    if passes >= MAX_PASSES {
        return Err(Refusal::LoopDetected);
    }
    Ok(match version {
        Version::Http10 => "1.0 weir",
        Version::Http2 => "2 weir",
        Version::Http11 => "1.1 weir",
        Version::Http3 => "3 weir",
    })
}

/// `received-protocol RWS received-by [ RWS comment ]`: did we write this?
fn is_ours(entry: &[u8]) -> bool {
    let mut words = entry.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty());
    words.nth(1).is_some_and(|received_by| received_by.eq_ignore_ascii_case(PSEUDONYM.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_7_6_3_names_the_version_received() {
        assert_eq!(via(std::iter::empty(), Version::Http11), Ok("1.1 weir"));
        assert_eq!(via([&b"1.1 varnish"[..]].into_iter(), Version::Http10), Ok("1.0 weir"));
        assert_eq!(via([&b"1.1 weir, 2 other (weir, weir)"[..]].into_iter(), Version::Http2), Ok("2 weir"));
    }

    #[test]
    fn rfc9110_7_6_3_a_circle_ends() {
        let chain = |passes: usize| vec!["HTTP/1.1 WEIR"; passes].join(" , ");
        assert_eq!(via([chain(MAX_PASSES - 1).as_bytes()].into_iter(), Version::Http11), Ok("1.1 weir"));
        assert_eq!(via([chain(MAX_PASSES).as_bytes()].into_iter(), Version::Http11), Err(Refusal::LoopDetected));
        let lines = vec![&b"1.1 weir"[..]; MAX_PASSES];
        assert_eq!(via(lines.into_iter(), Version::Http11), Err(Refusal::LoopDetected));
        let others = vec![&b"1.1 weirdo, 1.1 a.weir, weir"[..]; 20];
        assert!(via(others.into_iter(), Version::Http11).is_ok());
    }
}
