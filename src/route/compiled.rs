//! One route with everything resolved.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Action, MatchSpec, PathPattern, Predicates, RouteSpec, Split,
    action::{self, Redirect},
};
use crate::{
    filter::{Chain, Chains, FilterSpec},
    resilience::RetryPolicy,
    types::{At, Code, HostPattern, Name, Reply},
    upstream::Upstream,
};

/// A route as requests meet it.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Its position in the file.
    pub index: usize,
    /// Its hosts; empty for every host.
    pub hosts: Box<[HostPattern]>,
    /// Its paths.
    pub path: PathPattern,
    /// What else a request must have.
    pub predicates: Predicates,
    /// Its filters.
    pub chain: Chain,
    /// What becomes of a request.
    pub action: Action,
    /// For the whole exchange; `None` for no limit.
    pub timeout: Option<Duration>,
    /// What becomes of a failed try.
    pub retry: RetryPolicy,
    /// The answer when every try has failed.
    pub fallback: Option<Reply>,
    /// WebSocket upgrades are allowed.
    pub websocket: bool,
}

impl Route {
    /// The route that the user wrote; `at` is its place in the file.
    ///
    /// `None` when a problem was reported instead, or when the upstream is not among `upstreams`: that one is
    /// reported by whoever checks the references of the whole file.
    pub fn compile(
        index: usize,
        spec: &RouteSpec,
        upstreams: &BTreeMap<Name, Arc<Upstream>>,
        chains: &Chains,
        at: &At,
    ) -> Option<Arc<Self>> {
        let path = path(&spec.matches, &at.key("match"));
        let predicates = Predicates::compile(&spec.matches, &at.key("match"));
        let chain = chains.build(&format!("route {}", spec.name), &spec.filters, &at.key("filters"));
        let action = action(spec, upstreams, at);
        let retry = match &spec.retry {
            Some(retry) => RetryPolicy::compile(retry, spec.timeout.limit(), &at.key("retry")),
            None => Some(RetryPolicy::unasked()),
        };
        let fallback = match &spec.fallback {
            Some(fallback) => fallback.compile(&at.key("fallback")).map(Some),
            None => Some(None),
        };
        unforwarded(spec, at);
        Some(Arc::new(Self {
            name: spec.name.clone(),
            index,
            hosts: spec.matches.host.iter().cloned().collect(),
            path: path?,
            predicates: predicates?,
            chain: chain?,
            action: action?,
            timeout: spec.timeout.limit(),
            retry: retry?,
            fallback: fallback?,
            websocket: spec.websocket,
        }))
    }

    /// The upstreams that requests go to, if they are forwarded.
    pub fn upstreams(&self) -> Vec<&Arc<Upstream>> {
        match &self.action {
            Action::Upstream(upstream) => vec![upstream],
            Action::Split(split) => split.upstreams().collect(),
            Action::Redirect(_) | Action::Respond(_) => Vec::new(),
        }
    }
}

fn path(spec: &MatchSpec, at: &At) -> Option<PathPattern> {
    let parsed = spec.path.as_deref().map(|text| match PathPattern::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            at.key("path").problem(Code::BadValue, error.message).hint(error.hint);
            None
        }
    });
    match (parsed, &spec.path_regex) {
        (Some(_), Some(_)) => {
            at.key("path_regex")
                .problem(Code::Conflict, "a route has either a `path` or a `path_regex`")
                .also(at.key("path").path(), "the other one")
                .hint("remove one of them");
            None
        }
        (Some(path), None) => path,
        (None, Some(regex)) => Some(PathPattern::Regex(regex.clone())),
        (None, None) => Some(PathPattern::Any),
    }
}

fn action(spec: &RouteSpec, upstreams: &BTreeMap<Name, Arc<Upstream>>, at: &At) -> Option<Action> {
    let given = [
        ("upstream", spec.upstream.is_some()),
        ("split", spec.split.is_some()),
        ("redirect", spec.redirect.is_some()),
        ("respond", spec.respond.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter_map(|(key, given)| given.then_some(key)).collect();
    if let [one, another, ..] = given[..] {
        at.key(another)
            .problem(Code::Conflict, "a route has exactly one of `upstream`, `split`, `redirect` and `respond`")
            .also(at.key(one).path(), "another one")
            .hint("remove one of them");
        return None;
    }
    if let Some(name) = &spec.upstream {
        upstreams.get(name).cloned().map(Action::Upstream)
    } else if let Some(split) = &spec.split {
        Split::compile(split, upstreams, &at.key("split")).map(Action::Split)
    } else if let Some(redirect) = &spec.redirect {
        Redirect::compile(redirect, &at.key("redirect")).map(Action::Redirect)
    } else if let Some(respond) = &spec.respond {
        action::respond(respond, &at.key("respond")).map(Action::Respond)
    } else {
        at.problem(Code::MissingKey, "the route does nothing with a request")
            .hint("add one of `upstream`, `split`, `redirect` and `respond`");
        None
    }
}

/// What is about endpoints says nothing on a route that has none.
fn unforwarded(spec: &RouteSpec, at: &At) {
    if spec.upstream.is_some() || spec.split.is_some() {
        return;
    }
    for (index, _) in spec.filters.iter().enumerate().filter(|(_, filter)| matches!(filter, FilterSpec::MapBack(_))) {
        at.key("filters")
            .index(index)
            .problem(Code::Ineffective, "`map_back` does nothing on a route that forwards nothing")
            .hint("remove it, or add `upstream`: Weir's own answers are for clients as they are");
    }
    for (key, given) in [("retry", spec.retry.is_some()), ("fallback", spec.fallback.is_some())] {
        if given {
            at.key(key)
                .problem(Code::Ineffective, format!("`{key}` does nothing on a route that forwards nothing"))
                .at_key()
                .hint("remove it, or add `upstream`");
        }
    }
}
