//! How `send` and `load` reach what they ask.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    lab::send::{Transport, Trust},
    types::Span,
};

/// Where `conf/examples/tcp.yaml` listens.
const TCP_ADDRESS: &str = "127.0.0.1:9000";

/// Arguments of commands that send.
#[derive(Debug, Args)]
pub(super) struct TransportArgs {
    /// Connect here. With a URL, its host is still the one that is asked for; a text goes to 127.0.0.1:9000 otherwise,
    /// where conf/examples/tcp.yaml listens.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    address: Option<String>,
    /// Speak HTTP/2 only; with http://, by prior knowledge.
    #[arg(long)]
    http2: bool,
    /// Accept any certificate.
    #[arg(short = 'k', long, conflicts_with = "ca")]
    insecure: bool,
    /// Trust the authorities in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For each request, connecting included.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    timeout: Span,
}

impl TransportArgs {
    /// The way to a URL.
    pub(super) fn http(&self) -> Transport {
        let trust = match (&self.ca, self.insecure) {
            (_, true) => Trust::Anyone,
            (Some(file), _) => Trust::File(file.clone()),
            (None, _) => Trust::System,
        };
        Transport { address: self.address.clone(), http2_only: self.http2, trust, timeout: self.timeout() }
    }

    /// Where a text goes over TCP. One that looks like a URL without its scheme more likely is one.
    pub(super) fn tcp(&self, text: &str) -> anyhow::Result<&str> {
        let looks_like_url = text.contains([':', '/']) && !text.contains(char::is_whitespace);
        match &self.address {
            None if looks_like_url => anyhow::bail!(
                "`{text}` is not an http:// or https:// URL; did you mean `http://{text}`? To send it over TCP, add --address HOST:PORT"
            ),
            None => Ok(TCP_ADDRESS),
            Some(address) => Ok(address),
        }
    }

    /// Was something asked for that TCP does not know?
    pub(super) fn has_http_options(&self) -> bool {
        self.http2 || self.insecure || self.ca.is_some()
    }

    /// For each request.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.get()
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("expected a host and a port, as in `127.0.0.1:5432`".into()),
    }
}
