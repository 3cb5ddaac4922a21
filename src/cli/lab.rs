//! `weir lab`: test backends and a client.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    lab::{Backend, BackendHandle, BackendOptions, Failure, Faults, TcpEcho, TcpEchoHandle, TcpEchoOptions},
    types::{Ratio, Span},
};

/// Test backends that can delay, fail and echo, and a client for them.
#[derive(Debug, Args)]
pub struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Serve test backends until interrupted.
    Serve(ServeArgs),
}

/// Runs `weir lab`.
///
/// # Errors
/// What kept the command from doing its work, for the user to read.
pub async fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::Serve(args) => serve(args).await,
    }
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Serve a TCP echo instead of HTTP.
    #[arg(long)]
    tcp: bool,
    /// How many backends, on consecutive ports.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100), value_name = "N")]
    count: u16,
    /// The port of the first backend; 0 takes free ones.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    host: IpAddr,
    /// What the backends are called: NAME-1, NAME-2, ...
    #[arg(long, default_value = "app")]
    name: String,
    /// Wait this long before each answer, as in `50ms`.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    delay: Span,
    /// Wait up to this much longer, at random.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    jitter: Span,
    /// Fail this share of the requests, as in `10%`.
    #[arg(long, default_value = "0%", value_name = "SHARE")]
    fail: Ratio,
    /// How they fail: a status from 400 to 599, or `reset`. TCP connections are always reset.
    #[arg(long, default_value = "500", value_name = "STATUS|reset", conflicts_with = "tcp")]
    fail_with: Failure,
    /// Say this to each client first (TCP only).
    #[arg(long, requires = "tcp", value_name = "TEXT")]
    greeting: Option<String>,
}

/// One running backend of either kind.
enum Serving {
    Http(BackendHandle),
    Tcp(TcpEchoHandle),
}

impl ServeArgs {
    fn faults(&self) -> Faults {
        Faults { delay: self.delay.get(), jitter: self.jitter.get(), rate: self.fail, failure: self.fail_with }
    }

    /// The address of the backend with this index, or what is wrong with it.
    fn address(&self, index: u16) -> anyhow::Result<SocketAddr> {
        let port = match self.port {
            0 => Some(0),
            first => first.checked_add(index),
        };
        let port = port.with_context(|| format!("{} backends from port {} on go beyond port 65535", self.count, self.port))?;
        Ok(SocketAddr::new(self.host, port))
    }

    async fn start(&self, index: u16) -> anyhow::Result<Serving> {
        let address = self.address(index)?;
        let name = format!("{}-{}", self.name, index + 1);
        let mut out = std::io::stdout();
        let serving = if self.tcp {
            let greeting = self.greeting.as_ref().map(|greeting| format!("{greeting}\n")).unwrap_or_default();
            let options = TcpEchoOptions { address, greeting, faults: self.faults() };
            let echo = TcpEcho::spawn(options).await.with_context(|| format!("cannot serve on {address}"))?;
            writeln!(out, "{name} echoes TCP on {}", echo.addr)?;
            Serving::Tcp(echo)
        } else {
            let options = BackendOptions::named(&name).address(address).faults(self.faults());
            let backend = Backend::spawn(options).await.with_context(|| format!("cannot serve on {address}"))?;
            writeln!(out, "{name} serves http://{}", backend.addr)?;
            Serving::Http(backend)
        };
        Ok(serving)
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    // Installed before the first line is printed: whoever reads that line may send the signal.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = Vec::new();
    for index in 0..args.count {
        running.push(args.start(index).await?);
    }
    if !args.tcp {
        println!("paths: / /echo /slow?ms= /flaky?rate= /status/CODE /stream /sse /bytes?n= /health /ws");
    }
    println!("stop with Ctrl-C");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    for serving in running {
        match serving {
            Serving::Http(backend) => backend.stop().await,
            Serving::Tcp(echo) => echo.stop().await,
        }
    }
    Ok(ExitCode::SUCCESS)
}
