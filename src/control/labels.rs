//! Routes that containers bring: looked for where the file says so, laid over the file's own.
//!
//! Which engines that concerns changes with the file only. What of the routes cannot be used (a name that the file
//! has already, a listener that is not there, a path that is none) is left out here, with a diagnostic that names the
//! container, so that what reaches the writer compiles.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Control, Overlay};
use crate::{
    config::Spec,
    discovery::{
        DiscoverSpec,
        docker::{Diagnostic, EnginePlace, Engines, ROUTE, Seen, Source},
    },
    filter::Chains,
    route::{self, Allowed, LabelRoute, Route, RouteSpec},
    types::{Name, Problem, Problems, Severity},
    upstream::{Upstream, UpstreamSpec},
};

/// What the overlay is called.
const SOURCE: &str = "labels of containers";

/// Keeps the routes of labels in service, for every configuration that comes, until the process stops.
pub(super) async fn follow(
    control: Weak<Control>,
    engines: Arc<Engines>,
    mut base: watch::Receiver<Arc<Spec>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut labels = Labels { control, source: engines.diagnostics().source(), engines, applied: Vec::new() };
    loop {
        let spec = base.borrow_and_update().clone();
        tokio::select! {
            () = labels.serve(&spec) => {}
            changed = base.changed() => if changed.is_err() { return },
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

struct Labels {
    control: Weak<Control>,
    engines: Arc<Engines>,
    source: Source,
    /// What is laid over the configuration.
    applied: Vec<RouteSpec>,
}

/// The engines that upstreams find containers on, and what those may bring to which.
fn wanted(upstreams: &BTreeMap<Name, UpstreamSpec>) -> Vec<(EnginePlace, Allowed)> {
    let mut wanted: Vec<(EnginePlace, Allowed)> = Vec::new();
    for (name, upstream) in upstreams {
        if let Some(DiscoverSpec::Docker(docker)) = &upstream.discover {
            let (place, allowed) = (docker.place(), (name.clone(), docker.routes.clone()));
            match wanted.iter_mut().find(|(known, _)| *known == place) {
                Some((_, upstreams)) => drop(upstreams.insert(allowed.0, allowed.1)),
                None => wanted.push((place, Allowed::from([allowed]))),
            }
        }
    }
    wanted
}

impl Labels {
    /// Follows the engines of one configuration until the future is dropped.
    async fn serve(&mut self, base: &Spec) {
        let wanted = wanted(&base.upstreams);
        if wanted.is_empty() {
            self.apply(base, Vec::new(), Vec::new()).await;
            return std::future::pending().await;
        }
        let seen = Mutex::new(vec![Seen::default(); wanted.len()]);
        let (changed, mut changes) = watch::channel(());
        // Their upstreams have been compiled, so they are known.
        let known = wanted.iter().enumerate().filter_map(|(index, (place, _))| Some((index, self.engines.known(place)?)));
        let following = known.map(|(index, engine)| {
            let (seen, changed) = (&seen, &changed);
            async move {
                let look = |now: &Seen| {
                    seen.lock()[index] = now.clone();
                    changed.send_replace(());
                };
                engine.follow(look).await
            }
        });
        let following = join_all(following);
        let applying = async {
            // The sender is at hand, so there is no other end to this.
            while changes.changed().await.is_ok() {
                let now = seen.lock().clone();
                let containers = wanted.iter().zip(&now).flat_map(|((_, allowed), seen)| {
                    let containers = seen.containers.iter();
                    containers.map(move |container| (allowed, container))
                });
                let (found, diagnostics) = route::from_labels(containers);
                self.apply(base, found, diagnostics).await;
            }
        };
        tokio::select! {
            _ = following => {}
            () = applying => {}
        }
    }

    /// Lays these routes over the configuration, if they are others than those that are there.
    async fn apply(&mut self, base: &Spec, found: Vec<LabelRoute>, mut diagnostics: Vec<Diagnostic>) {
        let Some(control) = self.control.upgrade() else { return };
        let snapshot = control.shared().store.load();
        let mut routes = Vec::new();
        for route in found {
            match usable(route, base, &snapshot.upstreams) {
                Ok(route) => routes.push(route),
                Err(faults) => diagnostics.extend(faults),
            }
        }
        self.source.replace(diagnostics);
        if self.applied == routes {
            return;
        }
        match control.overlay(SOURCE.to_owned(), Overlay { routes: routes.clone() }).await {
            Ok(problems) => {
                problems.iter().for_each(|problem| log::warn!("docker: {}", words(problem)));
                let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                log::info!("docker: the routes from labels are now: {names}");
                self.applied = routes;
            }
            Err(refused) => log::warn!("docker: the routes from labels stay as they were: {refused}"),
        }
    }
}

/// The route, if it can be served beside those of the file.
fn usable(route: LabelRoute, base: &Spec, upstreams: &BTreeMap<Name, Arc<Upstream>>) -> Result<RouteSpec, Vec<Diagnostic>> {
    let LabelRoute { spec, container } = route;
    let about = |message: String| Diagnostic::new(&container, Some(&format!("{ROUTE}{}", spec.name)), message);
    let mut faults = Vec::new();
    if base.routes.iter().any(|own| own.name == spec.name) {
        faults.push(about("the file has a route of this name, which counts".to_owned()));
    }
    let unknown = spec.matches.listener.iter().filter(|name| !base.listeners.contains_key(*name));
    faults.extend(unknown.map(|name| about(format!("there is no listener `{name}`"))));
    let problems = Problems::default();
    // Labels have no filters, so no chain is needed.
    let compiled = Route::compile(0, &spec, upstreams, &Chains::default(), &problems.root());
    let problems = problems.take();
    let errors = problems.iter().filter(|problem| problem.code.severity() == Severity::Error);
    faults.extend(errors.map(|problem| about(words(problem))));
    if compiled.is_none() && faults.is_empty() {
        faults.push(about("it cannot be served".to_owned()));
    }
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn words(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{}; {hint}", problem.message),
        None => problem.message.clone(),
    }
}
