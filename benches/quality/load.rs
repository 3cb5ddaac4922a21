//! Open-loop load: requests leave when they are due, whatever became of those before.
//!
//! A client that waits for an answer before it sends the next request asks a slow server less, and so hides
//! just the stalls that it was to find ("coordinated omission"). Here each request is a task of its own, and its latency
//! counts from the moment at which it was due.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

/// How long a row waits for answers after its last request; what is without one then is counted as such.
const LINGER: Duration = Duration::from_secs(1);

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was due, from the start of the load.
    pub due: Duration,
    /// From then until the answer was there; for one without an answer, how long it has waited.
    pub took: Duration,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Status(u16),
    /// Connecting failed, or the connection broke.
    Broken,
    /// No answer when the row was over.
    Waiting,
}

/// Sends so many requests per second for so long. The gaps are exponentially distributed, as those of independent
/// clients are, and the same in each run.
pub async fn run(address: SocketAddr, per_second: f64, duration: Duration) -> Vec<Sample> {
    let mut random = SmallRng::seed_from_u64(7);
    let connections = Arc::new(Connections { address, idle: Mutex::default() });
    let start = Instant::now();
    let deadline = start + duration + LINGER;
    let mut tasks = JoinSet::new();
    let mut due = Duration::ZERO;
    loop {
        due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / per_second);
        if due >= duration {
            break;
        }
        // Of 65,536 clients, for the strategies that go by the client.
        let client = Ipv4Addr::from(0x0a00_0000 | u32::from(random.random::<u16>()));
        // The timer of tokio knows milliseconds: what is due within one leaves together, and late.
        sleep_until(start + due).await;
        let connections = connections.clone();
        tasks.spawn(async move {
            let end = match timeout_at(deadline, connections.exchange(client)).await {
                Ok(Ok(status)) => End::Status(status),
                Ok(Err(_)) => End::Broken,
                Err(_) => End::Waiting,
            };
            Sample { due, took: start.elapsed().saturating_sub(due), end }
        });
    }
    tasks.join_all().await
}

/// The connections of all clients; there are as many as requests were in flight at once.
struct Connections {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Connections {
    async fn exchange(&self, client: Ipv4Addr) -> anyhow::Result<u16> {
        let mut connection = self.take().await?;
        let request = Request::get("/").header("host", "bench.test").header("x-forwarded-for", client.to_string());
        let response = connection.send_request(request.body(Empty::new())?).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        self.idle.lock().push(connection);
        Ok(status)
    }

    async fn take(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        loop {
            let Some(mut connection) = self.idle.lock().pop() else { break };
            // Not one that the edge has announced to close.
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(connection)
    }
}
