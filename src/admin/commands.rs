//! What an operator can order, and what becomes of it. `control` carries it out.

use std::{
    fmt,
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    balance::StrategySpec,
    config::{Diagnostic, Loaded},
    discovery::{EndpointSpec, docker},
    endpoint::Mode,
    types::{Address, Name},
};

/// What an operator can order. The process decides how it is done; whoever asks may go away meanwhile.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Stop being ready, finish what is in flight, exit. Returns at once; saying it twice changes nothing.
    fn drain(&self);
    /// Takes the configuration from its file again.
    async fn reload(&self, guard: Guard) -> Result<Applied, Refused>;
    /// Takes this text as the configuration, until the next reload. Relative paths are relative to the file's directory.
    async fn apply(&self, text: String, guard: Guard) -> Result<Applied, Refused>;
    /// Goes back to the configuration before the last reload.
    async fn rollback(&self) -> Result<Applied, Refused>;
    /// Starts the binary that is installed now and lets it take over. Answers its process id once it serves.
    async fn upgrade(&self) -> Result<u32, Refused>;
    /// Changes something at runtime, beside the configuration.
    async fn change(&self, change: Change) -> Result<Applied, Refused>;
    /// Takes a runtime change back.
    async fn revert(&self, target: Target) -> Result<Applied, Refused>;
    /// Everything that was changed at runtime and is in force.
    fn overrides(&self) -> Vec<Override>;
    /// Reads a text as [`Commands::apply`] would, with every problem, and changes nothing.
    async fn check(&self, text: String) -> Loaded;
    /// What is running.
    fn running(&self) -> Running;
    /// What is wrong with containers and their labels now, where endpoints are found by those.
    fn container_diagnostics(&self) -> Vec<docker::Diagnostic>;
}

/// Conditions on a reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    /// Only if this generation is running.
    pub if_generation: Option<u64>,
    /// Go back by itself if things get worse within this time.
    pub probation: Option<Duration>,
}

/// A command that was carried out.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The generation that is running now.
    pub generation: u64,
    /// What the operator should know: settings that need a restart, runtime changes that ended.
    pub notes: Vec<String>,
    /// Warnings about the configuration.
    pub warnings: Vec<Diagnostic>,
}

/// A command that was not carried out: everything is as it was.
#[derive(Debug)]
pub enum Refused {
    /// The configuration has errors.
    Invalid(Box<Loaded>),
    /// It does not go together with what is running; the text says why.
    Conflict(String),
    /// There is no such thing.
    NotFound(String),
    /// The system refused something: an address in use, a log that cannot be opened.
    Failed(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Invalid(loaded) => {
                let (first, all) = (loaded.errors().next(), loaded.errors().count());
                match first {
                    Some(first) => write!(f, "the configuration has {all} errors, the first is: {}", first.line()),
                    None => f.write_str("the configuration has errors"),
                }
            }
            Refused::Conflict(reason) | Refused::NotFound(reason) | Refused::Failed(reason) => f.write_str(reason),
        }
    }
}

/// A change at runtime. It outlives a reload and is lost with the process.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// One more endpoint.
    AddEndpoint {
        /// Of this upstream.
        upstream: Name,
        /// With these options.
        endpoint: EndpointSpec,
    },
    /// One endpoint less, of those that the file lists or that were added at runtime.
    RemoveEndpoint {
        /// Of this upstream.
        upstream: Name,
        /// Where.
        address: Address,
    },
    /// Another weight.
    SetWeight {
        /// Of this upstream.
        upstream: Name,
        /// Where.
        address: Address,
        /// At least 1.
        weight: NonZeroU32,
    },
    /// Whether it takes requests.
    SetMode {
        /// Of this upstream.
        upstream: Name,
        /// Where.
        address: Address,
        /// `enabled` is what it was from the beginning.
        mode: Mode,
    },
    /// Another strategy.
    SetStrategy {
        /// Of this upstream.
        upstream: Name,
        /// The strategy.
        strategy: StrategySpec,
    },
}

/// What a change is about: a later change of the same target replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Whether this endpoint is there.
    Endpoint(Name, Address),
    /// Its weight.
    Weight(Name, Address),
    /// Its mode.
    Mode(Name, Address),
    /// The strategy of this upstream.
    Strategy(Name),
}

impl Change {
    /// What it is about.
    pub fn target(&self) -> Target {
        match self.clone() {
            Change::AddEndpoint { upstream, endpoint } => Target::Endpoint(upstream, endpoint.address),
            Change::RemoveEndpoint { upstream, address } => Target::Endpoint(upstream, address),
            Change::SetWeight { upstream, address, .. } => Target::Weight(upstream, address),
            Change::SetMode { upstream, address, .. } => Target::Mode(upstream, address),
            Change::SetStrategy { upstream, .. } => Target::Strategy(upstream),
        }
    }
    /// The upstream that it changes.
    pub fn upstream(&self) -> &Name {
        match self {
            Change::AddEndpoint { upstream, .. }
            | Change::RemoveEndpoint { upstream, .. }
            | Change::SetWeight { upstream, .. }
            | Change::SetMode { upstream, .. }
            | Change::SetStrategy { upstream, .. } => upstream,
        }
    }
}

/// A runtime change that is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Override {
    /// The change.
    pub change: Change,
    /// Since when.
    #[serde(skip)]
    pub since: SystemTime,
}

/// What is running.
#[derive(Debug, Clone)]
pub struct Running {
    /// Counts configurations from 1.
    pub generation: u64,
    /// Since when.
    pub since: SystemTime,
    /// Where it came from: a file's path, `posted`, `rollback`.
    pub origin: String,
    /// The configuration as YAML with defaults filled in, secrets hidden.
    pub text: String,
    /// Why the last reload was refused, unless one succeeded after it.
    pub last_refusal: Option<String>,
    /// A reload on probation, or how the last one ended.
    pub probation: Option<Probation>,
    /// Can [`Commands::rollback`] go anywhere?
    pub can_roll_back: bool,
}

/// A reload that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Probation {
    /// Being watched.
    Running {
        /// The generation that is watched.
        generation: u64,
        /// How long still, in seconds.
        seconds_left: u64,
    },
    /// It did not get worse.
    Passed {
        /// The generation that was watched.
        generation: u64,
    },
    /// It got worse, and the configuration before is back.
    RolledBack {
        /// The generation that was watched.
        generation: u64,
        /// What got worse.
        reason: String,
    },
    /// Another configuration came, or nothing could be said.
    Ended {
        /// The generation that was watched.
        generation: u64,
        /// Why.
        reason: String,
    },
}
