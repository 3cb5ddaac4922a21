//! HTTP/3, frame by frame: the client's end of a connection, and what writes a script as frames.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    h1::HOST,
    h2::{Faults, response, whole},
    message::{Break, Ear, End, Fields, Framing, Head, Voice},
};
use crate::support::{
    certs::Tls,
    h2_raw,
    h3_raw::{Broken, Frame, OneWay, RawH3, Reader, Writer, code, kind, purpose},
};

/// The first request that is not served, of a GOAWAY.
type GoAway = Arc<Mutex<Option<u64>>>;

/// One connection.
pub struct H3Link {
    raw: RawH3,
    goaway: GoAway,
    faults: Faults,
    /// Those that read. They end with it.
    readers: Mutex<JoinSet<()>>,
}

impl H3Link {
    /// Connects from this address.
    pub async fn client(from: Ipv4Addr, edge: SocketAddr, tls: &Tls, faults: Faults) -> io::Result<Arc<Self>> {
        let mut raw = RawH3::connect(from, edge, tls).await?;
        raw.begin(&[]).await?;
        let (goaway, mut readers) = (GoAway::default(), JoinSet::new());
        readers.spawn(one_way(raw.one_way(), goaway.clone(), faults.clone()));
        Ok(Arc::new(Self { raw, goaway, faults, readers: Mutex::new(readers) }))
    }

    /// Opens the stream of a request, whose response is heard in this ear.
    pub async fn open(self: &Arc<Self>, ear: &Ear) -> io::Result<H3Voice> {
        let (writer, reader) = self.raw.open().await?;
        let (stop, stopped) = oneshot::channel();
        self.readers.lock().spawn(read(reader, stopped, ear.clone(), self.faults.clone()));
        Ok(H3Voice { link: self.clone(), writer, ear: ear.clone(), stop: Some(stop) })
    }

    /// May another request be made on it?
    pub fn is_open(&self) -> bool {
        !self.raw.is_closed() && self.goaway.lock().is_none()
    }
}

/// Reads what the edge says of the connection.
async fn one_way(streams: OneWay, goaway: GoAway, faults: Faults) {
    let mut readers = JoinSet::new();
    loop {
        let (purpose, mut reader) = match streams.next().await {
            Ok(next) => next,
            Err(Broken::Lost(_)) => break,
            Err(broken) => return faults.lock().push(format!("a stream in one direction: {broken}")),
        };
        let (goaway, faults) = (goaway.clone(), faults.clone());
        readers.spawn(async move {
            let ended = match purpose {
                purpose::CONTROL => control(&mut reader, &goaway).await,
                purpose::ENCODER | purpose::DECODER => reader.rest().await.map(drop),
                _ => Err(Broken::Malformed("nobody asked for it".to_owned())),
            };
            // These streams end with the connection (RFC 9114 section 6.2.1, RFC 9204 section 4.2).
            let broken = match ended {
                Err(Broken::Lost(_)) => return,
                Err(broken) => broken.to_string(),
                Ok(()) => "it ends".to_owned(),
            };
            faults.lock().push(format!("a stream of type {purpose:#x}: {broken}"));
        });
    }
}

/// The control stream: SETTINGS, and what may follow them.
async fn control(reader: &mut Reader, goaway: &GoAway) -> Result<(), Broken> {
    let mut is_first = true;
    while let Some(frame) = reader.next().await? {
        match frame.kind {
            kind::SETTINGS if is_first => {}
            kind::GOAWAY if !is_first => *goaway.lock() = frame.numbers().first().copied(),
            other if is_first || is_known(other) => return Err(Broken::Malformed(format!("{frame:?} where it does not belong"))),
            _ => {}
        }
        is_first = false;
    }
    Ok(())
}

/// Types with a meaning, and those that HTTP/2 had (RFC 9114 section 7.2.8).
fn is_known(kind: u64) -> bool {
    kind < 0xa || kind == kind::MAX_PUSH_ID
}

/// Reads a response, as long as anybody wants it.
async fn read(mut reader: Reader, stop: oneshot::Receiver<u64>, ear: Ear, faults: Faults) {
    tokio::select! {
        ended = hear(&mut reader, &ear) => {
            match &ended {
                Ok(()) => return,
                Err(Broken::Reset(code)) => ear.hear(|heard| heard.reset = u32::try_from(*code).ok()),
                Err(Broken::Lost(_)) => ear.hear(|heard| heard.gone = true),
                Err(broken) => faults.lock().push(broken.to_string()),
            }
            ear.end(End::Cut(ended.map_or_else(|broken| broken.to_string(), |()| String::new())));
        }
        Ok(code) = stop => reader.stop(code),
    }
}

/// Reads a response to its end.
async fn hear(reader: &mut Reader, ear: &Ear) -> Result<(), Broken> {
    let malformed = |text: String| Broken::Malformed(text);
    while let Some(frame) = reader.next().await? {
        let heard = ear.now();
        let has_head = heard.framing.is_some();
        match frame.kind {
            kind::HEADERS if !has_head => {
                let fields = frame.fields().map_err(malformed)?;
                response(fields, false, ear).map_err(malformed)?;
                // A length that is of another response.
                ear.hear(|heard| heard.to_head |= heard.status == 304);
            }
            kind::HEADERS if heard.trailers.is_empty() => {
                let fields = frame.fields().map_err(malformed)?;
                if fields.iter().any(|(name, _)| name.starts_with(':')) {
                    return Err(malformed(format!("no trailers: {fields:?}")));
                }
                ear.hear(|heard| heard.trailers = fields);
            }
            kind::DATA if has_head && heard.trailers.is_empty() => ear.hear(|heard| heard.body.extend(&frame.payload)),
            other if is_known(other) => return Err(malformed(format!("{frame:?} where it does not belong"))),
            _ => {}
        }
    }
    if ear.now().framing.is_none() {
        return Err(malformed("a stream that ends without a response".to_owned()));
    }
    whole(ear).map_err(malformed)
}

/// Writes one message.
pub struct H3Voice {
    link: Arc<H3Link>,
    writer: Writer,
    ear: Ear,
    /// For whoever reads the response.
    stop: Option<oneshot::Sender<u64>>,
}

impl H3Voice {
    async fn fields(&mut self, first: &[(&str, &str)], fields: &Fields, last: bool) -> io::Result<()> {
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.frames(&[Frame::headers(&[first, &pairs].concat())], last).await
    }

    async fn frames(&mut self, frames: &[Frame], last: bool) -> io::Result<()> {
        self.writer.frames(frames).await?;
        if last { self.writer.finish() } else { Ok(()) }
    }
}

#[async_trait]
impl Voice for H3Voice {
    async fn interim(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.fields(&[(":status", &status.to_string())], fields, false).await
    }

    async fn head(&mut self, head: &Head, last: bool) -> io::Result<()> {
        let mut fields = head.fields.clone();
        if let Framing::Length(length) = head.framing {
            fields.push(("content-length".to_owned(), length.to_string()));
        }
        let first = [(":method", head.method), (":scheme", "https"), (":authority", HOST), (":path", &head.path)];
        self.fields(&first, &fields, last).await
    }

    /// Padding is a frame without meaning (RFC 9114 section 7.2.8).
    async fn data(&mut self, bytes: &[u8], last: bool, padding: Option<u8>) -> io::Result<()> {
        let padding = padding.map(|length| Frame::new(kind::RESERVED, vec![0; usize::from(length)]));
        let frames: Vec<Frame> = padding.into_iter().chain([Frame::data(bytes)]).collect();
        self.frames(&frames, last).await
    }

    async fn trailers(&mut self, fields: &Fields) -> io::Result<()> {
        self.fields(&[], fields, true).await
    }

    async fn end(&mut self) -> io::Result<()> {
        self.writer.finish()
    }

    /// What is no message is a matter of endpoints, which speak no HTTP/3.
    async fn raw(&mut self, _: &[u8], _: &[h2_raw::Frame]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn break_off(&mut self, how: Break) -> io::Result<()> {
        if how != Break::Silence {
            // What still comes of the other message is not waited for.
            self.ear.end(End::Cut("this side's own end".to_owned()));
        }
        match how {
            Break::Reset(_) => {
                self.writer.reset(code::REQUEST_CANCELLED);
                let _ = self.stop.take().map(|stop| stop.send(code::REQUEST_CANCELLED));
                // What follows is the end of the connection, which would be all that the edge gets to know.
                self.link.raw.settle().await;
            }
            // A GOAWAY of a client is about what servers push.
            Break::Close | Break::GoAway => self.link.raw.close(code::NO_ERROR),
            Break::Cut => self.link.raw.close(code::INTERNAL_ERROR),
            Break::Silence => {}
        }
        Ok(())
    }
}
