//! A program of the operator's, which is run for each record.

use std::{process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};

use super::DnsProvider;
use crate::types::{At, Code, OneOrMany, Span};

/// A program that writes and removes records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The program and its arguments. It is run with three more: `present` or `remove`, the name of the record with a dot at its end, and
    /// its value. Status 0 is success; of its output the last line goes into the log when it fails.
    pub command: OneOrMany<String>,
    /// How long it may take.
    #[serde(default = "ExecSpec::default_timeout")]
    pub timeout: Span,
}

impl ExecSpec {
    fn default_timeout() -> Span {
        Span::secs(60)
    }
}

#[derive(Debug)]
struct Exec {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

pub(super) fn compile(spec: &ExecSpec, at: &At) -> Option<Arc<dyn DnsProvider>> {
    let Some((program, arguments)) = spec.command.split_first() else {
        at.key("command").problem(Code::BadValue, "there is no program to run").hint("as in `[/usr/local/bin/dns-record]`");
        return None;
    };
    Some(Arc::new(Exec { program: program.clone(), arguments: arguments.to_vec(), timeout: spec.timeout.get() }))
}

impl Exec {
    async fn run(&self, what: &str, fqdn: &str, value: &str) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([what, fqdn, value]).stdin(Stdio::null()).kill_on_drop(true);
        let output = match timeout(self.timeout, command.output()).await {
            Err(_) => return Err(format!("`{}` was not done after {} s", self.program, self.timeout.as_secs())),
            Ok(Err(error)) => return Err(format!("`{}` cannot be run: {}", self.program, error.kind())),
            Ok(Ok(output)) => output,
        };
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stderr, output.stdout].map(|said| String::from_utf8_lossy(&said).into_owned());
        let last = said.iter().find_map(|said| said.lines().rev().find(|line| !line.trim().is_empty()));
        let last: String =
            last.unwrap_or("it says nothing").chars().filter(|character| !character.is_control()).take(200).collect();
        Err(format!("`{}` failed ({}): {last}", self.program, output.status))
    }
}

#[async_trait]
impl DnsProvider for Exec {
    async fn present(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.run("present", fqdn, value).await
    }
    async fn remove(&self, fqdn: &str, value: &str) -> Result<(), String> {
        self.run("remove", fqdn, value).await
    }
}
