//! `weir lab load`: a load with a progress bar and a report.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use indicatif::{ProgressBar, ProgressStyle};

use super::{TEXT, header_field, transport::TransportArgs};
use crate::{
    lab::{
        load::{self, Load, Progress, Target},
        send::HttpRequest,
    },
    types::Span,
};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// An http:// or https:// URL, or a text to send over TCP to something that echoes.
    #[arg(default_value = TEXT, value_name = "URL|TEXT")]
    what: String,
    /// For how long.
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    duration: Span,
    /// How many connections at a time. Each sends its next request when the last one is answered.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    connections: u32,
    /// Send so many bytes instead of a text (TCP only).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_048_576), value_name = "BYTES")]
    size: Option<u32>,
    /// A header field, as in `-H 'accept: application/json'`; may be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header_field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    #[command(flatten)]
    transport: TransportArgs,
}

impl LoadArgs {
    fn target(&self) -> anyhow::Result<Target> {
        if self.what.starts_with("http://") || self.what.starts_with("https://") {
            let uri: Uri = self.what.parse().with_context(|| format!("`{}` is not a URL", self.what))?;
            anyhow::ensure!(uri.host().is_some_and(|host| !host.is_empty()), "`{}` names no host", self.what);
            anyhow::ensure!(self.size.is_none(), "--size is for TCP");
            return Ok(Target::Http(Box::new(self.request(uri)), Box::new(self.transport.http())));
        }
        let address = self.transport.tcp(&self.what)?.to_owned();
        if !self.headers.is_empty() || self.transport.has_http_options() {
            anyhow::bail!("`{}` goes over TCP, which knows no header, HTTP/2 or TLS options", self.what);
        }
        let bytes = match self.size {
            Some(size) => (b'a'..=b'z').cycle().take(size as usize).collect(),
            None => self.what.clone().into_bytes(),
        };
        anyhow::ensure!(!bytes.is_empty(), "there is nothing to send");
        Ok(Target::Tcp { address, bytes, timeout: self.transport.timeout() })
    }

    fn request(&self, uri: Uri) -> HttpRequest {
        let headers: HeaderMap = self.headers.iter().cloned().collect();
        HttpRequest { method: Method::GET, uri, headers, body: Default::default() }
    }
}

/// The exit code is 1 when there were errors, or no answer at all.
pub(super) async fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let load = Load { target: args.target()?, connections: args.connections as usize, duration: args.duration.get() };
    let progress = Arc::new(Progress::default());
    let bar = bar(load.duration);
    let report = {
        let mut running = std::pin::pin!(load::run(&load, &progress));
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                report = &mut running => break report,
                _ = ticks.tick() => show(&bar, &progress),
            }
        }
    };
    bar.finish_and_clear();
    print!("{report}");
    Ok(if report.errors() == 0 && report.answers() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// On standard error, and only on a terminal.
fn bar(duration: Duration) -> ProgressBar {
    let bar = ProgressBar::new(duration.as_millis() as u64);
    match ProgressStyle::with_template("{bar:40} {elapsed_precise} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let elapsed = bar.elapsed();
    let rate = progress.answers() as f64 / elapsed.as_secs_f64().max(0.1);
    bar.set_position(elapsed.as_millis() as u64);
    bar.set_message(format!("{} answers ({rate:.0}/s), {} errors", progress.answers(), progress.errors()));
}
