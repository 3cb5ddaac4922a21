//! Clients that do not stop asking, and remember every answer that was not a 200.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    engine::until,
    support::{certs::tls, client::RawClient},
};

/// Clients at a time for each path. More would only wait for each other on a small machine.
const CLIENTS: usize = 3;
/// Failures that are kept to be shown.
const SHOWN: usize = 20;

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answers: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Load until it is ended.
pub struct Load {
    seen: Arc<Seen>,
    clients: JoinSet<()>,
}

impl Load {
    /// Clients of each of these paths, over HTTPS.
    pub fn on(address: SocketAddr, paths: &[&str]) -> Self {
        let (seen, mut clients) = (Arc::new(Seen::default()), JoinSet::new());
        for path in paths {
            for _ in 0..CLIENTS {
                clients.spawn(client(address, (*path).to_owned(), seen.clone()));
            }
        }
        Self { seen, clients }
    }

    /// Waits until so many more answers are there.
    pub async fn goes_on_for(&self, answers: usize) {
        let goal = self.seen.answers.load(Relaxed) + answers;
        until("more answers", async || self.seen.answers.load(Relaxed), |seen| *seen >= goal).await;
    }

    /// Ends it. Every answer must have been a 200.
    pub async fn ends_without_a_failure(self, what: &str) {
        self.goes_on_for(50).await;
        self.seen.stop.store(true, Relaxed);
        self.clients.join_all().await;
        let failures = self.seen.failures.lock();
        let answers = self.seen.answers.load(Relaxed);
        assert!(failures.is_empty(), "{what}: {} failures beside {answers} answers:\n{}", failures.len(), failures.join("\n"));
        eprintln!("{what}: {answers} answers, all good");
    }
}

async fn client(address: SocketAddr, path: String, seen: Arc<Seen>) {
    let tls = tls().sni("localhost").alpn("http/1.1");
    let mut connection = None;
    while !seen.stop.load(Relaxed) {
        let mut client = match connection.take() {
            Some(client) => client,
            None => match RawClient::try_connect_tls(address, &tls).await {
                Ok(client) => client,
                Err(error) => {
                    seen.fails(&path, format!("connecting: {error}"));
                    continue;
                }
            },
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = match client.try_send(request).await {
            Ok(()) => client.try_read_response().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Some(response)) if response.status == 200 => {
                seen.answers.fetch_add(1, Relaxed);
                let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                connection = (!closes).then_some(client);
            }
            Ok(Some(response)) => seen.fails(&path, format!("{} {}", response.status, response.text())),
            Ok(None) => seen.fails(&path, "closed instead of an answer".into()),
            Err(error) => seen.fails(&path, error.to_string()),
        }
    }
}

impl Seen {
    fn fails(&self, path: &str, why: String) {
        let mut failures = self.failures.lock();
        if failures.len() < SHOWN {
            failures.push(format!("{path}: {why}"));
        }
    }
}
