//! W0307: `path: /api/`, which matches only this path here, and also the paths below it in nginx.

use std::{collections::HashSet, sync::Arc};

use super::{PathPattern, Route};
use crate::types::{At, Code, HostPattern};

/// Warns of exact paths that end in a slash, where no route matches the paths below.
pub(super) fn warn(routes: &[Arc<Route>], at: &At) {
    let mut prefixes: HashSet<(HostPattern, &str)> = HashSet::new();
    for route in routes {
        let prefix = match &route.path {
            PathPattern::Any => "",
            PathPattern::Prefix(prefix) => prefix,
            PathPattern::Exact(_) | PathPattern::Regex(_) => continue,
        };
        prefixes.extend(hosts(route).map(|host| (host, prefix)));
    }
    let expressions: Vec<_> = routes.iter().filter(|route| matches!(route.path, PathPattern::Regex(_))).collect();
    for route in routes {
        let PathPattern::Exact(path) = &route.path else { continue };
        let Some(above) = path.strip_suffix('/').filter(|above| !above.is_empty()) else { continue };
        let ancestors = || above.match_indices('/').map(|(at, _)| &above[..at]).chain([above]);
        let is_taken = |host: &HostPattern| ancestors().any(|prefix| prefixes.contains(&(host.clone(), prefix)));
        let below = format!("{path}x");
        let taken = is_taken(&HostPattern::Any)
            || hosts(route).any(|host| is_taken(&host))
            || expressions.iter().any(|other| other.path.tail(&below).is_some());
        if !taken {
            at.index(route.index)
                .key("match")
                .key("path")
                .problem(Code::Foreign, format!("`{path}` matches only this path, and no route matches the paths below it"))
                .hint(format!("write `{path}*` to match them, too"));
        }
    }
}

fn hosts(route: &Route) -> impl Iterator<Item = HostPattern> {
    let any = route.hosts.is_empty().then_some(HostPattern::Any);
    route.hosts.iter().cloned().chain(any)
}
