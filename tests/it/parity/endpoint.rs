//! The endpoint's side of a pair: it reads without any tolerance, and answers as the row says.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Kind,
    h1::{self, H1Voice, Reader, Trouble},
    h2::{Faults, H2Link, H2Voice},
    message::{Break, Cues, Ear, End, Framing, Performed, Script, ok, perform},
};
use crate::support::BoxStream;

/// What all endpoints of a row share.
pub struct Behind {
    pub kind: Kind,
    pub tls: Arc<rustls::ServerConfig>,
    /// One for each request of the row, in the order of their arrival, whichever endpoint they come to.
    pub answers: Mutex<VecDeque<Script>>,
    cues: Mutex<Cues>,
    /// The requests of the row.
    pub arrivals: Mutex<Vec<Ear>>,
    pub faults: Faults,
    /// The row is about connections that have served before.
    pooled: bool,
    /// The first request of the row came on another.
    missed: AtomicBool,
}

impl Behind {
    pub fn new(kind: Kind, tls: Arc<rustls::ServerConfig>, answers: impl Into<VecDeque<Script>>, pooled: bool) -> Self {
        Self {
            kind,
            tls,
            answers: Mutex::new(answers.into()),
            cues: Mutex::default(),
            arrivals: Mutex::default(),
            faults: Faults::default(),
            pooled,
            missed: AtomicBool::new(false),
        }
    }

    /// Forgets what was, for another round with these cues.
    pub fn begin(&self, cues: Cues) {
        *self.cues.lock() = cues;
        self.answers.lock().clear();
        self.arrivals.lock().clear();
    }

    pub fn cues(&self) -> Cues {
        self.cues.lock().clone()
    }

    /// Did the row's request come on a connection that it was not meant for? Asking takes it back.
    pub fn missed(&self) -> bool {
        self.missed.swap(false, Relaxed)
    }

    /// The answer to this request, which is noted; `first` of its connection or not.
    fn answer(&self, ear: &Ear, first: bool) -> Script {
        let target = ear.now().target;
        if let Some(word) = target.strip_suffix("/warm").or(target.strip_suffix("/again")) {
            return ok(&format!("for {word}"));
        }
        let mut arrivals = self.arrivals.lock();
        if self.pooled && first && arrivals.is_empty() {
            self.missed.store(true, Relaxed);
            return ok("once more, please");
        }
        arrivals.push(ear.clone());
        self.answers.lock().pop_front().unwrap_or_else(|| ok("nobody expected this request"))
    }
}

/// Listens until it is dropped.
pub struct Endpoint {
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Endpoint {
    pub async fn listen(behind: Arc<Behind>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, behind.clone()));
            }
        });
        Ok(Self { address, _tasks: tasks })
    }
}

async fn connection(stream: TcpStream, behind: Arc<Behind>) {
    // Connections break: that is what the rows are about. What matters was noted.
    let _ = serve(stream, behind).await;
}

async fn serve(stream: TcpStream, behind: Arc<Behind>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream).try_clone()?;
    let stream: BoxStream = if behind.kind.is_tls() {
        let stream = TlsAcceptor::from(behind.tls.clone()).accept(stream).await?;
        Box::new(stream)
    } else {
        Box::new(stream)
    };
    if behind.kind.is_h2() { serve_h2(stream, socket, behind).await } else { serve_h1(stream, socket, &behind).await }
}

async fn serve_h2(stream: BoxStream, socket: socket2::Socket, behind: Arc<Behind>) -> io::Result<()> {
    let (requests, mut arriving) = mpsc::unbounded_channel();
    let link = H2Link::server(stream, socket, behind.faults.clone(), requests).await?;
    let mut exchanges = JoinSet::new();
    let mut first = true;
    loop {
        let (stream, ear) = tokio::select! {
            next = arriving.recv() => match next {
                Some(next) => next,
                None => break,
            },
            () = link.ended() => break,
        };
        let script = behind.answer(&ear, std::mem::take(&mut first));
        let (behind, mut voice) = (behind.clone(), H2Voice { link: link.clone(), stream, scheme: "" });
        exchanges.spawn(async move { perform(&mut voice, &script, &ear, &behind.cues()).await });
    }
    Ok(())
}

async fn serve_h1(stream: BoxStream, socket: socket2::Socket, behind: &Behind) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let (mut reader, mut voice) = (Reader::new(read), H1Voice::new(write, socket));
    let mut first = true;
    loop {
        let ear = Ear::default();
        let head = match reader.head().await {
            Ok(None) => return Ok(()),
            Ok(Some((line, fields))) => h1::request(&line, fields, &ear),
            Err(trouble) => Err(trouble),
        };
        let framing = match head {
            Ok(framing) => framing,
            Err(Trouble::Ended(text)) if reader.ahead().is_empty() && !text.contains("after") => return Ok(()),
            Err(trouble) => {
                behind.faults.lock().push(format!("on a connection to an endpoint: {}", trouble.text()));
                return Ok(());
            }
        };
        let script = behind.answer(&ear, std::mem::take(&mut first));
        if !exchange(&mut reader, &mut voice, &script, framing, &ear, behind).await {
            return Ok(());
        }
    }
}

/// One request and its answer. May the connection go on?
async fn exchange(
    reader: &mut Reader,
    voice: &mut H1Voice,
    script: &Script,
    framing: Framing,
    ear: &Ear,
    behind: &Behind,
) -> bool {
    let (cues, said) = (behind.cues(), voice.said.clone());
    said.store(false, Relaxed);
    let mut performing = std::pin::pin!(perform(voice, script, ear, &cues));
    let mut performed = None;
    let read = {
        let mut reading = std::pin::pin!(reader.body(framing, ear));
        loop {
            tokio::select! {
                read = &mut reading => break read,
                done = &mut performing, if performed.is_none() => {
                    let broken = matches!(done, Performed::Broken(how) if how != Break::Silence);
                    performed = Some(done);
                    if broken {
                        break Err(Trouble::Ended("the endpoint's own end".to_owned()));
                    }
                }
            }
        }
    };
    let whole = read.is_ok();
    match read {
        Ok(()) => {}
        Err(Trouble::Broken(text)) => {
            behind.faults.lock().push(format!("within a request: {text}"));
            ear.end(End::Cut(text));
            return false;
        }
        Err(Trouble::Ended(text)) => ear.end(End::Cut(text)),
    }
    // Until the answer is complete, the edge has nothing to say.
    while performed.is_none() {
        tokio::select! {
            done = &mut performing => performed = Some(done),
            read = reader.fill() => {
                let more = read.is_ok_and(|count| count > 0);
                if more && said.load(Relaxed) {
                    // The next request, while the script has nothing left to say.
                    continue;
                }
                if more {
                    let bytes = String::from_utf8_lossy(reader.ahead()).into_owned();
                    behind.faults.lock().push(format!("before the answer was complete: {bytes:?}"));
                }
                ear.hear(|heard| heard.gone = true);
                return false;
            }
        }
    }
    match performed {
        Some(Performed::Whole) if whole && script.head.framing != Framing::Close => true,
        Some(Performed::Broken(Break::Reset(_) | Break::Cut)) => false,
        // What the edge still sends belongs to nobody.
        _ => {
            while reader.fill().await.is_ok_and(|count| count > 0) {}
            ear.hear(|heard| heard.gone = true);
            false
        }
    }
}
