//! Load in a closed loop: each connection sends its next request when it has the answer to the one before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use super::client::{Client, HOST, Target, message, request};

/// What a connection does again and again.
#[derive(Debug, Clone, Copy)]
pub enum Exchange {
    /// Asks for a path whose answer has this length.
    Get(&'static str, usize),
    /// The same, on a new connection each time.
    GetAndClose(&'static str, usize),
    Echo,
    /// As `Get`, by HTTP/2.
    Http2(&'static str, usize),
}

/// Load that goes on until it is stopped.
pub struct Load {
    progress: Arc<Progress>,
    running: JoinSet<anyhow::Result<()>>,
}

#[derive(Default)]
struct Progress {
    answers: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stopped.load(Relaxed)
    }
}

impl Load {
    pub fn start(client: &Client, target: Target, exchange: Exchange, connections: usize) -> Self {
        let (progress, mut running) = (Arc::<Progress>::default(), JoinSet::new());
        for _ in 0..connections {
            running.spawn(repeat(client.clone(), target, exchange, progress.clone()));
        }
        Self { progress, running }
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.progress.answers.load(Relaxed)
    }

    /// Waits for the answers that are on their way. An error if anything failed meanwhile.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        self.progress.stopped.store(true, Relaxed);
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.context("no answer for ten seconds")??;
        Ok(self.progress.answers.load(Relaxed))
    }
}

async fn repeat(client: Client, target: Target, exchange: Exchange, progress: Arc<Progress>) -> anyhow::Result<()> {
    match exchange {
        Exchange::Get(path, length) => {
            let (mut connection, request) = (client.open(target).await?, request(path, ""));
            while progress.goes_on() {
                connection.ask(&request, length).await?;
                progress.answered();
            }
        }
        Exchange::GetAndClose(path, length) => {
            let request = request(path, "Connection: close\r\n");
            while progress.goes_on() {
                let mut connection = client.open(target).await?;
                connection.ask(&request, length).await?;
                connection.closed().await?;
                progress.answered();
            }
        }
        Exchange::Echo => {
            let (mut connection, (frame, payload)) = (client.open(target).await?, message());
            connection.upgrade().await?;
            while progress.goes_on() {
                connection.echo(&frame, &payload).await?;
                progress.answered();
            }
        }
        Exchange::Http2(path, length) => http2(&client, target, path, length, &progress).await?,
    }
    Ok(())
}

/// One stream at a time.
async fn http2(client: &Client, target: Target, path: &str, length: usize, progress: &Progress) -> anyhow::Result<()> {
    let (mut sender, connection) = h2::client::handshake(client.open_h2(target).await?).await?;
    let connection = tokio::spawn(connection);
    let uri: http::Uri = format!("https://{HOST}{path}").parse()?;
    while progress.goes_on() {
        sender = sender.ready().await?;
        let request = http::Request::get(uri.clone()).header("user-agent", "bench").header("accept", "*/*").body(())?;
        let response = sender.send_request(request, true)?.0.await?;
        ensure!(response.status() == 200, "an answer with {}", response.status());
        let (mut body, mut got) = (response.into_body(), 0);
        while let Some(piece) = body.data().await {
            let piece = piece?;
            got += piece.len();
            body.flow_control().release_capacity(piece.len())?;
        }
        ensure!(got == length, "an answer of another length: {got}");
        progress.answered();
    }
    drop(sender);
    connection.abort();
    Ok(())
}
