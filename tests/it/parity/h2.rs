//! HTTP/2, frame by frame: either end of a connection, and what writes a script as frames.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    h1::HOST,
    message::{Break, Ear, End, Fields, Framing, Head, Voice},
};
use crate::support::{
    BoxStream,
    h2_raw::{Frame, PREFACE, flag, hpack, kind, read_frame},
    hpack::Decoder,
};

/// What does not belong on a connection, whatever the row expects.
pub type Faults = Arc<Mutex<Vec<String>>>;

/// No test sends so much that a window has to be moved.
const WINDOW: u32 = 1 << 30;
const INITIAL_WINDOW: i64 = 65_535;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME: usize = 16 * 1024;
const NO_ERROR: u32 = 0;

/// What the other side allows to be sent.
#[derive(Debug)]
struct Windows {
    connection: i64,
    initial: i64,
    /// Relative to `initial`.
    streams: BTreeMap<u32, i64>,
}

/// One connection.
pub struct H2Link {
    /// `None` once it was reset.
    writer: tokio::sync::Mutex<Option<WriteHalf<BoxStream>>>,
    socket: Mutex<Option<socket2::Socket>>,
    windows: watch::Sender<Windows>,
    streams: Mutex<BTreeMap<u32, Ear>>,
    /// The last stream and the code of a GOAWAY.
    goaway: Mutex<Option<(u32, u32)>>,
    ended: watch::Sender<bool>,
    faults: Faults,
    reader: Mutex<Option<AbortHandle>>,
}

impl Drop for H2Link {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.lock().take() {
            reader.abort();
        }
    }
}

impl H2Link {
    /// The client's end.
    pub async fn client(stream: BoxStream, socket: socket2::Socket, faults: Faults) -> io::Result<Arc<Self>> {
        Self::start(stream, socket, faults, None, PREFACE).await
    }

    /// The server's end. Each request is told when its head is there.
    pub async fn server(
        mut stream: BoxStream,
        socket: socket2::Socket,
        faults: Faults,
        requests: mpsc::UnboundedSender<(u32, Ear)>,
    ) -> io::Result<Arc<Self>> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await?;
        if preface != PREFACE {
            faults.lock().push(format!("not HTTP/2: {:?}", String::from_utf8_lossy(&preface)));
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::start(stream, socket, faults, Some(requests), b"").await
    }

    async fn start(
        stream: BoxStream,
        socket: socket2::Socket,
        faults: Faults,
        requests: Option<mpsc::UnboundedSender<(u32, Ear)>>,
        first: &[u8],
    ) -> io::Result<Arc<Self>> {
        let (reader, mut writer) = tokio::io::split(stream);
        let settings = Frame::settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, WINDOW)]);
        let window = Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, (WINDOW - INITIAL_WINDOW as u32).to_be_bytes());
        writer.write_all(&[first, &settings.bytes(), &window.bytes()].concat()).await?;
        writer.flush().await?;
        let windows = Windows { connection: INITIAL_WINDOW, initial: INITIAL_WINDOW, streams: BTreeMap::new() };
        let link = Arc::new(Self {
            writer: tokio::sync::Mutex::new(Some(writer)),
            socket: Mutex::new(Some(socket)),
            windows: watch::Sender::new(windows),
            streams: Mutex::default(),
            goaway: Mutex::default(),
            ended: watch::Sender::new(false),
            faults,
            reader: Mutex::default(),
        });
        let task = tokio::spawn(read(Arc::downgrade(&link), reader, requests));
        *link.reader.lock() = Some(task.abort_handle());
        Ok(link)
    }

    /// A stream whose messages are heard here.
    pub fn open(&self, stream: u32) -> Ear {
        self.streams.lock().entry(stream).or_default().clone()
    }
    /// Waits for the end of the connection.
    pub async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
    /// May another request be made on it?
    pub fn is_open(&self) -> bool {
        !*self.ended.borrow() && self.goaway.lock().is_none()
    }

    pub async fn send(&self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writer.write_all(&bytes).await?;
        writer.flush().await
    }

    /// Takes so many bytes of the window, or fewer.
    async fn window(&self, stream: u32, wanted: usize) -> io::Result<usize> {
        let left = |windows: &Windows| {
            let stream = windows.initial + windows.streams.get(&stream).copied().unwrap_or_default();
            windows.connection.min(stream)
        };
        let mut windows = self.windows.subscribe();
        let mut ended = self.ended.subscribe();
        loop {
            let mut taken = 0;
            self.windows.send_if_modified(|windows| {
                taken = left(windows).clamp(0, wanted as i64);
                windows.connection -= taken;
                *windows.streams.entry(stream).or_default() -= taken;
                false
            });
            if taken > 0 {
                return Ok(taken as usize);
            }
            tokio::select! {
                moved = windows.wait_for(|windows| left(windows) > 0) => drop(moved),
                _ = ended.wait_for(|ended| *ended) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn fault(&self, text: String) {
        self.faults.lock().push(text);
    }

    /// Ends the connection with a reset, or in order.
    pub async fn close(&self, reset: bool) -> io::Result<()> {
        if !reset {
            return match self.writer.lock().await.as_mut() {
                Some(writer) => writer.shutdown().await,
                None => Ok(()),
            };
        }
        let socket = self.socket.lock().take();
        if let Some(socket) = socket {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(reader) = self.reader.lock().take() {
            reader.abort();
        }
        drop(self.writer.lock().await.take());
        self.ended.send_replace(true);
        Ok(())
    }

    fn over(&self, why: &str) {
        for ear in self.streams.lock().values() {
            ear.end(End::Cut(why.to_owned()));
            ear.hear(|heard| heard.gone = true);
        }
        self.ended.send_replace(true);
    }
}

/// The side of a connection that reads.
struct Reading {
    decoder: Decoder,
    /// The stream, the flags and the bytes of a header block that is not complete.
    block: Option<(u32, u8, Vec<u8>)>,
    requests: Option<mpsc::UnboundedSender<(u32, Ear)>>,
}

async fn read(link: std::sync::Weak<H2Link>, mut half: ReadHalf<BoxStream>, requests: Option<mpsc::UnboundedSender<(u32, Ear)>>) {
    let mut reading = Reading { decoder: Decoder::default(), block: None, requests };
    loop {
        let frame = read_frame(&mut half).await;
        let Some(link) = link.upgrade() else { return };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return link.over("a close"),
            Err(error) => return link.over(&format!("{:?}", error.kind())),
        };
        match reading.take(&link, frame) {
            Ok(None) => {}
            Ok(Some(reply)) => drop(link.send(&[reply]).await),
            Err(fault) => {
                link.fault(fault.clone());
                return link.over(&fault);
            }
        }
    }
}

impl Reading {
    /// Takes a frame in, and answers the frame that it calls for.
    fn take(&mut self, link: &H2Link, frame: Frame) -> Result<Option<Frame>, String> {
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            return Err(format!("within a header block: {frame:?}"));
        }
        let word = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).ok_or_else(|| format!("too short: {frame:?}"))?;
            Ok::<u32, String>(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
        };
        match frame.kind {
            kind::SETTINGS if frame.flags & flag::ACK == 0 => {
                for setting in frame.payload.chunks(6) {
                    if setting[..2] == SETTINGS_INITIAL_WINDOW_SIZE.to_be_bytes() {
                        let initial = u32::from_be_bytes(setting[2..6].try_into().expect("four bytes"));
                        link.windows.send_modify(|windows| windows.initial = initial.into());
                    }
                }
                return Ok(Some(Frame::new(kind::SETTINGS, flag::ACK, 0, [])));
            }
            kind::PING if frame.flags & flag::ACK == 0 => {
                return Ok(Some(Frame::new(kind::PING, flag::ACK, 0, &frame.payload)));
            }
            kind::WINDOW_UPDATE => {
                let more = i64::from(word(0)?);
                link.windows.send_modify(|windows| match frame.stream {
                    0 => windows.connection += more,
                    stream => *windows.streams.entry(stream).or_default() += more,
                });
            }
            kind::GOAWAY => *link.goaway.lock() = Some((word(0)?, word(4)?)),
            kind::RST_STREAM => {
                let (ear, code) = (link.open(frame.stream), word(0)?);
                ear.hear(|heard| heard.reset = Some(code));
                ear.end(End::Cut(format!("RST_STREAM {code}")));
            }
            kind::HEADERS => {
                let mut payload = unpadded(&frame)?;
                if frame.flags & flag::PRIORITY != 0 {
                    payload = payload.split_off(5);
                }
                self.block = Some((frame.stream, frame.flags, payload));
                if frame.flags & flag::END_HEADERS != 0 {
                    self.fields(link)?;
                }
            }
            kind::CONTINUATION => {
                let block = self.block.as_mut().filter(|block| block.0 == frame.stream);
                block.ok_or("a CONTINUATION of nothing")?.2.extend(&frame.payload);
                if frame.flags & flag::END_HEADERS != 0 {
                    self.fields(link)?;
                }
            }
            kind::DATA => {
                let ear = link.open(frame.stream);
                let bytes = unpadded(&frame)?;
                let heard = ear.now();
                if heard.framing.is_none() || heard.is_whole() || !heard.trailers.is_empty() {
                    return Err(format!("DATA where there is none, on stream {}", frame.stream));
                }
                ear.hear(|heard| heard.body.extend(bytes));
                if frame.flags & flag::END_STREAM != 0 {
                    whole(&ear)?;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// A complete header block.
    fn fields(&mut self, link: &H2Link) -> Result<(), String> {
        let Some((stream, flags, block)) = self.block.take() else { return Ok(()) };
        let fields = self.decoder.decode(&block)?;
        let (ear, last) = (link.open(stream), flags & flag::END_STREAM != 0);
        let heard = ear.now();
        if heard.is_whole() {
            return Err(format!("fields after the end of stream {stream}: {fields:?}"));
        }
        match (&self.requests, heard.framing) {
            (_, Some(_)) => {
                if !last || fields.iter().any(|(name, _)| name.starts_with(':')) {
                    return Err(format!("no trailers: {fields:?}"));
                }
                ear.hear(|heard| heard.trailers = fields);
            }
            (Some(requests), None) => {
                request(fields, last, &ear)?;
                let _ = requests.send((stream, ear.clone()));
            }
            (None, None) => response(fields, last, &ear)?,
        }
        if last { whole(&ear) } else { Ok(()) }
    }
}

fn unpadded(frame: &Frame) -> Result<Vec<u8>, String> {
    let mut payload = frame.payload.clone();
    if frame.flags & flag::PADDED != 0 {
        let padding = usize::from(*payload.first().ok_or("no padding")?);
        let end = payload.len().checked_sub(padding).filter(|end| *end > 0).ok_or("too much padding")?;
        payload = payload[1..end].to_vec();
    }
    Ok(payload)
}

/// The message is complete: is it what its head promised?
pub(super) fn whole(ear: &Ear) -> Result<(), String> {
    let heard = ear.now();
    ear.end(End::Whole);
    match heard.framing {
        Some(Framing::Length(_)) if heard.to_head && heard.body.is_empty() => Ok(()),
        Some(Framing::Length(length)) if length != heard.body.len() => {
            Err(format!("{} bytes of {length}: {:?}", heard.body.len(), heard.fields))
        }
        _ => Ok(()),
    }
}

/// Splits off the pseudo-header fields, which are first, and each once.
fn pseudo(fields: Fields, names: &[&str]) -> Result<(Vec<String>, Fields), String> {
    const NEVER: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let count = fields.iter().take_while(|(name, _)| name.starts_with(':')).count();
    let (special, rest) = fields.split_at(count);
    let bad = |(name, _): &(String, String)| {
        name.starts_with(':') || name.bytes().any(|byte| byte.is_ascii_uppercase()) || NEVER.contains(&name.as_str())
    };
    let value = |wanted: &&str| special.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let values: Option<Vec<String>> = names.iter().map(value).collect();
    match values {
        Some(values) if count == names.len() && !rest.iter().any(bad) => Ok((values, rest.to_vec())),
        _ => Err(format!("no head: {fields:?}")),
    }
}

fn length(fields: &Fields) -> Result<Option<Framing>, String> {
    let lengths: Vec<&String> = fields.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value).collect();
    match lengths[..] {
        [] => Ok(None),
        [length] => length.parse().map(|length| Some(Framing::Length(length))).map_err(|_| format!("length {length:?}")),
        _ => Err(format!("lengths {lengths:?}")),
    }
}

fn request(fields: Fields, last: bool, ear: &Ear) -> Result<(), String> {
    let (values, fields) = pseudo(fields, &[":method", ":path", ":scheme", ":authority"])?;
    let framing = length(&fields)?.unwrap_or(if last { Framing::None } else { Framing::Open });
    ear.hear(|heard| {
        (heard.method, heard.target, heard.fields) = (values[0].clone(), values[1].clone(), fields);
        heard.framing = Some(framing);
    });
    Ok(())
}

pub(super) fn response(fields: Fields, last: bool, ear: &Ear) -> Result<(), String> {
    let (values, fields) = pseudo(fields, &[":status"])?;
    let status: u16 = values[0].parse().map_err(|_| format!("status {:?}", values[0]))?;
    if (100..200).contains(&status) {
        if last {
            return Err(format!("a {status} that ends its stream"));
        }
        ear.hear(|heard| heard.interim.push((status, fields)));
        return Ok(());
    }
    // A length that is of another response, to HEAD or of a 304, comes with a head that is the end.
    let framing = match length(&fields)? {
        Some(Framing::Length(length)) if last && length > 0 => Framing::None,
        Some(framing) => framing,
        None if last => Framing::None,
        None => Framing::Open,
    };
    ear.hear(|heard| {
        (heard.status, heard.fields) = (status, fields);
        heard.framing = Some(framing);
    });
    Ok(())
}

/// Writes one message.
pub struct H2Voice {
    pub link: Arc<H2Link>,
    pub stream: u32,
    pub scheme: &'static str,
}

impl H2Voice {
    async fn fields(&self, first: &[(&str, &str)], fields: &Fields, last: bool) -> io::Result<()> {
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let block = hpack(&[first, &pairs].concat());
        let end = if last { flag::END_STREAM } else { flag::NONE };
        let mut pieces = block.chunks(MAX_FRAME).peekable();
        let (mut kind, mut flags, mut frames) = (kind::HEADERS, end, Vec::new());
        while let Some(piece) = pieces.next() {
            let more = if pieces.peek().is_some() { flag::NONE } else { flag::END_HEADERS };
            frames.push(Frame::new(kind, flags | more, self.stream, piece));
            (kind, flags) = (kind::CONTINUATION, flag::NONE);
        }
        self.link.send(&frames).await
    }
}

#[async_trait]
impl Voice for H2Voice {
    async fn interim(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.fields(&[(":status", &status.to_string())], fields, false).await
    }

    async fn head(&mut self, head: &Head, last: bool) -> io::Result<()> {
        let mut fields = head.fields.clone();
        if let Framing::Length(length) = head.framing {
            fields.push(("content-length".to_owned(), length.to_string()));
        }
        let status = head.status.to_string();
        let request = [(":method", head.method), (":scheme", self.scheme), (":authority", HOST), (":path", &head.path)];
        let response = [(":status", status.as_str())];
        let first: &[(&str, &str)] = if head.status == 0 { &request } else { &response };
        self.fields(first, &fields, last).await
    }

    async fn data(&mut self, bytes: &[u8], last: bool, padding: Option<u8>) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let cost = padding.map_or(0, |padding| usize::from(padding) + 1);
            let wanted = rest.len().min(MAX_FRAME - 256) + cost;
            // What does not fit into the window with its padding goes in two frames, as far as the tests go.
            let count = if wanted == 0 { 0 } else { self.link.window(self.stream, wanted).await? };
            let (piece, left) = rest.split_at(count.saturating_sub(cost));
            rest = left;
            let (mut flags, mut payload) = (flag::NONE, piece.to_vec());
            if let Some(padding) = padding {
                flags |= flag::PADDED;
                payload = [&[padding], piece, &vec![0; usize::from(padding)]].concat();
            }
            if last && rest.is_empty() {
                flags |= flag::END_STREAM;
            }
            self.link.send(&[Frame::new(kind::DATA, flags, self.stream, payload)]).await?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    async fn trailers(&mut self, fields: &Fields) -> io::Result<()> {
        self.fields(&[], fields, true).await
    }

    async fn end(&mut self) -> io::Result<()> {
        self.data(b"", true, None).await
    }

    async fn raw(&mut self, _: &[u8], frames: &[Frame]) -> io::Result<()> {
        let of_stream = |frame: &Frame| match frame.kind {
            kind::GOAWAY | kind::SETTINGS | kind::PING => frame.clone(),
            _ => Frame { stream: self.stream, ..frame.clone() },
        };
        self.link.send(&frames.iter().map(of_stream).collect::<Vec<_>>()).await
    }

    async fn break_off(&mut self, how: Break) -> io::Result<()> {
        if how != Break::Silence {
            // What still comes of the other message is not waited for.
            self.link.open(self.stream).end(End::Cut("this side's own end".to_owned()));
        }
        match how {
            Break::Reset(code) => self.link.send(&[Frame::rst(self.stream, code)]).await,
            Break::Close => self.link.close(false).await,
            Break::Cut => self.link.close(true).await,
            Break::GoAway => {
                let last = self.stream.saturating_sub(2);
                let payload = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
                self.link.send(&[Frame::new(kind::GOAWAY, flag::NONE, 0, payload)]).await?;
                self.link.close(false).await
            }
            Break::Silence => Ok(()),
        }
    }
}
