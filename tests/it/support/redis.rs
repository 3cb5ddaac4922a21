//! A real Redis of the test's own, which can be stopped, killed and started again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{certs::Identity, within};

/// Starts a Redis. `None`, and a word of it, where there is none: `tools/test-redis` installs it.
pub async fn redis() -> Option<Redis> {
    redis_with(None).await
}

/// The same, which speaks TLS, too. `None` also where it was built without.
pub async fn redis_over_tls(identity: &Identity) -> Option<Redis> {
    redis_with(Some(identity)).await
}

async fn redis_with(identity: Option<&Identity>) -> Option<Redis> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/redis-server");
    let known = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"].map(PathBuf::from);
    let Some(program) = [own].into_iter().chain(known).find(|program| program.exists()) else {
        eprintln!("SKIPPED: there is no redis-server; `sh tools/test-redis` installs it");
        return None;
    };
    // It cannot be told to take any port, so it is given one that was free a moment ago, and another if it was too late.
    let free = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    for _ in 0..5 {
        let address = free().await;
        let directory = TempDir::new().unwrap();
        let (mut options, mut tls) = (Vec::new(), None);
        if let Some(identity) = identity {
            let address = free().await;
            let [cert, key] = [&identity.cert_file, &identity.key_file].map(|file| file.to_str().unwrap().to_owned());
            let words = ["--tls-port", &address.port().to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key];
            options.extend(words.map(str::to_owned));
            options.extend(["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"].map(str::to_owned));
            tls = Some(address);
        }
        let child = start(&program, address, directory.path(), &options);
        let mut redis = Redis { child, program: program.clone(), address, tls, options, directory };
        if redis.answers().await {
            return Some(redis);
        }
    }
    panic!("redis-server does not start");
}

fn start(program: &Path, address: SocketAddr, directory: &Path, options: &[String]) -> Child {
    Command::new(program)
        .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server")
}

/// A Redis that runs.
pub struct Redis {
    child: Child,
    program: PathBuf,
    address: SocketAddr,
    tls: Option<SocketAddr>,
    options: Vec<String>,
    directory: TempDir,
}

impl Redis {
    /// Its address, as users write it; the one with TLS where it speaks that.
    pub fn url(&self) -> String {
        match self.tls {
            Some(address) => format!("rediss://{address}"),
            None => format!("redis://{}", self.address),
        }
    }

    /// The answer to a command without special characters.
    pub async fn command(&self, command: &str) -> String {
        within("an answer of Redis", async {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            socket.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
            let mut answer = vec![0; 64 * 1024];
            let length = socket.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..length]).into_owned()
        })
        .await
    }

    async fn answers(&mut self) -> bool {
        for _ in 0..1000 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(self.address).await.is_ok() {
                return self.command("PING").await.starts_with("+PONG");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
    /// It keeps its connections and says nothing any more.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }
    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }
    /// It is gone, with all that it knew.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// It is back at its address, and knows nothing.
    pub async fn restart(&mut self) {
        self.child = start(&self.program, self.address, self.directory.path(), &self.options);
        assert!(self.answers().await);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
