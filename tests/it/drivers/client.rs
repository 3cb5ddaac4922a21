//! The client of a case: sends what the case has it send, and reads what comes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use super::{
    bytes::{self, Sent},
    case::{Case, Course},
    origin::Stage,
    wire::{self, End, Kind, Message},
};

/// Nothing in these tests takes as long.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// How a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Closed,
    Reset,
}

/// A response, with those in front of it that are interim.
#[derive(Debug, Clone)]
pub struct Response {
    pub interim: Vec<Message>,
    pub message: Message,
    /// The code of a reset of its stream, within the response or behind it.
    pub reset: Option<u32>,
}

/// What a client came to know.
#[derive(Debug, Clone)]
pub struct Heard {
    pub responses: Vec<Response>,
    /// Behind the responses.
    pub rest: Vec<u8>,
    pub over: Option<Over>,
    /// What was waited for in vain.
    pub stuck: Option<&'static str>,
    /// One more request was answered on the connection.
    pub answered_probe: bool,
}

#[derive(Default)]
struct Ear {
    read: Mutex<(Vec<u8>, Option<Over>)>,
    changed: watch::Sender<()>,
}

impl Ear {
    /// Takes apart what has come. `methods` are those of the requests in order.
    fn heard(&self, methods: &[&str]) -> Heard {
        let read = self.read.lock();
        let (mut responses, mut interim, mut at) = (vec![], vec![], 0);
        while responses.len() < methods.len() {
            let to_head = methods[responses.len()] == "HEAD";
            let Some(mut message) = wire::read(&read.0[at..], Kind::Response { to_head }) else { break };
            at += message.used;
            if message.is_interim() {
                interim.push(message);
                continue;
            }
            if message.end == End::UntilClose && read.1 == Some(Over::Closed) {
                message.end = End::Whole;
            }
            let whole = message.end == End::Whole;
            responses.push(Response { interim: std::mem::take(&mut interim), message, reset: None });
            if !whole {
                break;
            }
        }
        let rest = read.0[at.min(read.0.len())..].to_vec();
        Heard { responses, rest, over: read.1, stuck: None, answered_probe: false }
    }
}

struct Client<'a> {
    case: &'a Case,
    stage: &'a Stage,
    methods: Vec<&'a str>,
    write: OwnedWriteHalf,
    ear: Arc<Ear>,
    stuck: Option<&'static str>,
    reader: JoinHandle<OwnedReadHalf>,
}

/// Plays the case's client.
pub async fn play(case: &Case, edge: SocketAddr, stage: &Arc<Stage>) -> Heard {
    let stream = TcpStream::connect(edge).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let (read, write) = stream.into_split();
    let ear = Arc::new(Ear::default());
    let methods: Vec<&'static str> = case.requests.iter().map(|request| request.method).collect();
    let reader = tokio::spawn(listen(read, ear.clone(), stage.clone(), methods.clone()));
    Client { case, stage, methods, write, ear, stuck: None, reader }.run().await
}

async fn listen(mut half: OwnedReadHalf, ear: Arc<Ear>, stage: Arc<Stage>, methods: Vec<&'static str>) -> OwnedReadHalf {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = half.read(&mut piece).await;
        {
            let mut heard = ear.read.lock();
            match &read {
                Ok(0) => heard.1 = Some(Over::Closed),
                Ok(count) => heard.0.extend_from_slice(&piece[..*count]),
                Err(_) => heard.1 = Some(Over::Reset),
            }
        }
        ear.changed.send_replace(());
        (0..ear.heard(&methods).responses.len()).for_each(|number| stage.heard(number));
        if !matches!(read, Ok(1..)) {
            return half;
        }
    }
}

impl Client<'_> {
    async fn run(mut self) -> Heard {
        let sent: Vec<Sent> = (0..self.case.requests.len()).map(|number| bytes::request(self.case, number)).collect();
        let Sent { head, body, content } = &sent[0];
        // Is the last request complete, so that another may follow?
        let mut whole = true;
        match self.case.requests[0].course {
            Course::AtOnce | Course::Expects | Course::Malformed(_) => {
                let all: Vec<u8> = sent.iter().flat_map(|sent| [&sent.head[..], &sent.body]).flatten().copied().collect();
                self.send(&all).await;
            }
            Course::Waits => {
                self.send(head).await;
                self.wait("an answer to the expectation", |heard, bytes| heard.is_answered(1) || is_told_to_go_on(bytes)).await;
                whole = is_told_to_go_on(&self.ear.read.lock().0);
                if whole {
                    self.send(body).await;
                }
            }
            Course::Paced => {
                self.send(head).await;
                self.send(&body[..body.len() / 2]).await;
                if self.case.behaviours[0].early {
                    self.wait("the response ahead of the request's end", |heard, _| heard.is_answered(1)).await;
                }
                self.send(&body[body.len() / 2..]).await;
            }
            Course::Cut { reset, .. } => {
                self.send(head).await;
                self.send(body).await;
                self.arrived(*content).await;
                if reset {
                    let _ = self.write.as_ref().set_zero_linger();
                    self.reader.abort();
                    let _ = (&mut self.reader).await;
                    return Heard { over: Some(Over::Reset), ..Ear::default().heard(&[]) };
                }
                let _ = self.write.shutdown().await;
                whole = false;
            }
        }
        let count = self.methods.len();
        self.wait("the responses", |heard, _| heard.is_answered(count)).await;
        let mut probed = false;
        if whole && self.ear.heard(&self.methods).over.is_none() {
            self.methods.push("GET");
            probed = true;
            self.send(b"GET /probe HTTP/1.1\r\nHost: Example.com\r\n\r\n").await;
            self.wait("the answer to a probe", |heard, _| heard.is_answered(count + 1)).await;
        } else {
            self.wait("the end of the connection", |heard, _| heard.over.is_some()).await;
        }
        let mut heard = self.ear.heard(&self.methods);
        heard.stuck = self.stuck;
        if probed && heard.responses.len() == count + 1 {
            heard.take_probe();
        }
        heard
    }

    /// Sends these bytes, as far as anybody takes them.
    async fn send(&mut self, bytes: &[u8]) {
        for piece in bytes::pieces(bytes, &self.case.cuts) {
            let sent = tokio::time::timeout(PATIENCE, self.write.write_all(piece)).await;
            if sent.is_err() {
                self.stuck = Some("sending");
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until it holds, or the connection has ended.
    async fn wait(&mut self, what: &'static str, holds: impl Fn(&Heard, &[u8]) -> bool) {
        let mut changed = self.ear.changed.subscribe();
        let waiting = async {
            loop {
                let heard = self.ear.heard(&self.methods);
                if heard.over.is_some() || holds(&heard, &self.ear.read.lock().0) {
                    return;
                }
                // An error means that nothing more will be heard.
                let _ = changed.changed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            self.stuck = Some(what);
        }
    }

    /// Waits until the origin has so much of the request, or nobody will.
    async fn arrived(&mut self, content: usize) {
        let ear = self.ear.clone();
        let ended = async {
            let mut changed = ear.changed.subscribe();
            while ear.heard(&["GET"]).responses.is_empty() && ear.read.lock().1.is_none() {
                let _ = changed.changed().await;
            }
        };
        let arrived = self.stage.wait(|arrivals| arrivals.first().is_some_and(|first| first.message.content.len() >= content));
        let either = async {
            tokio::select! {
                () = ended => {}
                () = arrived => {}
            }
        };
        if tokio::time::timeout(PATIENCE, either).await.is_err() {
            self.stuck = Some("the request at the origin");
        }
    }
}

impl Heard {
    /// The last response is one to a probe.
    pub fn take_probe(&mut self) {
        let Some(probe) = self.responses.pop() else { return };
        self.answered_probe = probe.message.status() == 418;
        if !self.answered_probe {
            self.responses.push(probe);
        }
    }
    /// Are there so many whole responses?
    fn is_answered(&self, count: usize) -> bool {
        self.responses.len() >= count && self.responses[..count].iter().all(|response| response.message.end == End::Whole)
    }
}

fn is_told_to_go_on(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 100 ") && wire::head_end(bytes).is_some()
}
