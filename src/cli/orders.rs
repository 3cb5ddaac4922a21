//! `weir reload`, `rollback`, `drain` and `upgrade`: orders to a running edge, through its admin API.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::remote::{self, AdminArgs, Answer, Body, Remote, RemoteError};
use crate::types::Span;

/// The exit code when the edge refuses, or cannot be reached.
const TROUBLE: u8 = 1;

/// How long a new process may take to start, which the answer to `upgrade` waits for.
const UPGRADE: Duration = Duration::from_secs(90);

/// How often a probation is asked about.
const AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `weir reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Watch the edge for this long, and go back by itself if it does worse than before: `30s`, at most an hour
    #[arg(long, value_name = "SPAN")]
    probation: Option<Span>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of orders that need no more than an edge to obey them.
#[derive(Debug, Args)]
pub struct OrderArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// What became of an order.
#[derive(Debug, Deserialize)]
struct Done {
    generation: u64,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    warnings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    code: String,
    severity: String,
    message: String,
    file: String,
    line: usize,
    column: usize,
}

impl Finding {
    fn line(&self) -> String {
        let Self { code, severity, message, file, line, column } = self;
        format!("{file}:{line}:{column}: {severity} {code}: {message}")
    }
}

/// Runs `weir reload`: exit code 0 once the file is in service, and 1 when it was refused or taken back.
pub(super) fn reload(args: &ReloadArgs) -> ExitCode {
    order(&args.admin, async |remote| {
        let how = args.probation.map_or_else(|| json!({}), |probation| json!({"probation": probation}));
        let done = told(remote.post("/api/v1/config/reload", Body::json(&how)).await)?;
        println!("generation {} is running", done.generation);
        match args.probation {
            Some(_) => passed(remote, done.generation).await,
            None => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Runs `weir rollback`.
pub(super) fn rollback(args: &OrderArgs) -> ExitCode {
    order(&args.admin, async |remote| {
        let done = told(remote.post("/api/v1/config/rollback", Body::none()).await)?;
        println!("generation {} is running, with the configuration before the last reload", done.generation);
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs `weir drain`.
pub(super) fn drain(args: &OrderArgs) -> ExitCode {
    order(&args.admin, async |remote| {
        remote.post("/api/v1/drain", Body::none()).await?;
        println!("draining: the process ends when what is in flight has finished");
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs `weir upgrade`.
pub(super) fn upgrade(args: &OrderArgs) -> ExitCode {
    order(&args.admin, async |remote| {
        let answer = remote.clone().with_patience(UPGRADE).post("/api/v1/upgrade", Body::none()).await?;
        let process = answer.json::<Value>()?["process"].as_u64().unwrap_or_default();
        println!("process {process} has taken over; the one before drains");
        Ok(ExitCode::SUCCESS)
    })
}

fn order(admin: &AdminArgs, order: impl AsyncFnOnce(&Remote) -> anyhow::Result<ExitCode>) -> ExitCode {
    remote::block_on(TROUBLE, async { order(&Remote::new(admin)?).await })
}

/// What the answer says beside its result, said to the user.
fn told(answer: Result<Answer, RemoteError>) -> anyhow::Result<Done> {
    if let Err(RemoteError::Refused { body, .. }) = &answer {
        let findings = serde_json::from_slice::<Value>(body).ok().and_then(|mut body| body.get_mut("problems").map(Value::take));
        for finding in findings.and_then(|found| serde_json::from_value::<Vec<Finding>>(found).ok()).into_iter().flatten() {
            eprintln!("{}", finding.line());
        }
    }
    let done: Done = answer?.json()?;
    done.warnings.iter().for_each(|warning| eprintln!("{}", warning.line()));
    done.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(done)
}

/// Waits for the end of a probation.
async fn passed(remote: &Remote, generation: u64) -> anyhow::Result<ExitCode> {
    loop {
        tokio::time::sleep(AGAIN).await;
        let running: Value = remote.get("/api/v1/config").await?.json()?;
        let probation = &running["probation"];
        let reason = probation["reason"].as_str().unwrap_or_default();
        if probation["generation"].as_u64() != Some(generation) {
            anyhow::bail!("another probation began");
        }
        match probation["state"].as_str() {
            Some("running") => {}
            Some("passed") => {
                println!("generation {generation} has passed its probation");
                return Ok(ExitCode::SUCCESS);
            }
            Some("rolled_back") => anyhow::bail!("generation {generation} was taken back: {reason}"),
            _ => anyhow::bail!("the probation of generation {generation} ended: {reason}"),
        }
    }
}
