//! The programs as processes: how each is configured and started.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod weir;

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    beside::{Contender, Process, search_path},
    client::{HOST, Target, request},
    cores::Cores,
    origin::{MIDDLE, Origin, Protocol},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Weir,
    /// Weir with `driver: pingora`.
    WeirPingora,
    Nginx,
    Haproxy,
    Envoy,
    /// Over HTTP/3 only.
    Caddy,
    /// The origin without a proxy: what the latency of the others contains.
    Origin,
}

impl Contender for Kind {
    const ALL: &'static [Self] =
        &[Kind::Weir, Kind::WeirPingora, Kind::Nginx, Kind::Haproxy, Kind::Envoy, Kind::Caddy, Kind::Origin];

    fn name(self) -> &'static str {
        match self {
            Kind::Weir => "Weir",
            Kind::WeirPingora => "Weir, `pingora`",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
            Kind::Envoy => "Envoy",
            Kind::Caddy => "Caddy",
            Kind::Origin => "origin alone",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Weir | Kind::WeirPingora => env!("CARGO_BIN_EXE_weir"),
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Envoy if Path::new(envoy::FROM_PYPI).is_file() => envoy::FROM_PYPI,
            Kind::Envoy => "envoy",
            Kind::Caddy if Path::new(caddy::FROM_PYPI).is_file() => caddy::FROM_PYPI,
            Kind::Caddy => "caddy",
            Kind::Origin => "",
        }
    }

    fn is_installed(self) -> bool {
        self == Kind::Origin || std::env::split_paths(&search_path()).any(|place| place.join(self.program()).is_file())
    }
}

impl Kind {
    /// What the program says of its version, in one line.
    pub fn version(self) -> String {
        let option = match self {
            Kind::Nginx | Kind::Haproxy => "-v",
            Kind::Caddy => "version",
            _ => "--version",
        };
        let said = match Command::new(self.program()).arg(option).env("PATH", search_path()).output() {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) => return error.to_string(),
        };
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no version");
        // Envoy says where it is.
        let line = line.rsplit_once("version: ").map_or(line, |(_, version)| version);
        match (self, commit()) {
            (Kind::Weir, Some(commit)) => format!("{line} at {commit}"),
            _ => line.to_owned(),
        }
    }
}

/// Of the sources, if git is there.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    let said = git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
    let commit = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    (!commit.is_empty()).then_some(commit)
}

/// What differs from one workload to another.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub workers: usize,
    pub access_log: bool,
    /// On one processor that nothing else uses.
    pub pinned: bool,
    pub endpoints: usize,
    pub protocol: Protocol,
    /// In all. Without a number, Weir has 1000 and the others those that they need.
    pub routes: Option<usize>,
}

impl Setup {
    pub const USUAL: Self =
        Self { workers: 1, access_log: false, pinned: true, endpoints: 2, protocol: Protocol::Http1, routes: None };
}

/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(60);
/// Client connections that each program must be able to keep open.
const MAX_CONNECTIONS: usize = 16_000;
/// Routes that are there for paths of this bench: everything, files, what is cached.
const OWN_ROUTES: usize = 3;

/// What a configuration is made of.
struct Place<'a> {
    setup: Setup,
    directory: &'a Path,
    cleartext: u16,
    tls: u16,
    endpoints: &'a [SocketAddr],
}

impl Place<'_> {
    /// Further routes, so that there are so many: hosts, and prefixes of paths. Half of them have a host of their own.
    fn routes(&self, in_all: usize) -> impl Iterator<Item = (String, String)> {
        (OWN_ROUTES..in_all).map(|number| {
            let host = if number % 2 == 0 { HOST.to_owned() } else { format!("h{number}.example") };
            (host, format!("/service{number}/"))
        })
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    /// HAProxy reads both from one file.
    fn certificate_and_key(&self) -> PathBuf {
        self.directory.join("both.pem")
    }

    /// Routes of HAProxy.
    fn map(&self) -> PathBuf {
        self.directory.join("routes.map")
    }

    fn access_log(&self) -> PathBuf {
        self.directory.join("access.log")
    }

    /// Also what is served as files: `/files/small`.
    fn prepare(&self) -> anyhow::Result<()> {
        open_to_all(self.directory)?;
        fs::create_dir(self.directory.join("files"))?;
        fs::write(self.directory.join("files/small"), vec![b'x'; MIDDLE])?;
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(self.certificate(), &certificate)?;
        fs::write(self.key(), &key)?;
        fs::write(self.certificate_and_key(), certificate + &key)?;
        Ok(())
    }

    fn command(&self, kind: Kind) -> anyhow::Result<Command> {
        let config = self.directory.join("config.yaml");
        let mut command = Command::new(kind.program());
        command.env("PATH", search_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let text = match kind {
            Kind::Weir | Kind::WeirPingora => {
                command.args(["run", "-c"]).arg(&config);
                weir::config(self, if kind == Kind::Weir { "auto" } else { "pingora" })
            }
            Kind::Nginx => {
                command.arg("-p").arg(self.directory).args(["-g", "pid nginx.pid;", "-c"]).arg(&config);
                nginx::config(self)
            }
            Kind::Haproxy => {
                command.args(["-db", "-f"]).arg(&config);
                if self.setup.access_log {
                    command.stdout(File::create(self.access_log())?);
                }
                fs::write(self.map(), haproxy::map(self))?;
                haproxy::config(self)
            }
            Kind::Envoy => {
                let workers = self.setup.workers.to_string();
                command.args(["--disable-hot-restart", "-l", "off", "--concurrency", &workers, "-c"]).arg(&config);
                envoy::config(self)
            }
            Kind::Caddy => {
                // One thread of Go's runtime for each worker, as the others have.
                command.env("GOMAXPROCS", self.setup.workers.to_string()).env("HOME", self.directory);
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
                caddy::config(self)
            }
            Kind::Origin => bail!("the origin is part of this process"),
        };
        fs::write(&config, text)?;
        Ok(command)
    }
}

/// A program that runs.
pub struct Program {
    pub process: Process,
    pub cleartext: Target,
    pub tls: Target,
    directory: TempDir,
}

impl Program {
    pub async fn start(kind: Kind, setup: Setup, origin: &Origin, cores: &Cores) -> anyhow::Result<Self> {
        let directory = temporary()?;
        // Held together, so that they differ.
        let ports = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let [cleartext, tls] = [ports[0].local_addr()?, ports[1].local_addr()?];
        drop(ports);
        let endpoints = &origin.endpoints(setup.protocol, setup.endpoints);
        let place = Place { setup, directory: directory.path(), cleartext: cleartext.port(), tls: tls.port(), endpoints };
        place.prepare()?;
        let mut command = place.command(kind)?;
        let child = if setup.pinned { cores.spawn(&mut command) } else { cores.spawn_anywhere(&mut command) };
        let mut process = Process(child.with_context(|| format!("cannot start {}", kind.name()))?);
        let patience = Instant::now() + START;
        while Instant::now() < patience {
            if TcpStream::connect(tls).await.is_ok() && matches!(timeout(START, answers(cleartext)).await, Ok(Ok(()))) {
                // What only the start takes is over then.
                tokio::time::sleep(Duration::from_millis(500)).await;
                let [cleartext, tls] = [(cleartext, false), (tls, true)].map(|(address, tls)| Target { address, tls });
                return Ok(Self { process, cleartext, tls, directory });
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("{} ended with {status}", kind.name());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not answer", kind.name())
    }

    /// Lines in the access log.
    pub fn logged(&self) -> io::Result<u64> {
        let mut reader = io::BufReader::with_capacity(1 << 20, File::open(self.directory.path().join("access.log"))?);
        let mut lines = 0;
        loop {
            let piece = io::BufRead::fill_buf(&mut reader)?;
            if piece.is_empty() {
                return Ok(lines);
            }
            lines += memchr::memchr_iter(b'\n', piece).count() as u64;
            let length = piece.len();
            io::BufRead::consume(&mut reader, length);
        }
    }
}

/// Whatever it is: an endpoint with gRPC has nothing for it. A large configuration may be read after the socket is bound.
async fn answers(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request("/small", "Connection: close\r\n")).await?;
    stream.read_u8().await?;
    Ok(())
}

/// In memory where that can be, so that no disk is measured.
fn temporary() -> io::Result<TempDir> {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())
}

/// Started by root, nginx works as a user of its own.
fn open_to_all(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))
}
