//! The three requests that are made of an engine, over hyper.
//!
//! Client libraries for the whole API describe every field of every answer, and refuse an answer for one word
//! in it that they do not know: an engine newer than they are, or Podman, then yields nothing at all. What is
//! needed here is a handful of fields of two answers, so those are read and everything else is passed over.
//! Paths have no version in them: engines stop serving old ones, and these fields are in all of them.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{
    container::{Event, Inspected},
    endpoints::UPSTREAM,
    host::EngineHost,
};
use crate::tls::in_words;

/// For a whole answer, and for the head of the stream of events. An engine that is busy starting a hundred
/// containers takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the list: some kilobytes for each of ten thousand containers.
const MAX_LIST: usize = 64 << 20;
/// Of one container, or one event: labels have no limit of their own, and some tools keep files in them.
const MAX_ONE: usize = 4 << 20;
/// An engine that vanished without a word is noticed after [`SILENCE`] and three probes.
const SILENCE: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);

/// What may happen to a container that concerns an endpoint. Others are not even sent: the commands of health
/// checks alone make three events a time.
const EVENTS: &str = r#"{"type":["container","network"],"event":["start","restart","unpause","health_status","update","rename","kill","pause","die","destroy","connect","disconnect"]}"#;

/// Makes requests of one engine. Each has a connection of its own, so that one container that the engine is
/// stuck on holds up no other.
#[derive(Debug, Clone)]
pub(super) struct Client {
    host: EngineHost,
    tls: Option<EngineTls>,
}

/// TLS to an engine, compiled.
#[derive(Debug, Clone)]
pub(super) struct EngineTls {
    pub(super) config: Arc<rustls::ClientConfig>,
    /// What its certificate must name.
    pub(super) name: ServerName<'static>,
}

/// One answer, as it arrives.
struct Answer {
    /// Moves the connection on; never resolves.
    connection: BoxFuture<'static, ()>,
    response: Response<Incoming>,
}

/// An item of the list of containers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

impl Client {
    pub(super) fn new(host: EngineHost, tls: Option<EngineTls>) -> Self {
        Self { host, tls }
    }

    /// The ids of the running containers that name an upstream.
    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let filters = format!(r#"{{"label":["{UPSTREAM}"]}}"#);
        let answer = self.whole(&format!("/containers/json?filters={}", escaped(&filters)), MAX_LIST).await?;
        let answer = answer.ok_or("the engine knows no list of containers")?;
        let listed: Vec<Listed> =
            serde_json::from_slice(&answer).map_err(|error| unreadable("the list of containers", &error))?;
        Ok(listed.into_iter().map(|container| container.id).collect())
    }

    /// A container, if there is one of that id.
    pub(super) async fn inspect(&self, id: &str) -> Result<Option<Inspected>, String> {
        let Some(answer) = self.whole(&format!("/containers/{}/json", escaped(id)), MAX_ONE).await? else { return Ok(None) };
        serde_json::from_slice(&answer).map(Some).map_err(|error| unreadable("a container", &error))
    }

    /// What happens from now on.
    pub(super) async fn events(&self) -> Result<Events, String> {
        let path = format!("/events?filters={}", escaped(EVENTS));
        let answer = tokio::time::timeout(PATIENCE, self.ask(&path)).await.unwrap_or_else(|_| Err(impatient()))?;
        match answer.response.status() {
            StatusCode::OK => Ok(Events { answer, buffer: BytesMut::new(), seen: 0 }),
            status => Err(refused(status)),
        }
    }

    async fn ask(&self, path: &str) -> Result<Answer, String> {
        match &self.host {
            EngineHost::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| error.kind().to_string())?;
                exchange(stream, "docker", path).await
            }
            EngineHost::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| match error.raw_os_error() {
                    // From the resolver, which has words of its own.
                    None => error.to_string(),
                    Some(_) => error.kind().to_string(),
                })?;
                let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE).with_retries(3);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(|error| error.to_string())?;
                let authority = format!("{host}:{port}");
                match &self.tls {
                    None => exchange(stream, &authority, path).await,
                    Some(tls) => {
                        let connecting = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream);
                        let stream = connecting
                            .await
                            .map_err(|error| format!("TLS handshake failed: {}", in_words(&error.to_string())))?;
                        exchange(stream, &authority, path).await
                    }
                }
            }
        }
    }

    /// The whole body of an answer; nothing for 404.
    async fn whole(&self, path: &str, most: usize) -> Result<Option<Bytes>, String> {
        let read = async {
            let Answer { connection, response } = self.ask(path).await?;
            let status = response.status();
            if status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            if status != StatusCode::OK {
                return Err(refused(status));
            }
            let body = tokio::select! {
                body = Limited::new(response.into_body(), most).collect() => body,
                () = connection => unreachable!("it never resolves"),
            };
            body.map(|body| Some(body.to_bytes())).map_err(|error| format!("the answer broke off: {error}"))
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| Err(impatient()))
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    authority: &str,
    path: &str,
) -> Result<Answer, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let mut connection: BoxFuture<'static, ()> = Box::pin(async move {
        // Whoever reads the answer learns of it.
        let _ = connection.await;
        std::future::pending().await
    });
    let response = tokio::select! {
        response = sender.send_request(request) => response.map_err(failed)?,
        () = &mut connection => unreachable!("it never resolves"),
    };
    Ok(Answer { connection, response })
}

/// For the query of a request: the bytes that mean something there, and everything that is not plain.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

fn impatient() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

fn refused(status: StatusCode) -> String {
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            format!(
                "{status}: a proxy in front of the engine must allow GET of /events, /containers/json and /containers/ID/json"
            )
        }
        status => format!("the engine answers {status}"),
    }
}

fn unreadable(what: &str, error: &serde_json::Error) -> String {
    format!("{what} cannot be read: {error}")
}

/// The stream of events: JSON, one to a line.
pub(super) struct Events {
    answer: Answer,
    buffer: BytesMut,
    /// So much of the buffer holds no end of a line.
    seen: usize,
}

impl Events {
    /// The next one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Event, String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.seen..]) {
                let line = self.buffer.split_to(self.seen + end);
                self.buffer.advance(1);
                self.seen = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(|error| unreadable("an event", &error));
            }
            self.seen = self.buffer.len();
            if self.seen > MAX_ONE {
                return Err("an event is over 4 MiB".into());
            }
            let frame = tokio::select! {
                frame = self.answer.response.body_mut().frame() => frame,
                () = &mut self.answer.connection => unreachable!("it never resolves"),
            };
            match frame {
                None => return Err("the stream of events ended".into()),
                Some(Err(error)) => return Err(format!("the stream of events broke off: {error}")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
