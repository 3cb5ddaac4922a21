//! Several upstreams for one route, each with its share of the requests.

use std::{collections::BTreeMap, sync::Arc};

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    types::{At, Code, Name},
    upstream::Upstream,
};

/// Above this a weight says nothing that a smaller one could not.
const MAX_WEIGHT: u32 = 65_535;

/// One share of a `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareSpec {
    /// The upstream.
    pub upstream: Name,
    /// Its share relative to the others, 0 to 65535; 0 for none now.
    pub weight: u32,
}

/// Upstreams by weight.
#[derive(Debug)]
pub struct Split {
    /// Each upstream with the sum of weights up to it.
    shares: Box<[(u32, Arc<Upstream>)]>,
    sum: u32,
}

impl Split {
    /// The split that the user wrote; `None` when a problem was reported instead, or an upstream is not there.
    pub(super) fn compile(spec: &[ShareSpec], upstreams: &BTreeMap<Name, Arc<Upstream>>, at: &At) -> Option<Self> {
        let mut sound = true;
        for (index, share) in spec.iter().enumerate() {
            if share.weight > MAX_WEIGHT {
                let message = format!("a weight goes from 0 to {MAX_WEIGHT}, this is {}", share.weight);
                at.index(index).key("weight").problem(Code::BadValue, message);
                sound = false;
            }
            if let Some(first) = spec[..index].iter().position(|other| other.upstream == share.upstream) {
                at.index(index)
                    .key("upstream")
                    .problem(Code::Duplicate, format!("`{}` has a share already", share.upstream))
                    .also(at.index(first).path(), "first here")
                    .hint("give it the sum of both weights");
                sound = false;
            }
        }
        if sound && spec.iter().all(|share| share.weight == 0) {
            at.problem(Code::BadValue, "nobody has a share").hint("give at least one upstream a weight above 0");
            sound = false;
        }
        let mut sum = 0;
        let mut add = |share: &ShareSpec| {
            // Cannot overflow in a file that was accepted: there are fewer upstreams than 65536.
            sum = u32::saturating_add(sum, share.weight);
            upstreams.get(&share.upstream).map(|upstream| (sum, upstream.clone()))
        };
        let shares: Option<Box<[_]>> = spec.iter().map(&mut add).collect();
        sound.then_some(Self { shares: shares?, sum })
    }

    /// The upstream of one request, by chance.
    pub fn draw(&self, random: &mut impl Rng) -> &Arc<Upstream> {
        let ticket = random.random_range(0..self.sum);
        // Never past the end, since the last bound is the sum.
        let index = self.shares.partition_point(|(bound, _)| *bound <= ticket);
        &self.shares[index].1
    }

    /// All of its upstreams with the share of each, 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&Arc<Upstream>, f64)> {
        let before = [0].into_iter().chain(self.shares.iter().map(|(bound, _)| *bound));
        self.shares
            .iter()
            .zip(before)
            .map(|((bound, upstream), before)| (upstream, f64::from(bound - before) / f64::from(self.sum)))
    }

    /// All of its upstreams, in the order of the file.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.shares.iter().map(|(_, upstream)| upstream)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{endpoint::EndpointRegistry, types::Problems};

    fn compile(shares: &[(&str, u32)]) -> (Option<Split>, Vec<String>) {
        let problems = Problems::default();
        let spec = serde_json::from_value(serde_json::json!({"endpoints": ["127.0.0.1:9"]})).unwrap();
        let upstreams = ["web", "next", "off"].map(|name| {
            let name: Name = name.parse().unwrap();
            let upstream = Upstream::compile(&name, &spec, &EndpointRegistry::default(), &problems.root()).unwrap();
            (name, upstream)
        });
        let spec: Vec<_> =
            shares.iter().map(|(name, weight)| ShareSpec { upstream: name.parse().unwrap(), weight: *weight }).collect();
        let split = Split::compile(&spec, &upstreams.into(), &problems.root());
        (split, problems.take().into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn shares_are_by_weight() {
        let split = compile(&[("web", 95), ("off", 0), ("next", 5)]).0.unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        let mut drawn = BTreeMap::<String, u32>::new();
        for _ in 0..100_000 {
            *drawn.entry(split.draw(&mut random).name().to_string()).or_default() += 1;
        }
        assert_eq!(drawn.len(), 2, "a weight of 0 is no share: {drawn:?}");
        assert!((4_700..5_300).contains(&drawn["next"]), "{drawn:?}");
        assert_eq!(split.upstreams().count(), 3);
    }

    #[test]
    fn mistakes_are_named() {
        for (shares, words) in [
            (&[("web", 0), ("next", 0)][..], "nobody"),
            (&[], "nobody"),
            (&[("web", 65_536)], "65536"),
            (&[("web", 1), ("web", 2)], "already"),
        ] {
            let (split, problems) = compile(shares);
            assert!(split.is_none() && problems.len() == 1 && problems[0].contains(words), "{shares:?}: {problems:?}");
        }
        let (split, problems) = compile(&[("web", 1), ("nowhere", 1)]);
        assert!(split.is_none() && problems.is_empty(), "said by whoever knows all names");
    }
}
