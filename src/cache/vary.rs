//! Which requests a stored response answers: those that agree in the fields which its `Vary` names (RFC 9111 section 4.1).

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The fields of a request that a response was chosen by, as a digest that nobody can find a second request for.
pub type Variance = [u8; 16];

/// `Vary: *`: nobody can tell which requests it answers.
pub fn varies_on_everything(response: &HeaderMap) -> bool {
    names(response).any(|name| name == b"*")
}

/// What tells apart requests that this response answers from those that it does not; `None` when it answers all.
pub fn variance(response: &HeaderMap, request: &HeaderMap) -> Option<Variance> {
    let mut fields: Vec<HeaderName> = names(response).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    if fields.is_empty() {
        return None;
    }
    fields.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    fields.dedup();
    let mut digest = Context::new(&SHA256);
    for name in &fields {
        feed(&mut digest, name.as_str().as_bytes());
        if name == header::ACCEPT_ENCODING {
            feed(&mut digest, &codings(request));
            continue;
        }
        for value in request.get_all(name) {
            feed(&mut digest, value.as_bytes().trim_ascii());
        }
        // After the last value: that a field is absent, empty, or there twice are three things.
        digest.update(&u64::MAX.to_le_bytes());
    }
    let mut short = [0; 16];
    short.copy_from_slice(&digest.finish().as_ref()[..16]);
    Some(short)
}

/// Do both responses vary on the same fields?
pub(super) fn varies_alike(one: &HeaderMap, other: &HeaderMap) -> bool {
    named(one) == named(other)
}

/// The fields that a response varies on, in lower case, sorted.
pub(super) fn named(response: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = names(response).map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// With its length in front, so that values run together are not another list of values.
fn feed(digest: &mut Context, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

fn names(response: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = response.get_all(header::VARY).into_iter().map(HeaderValue::as_bytes);
    values.flat_map(|value| value.split(|&b| b == b',')).map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

/// What the request accepts of codings, in one spelling: lower case, sorted, without those that it refuses and without
/// preferences. Clients differ in how they write the same wish, and each would get a copy of its own.
fn codings(request: &HeaderMap) -> Vec<u8> {
    let mut accepted: Vec<Vec<u8>> = Vec::new();
    for value in request.get_all(header::ACCEPT_ENCODING) {
        for item in value.as_bytes().split(|&b| b == b',') {
            let mut parts = item.split(|&b| b == b';');
            let name = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
            let refused = parts.any(|part| is_zero(part.trim_ascii()));
            // What it refuses counts too: `*, gzip;q=0` is no `*`.
            match (name.is_empty(), refused) {
                (true, _) => {}
                (false, false) => accepted.push(name),
                (false, true) => accepted.push([b"!", name.as_slice()].concat()),
            }
        }
    }
    accepted.sort_unstable();
    accepted.dedup();
    // Refusing what would not be chosen anyway says nothing.
    let any = accepted.iter().any(|name| name == b"*");
    accepted.retain(|name| any || !name.starts_with(b"!") || name == b"!identity" || name == b"!*");
    accepted.join(&b","[..])
}

/// `q=0`, `q=0.000`.
fn is_zero(parameter: &[u8]) -> bool {
    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| !weight.is_empty() && weight.iter().all(|&b| b == b'0' || b == b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(HeaderName, HeaderValue)>>()
            .into_iter()
            .collect()
    }

    fn of(vary: &str, request: &[(&str, &str)]) -> Option<Variance> {
        variance(&map(&[("vary", vary)]), &map(request))
    }

    #[test]
    fn without_vary_there_is_one() {
        assert_eq!(variance(&map(&[]), &map(&[("accept", "a")])), None);
        assert_eq!(of("", &[("accept", "a")]), None);
        assert!(varies_on_everything(&map(&[("vary", "accept, *")])));
        assert!(!varies_on_everything(&map(&[("vary", "accept")])));
    }

    #[test]
    fn requests_that_agree_agree() {
        let vary = "Accept-Language, X-A";
        let one = of(vary, &[("accept-language", "de"), ("x-other", "1")]);
        assert_eq!(one, of(" x-a,ACCEPT-LANGUAGE,x-a", &[("accept-language", " de ")]));
        for other in [
            &[("accept-language", "en")][..],
            &[],
            &[("accept-language", "")],
            &[("accept-language", "de"), ("x-a", "")],
            &[("accept-language", "de"), ("accept-language", "de")],
        ] {
            assert_ne!(one, of(vary, other), "{other:?}");
        }
        assert_ne!(of("a, b", &[("a", "1"), ("b", "2")]), of("a, b", &[("a", "2"), ("b", "1")]));
    }

    #[test]
    fn codings_are_compared_by_what_they_mean() {
        let coding = |value: &str| of("accept-encoding", &[("accept-encoding", value)]);
        for same in ["br, gzip", "BR,gzip;q=0.5", "gzip;q=1.0, br, zstd;q=0"] {
            assert_eq!(coding("gzip, br"), coding(same), "{same}");
        }
        for other in ["gzip", "br;q=0, gzip", "gzip, br, *", "", "gzip, br, identity;q=0"] {
            assert_ne!(coding("gzip, br"), coding(other), "{other}");
        }
        assert_ne!(coding("*"), coding("*, gzip;q=0"));
    }
}
