//! HTTP/3 frame by frame: for floods, broken frames, and everything that a library refuses to send.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt,
    crypto::rustls::QuicClientConfig,
};

use super::{certs::Tls, hpack::Fields, qpack, within};

/// Frame types (RFC 9114, section 7.2).
pub mod kind {
    pub const DATA: u64 = 0;
    pub const HEADERS: u64 = 1;
    pub const CANCEL_PUSH: u64 = 3;
    pub const SETTINGS: u64 = 4;
    pub const PUSH_PROMISE: u64 = 5;
    pub const GOAWAY: u64 = 7;
    pub const MAX_PUSH_ID: u64 = 0xd;
    /// One of those that mean nothing, and of streams that mean nothing.
    pub const RESERVED: u64 = 0x21;
}

/// What a stream in one direction is for (RFC 9114, section 6.2, and RFC 9204, section 4.2).
pub mod purpose {
    pub const CONTROL: u64 = 0;
    pub const PUSH: u64 = 1;
    pub const ENCODER: u64 = 2;
    pub const DECODER: u64 = 3;
}

/// Error codes (RFC 9114, section 8.1, and RFC 9204, section 6).
pub mod code {
    pub const NO_ERROR: u64 = 0x100;
    pub const GENERAL_PROTOCOL_ERROR: u64 = 0x101;
    pub const INTERNAL_ERROR: u64 = 0x102;
    pub const STREAM_CREATION_ERROR: u64 = 0x103;
    pub const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    pub const FRAME_ERROR: u64 = 0x106;
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    pub const ID_ERROR: u64 = 0x108;
    pub const SETTINGS_ERROR: u64 = 0x109;
    pub const MISSING_SETTINGS: u64 = 0x10a;
    pub const REQUEST_REJECTED: u64 = 0x10b;
    pub const REQUEST_CANCELLED: u64 = 0x10c;
    pub const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub const MESSAGE_ERROR: u64 = 0x10e;
    pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
}

/// A number of variable length (RFC 9000, section 16), in as few bytes as it needs.
pub fn number(value: u64) -> Vec<u8> {
    let (size, mark) = match value {
        ..=0x3f => (1, 0),
        0x40..=0x3fff => (2, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (8, 0xc0),
    };
    let mut bytes = value.to_be_bytes()[8 - size..].to_vec();
    bytes[0] |= mark;
    bytes
}

/// Takes the number at the beginning, when all of it is there.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    *bytes = rest;
    Some(number[1..].iter().fold(u64::from(first & 0x3f), |sum, byte| sum << 8 | u64::from(*byte)))
}

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).expect("a number below 2^62")
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u64,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u64, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, payload: payload.as_ref().to_vec() }
    }
    /// DATA.
    pub fn data(bytes: impl AsRef<[u8]>) -> Self {
        Self::new(kind::DATA, bytes)
    }
    /// HEADERS with these fields.
    pub fn headers(fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, qpack::encode(fields))
    }
    /// SETTINGS with these values.
    pub fn settings(values: &[(u64, u64)]) -> Self {
        let payload: Vec<u8> = values.iter().flat_map(|(id, value)| [number(*id), number(*value)].concat()).collect();
        Self::new(kind::SETTINGS, payload)
    }
    /// The fields of HEADERS.
    pub fn fields(&self) -> Result<Fields, String> {
        qpack::decode(&self.payload)
    }
    /// The numbers that it is made of: the stream of a GOAWAY, the names and values of SETTINGS.
    pub fn numbers(&self) -> Vec<u64> {
        let mut payload = &self.payload[..];
        std::iter::from_fn(|| take_number(&mut payload)).collect()
    }
    /// As on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        [&number(self.kind)[..], &number(self.payload.len() as u64), &self.payload].concat()
    }
    /// The first frame of these bytes, and how many it has.
    fn first(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let (kind, length) = (take_number(&mut rest)?, take_number(&mut rest)?);
        let payload = rest.get(..usize::try_from(length).ok()?)?;
        Some((Self::new(kind, payload), bytes.len() - rest.len() + payload.len()))
    }
}

/// Why a stream did not end in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// RESET_STREAM with this code.
    Reset(u64),
    /// It ended within a frame.
    Truncated,
    /// Something else came than belongs there.
    Malformed(String),
    /// The connection is over.
    Lost(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "RESET_STREAM {code:#x}"),
            Self::Truncated => write!(f, "a stream that ends within a frame"),
            Self::Malformed(why) | Self::Lost(why) => write!(f, "{why}"),
        }
    }
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            error => Self::Lost(error.to_string()),
        }
    }
}

/// A response that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The statuses of informational responses.
    pub interim: Vec<u16>,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

impl Answer {
    /// The value of the first field with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What goes to the other side on a stream. Dropped, it ends in order.
pub struct Writer(SendStream);

impl Writer {
    /// Sends these bytes.
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        Ok(within("bytes to be taken by a stream", self.0.write_all(bytes)).await?)
    }
    /// Sends these frames.
    pub async fn frames(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.bytes(&bytes).await
    }
    /// Ends the stream.
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.finish().map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
    /// Resets the stream, unless it is over.
    pub fn reset(&mut self, code: u64) {
        let _ = self.0.reset(varint(code));
    }
    /// Waits until the other side has all of it or wants no more: with this code.
    pub async fn taken(&self) -> Option<u64> {
        let taken = within("the other side to take a stream", self.0.stopped()).await;
        taken.ok().flatten().map(VarInt::into_inner)
    }
}

/// What comes from the other side on a stream. Dropped, nobody wants it.
pub struct Reader {
    stream: RecvStream,
    /// What was read, and is no whole frame.
    ahead: Vec<u8>,
}

impl Reader {
    /// More of the stream, or its end.
    async fn fill(&mut self) -> Result<bool, Broken> {
        let chunk = self.stream.read_chunk(usize::MAX, true).await?;
        self.ahead.extend(chunk.iter().flat_map(|chunk| &chunk.bytes[..]));
        Ok(chunk.is_some())
    }
    /// The next frame; `None` when the stream has ended. Not bounded: whoever waits for what it says is.
    pub async fn next(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            if let Some((frame, used)) = Frame::first(&self.ahead) {
                self.ahead.drain(..used);
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.ahead.is_empty() { Ok(None) } else { Err(Broken::Truncated) };
            }
        }
    }
    /// The same.
    pub async fn frame(&mut self) -> Result<Option<Frame>, Broken> {
        within("a frame", self.next()).await
    }
    /// What a stream in one direction begins with. Not bounded.
    async fn purpose(&mut self) -> Result<u64, Broken> {
        loop {
            let mut rest = &self.ahead[..];
            if let Some(purpose) = take_number(&mut rest) {
                self.ahead = rest.to_vec();
                return Ok(purpose);
            }
            if !self.fill().await? {
                return Err(Broken::Truncated);
            }
        }
    }
    /// All bytes to the end. Not bounded.
    pub async fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        while self.fill().await? {}
        Ok(std::mem::take(&mut self.ahead))
    }
    /// A response to its end.
    pub async fn answer(&mut self) -> Result<Answer, Broken> {
        let mut answer = Answer::default();
        while let Some(frame) = self.frame().await? {
            match frame.kind {
                kind::DATA if answer.status > 0 => answer.body.extend(&frame.payload),
                kind::HEADERS if answer.status == 0 => {
                    let fields = frame.fields().map_err(Broken::Malformed)?;
                    let status = fields.iter().find(|(name, _)| name == ":status").and_then(|(_, status)| status.parse().ok());
                    match status.ok_or_else(|| Broken::Malformed(format!("no status: {fields:?}")))? {
                        interim @ 100..200 => answer.interim.push(interim),
                        status => (answer.status, answer.fields) = (status, fields),
                    }
                }
                kind::HEADERS => answer.trailers = frame.fields().map_err(Broken::Malformed)?,
                kind => return Err(Broken::Malformed(format!("a frame of type {kind:#x}"))),
            }
        }
        if answer.status == 0 { Err(Broken::Malformed("no response".to_owned())) } else { Ok(answer) }
    }
    /// Wants no more of it.
    pub fn stop(&mut self, code: u64) {
        let _ = self.stream.stop(varint(code));
    }
}

/// Streams of the other side in one direction.
pub struct OneWay(Connection);

impl OneWay {
    /// The next one, and what it is for. Not bounded.
    pub async fn next(&self) -> Result<(u64, Reader), Broken> {
        let stream = self.0.accept_uni().await.map_err(|error| Broken::Lost(error.to_string()))?;
        let mut reader = Reader { stream, ahead: Vec::new() };
        Ok((reader.purpose().await?, reader))
    }
}

/// A connection on which the test writes every frame itself.
pub struct RawH3 {
    connection: Connection,
    /// The control stream and those of QPACK, once they are open: they must not end before the connection.
    pub critical: Vec<Writer>,
}

impl RawH3 {
    /// Connects from this address; nothing is sent yet.
    pub async fn connect(from: Ipv4Addr, edge: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let endpoint = Endpoint::client((from, 0).into())?;
        let crypto = QuicClientConfig::try_from(tls.clone().alpn("h3").config()).map_err(io::Error::other)?;
        let config = ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint.connect_with(config, edge, &tls.server_name().to_str()).map_err(io::Error::other)?;
        let connection = within(&format!("a connection of QUIC to {edge}"), connecting).await?;
        Ok(Self { connection, critical: Vec::new() })
    }

    /// Opens the control stream with these settings, and the streams of QPACK.
    pub async fn begin(&mut self, settings: &[(u64, u64)]) -> io::Result<()> {
        let mut control = self.open_one_way(purpose::CONTROL).await?;
        control.frames(&[Frame::settings(settings)]).await?;
        self.critical = vec![control];
        for purpose in [purpose::ENCODER, purpose::DECODER] {
            self.critical.push(self.open_one_way(purpose).await?);
        }
        Ok(())
    }

    /// Opens a stream for a request.
    pub async fn open(&self) -> io::Result<(Writer, Reader)> {
        let (send, stream) = within("a stream", self.connection.open_bi()).await?;
        Ok((Writer(send), Reader { stream, ahead: Vec::new() }))
    }

    /// Opens a stream in one direction.
    pub async fn open_one_way(&self, purpose: u64) -> io::Result<Writer> {
        let mut writer = Writer(within("a stream in one direction", self.connection.open_uni()).await?);
        writer.bytes(&number(purpose)).await?;
        Ok(writer)
    }

    /// Sends a request that is whole with its head, and reads the response.
    pub async fn ask(&self, fields: &[(&str, &str)]) -> Result<Answer, Broken> {
        let lost = |error: io::Error| Broken::Lost(error.to_string());
        let (mut writer, mut reader) = self.open().await.map_err(lost)?;
        writer.frames(&[Frame::headers(fields)]).await.map_err(lost)?;
        writer.finish().map_err(lost)?;
        reader.answer().await
    }

    /// The streams in one direction that the other side opens.
    pub fn one_way(&self) -> OneWay {
        OneWay(self.connection.clone())
    }

    /// Waits until the other side has all that was sent before: what ends streams is sent ahead of what is on them.
    pub async fn settle(&self) {
        if let Ok(mut writer) = self.open_one_way(kind::RESERVED).await {
            let _ = writer.finish();
            writer.taken().await;
        }
    }

    /// Closes the connection.
    pub fn close(&self, code: u64) {
        self.connection.close(varint(code), b"");
    }

    /// Is it over?
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Waits for the end of the connection. Not bounded.
    pub fn ended(&self) -> impl Future<Output = ConnectionError> + Send + 'static {
        let connection = self.connection.clone();
        async move { connection.closed().await }
    }

    /// The code with which the other side closes the connection; `None` when it does not end in the way of HTTP.
    pub async fn closed(&self) -> Option<u64> {
        match within("the end of a connection", self.ended()).await {
            ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

#[test]
fn rfc9000_a_1_numbers_of_variable_length() {
    let cases =
        [(37, &[0x25][..]), (15_293, &[0x7b, 0xbd]), (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]), (63, &[63]), (64, &[0x40, 64])];
    for (value, bytes) in cases {
        assert_eq!(number(value), bytes);
        let mut rest = bytes;
        assert_eq!((take_number(&mut rest), rest), (Some(value), &[][..]));
        assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
    }
}
