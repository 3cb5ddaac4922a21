//! The caches as processes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::{
    beside::{Contender, Process, search_path},
    origin,
};

/// The largest file.
pub const HUGE: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Weir,
    Nginx,
    Varnish,
}

impl Contender for Kind {
    const ALL: &'static [Self] = &[Kind::Weir, Kind::Nginx, Kind::Varnish];

    fn name(self) -> &'static str {
        match self {
            Kind::Weir => "Weir",
            Kind::Nginx => "nginx",
            Kind::Varnish => "Varnish",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Weir => env!("CARGO_BIN_EXE_weir"),
            Kind::Nginx => "nginx",
            Kind::Varnish => "varnishd",
        }
    }
}

impl Kind {
    /// Varnish has no files.
    pub fn serves_files(self) -> bool {
        self != Kind::Varnish
    }

    /// Half a GiB each, no access log, nothing that one does and the others do not.
    fn config(self, port: u16, origin: SocketAddr, directory: &Path) -> String {
        let place = directory.display();
        match self {
            Kind::Weir => format!(
                "server: {{threads: 1}}\nadmin: off\nobservability: {{access_log: {{path: off}}}}\ncache: {{memory: 512MiB}}\n\
                 listeners: {{w: {{address: 127.0.0.1:{port}}}}}\n\
                 routes: [{{name: r, filters: [{{cache: {{}}}}], upstream: o}},\n\
                 {{name: f, match: {{path: /files/*}}, filters: [{{static_files: {{root: {place}}}}}], upstream: o}},\n\
                 {{name: p, match: {{path: /pages/*}}, filters: [{{compress: {{algorithms: gzip}}}}, {{static_files: {{root: {place}}}}}], upstream: o}}]\n\
                 upstreams: {{o: {{endpoints: ['{origin}']}}}}\n"
            ),
            Kind::Nginx => {
                format!(
                    "worker_processes 1;\ndaemon off;\nerror_log stderr crit;\nevents {{ worker_connections 4096; }}\n\
                     http {{ access_log off; sendfile on; keepalive_requests 1000000000;\n\
                     client_body_temp_path {place}/b; proxy_temp_path {place}/t; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
                     proxy_cache_path {place}/c levels=1:2 keys_zone=z:64m max_size=512m inactive=1h use_temp_path=off;\n\
                     open_file_cache max=20000 inactive=1h; open_file_cache_valid 1h;\n\
                     server {{ listen 127.0.0.1:{port}; location /files/ {{ root {place}; }}\n\
                     location /pages/ {{ root {place}; default_type text/html; gzip on; gzip_comp_level 5; }}\n\
                     location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                     proxy_cache z; proxy_cache_key $scheme$host$request_uri; proxy_cache_lock on; add_header X-Cache $upstream_cache_status; }} }} }}\n"
                )
            }
            Kind::Varnish => {
                format!("vcl 4.1;\nbackend default {{ .host = \"{}\"; .port = \"{}\"; }}\n", origin.ip(), origin.port())
            }
        }
    }

    fn command(self, directory: &Path, config: &Path, port: u16) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Kind::Weir => command.args(["run", "-c"]).arg(config),
            Kind::Nginx => command.arg("-p").arg(directory).args(["-g", "pid nginx.pid;", "-c"]).arg(config),
            Kind::Varnish => command
                .args(["-F", "-a", &format!("127.0.0.1:{port}"), "-s", "malloc,512m", "-p", "thread_pools=1", "-f"])
                .arg(config)
                .arg("-n")
                .arg(directory.join("varnish")),
        };
        command.env("PATH", search_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// A cache that runs.
pub struct Cache {
    pub process: Process,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Cache {
    pub async fn start(kind: Kind, origin: SocketAddr) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        open_to_all(directory.path())?;
        fs::create_dir(directory.path().join("files"))?;
        for (name, length) in [("small", origin::SMALL), ("large", origin::LARGE), ("huge", HUGE)] {
            fs::write(directory.path().join("files").join(name), vec![b'x'; length])?;
        }
        fs::create_dir(directory.path().join("pages"))?;
        fs::write(directory.path().join("pages/page.html"), page())?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = directory.path().join("config.yaml");
        fs::write(&config, kind.config(port, origin, directory.path()))?;
        let child =
            kind.command(directory.path(), &config, port).spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        let mut process = Process(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                // What only the start takes is over then.
                tokio::time::sleep(Duration::from_millis(500)).await;
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

/// 40 KiB of words in no order, which a third of their length is enough for.
fn page() -> String {
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let words: Vec<String> = (0..2000).map(|_| (0..3 + next(6)).map(|_| char::from(b'a' + next(26) as u8)).collect()).collect();
    let mut page = String::new();
    while page.len() < 40 << 10 {
        page += &words[next(2000) as usize];
        page.push(' ');
    }
    page
}

/// Started by root, nginx and Varnish work as users of their own.
fn open_to_all(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))
}
