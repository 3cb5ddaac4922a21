//! `weir health`: asks a running edge how it is. For a container's health check, which has no shell and no curl.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    config,
    config::AdminSpec,
    types::{Address, Span, Switch},
};

/// More than any answer to a probe has.
const MAX_ANSWER: usize = 64 * 1024;

/// Arguments of `weir health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The configuration file of the edge, which says where its admin listener is
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.yaml", env = "WEIR_CONFIG")]
    config: PathBuf,
    /// Ask here instead of where the configuration says: an address of an admin listener, or of any HTTP server
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Address>,
    /// Ask for this path: `/readyz` says whether traffic is welcome, `/healthz` only whether the process is alive
    #[arg(long, value_name = "PATH", default_value = "/readyz", value_parser = path)]
    path: String,
    /// How long all of it may take
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    timeout: Span,
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.parse::<http::Uri>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("a path starts with `/`".into()),
    }
}

/// Exits with 0 if the answer is a success, with 1 in every other case, and says which.
pub(super) fn run(args: &HealthArgs) -> ExitCode {
    super::run::done(ask(args).map(|answer| {
        let _ = writeln!(std::io::stdout(), "{answer}");
    }))
}

fn ask(args: &HealthArgs) -> anyhow::Result<String> {
    let address = match &args.address {
        Some(address) => address.clone(),
        None => admin_address(&args.config)?,
    };
    let asked = format!("{address}{}", args.path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { timeout(args.timeout.get(), get(&address, &args.path)).await });
    let answer = answer.with_context(|| format!("{asked}: no answer within {}", args.timeout))?;
    let (status, body) = answer.with_context(|| asked.clone())?;
    let said = format!("{asked}: {} {}", status.as_u16(), body.trim());
    anyhow::ensure!(status.is_success(), "{said}");
    Ok(said)
}

/// Where the edge that runs with this file can be asked. A file that was broken since the start does not make the edge
/// any less healthy, so what cannot be read of it is taken to be as if it were not written.
fn admin_address(file: &Path) -> anyhow::Result<Address> {
    let spec = config::load(file, &|name| std::env::var(name).ok()).spec;
    match spec.map_or_else(Switch::default, |spec| spec.admin) {
        Switch::On(AdminSpec { address, .. }) => Ok(reachable(address)),
        Switch::Off => anyhow::bail!("{} says `admin: off`: there is nobody to ask", file.display()),
    }
}

/// An address that stands for all of them is asked on loopback.
fn reachable(address: Address) -> Address {
    let Address::Tcp(address) = address else { return address };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port()).into()
}

async fn get(address: &Address, path: &str) -> anyhow::Result<(StatusCode, String)> {
    match address {
        Address::Tcp(address) => exchange(TcpStream::connect(address).await?, &address.to_string(), path).await,
        Address::Unix(socket) => exchange(UnixStream::connect(socket).await?, "localhost", path).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
) -> anyhow::Result<(StatusCode, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, host).body(Empty::<bytes::Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_on_loopback() {
        for (bound, asked) in [
            ("0.0.0.0:9900", "127.0.0.1:9900"),
            ("[::]:9900", "[::1]:9900"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("unix:/run/weir/admin.sock", "unix:/run/weir/admin.sock"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_means_the_default() {
        assert_eq!(admin_address(Path::new("/nonexistent/weir.yaml")).unwrap().to_string(), "127.0.0.1:9900");
    }
}
