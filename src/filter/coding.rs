//! Content codings, and which of them a client takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::types::Fields;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Brotli, in files with the ending `.br`.
    Br,
    /// Zstandard, `.zst`.
    Zstd,
    /// gzip, `.gz`.
    Gzip,
}

impl Coding {
    /// As header fields and users write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// Of files that are encoded so.
    pub(super) const fn ending(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zst",
            Coding::Gzip => "gz",
        }
    }
}

/// What a client takes (RFC 9110 section 12.5.3).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Accepted {
    /// Of the codings on offer those that it takes, and rather than plain bytes: by its preference, then by ours.
    pub(super) codings: SmallVec<[Coding; 3]>,
    /// It does not take plain bytes.
    pub(super) refuses_plain: bool,
}

/// The weights of what is told apart. What is named twice counts as named first.
#[derive(Default)]
struct Weights {
    br: Option<f32>,
    zstd: Option<f32>,
    gzip: Option<f32>,
    identity: Option<f32>,
    any: Option<f32>,
}

impl Weights {
    fn of(&mut self, name: &str) -> Option<&mut Option<f32>> {
        let known = [
            ("br", &mut self.br),
            ("zstd", &mut self.zstd),
            ("gzip", &mut self.gzip),
            ("identity", &mut self.identity),
            ("*", &mut self.any),
        ];
        // RFC 9110 section 8.4.1.3.
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        known.into_iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, weight)| weight)
    }
}

impl Accepted {
    /// Of these codings.
    pub(super) fn of(offered: &[Coding], fields: &dyn Fields) -> Self {
        let mut weights = Weights::default();
        if !offered.is_empty() {
            fields.any("accept-encoding", &mut |line| {
                for item in std::str::from_utf8(line).unwrap_or_default().split(',') {
                    let mut parts = item.split(';').map(str::trim);
                    if let Some(known) = weights.of(parts.next().unwrap_or_default()) {
                        known.get_or_insert(parts.find_map(weight).unwrap_or(1.0));
                    }
                }
                false
            });
        }
        let any = weights.any.unwrap_or(0.0);
        let plain = weights.identity.unwrap_or(0.0);
        let refuses_plain = weights.identity.or(weights.any) == Some(0.0);
        let mut weigh = |coding: Coding| weights.of(coding.name()).and_then(|weight| *weight).unwrap_or(any);
        let taken = offered.iter().map(|coding| (*coding, weigh(*coding)));
        let mut taken: SmallVec<[_; 3]> = taken.filter(|(_, weight)| *weight > 0.0 && *weight >= plain).collect();
        taken.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self { codings: taken.into_iter().map(|(coding, _)| coding).collect(), refuses_plain }
    }
}

/// The weight that a parameter gives. What is none is as good as a refusal.
fn weight(parameter: &str) -> Option<f32> {
    let value = parameter.strip_prefix("q=").or(parameter.strip_prefix("Q="))?;
    Some(value.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_chosen_by_the_client_and_then_by_us() {
        let ours = [Coding::Zstd, Coding::Br, Coding::Gzip];
        for (sent, want, refuses_plain) in [
            (&[][..], "", false),
            (&[""], "", false),
            (&["gzip, br"], "br gzip", false),
            (&["gzip, br;q=0.5"], "gzip br", false),
            (&["gzip;q=0.2", "br;q=0.5, zstd;q=0.4"], "br zstd gzip", false),
            (&["*"], "zstd br gzip", false),
            (&["*, zstd;q=0"], "br gzip", false),
            (&["*;q=0"], "", true),
            (&["*;q=0, gzip"], "gzip", true),
            (&["*;q=0, identity"], "", false),
            (&["identity;q=0, *;q=0.5"], "zstd br gzip", true),
            (&["identity;q=0"], "", true),
            (&["br;q=0, gzip;q=0.0"], "", false),
            (&["identity, gzip;q=0.5"], "", false),
            (&["identity;q=0.5, gzip;q=0.5"], "gzip", false),
            (&["BR; q=0.1"], "br", false),
            (&["x-gzip"], "gzip", false),
            (&["gzip;q=0, x-gzip"], "", false),
            (&["br;q=x"], "", false),
            (&["br;q=inf, gzip;q=nan, zstd;q=2"], "", false),
            (&["deflate, compress, brotli"], "", false),
        ] {
            let mut fields = http::HeaderMap::new();
            for line in sent {
                fields.append("accept-encoding", line.parse().unwrap());
            }
            let accepted = Accepted::of(&ours, &fields);
            let names: Vec<_> = accepted.codings.iter().map(|coding| coding.name()).collect();
            assert_eq!((names.join(" ").as_str(), accepted.refuses_plain), (want, refuses_plain), "{sent:?}");
        }
    }
}
