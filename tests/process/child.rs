//! `weir` as a child process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::support::{client::RawClient, edge::EdgeBuilder, wire::RawResponse, within};

/// The binary, with none of the variables of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the binary to its end.
pub async fn weir(arguments: &[&str]) -> Output {
    within("weir to end", command().args(arguments).output()).await.expect("weir runs")
}

/// What a stream has said so far, line by line.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Self::default();
        let written = lines.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                written.0.lock().push(line);
            }
        });
        lines
    }
    /// All lines as one text.
    pub fn text(&self) -> String {
        self.0.lock().join("\n")
    }
    /// The first line in which this stands, once there is one.
    pub async fn line_with(&self, words: &str) -> String {
        let found = || self.0.lock().iter().find(|line| line.contains(words)).cloned();
        eventually!(found().ok_or_else(|| self.text()), |found: &Result<String, String>| found.is_ok()).expect("found")
    }
}

/// A running `weir`.
pub struct Weir {
    pub child: Child,
    pub out: Lines,
    pub err: Lines,
}

impl Weir {
    /// Starts the binary with these arguments.
    pub fn spawn(arguments: &[&str]) -> Self {
        Self::of(command().args(arguments))
    }

    /// What this command starts.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("weir starts");
        let out = Lines::of(child.stdout.take().expect("piped"));
        let err = Lines::of(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a process that was not waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("a process of ours");
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        within("weir to end", self.child.wait()).await.expect("a child")
    }

    /// True while it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

/// `weir run` with a configuration, and where it can be reached.
pub struct Run {
    pub weir: Weir,
    facts: Value,
    pub edge: EdgeBuilder,
}

impl Run {
    /// Starts it and waits until it is ready.
    pub async fn start(edge: EdgeBuilder) -> Self {
        Self::start_with(edge, &[]).await
    }

    /// The same with further arguments.
    pub async fn start_with(edge: EdgeBuilder, arguments: &[&str]) -> Self {
        let config = write(&edge);
        let mut all = vec!["run", "--config", config.to_str().expect("UTF-8")];
        all.extend(arguments);
        Self::started(Weir::spawn(&all), edge).await
    }

    /// What was started with the files of this edge, once it is ready.
    pub async fn started(weir: Weir, edge: EdgeBuilder) -> Self {
        let ready = weir.err.line_with(" is ready: ").await;
        let facts = serde_json::from_str(&ready).unwrap_or_else(|error| panic!("not JSON: {error}: {ready}"));
        Self { weir, facts, edge }
    }

    /// Where a listener accepts, by the line that says that Weir is ready.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.facts["listeners"][listener][0].as_str().expect("a listener of that name").parse().expect("an address")
    }
    /// Where the admin API answers.
    pub fn admin_address(&self) -> SocketAddr {
        self.facts["admin"].as_str().expect("an admin address").parse().expect("an address")
    }
    /// A connection to `web`.
    pub async fn client(&self) -> RawClient {
        RawClient::connect(self.address("web")).await
    }
    /// A GET on a connection of its own.
    pub async fn get(&self, path: &str) -> RawResponse {
        self.client().await.get("example.com", path).await
    }
    /// A GET on the admin API, on a connection of its own.
    pub async fn admin_get(&self, path: &str) -> RawResponse {
        let address = self.admin_address();
        RawClient::connect(address).await.get(&address.to_string(), path).await
    }
    /// A file in the directory of the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.edge.file(name)
    }
    /// How long the process took from a signal to its end, which must have been with 0.
    pub async fn end(&mut self, signal: Signal) -> Duration {
        let began = std::time::Instant::now();
        self.weir.signal(signal);
        let status = self.weir.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.weir.err.text());
        began.elapsed()
    }
}

/// Writes the configuration to a file.
pub fn write(edge: &EdgeBuilder) -> PathBuf {
    let path = edge.file("weir.yaml");
    std::fs::write(&path, edge.config()).expect("a directory to write to");
    path
}

/// The lines of a file.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
