//! The client of a case over HTTP/2: each request is a stream of one connection.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::{net::TcpStream, task::JoinSet};

use super::{
    bytes::{self, Stream},
    case::{Case, Course},
    client::{Heard, Over, PATIENCE, Response},
    origin::Stage,
    wire::{self, Message},
};
use crate::{
    parity::{
        h2::{Faults, H2Link, H2Voice},
        message::{Break, Ear, End, Heard as Told, Voice},
    },
    support::h2_raw::{Frame, flag, get_fields, kind},
};

const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const CANCEL: u32 = 8;

struct Client<'a> {
    case: &'a Case,
    stage: &'a Arc<Stage>,
    link: Arc<H2Link>,
    faults: Faults,
    streams: Vec<Asked>,
    stuck: Option<&'static str>,
    /// Those that look after streams.
    tasks: JoinSet<()>,
}

/// A stream.
struct Asked {
    ear: Ear,
    voice: H2Voice,
    /// All of the request was sent.
    whole: bool,
    /// The client has left, so that it hears nothing.
    left: bool,
}

/// Plays the case's client. `idle` waits until the edge serves no request.
pub async fn play(case: &Case, edge: SocketAddr, stage: &Arc<Stage>, idle: impl AsyncFn()) -> Heard {
    let tcp = TcpStream::connect(edge).await.expect("a connection");
    tcp.set_nodelay(true).expect("nodelay");
    let socket = socket2::SockRef::from(&tcp).try_clone().expect("a socket");
    let faults = Arc::new(Mutex::default());
    let link = H2Link::client(Box::new(tcp), socket, faults.clone()).await.expect("a connection of HTTP/2");
    let client = Client { case, stage, link, faults, streams: vec![], stuck: None, tasks: JoinSet::new() };
    client.run(idle).await
}

impl Client<'_> {
    async fn run(mut self, idle: impl AsyncFn()) -> Heard {
        let count = self.case.requests.len();
        if let Some(window) = self.case.window {
            // An error means that the connection has ended, here as below: what was heard tells of it.
            let _ = self.link.send(&[Frame::settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, window)])]).await;
        }
        if self.case.together {
            self.ask(0..count).await;
        } else {
            for number in 0..count {
                self.ask(number..number + 1).await;
                if number + 1 < count {
                    idle().await;
                }
            }
        }
        if self.streams.iter().any(|stream| stream.ear.now().gone) {
            self.link.ended().await;
        }
        let probed = self.link.is_open();
        if probed {
            let fields = get_fields("http", "Example.com", "/probe", &[]);
            self.open(&fields, true).await;
            self.over(count, "the answer to a probe").await;
        }
        let mut heard = self.heard();
        if probed {
            heard.take_probe();
        }
        heard
    }

    /// Sends these requests at a time, and waits for the ends of their streams.
    async fn ask(&mut self, numbers: Range<usize>) {
        let requests: Vec<Stream> = numbers.clone().map(|number| bytes::stream(self.case, number)).collect();
        for request in &requests {
            let fields: Vec<_> = request.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let is_cut = matches!(self.case.requests[0].course, Course::Cut { .. });
            self.open(&fields, request.pieces.is_empty() && request.trailers.is_empty() && !is_cut).await;
        }
        for (number, request) in numbers.clone().zip(&requests) {
            self.go_on(number, request).await;
        }
        for number in numbers {
            self.over(number, "the end of a stream").await;
        }
    }

    /// Opens a stream.
    async fn open(&mut self, fields: &[(&str, &str)], last: bool) {
        let number = self.streams.len();
        let stream = 1 + 2 * number as u32;
        let (link, ear) = (self.link.clone(), self.link.open(stream));
        ear.hear(|told| told.to_head = fields.contains(&(":method", "HEAD")));
        let (stage, head) = (self.stage.clone(), ear.clone());
        self.tasks.spawn(async move {
            head.wait(|heard| heard.framing.is_some()).await;
            stage.heard(number);
        });
        if let Some(window) = self.case.window {
            self.tasks.spawn(widen(link.clone(), stream, ear.clone(), window));
        }
        let _ = link.send(&[Frame::headers(stream, last, fields)]).await;
        self.streams.push(Asked { ear, voice: H2Voice { link, stream, scheme: "http" }, whole: last, left: false });
    }

    /// Sends what follows the head.
    async fn go_on(&mut self, number: usize, request: &Stream) {
        let half = request.pieces.len() / 2;
        match self.case.requests[number].course {
            _ if self.streams[number].whole => {}
            Course::AtOnce | Course::Expects => self.send(number, &request.pieces, request).await,
            Course::Malformed(_) => {
                self.arrived(number, 0).await;
                self.send(number, &request.pieces, request).await;
            }
            Course::Waits => {
                self.wait(number, "an answer to the expectation", |told| is_over(told, true) || is_told_to_go_on(told)).await;
                if is_told_to_go_on(&self.streams[number].ear.now()) {
                    self.send(number, &request.pieces, request).await;
                }
            }
            Course::Paced => {
                let early = self.case.behaviours[number].early;
                self.send_some(number, &request.pieces[..half], false).await;
                if early {
                    self.wait(number, "the response ahead of the request's end", |told| is_over(told, true)).await;
                }
                self.send(number, &request.pieces[half..], request).await;
            }
            Course::Cut { reset, .. } => {
                self.send_some(number, &request.pieces, false).await;
                self.arrived(number, request.content).await;
                let how = if reset { Break::Reset(CANCEL) } else { Break::Close };
                self.streams[number].left = reset;
                let _ = self.streams[number].voice.break_off(how).await;
            }
        }
    }

    /// Sends these pieces, and what follows them.
    async fn send(&mut self, number: usize, pieces: &[Vec<u8>], request: &Stream) {
        self.send_some(number, pieces, request.trailers.is_empty()).await;
        if !request.trailers.is_empty() {
            let _ = self.streams[number].voice.trailers(&request.trailers).await;
        }
        self.streams[number].whole = true;
    }

    async fn send_some(&mut self, number: usize, pieces: &[Vec<u8>], last: bool) {
        let Asked { ear, voice, .. } = &mut self.streams[number];
        let sending = async {
            for (at, piece) in pieces.iter().enumerate() {
                // Of a stream that was reset no more is sent.
                if ear.now().reset.is_some() {
                    return;
                }
                let _ = voice.data(piece, last && at + 1 == pieces.len(), None).await;
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, sending).await.is_err() {
            self.stuck = Some("sending");
        }
    }

    /// Waits until both sides of a stream have ended.
    async fn over(&mut self, number: usize, what: &'static str) {
        let Asked { whole, left, .. } = self.streams[number];
        if !left {
            self.wait(number, what, |told| is_over(told, whole)).await;
        }
    }

    /// Waits until it holds, or the connection has ended.
    async fn wait(&mut self, number: usize, what: &'static str, holds: impl Fn(&Told) -> bool) {
        let waiting = self.streams[number].ear.wait(|told| told.gone || holds(told));
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            self.stuck = Some(what);
        }
    }

    /// Waits until the origin has so much of the request, or nobody will.
    async fn arrived(&mut self, number: usize, content: usize) {
        let ear = &self.streams[number].ear;
        let either = async {
            tokio::select! {
                () = ear.wait(|told| told.gone || told.framing.is_some() || told.reset.is_some()) => {}
                () = self.stage.wait(|arrivals| arrivals.first().is_some_and(|first| first.message.content.len() >= content)) => {}
            }
        };
        if tokio::time::timeout(PATIENCE, either).await.is_err() {
            self.stuck = Some("the request at the origin");
        }
    }

    fn heard(&self) -> Heard {
        let heard = self.streams.iter().filter(|stream| !stream.left).map(|stream| response(stream.ear.now()));
        Heard {
            responses: heard.collect(),
            rest: self.faults.lock().join("; ").into_bytes(),
            over: (!self.link.is_open()).then_some(Over::Closed),
            stuck: self.stuck,
            answered_probe: false,
        }
    }
}

/// Allows so much more of a response whenever all that was allowed has come.
async fn widen(link: Arc<H2Link>, stream: u32, ear: Ear, window: u32) {
    let mut allowed = window as usize;
    loop {
        ear.wait(|told| told.end.is_some() || told.body.len() >= allowed).await;
        let update = Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, window.to_be_bytes());
        if ear.now().end.is_some() || link.send(&[update]).await.is_err() {
            return;
        }
        allowed += window as usize;
    }
}

/// Does nothing follow? A response can be complete before its request is; the stream is over with both.
fn is_over(told: &Told, asked: bool) -> bool {
    told.reset.is_some() || asked && told.is_whole()
}

fn is_told_to_go_on(told: &Told) -> bool {
    told.interim.iter().any(|(status, _)| *status == 100)
}

/// What was heard on a stream, in the words of HTTP/1.
fn response(told: Told) -> Response {
    let message = |status: u16, fields| Message {
        start: if status == 0 { String::new() } else { format!("HTTP/2 {status}") },
        fields,
        content: vec![],
        trailers: vec![],
        end: wire::End::Open,
        used: 0,
    };
    let end = if told.end == Some(End::Whole) { wire::End::Whole } else { wire::End::Open };
    Response {
        interim: told.interim.into_iter().map(|(status, fields)| message(status, fields)).collect(),
        message: Message { content: told.body, trailers: told.trailers, end, ..message(told.status, told.fields) },
        reset: told.reset,
    }
}
