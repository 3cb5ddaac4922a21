//! One route with everything resolved.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Action, MatchSpec, PathPattern, Predicates, RouteSpec,
    action::{self, Redirect},
};
use crate::{
    filter::Chain,
    resilience::RetryPolicy,
    types::{At, Code, HostPattern, Name},
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
    /// WebSocket upgrades are allowed.
    pub websocket: bool,
}

impl Route {
    /// The route that the user wrote; `at` is its place in the file.
    ///
    /// `None` when a problem was reported instead, or when the upstream is not among `upstreams`: that one is
    /// reported by whoever checks the references of the whole file.
    pub fn compile(index: usize, spec: &RouteSpec, upstreams: &BTreeMap<Name, Arc<Upstream>>, at: &At) -> Option<Arc<Self>> {
        let path = path(&spec.matches, &at.key("match"));
        let predicates = Predicates::compile(&spec.matches, &at.key("match"));
        let filters: Vec<_> =
            spec.filters.iter().enumerate().map(|(i, filter)| filter.compile(&at.key("filters").index(i))).collect();
        let action = action(spec, upstreams, at);
        let retry = match &spec.retry {
            Some(retry) => RetryPolicy::compile(retry, spec.timeout.limit(), &at.key("retry")),
            None => Some(RetryPolicy::unasked()),
        };
        Some(Arc::new(Self {
            name: spec.name.clone(),
            index,
            hosts: spec.matches.host.iter().cloned().collect(),
            path: path?,
            predicates: predicates?,
            chain: Chain::new(filters.into_iter().collect::<Option<_>>()?),
            action: action?,
            timeout: spec.timeout.limit(),
            retry: retry?,
            websocket: spec.websocket,
        }))
    }

    /// The upstream that requests go to, if they are forwarded.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.action {
            Action::Upstream(upstream) => Some(upstream),
            Action::Redirect(_) | Action::Respond(_) => None,
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
    match (&spec.upstream, &spec.redirect, &spec.respond) {
        (Some(name), None, None) => upstreams.get(name).cloned().map(Action::Upstream),
        (None, Some(redirect), None) => Redirect::compile(redirect, &at.key("redirect")).map(Action::Redirect),
        (None, None, Some(respond)) => action::respond(respond, &at.key("respond")).map(Action::Respond),
        (None, None, None) => {
            at.problem(Code::MissingKey, "the route does nothing with a request")
                .hint("add one of `upstream`, `redirect` and `respond`");
            None
        }
        (upstream, redirect, respond) => {
            let given = [
                upstream.as_ref().map(|_| "upstream"),
                redirect.as_ref().map(|_| "redirect"),
                respond.as_ref().map(|_| "respond"),
            ];
            let given: Vec<&str> = given.into_iter().flatten().collect();
            at.key(given[1])
                .problem(Code::Conflict, "a route has exactly one of `upstream`, `redirect` and `respond`")
                .also(at.key(given[0]).path(), "another one")
                .hint("remove one of them");
            None
        }
    }
}
