//! The command line: one file per command.

mod certificates;
pub mod check;
mod demo;
pub mod diff;
mod explain;
mod health;
mod import;
pub mod lab;
mod orders;
pub mod remote;
mod replay;
mod run;
pub mod schema;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for a command line that makes no sense (BSD's EX_USAGE).
pub const USAGE: u8 = 64;

/// An edge proxy and load balancer: TLS, routing, filters, health-checked upstreams, one YAML file.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge with a configuration file
    Run(run::RunArgs),
    /// Say what is wrong with configuration files, exactly as a start would
    Check(check::CheckArgs),
    /// Say what changes in meaning between two configurations, or from the running one to a file
    Diff(diff::DiffArgs),
    /// Say where a request would go, and why
    Explain(explain::ExplainArgs),
    /// Make a running edge take its configuration from the file again
    Reload(orders::ReloadArgs),
    /// Make a running edge go back to the configuration before its last reload
    Rollback(orders::OrderArgs),
    /// Make a running edge finish what is in flight and exit
    Drain(orders::OrderArgs),
    /// Make a running edge start the binary that is installed now and let it take over, without a refused connection
    Upgrade(orders::OrderArgs),
    /// Say where the requests of an access log would go by another configuration
    Replay(replay::ReplayArgs),
    /// List the certificates of a running edge, and how those stand that are obtained by themselves
    Certificates(certificates::CertificatesArgs),
    /// Watch the upstreams and endpoints of the running edge
    Top(top::TopArgs),
    /// Ask a running edge how it is; for health checks of containers
    Health(health::HealthArgs),
    /// Read the configuration of nginx, HAProxy, Caddy or Traefik and write it as ours
    Import(import::ImportArgs),
    /// Print the JSON Schema of the configuration, for editors
    Schema(schema::SchemaArgs),
    /// Run a complete edge with backends and a certificate of its own: nothing to install or edit
    Demo(demo::DemoArgs),
    /// Test backends and a client, for trying things out
    Lab(lab::LabArgs),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args, &crate::snapshot::check),
        Command::Diff(args) => diff::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Reload(args) => orders::reload(&args),
        Command::Rollback(args) => orders::rollback(&args),
        Command::Drain(args) => orders::drain(&args),
        Command::Upgrade(args) => orders::upgrade(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Certificates(args) => certificates::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Lab(args) => run_lab(args),
    }
}

fn run_lab(args: lab::LabArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(lab::run(args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
