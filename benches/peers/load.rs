//! Load in a closed loop: each connection sends its next request when it has the answer to the one before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use h2::client::SendRequest;
use tokio::task::{JoinHandle, JoinSet};

use super::{
    client::{Client, HOST, Target, message, request, upload},
    grpc,
    origin::{FIELDS, SMALL, fields},
};

/// Streams of an HTTP/2 connection that ask at a time, as those of a browser do.
pub const STREAMS: usize = 8;
/// What a browser lets be sent to it on a stream, and on a connection.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// What a connection does again and again.
#[derive(Debug, Clone, Copy)]
pub enum Exchange {
    /// Asks for a path whose answer has this length.
    Get(&'static str, usize),
    /// The same, on a new connection each time.
    GetAndClose(&'static str, usize),
    /// The same, and each connection resumes the TLS session of the one before.
    GetAndResume(&'static str, usize),
    /// Asks with many header fields, and gets many.
    Fields,
    /// Sends a large body.
    Upload,
    Echo,
    /// As `Get`, by HTTP/2, on several streams.
    Http2(&'static str, usize),
    /// The same by HTTP/3.
    Http3(&'static str, usize),
    /// A unary call of gRPC, on several streams.
    Grpc,
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
        Exchange::Get(path, length) => ask(&client, target, &request(path, ""), length, &progress).await,
        Exchange::Fields => ask(&client, target, &request("/fields", &fields(FIELDS - 3)), SMALL, &progress).await,
        Exchange::Upload => ask(&client, target, &upload(), SMALL, &progress).await,
        Exchange::GetAndClose(path, length) => {
            let request = request(path, "Connection: close\r\n");
            while progress.goes_on() {
                ask_and_close(&client, target, &request, length).await?;
                progress.answered();
            }
            Ok(())
        }
        Exchange::GetAndResume(path, length) => {
            let (client, request) = (client.with_sessions(), request(path, "Connection: close\r\n"));
            ask_and_close(&client, target, &request, length).await?;
            while progress.goes_on() {
                ensure!(ask_and_close(&client, target, &request, length).await?, "a session was not resumed");
                progress.answered();
            }
            Ok(())
        }
        Exchange::Echo => {
            let (mut connection, (frame, payload)) = (client.open(target).await?, message());
            connection.upgrade().await?;
            while progress.goes_on() {
                connection.echo(&frame, &payload).await?;
                progress.answered();
            }
            Ok(())
        }
        Exchange::Http2(path, length) | Exchange::Http3(path, length) => {
            let opened = match exchange {
                Exchange::Http3(..) => open_h3(&client, target).await,
                _ => open_h2(&client, target).await,
            };
            let (sender, connection) = opened?;
            let call = Call::Get(format!("https://{HOST}{path}").parse()?, length);
            on_streams(sender, connection, call, &progress).await
        }
        Exchange::Grpc => {
            let (sender, connection) = open_h2(&client, target).await?;
            on_streams(sender, connection, Call::Grpc(grpc::message()), &progress).await
        }
    }
}

async fn ask(client: &Client, target: Target, request: &[u8], length: usize, progress: &Progress) -> anyhow::Result<()> {
    let mut connection = client.open(target).await?;
    while progress.goes_on() {
        connection.ask(request, length).await?;
        progress.answered();
    }
    Ok(())
}

/// Whether the TLS session was an earlier one.
async fn ask_and_close(client: &Client, target: Target, request: &[u8], length: usize) -> anyhow::Result<bool> {
    let mut connection = client.open(target).await?;
    connection.ask(request, length).await?;
    connection.closed().await?;
    Ok(connection.resumed)
}

/// What a stream does.
#[derive(Clone)]
enum Call {
    Get(http::Uri, usize),
    Grpc(Bytes),
}

/// What opens streams on a connection.
#[derive(Clone)]
enum Sender {
    Http2(SendRequest<Bytes>),
    Http3(h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>),
}

impl Call {
    async fn make(&self, sender: &mut Sender) -> anyhow::Result<()> {
        match (self, sender) {
            (Call::Get(uri, length), Sender::Http2(sender)) => get(sender, uri, *length).await,
            (Call::Get(uri, length), Sender::Http3(sender)) => get_h3(sender, uri, *length).await,
            (Call::Grpc(message), Sender::Http2(sender)) => {
                *sender = sender.clone().ready().await?;
                grpc::call(sender, message).await
            }
            (Call::Grpc(_), Sender::Http3(_)) => bail!("gRPC is measured over HTTP/2"),
        }
    }
}

/// On a connection, one call after another on each of its streams.
async fn on_streams(sender: Sender, connection: JoinHandle<()>, call: Call, progress: &Arc<Progress>) -> anyhow::Result<()> {
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (mut sender, call, progress) = (sender.clone(), call.clone(), progress.clone());
        streams.spawn(async move {
            while progress.goes_on() {
                call.make(&mut sender).await?;
                progress.answered();
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended??;
    }
    connection.abort();
    Ok(())
}

async fn open_h2(client: &Client, target: Target) -> anyhow::Result<(Sender, JoinHandle<()>)> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(client.open_h2(target).await?).await?;
    Ok((Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) })))
}

async fn open_h3(client: &Client, target: Target) -> anyhow::Result<(Sender, JoinHandle<()>)> {
    let quic = client.open_h3(target, STREAM_WINDOW, CONNECTION_WINDOW).await?;
    let (mut connection, sender) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
    Ok((Sender::Http3(sender), tokio::spawn(async move { drop(connection.wait_idle().await) })))
}

fn request_of(uri: &http::Uri) -> anyhow::Result<http::Request<()>> {
    Ok(http::Request::get(uri.clone()).header("user-agent", "bench").header("accept", "*/*").body(())?)
}

async fn get_h3(
    sender: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    uri: &http::Uri,
    length: usize,
) -> anyhow::Result<()> {
    let mut stream = sender.send_request(request_of(uri)?).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    ensure!(response.status() == 200, "an answer with {}", response.status());
    let mut got = 0;
    while let Some(piece) = stream.recv_data().await? {
        got += piece.remaining();
    }
    ensure!(got == length, "an answer of another length: {got}");
    Ok(())
}

async fn get(sender: &mut SendRequest<Bytes>, uri: &http::Uri, length: usize) -> anyhow::Result<()> {
    *sender = sender.clone().ready().await?;
    let response = sender.send_request(request_of(uri)?, true)?.0.await?;
    ensure!(response.status() == 200, "an answer with {}", response.status());
    let got = grpc::read(&mut response.into_body()).await?;
    ensure!(got == length, "an answer of another length: {got}");
    Ok(())
}
