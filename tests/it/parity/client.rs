//! The client's side of a pair.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpSocket, sync::mpsc, task::JoinHandle};

use super::{
    Kind,
    h1::{self, H1Voice, Reader},
    h2::{Faults, H2Link, H2Voice},
    h3::{H3Link, H3Voice},
    message::{Cues, Ear, End, Performed, Script, Voice, perform},
};
use crate::support::{
    BoxStream,
    certs::Tls,
    client::{Secured, secure},
    within,
};

/// A connection to the edge.
pub enum Client {
    H1 {
        voice: H1Voice,
        /// Where the next response is to be heard, and whether it is one to HEAD.
        next: mpsc::UnboundedSender<(Ear, bool)>,
        reader: JoinHandle<()>,
    },
    H2 {
        link: Arc<H2Link>,
        stream: u32,
        scheme: &'static str,
    },
    H3 {
        link: Arc<H3Link>,
        /// Of all requests: a stream whose end was not sent stays open.
        voices: Vec<H3Voice>,
    },
}

impl Client {
    /// Connects from this address.
    pub async fn connect(kind: Kind, from: Ipv4Addr, edge: SocketAddr, tls: &Tls, faults: Faults) -> io::Result<Self> {
        if kind == Kind::H3 {
            return Ok(Self::H3 { link: H3Link::client(from, edge, tls, faults).await?, voices: Vec::new() });
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let tcp = within("a connection to the edge", socket.connect(edge)).await?;
        tcp.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&tcp).try_clone()?;
        let alpn = if kind.is_h2() { "h2" } else { "http/1.1" };
        let stream: BoxStream = if kind.is_tls() {
            let Secured { stream, alpn: taken, .. } = secure(tcp, &tls.clone().alpn(alpn)).await?;
            assert_eq!(taken.as_deref(), Some(alpn), "the edge did not take {alpn}");
            stream
        } else {
            Box::new(tcp)
        };
        if kind.is_h2() {
            let link = H2Link::client(stream, socket, faults).await?;
            return Ok(Self::H2 { link, stream: 1, scheme: if kind.is_tls() { "https" } else { "http" } });
        }
        let (read, write) = tokio::io::split(stream);
        let (next, responses) = mpsc::unbounded_channel();
        let reader = tokio::spawn(responses_of(Reader::new(read), responses, faults));
        Ok(Self::H1 { voice: H1Voice::new(write, socket), next, reader })
    }

    /// Sends what the script says, to its end or until nobody hears it. The response is heard in the ear.
    pub async fn perform(&mut self, script: &Script, ear: &mut Ear, cues: &Cues) -> Performed {
        match self {
            Self::H1 { voice, next, .. } => {
                let _ = next.send((ear.clone(), script.head.method == "HEAD"));
                perform(voice, script, ear, cues).await
            }
            Self::H2 { link, stream, scheme } => {
                *ear = link.open(*stream);
                let mut voice = H2Voice { link: link.clone(), stream: *stream, scheme };
                *stream += 2;
                perform(&mut voice as &mut dyn Voice, script, ear, cues).await
            }
            Self::H3 { link, voices } => {
                ear.hear(|heard| heard.to_head = script.head.method == "HEAD");
                match link.open(ear).await {
                    Ok(voice) => voices.push(voice),
                    Err(error) => return Performed::Unheard(error.to_string()),
                }
                let voice = voices.last_mut().expect("the one of this request");
                perform(voice, script, ear, cues).await
            }
        }
    }

    /// May another request be sent after a response like this?
    pub fn is_open(&self) -> bool {
        match self {
            Self::H1 { reader, .. } => !reader.is_finished(),
            Self::H2 { link, .. } => link.is_open(),
            Self::H3 { link, .. } => link.is_open(),
        }
    }

    /// Lets the connection go; with a reset where that was asked for.
    pub async fn leave(self) {
        match self {
            Self::H1 { reader, voice, .. } => {
                reader.abort();
                let _ = reader.await;
                drop(voice);
            }
            Self::H2 { link, .. } => drop(link),
            Self::H3 { link, voices } => drop((voices, link)),
        }
    }
}

/// Reads the responses that were asked for, and nothing else.
async fn responses_of(mut reader: Reader, mut responses: mpsc::UnboundedReceiver<(Ear, bool)>, faults: Faults) {
    loop {
        let (ear, to_head) = tokio::select! {
            biased;
            next = responses.recv() => match next {
                Some(next) => next,
                None => return,
            },
            read = reader.fill() => match read {
                Ok(count) if count > 0 => {
                    // A refusal may come ahead of the request that this test has not begun to send: no row needs that.
                    faults.lock().push(format!("nobody asked for {:?}", String::from_utf8_lossy(reader.ahead())));
                    return;
                }
                _ => {
                    while let Some((ear, _)) = responses.recv().await {
                        ear.end(End::Cut("a close".to_owned()));
                    }
                    return;
                }
            },
        };
        let framing = loop {
            let told = match reader.head().await {
                Ok(None) => Err(h1::Trouble::Ended("a close".to_owned())),
                Ok(Some((line, fields))) => h1::response(&line, fields, to_head, &ear),
                Err(trouble) => Err(trouble),
            };
            match told {
                Ok(Some(framing)) => break Ok(framing),
                Ok(None) => {}
                Err(trouble) => break Err(trouble),
            }
        };
        let read = match framing {
            Ok(framing) => reader.body(framing, &ear).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = read {
            if let h1::Trouble::Broken(text) = &trouble {
                faults.lock().push(text.clone());
            }
            ear.end(End::Cut(trouble.text()));
            return;
        }
    }
}
