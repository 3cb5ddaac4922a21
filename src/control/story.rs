//! What of all this an operator reads on the timeline.

use super::Control;
use crate::{
    admin::{Applied, Change, Probation, Refused},
    observe::{Tone, Topic},
};

impl Control {
    /// A configuration was taken, or not.
    pub(super) fn tell_taken(&self, taken: &Result<Applied, Refused>, origin: &str) {
        let timeline = self.shared().observer.timeline();
        match taken {
            Ok(applied) => {
                timeline.add(Topic::Configuration, Tone::Good, format_args!("generation {} from {origin}", applied.generation));
            }
            Err(refused) => timeline.add(Topic::Configuration, Tone::Bad, format_args!("refused, all is as it was: {refused}")),
        }
    }

    /// Something was changed at runtime. Endpoints that drain or come back tell it themselves.
    pub(super) fn tell_changed(&self, change: &Change) {
        let text = match change {
            Change::SetMode { .. } => return,
            Change::AddEndpoint { endpoint, .. } => format!("{} was added at runtime", endpoint.address),
            Change::RemoveEndpoint { address, .. } => format!("{address} was removed at runtime"),
            Change::SetWeight { address, weight, .. } => format!("{address} has weight {weight} from now on"),
            Change::SetStrategy { strategy, .. } => format!("chooses by {} from now on", strategy.kind()),
        };
        self.shared().observer.timeline().add_of(change.upstream(), Tone::Neutral, text);
    }

    /// A probation began or ended.
    pub(super) fn tell_probation(&self, probation: &Probation) {
        let (tone, text) = match probation {
            Probation::Running { generation, seconds_left } => {
                (Tone::Neutral, format!("generation {generation} is on probation for {seconds_left} s"))
            }
            Probation::Passed { generation } => (Tone::Good, format!("generation {generation} has passed its probation")),
            Probation::RolledBack { generation, reason } => {
                (Tone::Bad, format!("generation {generation} did worse and was rolled back: {reason}"))
            }
            Probation::Ended { generation, reason } => {
                (Tone::Neutral, format!("the probation of generation {generation} ended: {reason}"))
            }
        };
        self.shared().observer.timeline().add(Topic::Configuration, tone, text);
    }

    /// The edge takes no new traffic from now on.
    pub(super) fn tell_drain(&self) {
        let text = "the edge drains: no new connections, requests in flight may finish";
        self.shared().observer.timeline().add(Topic::Process, Tone::Neutral, text);
    }
}
