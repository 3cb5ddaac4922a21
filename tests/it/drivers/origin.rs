//! The origin behind an edge: behaves as the case has it, and remembers what it was sent.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    bytes::{self, Response},
    case::{Behaviour, Ending, good},
    wire::{self, End, Kind, Message},
};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub message: Message,
    /// Its connection had served another one.
    pub reused: bool,
    /// Nothing more of it will come.
    pub over: bool,
}

/// What all endpoints of an upstream have in common. Which of them is asked first is left to the edge: the first attempt of a
/// request gets the behaviour of the case, whoever it meets.
#[derive(Default)]
pub struct Stage {
    behaviours: Mutex<HashMap<String, VecDeque<Behaviour>>>,
    arrivals: Mutex<Vec<Arrival>>,
    /// Connections that have ended here, and that the edge has not let go yet.
    ended: Mutex<usize>,
    /// Connections that wait for a request.
    waiting: Mutex<usize>,
    /// Connections since the case began.
    opened: Mutex<usize>,
    /// Which responses the client has the heads of.
    heads: watch::Sender<BTreeSet<usize>>,
    /// Turned when connections that wait for a request are to end.
    rests: watch::Sender<()>,
    changed: watch::Sender<()>,
}

impl Stage {
    /// Another case begins, in which requests for these targets meet these behaviours.
    pub fn begin(&self, behaviours: HashMap<String, VecDeque<Behaviour>>) {
        *self.behaviours.lock() = behaviours;
        self.arrivals.lock().clear();
        *self.opened.lock() = 0;
        self.heads.send_replace(BTreeSet::new());
    }
    /// The client has the head of the response to the request with this number.
    pub fn heard(&self, number: usize) {
        self.heads.send_if_modified(|heads| heads.insert(number));
    }
    /// How many connections there were since the case began.
    pub fn opened(&self) -> usize {
        *self.opened.lock()
    }
    /// Ends all connections that wait for a request.
    pub async fn rest(&self) {
        self.rests.send_replace(());
        let mut changed = self.changed.subscribe();
        while *self.waiting.lock() > 0 {
            // An error means that the stage is gone.
            let _ = changed.changed().await;
        }
    }
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().clone()
    }
    /// Waits until it holds.
    pub async fn wait(&self, holds: impl Fn(&[Arrival]) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.arrivals.lock()) {
            // An error means that the stage is gone, and with it whoever waits here.
            let _ = changed.changed().await;
        }
    }
    /// Does the edge hold connections that have ended?
    pub fn has_stale(&self) -> bool {
        *self.ended.lock() > 0
    }
    fn told(&self, number: usize, tell: impl FnOnce(&mut Arrival)) {
        // One of a case before is of no interest.
        if let Some(arrival) = self.arrivals.lock().get_mut(number) {
            tell(arrival);
        }
        self.changed.send_replace(());
    }
}

/// Serves this many endpoints until the runtime ends.
pub async fn endpoints(stage: &Arc<Stage>, count: usize) -> Vec<SocketAddr> {
    let mut addresses = vec![];
    for _ in 0..count {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        addresses.push(listener.local_addr().expect("an address"));
        let stage = stage.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stage = stage.clone();
                tokio::spawn(async move {
                    // A connection that breaks is something cases provoke.
                    let _ = connection(stream, &stage).await;
                });
            }
        });
    }
    addresses
}

async fn connection(mut stream: TcpStream, stage: &Stage) -> io::Result<()> {
    stream.set_nodelay(true)?;
    *stage.opened.lock() += 1;
    let mut rests = stage.rests.subscribe();
    let mut ahead = Vec::new();
    for served in 0.. {
        *stage.waiting.lock() += 1;
        let head = head(&mut stream, &mut ahead, &mut rests).await;
        *stage.waiting.lock() -= 1;
        if matches!(head, Head::Rest) {
            *stage.ended.lock() += 1;
        }
        stage.changed.send_replace(());
        let message = match head {
            Head::Message(message) => message,
            Head::Rest => return close(stream, stage).await,
            Head::Gone => return Ok(()),
        };
        let (target, method) = (message.word(1).to_owned(), message.word(0).to_owned());
        let expects = message.field("expect").is_some();
        let behaviour =
            stage.behaviours.lock().get_mut(&target).and_then(VecDeque::pop_front).unwrap_or_else(|| otherwise(&target));
        let number = {
            let mut arrivals = stage.arrivals.lock();
            arrivals.push(Arrival { message, reused: served > 0, over: false });
            arrivals.len() - 1
        };
        stage.changed.send_replace(());
        if expects && !behaviour.early {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if !behaviour.early && !receive(&mut stream, &mut ahead, stage, number).await {
            return Ok(());
        }
        let Response { bytes, late, end } = bytes::response(&behaviour, &method);
        let mut written = write(&mut stream, &bytes, &behaviour.cuts).await;
        if !late.is_empty() {
            passed_on(&mut stream, &mut ahead, stage, &target).await;
            written = written.and(stream.write_all(late).await);
        }
        if end == Ending::Reset {
            stream.set_zero_linger()?;
            stage.told(number, |arrival| arrival.over = true);
            return Ok(());
        }
        if matches!(end, Ending::Close | Ending::SaysClose) {
            stage.told(number, |arrival| arrival.over = true);
            *stage.ended.lock() += 1;
            return close(stream, stage).await;
        }
        if behaviour.early && !receive(&mut stream, &mut ahead, stage, number).await {
            return Ok(());
        }
        written?;
    }
    Ok(())
}

/// Waits until the client has the head of the response to this target, or never will.
async fn passed_on(stream: &mut TcpStream, ahead: &mut Vec<u8>, stage: &Stage, target: &str) {
    let number = target.split(['/', '?']).nth(2).and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
    let mut heads = stage.heads.subscribe();
    let given_up = async { while matches!(stream.read_buf(ahead).await, Ok(1..)) {} };
    tokio::select! {
        _ = heads.wait_for(|heads| heads.contains(&number)) => {}
        () = given_up => {}
    }
}

/// What comes on a connection that waits.
enum Head {
    Message(Message),
    /// It is to end.
    Rest,
    /// The edge has ended it.
    Gone,
}

async fn head(stream: &mut TcpStream, ahead: &mut Vec<u8>, rests: &mut watch::Receiver<()>) -> Head {
    loop {
        if let Some(message) = wire::read(ahead, Kind::Request) {
            return Head::Message(message);
        }
        tokio::select! {
            read = stream.read_buf(ahead) => if !matches!(read, Ok(1..)) {
                return Head::Gone;
            },
            _ = rests.changed() => return Head::Rest,
        }
    }
}

/// The answer to what is no first attempt of a case.
fn otherwise(target: &str) -> Behaviour {
    let leaves_none = target.contains("fresh") && target.ends_with("/settle");
    Behaviour { end: if leaves_none { Ending::SaysClose } else { Ending::KeepAlive }, ..good() }
}

/// Reads the request to its end. Was it whole?
async fn receive(stream: &mut TcpStream, ahead: &mut Vec<u8>, stage: &Stage, number: usize) -> bool {
    loop {
        let Some(message) = wire::read(ahead, Kind::Request) else { return false };
        let (end, used) = (message.end, message.used);
        stage.told(number, |arrival| (arrival.message, arrival.over) = (message, end != End::Open));
        if end == End::Whole {
            ahead.drain(..used);
        }
        if end != End::Open {
            return end == End::Whole;
        }
        if !matches!(stream.read_buf(ahead).await, Ok(1..)) {
            stage.told(number, |arrival| arrival.over = true);
            return false;
        }
    }
}

async fn write(stream: &mut TcpStream, response: &[u8], cuts: &[u16]) -> io::Result<()> {
    for piece in bytes::pieces(response, cuts) {
        stream.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Ends our side of a connection that was counted as ended, and waits until the edge has let go of the connection.
async fn close(mut stream: TcpStream, stage: &Stage) -> io::Result<()> {
    let _ = stream.shutdown().await;
    let rest = async { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), rest).await;
    *stage.ended.lock() -= 1;
    Ok(())
}
