//! `weir lab`: test backends and a client.

mod load;
mod transport;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::signal::unix::{SignalKind, signal};

use self::transport::TransportArgs;
use crate::{
    lab::{
        Backend, BackendHandle, BackendOptions, Failure, Faults, TcpEcho, TcpEchoHandle, TcpEchoOptions,
        send::{self, HttpRequest, HttpResponse, Tally},
    },
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
    /// Send one request and show its response, or many and sum up.
    Send(SendArgs),
    /// Keep connections busy for a while and report how fast answers came.
    Load(load::LoadArgs),
}

/// Runs `weir lab`.
///
/// # Errors
/// What kept the command from doing its work, for the user to read.
pub async fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::Serve(args) => serve(args).await,
        LabCommand::Send(args) => send(args).await,
        LabCommand::Load(args) => load::run(args).await,
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

    async fn start(&self, index: u16, address: SocketAddr) -> anyhow::Result<Serving> {
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
    let addresses = (0..args.count).map(|index| args.address(index)).collect::<anyhow::Result<Vec<_>>>()?;
    // Installed before the first line is printed: whoever reads that line may send the signal.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = Vec::new();
    for (index, address) in (0..).zip(addresses) {
        running.push(args.start(index, address).await?);
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

#[derive(Debug, Args)]
struct SendArgs {
    /// An http:// or https:// URL, or a text to send over TCP.
    #[arg(default_value = TEXT, value_name = "URL|TEXT")]
    what: String,
    /// The method; GET, or POST when there is a body.
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// A header field, as in `-H 'accept: application/json'`; may be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header_field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A body.
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,
    /// How many clients at a time, each with a connection of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "N")]
    clients: u16,
    /// How many requests each client sends, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    requests: u32,
    #[command(flatten)]
    transport: TransportArgs,
}

fn header_field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a field name"))?;
    let value = value.trim().parse().map_err(|_| "the value has characters that a header cannot carry".to_owned())?;
    Ok((name, value))
}

/// What is sent over TCP when nothing else is said.
const TEXT: &str = "Hello World";
/// What the first argument turned out to be.
enum Target<'a> {
    Http(Uri),
    Tcp { text: &'a str, address: &'a str },
}

impl SendArgs {
    fn target(&self) -> anyhow::Result<Target<'_>> {
        if self.what.starts_with("http://") || self.what.starts_with("https://") {
            let uri: Uri = self.what.parse().with_context(|| format!("`{}` is not a URL", self.what))?;
            anyhow::ensure!(uri.host().is_some_and(|host| !host.is_empty()), "`{}` names no host", self.what);
            return Ok(Target::Http(uri));
        }
        let address = self.transport.tcp(&self.what)?;
        if self.has_http_options() {
            anyhow::bail!("`{}` goes over TCP, which knows no method, header, body, HTTP/2 or TLS options", self.what)
        }
        Ok(Target::Tcp { text: &self.what, address })
    }

    fn has_http_options(&self) -> bool {
        self.transport.has_http_options() || self.method.is_some() || self.data.is_some() || !self.headers.is_empty()
    }

    fn request(&self, uri: Uri) -> HttpRequest {
        let method = self.method.clone().unwrap_or(if self.data.is_some() { Method::POST } else { Method::GET });
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        HttpRequest { method, uri, headers, body: self.data.clone().unwrap_or_default().into() }
    }

    fn is_one(&self) -> bool {
        self.clients == 1 && self.requests == 1
    }
}

/// A response of any status is a success of one request; of many, one error makes the exit code 1.
async fn send(args: SendArgs) -> anyhow::Result<ExitCode> {
    let (clients, requests) = (usize::from(args.clients), args.requests as usize);
    match args.target()? {
        Target::Http(uri) => {
            let (request, transport) = (args.request(uri), args.transport.http());
            if args.is_one() {
                return show(&send::one(&request, &transport).await?);
            }
            sum_up(&send::many(&request, &transport, clients, requests).await)
        }
        Target::Tcp { text, address } => {
            let patience = args.transport.timeout();
            if args.is_one() {
                print_bytes(&send::tcp(text, address, patience).await?)?;
                return Ok(ExitCode::SUCCESS);
            }
            sum_up(&send::tcp_many(text, address, patience, clients, requests).await)
        }
    }
}

fn show(response: &HttpResponse) -> anyhow::Result<ExitCode> {
    let mut page = format!("{:?} {}\n", response.version, response.status).into_bytes();
    for (name, value) in &response.headers {
        page.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    }
    page.push(b'\n');
    page.extend_from_slice(&response.body);
    print_bytes(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes as they are, with a final newline so that the prompt starts on a line of its own.
fn print_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    if !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn sum_up(tally: &Tally) -> anyhow::Result<ExitCode> {
    print!("{tally}");
    Ok(if tally.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
