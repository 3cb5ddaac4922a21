//! Named chains: filters written once under `filter_chains`, used by listeners, routes and other chains.
//!
//! A chain is compiled once, whoever uses it: what its filters count, they count for all users together.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chain, Filter, FilterSpec, Kept, Scope, Services};
use crate::types::{At, Code, Name};

/// The name of a chain under `filter_chains`, whose filters run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ChainSpec(pub Name);

type Filters = Vec<Arc<dyn Filter>>;

/// The named chains of a configuration, compiled.
#[derive(Debug, Default)]
pub struct Chains {
    kept: Kept,
    services: Services,
    /// `None` for one with problems, which have been reported.
    named: BTreeMap<Name, Option<Filters>>,
}

impl Chains {
    /// Compiles the named chains; `at` is the place of `filter_chains`. What is kept and what can be asked are for all
    /// filters that are compiled with these chains.
    pub fn compile(specs: &BTreeMap<Name, Vec<FilterSpec>>, kept: &Kept, services: Services, at: &At) -> Self {
        let mut chains = Self { kept: kept.clone(), services, named: BTreeMap::new() };
        for name in specs.keys() {
            chains.add(name, specs, &mut Vec::new(), at);
        }
        chains
    }

    /// Compiles one chain, after those that it uses. `users` are those that this one is being compiled for.
    fn add<'s>(&mut self, name: &'s Name, specs: &'s BTreeMap<Name, Vec<FilterSpec>>, users: &mut Vec<&'s Name>, at: &At) {
        let Some(spec) = specs.get(name).filter(|_| !self.named.contains_key(name)) else { return };
        users.push(name);
        let at_chain = at.key(name.as_str());
        let mut sound = true;
        for (index, used) in references(spec) {
            if let Some(first) = users.iter().position(|user| *user == used) {
                let round: Vec<&str> = users[first..].iter().chain([&used]).map(|name| name.as_str()).collect();
                at_chain
                    .index(index)
                    .key("chain")
                    .problem(Code::Conflict, format!("the chain contains itself: {}", round.join(" > ")))
                    .hint("a chain runs its filters once; take one of these references out");
                sound = false;
            } else {
                self.add(used, specs, users, at);
            }
        }
        users.pop();
        let filters = self.filters(&format!("chain {name}"), spec, &at_chain).filter(|_| sound);
        self.named.insert(name.clone(), filters);
    }

    /// The chain of a listener or a route: `owner` is as in `route api`, `at` the place of its list of filters.
    /// `None` when a problem was reported instead, or a chain is not among the named ones: that is reported by whoever
    /// checks the references of the whole file.
    pub fn build(&self, owner: &str, specs: &[FilterSpec], at: &At) -> Option<Chain> {
        self.filters(owner, specs, at).map(Chain::new)
    }

    fn filters(&self, owner: &str, specs: &[FilterSpec], at: &At) -> Option<Filters> {
        let scope = Scope::new(&self.kept, &self.services, owner.to_owned());
        // Every filter is looked at, so that every problem is reported.
        let each: Vec<Option<Filters>> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| match spec {
                FilterSpec::Chain(ChainSpec(name)) => self.named.get(name).cloned().flatten(),
                _ => spec.compile(&at.index(index), &scope).map(|filter| vec![filter]),
            })
            .collect();
        each.into_iter().collect::<Option<Vec<Filters>>>().map(|each| each.into_iter().flatten().collect())
    }
}

/// The named chains that a list of filters uses, each with its index.
pub fn references(specs: &[FilterSpec]) -> impl Iterator<Item = (usize, &Name)> {
    specs.iter().enumerate().filter_map(|(index, spec)| match spec {
        FilterSpec::Chain(ChainSpec(name)) => Some((index, name)),
        _ => None,
    })
}

/// The upstreams that the filters of a list talk to on their own account, each with its index and the key that names it.
pub fn upstreams(specs: &[FilterSpec]) -> impl Iterator<Item = (usize, [&'static str; 2], &Name)> {
    specs.iter().enumerate().filter_map(|(index, spec)| {
        let (key, name) = spec.upstream()?;
        Some((index, [spec.kind(), key], name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Problems;

    fn compile(chains: &str) -> (Chains, Vec<String>) {
        let problems = Problems::default();
        let specs = serde_json::from_str(chains).expect("the chains of a test can be read");
        let compiled = Chains::compile(&specs, &Kept::default(), Services::default(), &problems.root().key("filter_chains"));
        let said = problems.take().iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        (compiled, said)
    }

    fn kinds(chains: &Chains, filters: &str) -> Option<Vec<&'static str>> {
        let specs: Vec<FilterSpec> = serde_json::from_str(filters).unwrap();
        let problems = Problems::default();
        chains.build("route r", &specs, &problems.root()).map(|chain| chain.kinds().collect())
    }

    #[test]
    fn a_chain_stands_where_it_is_named_and_may_name_others() {
        let (chains, said) = compile(
            r#"{"a": [{"chain": "b"}, {"rewrite": {"strip_prefix": "/x"}}], "b": [{"request_id": {}}, {"body_limit": {"max": "1KiB"}}]}"#,
        );
        assert!(said.is_empty(), "{said:?}");
        let found = kinds(&chains, r#"[{"ip_access": {"allow": ["::/0"]}}, {"chain": "a"}, {"request_id": {}}]"#);
        assert_eq!(found.unwrap(), ["ip_access", "request_id", "body_limit", "rewrite", "request_id"]);
        let filters = |name: &str| chains.named[&name.parse::<Name>().unwrap()].as_ref().unwrap();
        assert!(Arc::ptr_eq(&filters("b")[0], &filters("a")[0]), "one filter, whoever uses it");
        assert_eq!(kinds(&chains, r#"[{"chain": "c"}]"#), None);
    }

    #[test]
    fn a_chain_that_contains_itself_is_reported_once() {
        let (chains, said) =
            compile(r#"{"a": [{"chain": "b"}], "b": [{"request_id": {}}, {"chain": "a"}], "c": [{"chain": "c"}]}"#);
        assert_eq!(
            said,
            [
                "filter_chains.b[1].chain: the chain contains itself: a > b > a",
                "filter_chains.c[0].chain: the chain contains itself: c > c"
            ]
        );
        assert_eq!(kinds(&chains, r#"[{"chain": "b"}]"#), None);
    }

    #[test]
    fn problems_in_a_chain_are_at_the_chain() {
        let (_, said) = compile(r#"{"a": [{"headers": {}}], "b": [{"chain": "a"}]}"#);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("filter_chains.a[0].headers: "), "{said:?}");
    }
}
