//! What operators changed at runtime: laid over every configuration, until it is taken back or the process ends.

use std::time::SystemTime;

use crate::{
    admin::{Change, Override, Refused, Target},
    config::Spec,
    discovery::EndpointSpec,
    endpoint::{EndpointRegistry, Mode},
    types::{Address, Name},
    upstream::UpstreamSpec,
};

/// Changes that are kept: an operator's, and a script's that went wrong.
const MOST: usize = 10_000;

/// The changes in force, one for each target, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides(Vec<Override>);

impl Overrides {
    pub(super) fn all(&self) -> &[Override] {
        &self.0
    }

    /// With this change, replacing an earlier one of the same target. A change back to what the configuration says is
    /// no change any more.
    pub(super) fn with(&self, change: Change, base: &Spec) -> Result<Self, Refused> {
        let upstream = upstream(base, change.upstream())?;
        let (target, name) = (change.target(), change.upstream().clone());
        let listed = |address: &Address| upstream.endpoints.iter().any(|endpoint| endpoint.target.address() == Some(address));
        let mut rest: Vec<Override> = self.0.iter().filter(|known| known.change.target() != target).cloned().collect();
        let added = |address: &Address| self.added(&name, address).is_some();
        match &change {
            Change::AddEndpoint { endpoint, .. } if listed(&endpoint.address) => {
                // It may have been removed at runtime: then this takes that back.
                if rest.len() == self.0.len() {
                    return Err(Refused::Conflict(format!("upstream {name} has the endpoint {} already", endpoint.address)));
                }
                return Ok(Self(rest));
            }
            Change::RemoveEndpoint { address, .. } if added(address) => return Ok(Self(rest)),
            Change::RemoveEndpoint { address, .. } if !listed(address) => {
                return Err(Refused::Conflict(format!(
                    "endpoint {address} of upstream {name} was discovered, and would be found again: disable it instead"
                )));
            }
            Change::SetMode { mode: Mode::Enabled, .. } => return Ok(Self(rest)),
            _ => {}
        }
        if rest.len() >= MOST {
            return Err(Refused::Conflict(format!("there are {MOST} runtime changes already")));
        }
        rest.push(Override { change, since: SystemTime::now() });
        Ok(Self(rest))
    }

    /// Without the change of this target.
    pub(super) fn without(&self, target: &Target) -> Option<Self> {
        let rest: Vec<_> = self.0.iter().filter(|known| known.change.target() != *target).cloned().collect();
        (rest.len() < self.0.len()).then_some(Self(rest))
    }

    /// Without those that a new configuration leaves without an object, each with a note that says so.
    pub(super) fn still_meant(&self, base: &Spec) -> (Self, Vec<String>) {
        let (mut kept, mut notes) = (Vec::new(), Vec::new());
        for known in &self.0 {
            let name = known.change.upstream();
            let listed = |address: &Address| {
                base.upstreams
                    .get(name)
                    .is_some_and(|upstream| upstream.endpoints.iter().any(|listed| listed.target.address() == Some(address)))
            };
            let gone = match &known.change {
                _ if !base.upstreams.contains_key(name) => {
                    Some(format!("upstream {name} is no more, nor is what was changed in it"))
                }
                Change::AddEndpoint { endpoint, .. } if listed(&endpoint.address) => {
                    Some(format!("endpoint {} that was added to upstream {name} is in the file now", endpoint.address))
                }
                Change::RemoveEndpoint { address, .. } if !listed(address) => {
                    Some(format!("endpoint {address} that was removed from upstream {name} is not in the file any more"))
                }
                _ => None,
            };
            match gone {
                Some(note) => notes.push(note),
                None => kept.push(known.clone()),
            }
        }
        (Self(kept), notes)
    }

    /// What they make of a configuration. Weights and modes are orders to endpoints instead, since those may be discovered.
    pub(super) fn lay_over(&self, spec: &mut Spec) {
        for Override { change, .. } in &self.0 {
            let Some(upstream) = spec.upstreams.get_mut(change.upstream()) else { continue };
            match change {
                Change::AddEndpoint { endpoint, .. } => upstream.endpoints.push(endpoint.clone().into()),
                Change::RemoveEndpoint { address, .. } => {
                    upstream.endpoints.retain(|listed| listed.target.address() != Some(address))
                }
                Change::SetStrategy { strategy, .. } => upstream.strategy = strategy.clone(),
                Change::SetWeight { .. } | Change::SetMode { .. } => {}
            }
        }
    }

    /// Gives the orders that these contain, and takes back those that `before` contained.
    pub(super) fn order(&self, before: &Self, registry: &EndpointRegistry) {
        for Override { change, .. } in before.0.iter().filter(|known| !self.0.contains(known)) {
            match change {
                Change::SetWeight { upstream, address, .. } => registry.order(upstream, address, |orders| orders.weight = None),
                Change::SetMode { upstream, address, .. } => {
                    registry.order(upstream, address, |orders| orders.mode = Mode::Enabled);
                }
                _ => {}
            }
        }
        for Override { change, .. } in &self.0 {
            match change {
                Change::SetWeight { upstream, address, weight } => {
                    registry.order(upstream, address, |orders| orders.weight = Some(*weight));
                }
                Change::SetMode { upstream, address, mode } => registry.order(upstream, address, |orders| orders.mode = *mode),
                _ => {}
            }
        }
    }

    fn added(&self, name: &Name, address: &Address) -> Option<&EndpointSpec> {
        self.0.iter().find_map(|known| match &known.change {
            Change::AddEndpoint { upstream, endpoint } if upstream == name && endpoint.address == *address => Some(endpoint),
            _ => None,
        })
    }
}

fn upstream<'s>(spec: &'s Spec, name: &Name) -> Result<&'s UpstreamSpec, Refused> {
    spec.upstreams.get(name).ok_or_else(|| Refused::NotFound(format!("there is no upstream {name}")))
}
