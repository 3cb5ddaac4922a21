//! Load in an open loop: requests are due at a constant rate, whatever became of those before. Latency counts from the moment at
//! which a request was due, so that a stall counts for all whom it delays.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::client::{Client, Target, request};

/// The longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// What is due in this time at first is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is asked for, how often, on how many connections, for how long after warming up.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    pub path: &'static str,
    pub length: usize,
    pub per_second: f64,
    pub connections: usize,
    pub duration: Duration,
}

/// Latencies in nanoseconds.
pub async fn run(client: &Client, target: Target, load: OpenLoop) -> anyhow::Result<Histogram<u64>> {
    let total = (load.per_second * (WARM_UP + load.duration).as_secs_f64()) as u32;
    // All of them may be late.
    let (send, due) = mpsc::channel::<Instant>(total as usize + 1);
    let due = Arc::new(Mutex::new(due));
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(client.open(target).await?);
    }
    let gap = Duration::from_secs_f64(1.0 / load.per_second);
    let started = Instant::now() + Duration::from_millis(10);
    let mut running = JoinSet::new();
    for mut connection in connections {
        let due = due.clone();
        running.spawn(async move {
            let mut latencies = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
            let request = request(load.path, "");
            loop {
                let next = due.lock().await.recv().await;
                let Some(due) = next else { return anyhow::Ok(latencies) };
                connection.ask(&request, load.length).await?;
                if due >= started + WARM_UP {
                    latencies.saturating_record(due.elapsed().as_nanos() as u64);
                }
            }
        });
    }
    // Timers of tokio count whole milliseconds, in which many requests are due.
    let pace = thread::Builder::new().name("pace".to_owned()).spawn(move || pace(started, gap, total, &send))?;
    let mut latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
    while let Some(ended) = running.join_next().await {
        latencies.add(ended??)?;
    }
    pace.join().expect("the pace does not panic");
    Ok(latencies)
}

fn pace(started: Instant, gap: Duration, total: u32, send: &mpsc::Sender<Instant>) {
    // Without this the kernel may let it sleep 50 µs longer, which is the gap between two requests.
    let _ = nix::sys::prctl::set_timerslack(1);
    for number in 0..total {
        let due = started + gap * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Nobody receives any more when all connections failed.
        if send.try_send(due).is_err() {
            return;
        }
    }
}
