//! The proxies as processes, with one thread for traffic each.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::beside::{Contender, Process, search_path};

/// Connections that each can have: HAProxy does not start when the limit of files does not allow for them. The default
/// limit of many systems is 20,000 files, and each connection takes two.
pub const MOST: usize = 9_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Weir,
    WeirCopying,
    Haproxy,
    HaproxySplicing,
    Nginx,
}

impl Contender for Kind {
    const ALL: &'static [Self] = &[Kind::Weir, Kind::WeirCopying, Kind::Haproxy, Kind::HaproxySplicing, Kind::Nginx];

    fn name(self) -> &'static str {
        match self {
            Kind::Weir => "Weir",
            Kind::WeirCopying => "Weir, `splice: off`",
            Kind::Haproxy => "HAProxy",
            Kind::HaproxySplicing => "HAProxy, `splice-auto`",
            Kind::Nginx => "nginx",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Weir | Kind::WeirCopying => env!("CARGO_BIN_EXE_weir"),
            Kind::Haproxy | Kind::HaproxySplicing => "haproxy",
            Kind::Nginx => "nginx",
        }
    }
}

impl Kind {
    fn config(self, port: u16, endpoint: SocketAddr) -> String {
        match self {
            Kind::Weir | Kind::WeirCopying => {
                let splice = if self == Kind::Weir { "auto" } else { "off" };
                format!(
                    "server: {{threads: 1, max_connections: {MOST}}}\nadmin: off\nobservability: {{access_log: {{path: off}}}}\n\
                     listeners: {{t: {{address: 127.0.0.1:{port}, tcp: {{upstream: e, splice: {splice}}}}}}}\n\
                     upstreams: {{e: {{endpoints: ['{endpoint}']}}}}\n"
                )
            }
            Kind::Haproxy | Kind::HaproxySplicing => {
                let splice = if self == Kind::HaproxySplicing { "option splice-auto\n" } else { "" };
                format!(
                    "global\n nbthread 1\n maxconn {MOST}\n maxpipes 100\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n \
                     {splice}frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s {endpoint}\n"
                )
            }
            Kind::Nginx => {
                let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
                let module = if Path::new(module).exists() { format!("load_module {module};\n") } else { String::new() };
                format!(
                    "{module}worker_processes 1;\ndaemon off;\nerror_log stderr crit;\n\n\
                     events {{ worker_connections {}; }}\nstream {{ upstream b {{ server {endpoint}; }}\n\
                     server {{ listen 127.0.0.1:{port}; proxy_pass b; proxy_timeout 1h; }} }}\n",
                    MOST * 2 + 100
                )
            }
        }
    }

    fn command(self, directory: &Path, config: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Kind::Weir | Kind::WeirCopying => command.args(["run", "-c"]).arg(config),
            Kind::Haproxy | Kind::HaproxySplicing => command.args(["-db", "-f"]).arg(config),
            Kind::Nginx => command.arg("-p").arg(directory).args(["-g", "pid nginx.pid;", "-c"]).arg(config),
        };
        command.env("PATH", search_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// A proxy that runs.
pub struct Proxy {
    pub process: Process,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Proxy {
    pub async fn start(kind: Kind, endpoint: SocketAddr) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = directory.path().join(if kind == Kind::Nginx { "nginx.conf" } else { "config.yaml" });
        fs::write(&config, kind.config(port, endpoint))?;
        let child = kind.command(directory.path(), &config).spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        let mut process = Process(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                // What only the start takes is over then.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Ok(Self { process, address, _directory: directory });
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("{} ended with {status}", kind.name());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not listen", kind.name())
    }
}
