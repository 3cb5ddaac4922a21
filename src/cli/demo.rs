//! `weir demo`: a complete edge to look at. Nothing to install or edit.

use std::{collections::HashMap, io::Write, net::SocketAddr, path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::run;
use crate::{
    config,
    control::Origin,
    lab::{Backend, BackendHandle, BackendOptions},
};

/// The demo's configuration: an ordinary one, to read and to copy.
const CONFIG: &str = include_str!("../../conf/demo.yaml");

/// Arguments of `weir demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to accept HTTP, which redirects to HTTPS
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where to accept HTTPS
    #[arg(long, default_value = "127.0.0.1:8443")]
    https: SocketAddr,
    /// Where the admin API answers
    #[arg(long, default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
    /// The first of three ports for the backends; 0 for any
    #[arg(long, default_value_t = 9001, value_parser = clap::value_parser!(u16).range(..=65533))]
    backend_port: u16,
    /// Print the configuration and exit
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(args: DemoArgs) -> ExitCode {
    if args.print_config {
        say(CONFIG);
        return ExitCode::SUCCESS;
    }
    run::begin_log();
    run::served(demo(&args))
}

/// Writes to standard output. A reader that went away is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn demo(args: &DemoArgs) -> anyhow::Result<()> {
    // The backends are a world of their own: threads of theirs, as if they were other processes.
    let lab = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let backends = lab.block_on(start_backends(args.backend_port))?;
    let mut variables = HashMap::from([
        ("DEMO_HTTP".to_owned(), args.http.to_string()),
        ("DEMO_HTTPS".to_owned(), args.https.to_string()),
        ("DEMO_ADMIN".to_owned(), args.admin.to_string()),
    ]);
    for (number, backend) in backends.iter().enumerate() {
        variables.insert(format!("DEMO_BACKEND_{}", number + 1), backend.addr.to_string());
    }
    let loaded = run::checked(config::parse_str("demo.yaml", CONFIG, Path::new("."), &|name| variables.get(name).cloned()));
    if !run::accepted(&loaded) {
        anyhow::bail!("the demo's own configuration has errors");
    }
    let origin = Origin::Text { name: "the demo's configuration".to_owned(), directory: ".".into() };
    run::serve(loaded, origin, None, |server| {
        let port = |name| server.address(name).map_or(0, |address| address.port());
        let admin = server.admin_address().map_or_else(String::new, |address| address.to_string());
        let token = server.made_token().unwrap_or_default();
        say(&welcome(port("web"), port("edge"), &admin, token.expose(), &backends));
    })?;
    lab.block_on(async {
        for backend in backends {
            backend.stop().await;
        }
    });
    Ok(())
}

async fn start_backends(first_port: u16) -> anyhow::Result<Vec<BackendHandle>> {
    let mut backends = Vec::new();
    for (number, name) in ["red", "green", "blue"].into_iter().enumerate() {
        let port = if first_port == 0 { 0 } else { first_port + number as u16 };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let backend = Backend::spawn(BackendOptions::named(name).address(address)).await;
        backends.push(backend.with_context(|| format!("cannot listen on {address} for the backend {name}"))?);
    }
    Ok(backends)
}

fn welcome(http: u16, https: u16, admin: &str, token: &str, backends: &[BackendHandle]) -> String {
    let health = backends.first().map_or_else(String::new, |backend| backend.addr.to_string());
    let names: Vec<String> = backends.iter().map(|backend| format!("{} ({})", backend.name(), backend.addr)).collect();
    format!(
        "
  weir is running, with three backends: {names}

  Try, in another terminal:

    curl -k  https://localhost:{https}/               three backends in turn: who answers?
    curl -ki http://localhost:{http}/                redirected to HTTPS
    curl -k  https://localhost:{https}/slow?ms=700    a slow answer
    curl -k  https://localhost:{https}/flaky          fails half of the time
    curl -k  https://localhost:{https}/echo -d hello  what the backend was sent
    curl -ki https://localhost:{https}/api/v1/users   a route with filters: see the path and the headers
    curl -k  https://localhost:{https}/hello          answered by the edge itself

  Take a backend out, and bring it back; health checks notice within seconds:

    curl -X PUT http://{health}/health/down
    curl -X PUT http://{health}/health/up

  Look inside:

    curl http://{admin}/stats                   every upstream and endpoint
    curl http://{admin}/metrics                 for Prometheus
    weir demo --print-config                        the configuration of all this

  Drain and stop, by Ctrl-C or through the admin API, whose token was made for this run:

    curl -X POST http://{admin}/api/v1/drain -H \"Authorization: Bearer {token}\"

  The access log follows.

",
        names = names.join(", "),
    )
}
