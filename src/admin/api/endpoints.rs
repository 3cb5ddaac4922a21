//! `/api/v1/upstreams/U/endpoints` and the strategy of `U`: changes while running.

use std::{num::NonZeroU32, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{patch, post},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::{AdminState, answer::Refusal},
    Document,
    applied::answer_change,
    extract::{InBody, InPath},
};
use crate::{
    admin::{Applied, Change, Refused, Target},
    balance::StrategySpec,
    discovery::{EndpointSpec, MAX_WEIGHT},
    endpoint::Mode,
    types::{Address, Name},
};

/// A key that may be absent, null, or there.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A key that may be absent or there, not null.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Takes {
    /// It takes requests.
    Enabled,
    /// It takes no new requests; what is in flight finishes.
    Draining,
    /// The same, and it is not part of its upstream: not health-checked, not counted.
    Disabled,
}

/// What is to change about an endpoint. At least one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
struct EndpointChange {
    /// Whether it takes requests.
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Takes")]
    state: Option<Takes>,
    /// Its share of the traffic relative to the others, 1 to 65535; null for what the configuration says.
    #[serde(default, deserialize_with = "there")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 65535))]
    weight: Option<Option<NonZeroU32>>,
}

/// What is to change about an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["strategy"]))]
struct UpstreamChange {
    /// How an endpoint is chosen: the name of a strategy, or an object with its name as the key and its options; null
    /// for what the configuration says.
    #[serde(deserialize_with = "Option::deserialize")]
    strategy: Option<Strategy>,
}

/// A strategy as it is written in JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Strategy {
    /// One without options.
    Name(String),
    /// One with options.
    #[schemars(with = "StrategySpec")]
    Options(Value),
}

/// An endpoint in words of the path.
struct Place {
    upstream: Name,
    address: Address,
}

fn name(text: &str) -> Result<Name, Refusal> {
    text.parse().map_err(|_| Refusal::NoSuch("upstream", text.to_owned()))
}

impl Place {
    fn new((upstream, address): (String, String)) -> Result<Self, Refusal> {
        let address = address.parse().map_err(|_| Refusal::NoSuch("endpoint", address))?;
        Ok(Self { upstream: name(&upstream)?, address })
    }

    /// The same, if it is there.
    fn there(self, state: &AdminState) -> Result<Self, Refusal> {
        let snapshot = state.store.load();
        let Some(upstream) = snapshot.upstreams.get(&self.upstream) else {
            return Err(Refusal::NoSuch("upstream", self.upstream.to_string()));
        };
        match upstream.endpoints().iter().any(|endpoint| *endpoint.address() == self.address) {
            true => Ok(self),
            false => Err(Refusal::NoSuch("endpoint", self.address.to_string())),
        }
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::Body(error.to_string()))
}

fn heavy(weight: NonZeroU32) -> Result<NonZeroU32, Refusal> {
    match weight.get() <= MAX_WEIGHT {
        true => Ok(weight),
        false => Err(Refusal::Body(format!("a weight goes from 1 to {MAX_WEIGHT}, this is {weight}"))),
    }
}

async fn change_strategy(
    State(state): State<Arc<AdminState>>,
    InPath(upstream): InPath<String>,
    InBody(change): InBody<UpstreamChange>,
) -> Result<Response, Refusal> {
    let upstream = name(&upstream)?;
    if !state.store.load().upstreams.contains_key(&upstream) {
        return Err(Refusal::NoSuch("upstream", upstream.to_string()));
    }
    let outcome = match change.strategy {
        None => revert(&state, Target::Strategy(upstream)).await,
        Some(strategy) => {
            let strategy = match strategy {
                Strategy::Name(name) => read::<StrategySpec>(serde_json::json!({name: {}}))?,
                Strategy::Options(options) => read(options)?,
            };
            state.commands.change(Change::SetStrategy { upstream, strategy }).await
        }
    };
    Ok(answer_change(outcome, StatusCode::OK))
}

/// To take back what nobody changed is no fault: it is as was asked.
async fn revert(state: &AdminState, target: Target) -> Result<Applied, Refused> {
    let changed = state.commands.overrides().iter().any(|known| known.change.target() == target);
    match changed {
        true => state.commands.revert(target).await,
        false => {
            let generation = state.commands.running().generation;
            Ok(Applied { generation, notes: Vec::new(), warnings: Vec::new() })
        }
    }
}

async fn add(
    State(state): State<Arc<AdminState>>,
    InPath(upstream): InPath<String>,
    InBody(endpoint): InBody<EndpointSpec>,
) -> Result<Response, Refusal> {
    heavy(endpoint.weight)?;
    let upstream = name(&upstream)?;
    Ok(answer_change(state.commands.change(Change::AddEndpoint { upstream, endpoint }).await, StatusCode::CREATED))
}

async fn remove(State(state): State<Arc<AdminState>>, InPath(place): InPath<(String, String)>) -> Result<Response, Refusal> {
    let Place { upstream, address } = Place::new(place)?;
    Ok(answer_change(state.commands.change(Change::RemoveEndpoint { upstream, address }).await, StatusCode::OK))
}

async fn change(
    State(state): State<Arc<AdminState>>,
    InPath(place): InPath<(String, String)>,
    InBody(wanted): InBody<EndpointChange>,
) -> Result<Response, Refusal> {
    let Place { upstream, address } = Place::new(place)?.there(&state)?;
    let mut outcome = None;
    // A draining endpoint first drains and then changes its weight: nothing is sent to it in between.
    if let Some(mode) = wanted.state {
        let mode = match mode {
            Takes::Enabled => Mode::Enabled,
            Takes::Draining => Mode::Drain,
            Takes::Disabled => Mode::Disabled,
        };
        let (upstream, address) = (upstream.clone(), address.clone());
        outcome = Some(state.commands.change(Change::SetMode { upstream, address, mode }).await);
    }
    if let (Some(weight), None | Some(Ok(_))) = (wanted.weight, &outcome) {
        outcome = Some(match weight.map(heavy).transpose()? {
            None => revert(&state, Target::Weight(upstream, address)).await,
            Some(weight) => state.commands.change(Change::SetWeight { upstream, address, weight }).await,
        });
    }
    let nothing = || Refusal::Body("neither `state` nor `weight` is there".to_owned()).into_response();
    Ok(outcome.map_or_else(nothing, |outcome| answer_change(outcome, StatusCode::OK)))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/api/v1/upstreams/{upstream}", patch(change_strategy))
        .route("/api/v1/upstreams/{upstream}/endpoints", post(add))
        .route("/api/v1/upstreams/{upstream}/endpoints/{endpoint}", patch(change).delete(remove))
}

const ENDPOINT: &str = "The address of an endpoint, as it is shown everywhere.";

pub(super) fn describe(document: &mut Document) {
    let upstream = "The name of an upstream.";
    let missing = "There is no such upstream or endpoint.";
    document
        .operation("patch", "/api/v1/upstreams/{upstream}", "change_strategy", "Changes the strategy while running.")
        .parameter("upstream", upstream)
        .takes::<UpstreamChange>()
        .carried_out(StatusCode::OK, "It chooses by that strategy from now on.")
        .fails(StatusCode::NOT_FOUND, missing)
        .done();
    document
        .operation("post", "/api/v1/upstreams/{upstream}/endpoints", "add_endpoint", "Adds an endpoint while running.")
        .parameter("upstream", upstream)
        .takes::<EndpointSpec>()
        .carried_out(StatusCode::CREATED, "It is part of the upstream.")
        .fails(StatusCode::NOT_FOUND, missing)
        .done();
    document
        .operation(
            "patch",
            "/api/v1/upstreams/{upstream}/endpoints/{endpoint}",
            "change_endpoint",
            "Drains, disables, enables or weighs an endpoint while running.",
        )
        .parameter("upstream", upstream)
        .parameter("endpoint", ENDPOINT)
        .takes::<EndpointChange>()
        .carried_out(StatusCode::OK, "It is so.")
        .fails(StatusCode::NOT_FOUND, missing)
        .done();
    document
        .operation(
            "delete",
            "/api/v1/upstreams/{upstream}/endpoints/{endpoint}",
            "remove_endpoint",
            "Removes an endpoint while running. What is in flight finishes.",
        )
        .parameter("upstream", upstream)
        .parameter("endpoint", ENDPOINT)
        .carried_out(StatusCode::OK, "It is no part of the upstream any more.")
        .fails(StatusCode::NOT_FOUND, missing)
        .done();
}
