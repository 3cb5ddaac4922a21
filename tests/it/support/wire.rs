//! HTTP/1.1 messages as bytes: read without any of the tolerance or the rewriting of an HTTP library.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Header fields in order, names as they were spelled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of the first field with this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
    /// The values of all fields with this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }
    /// The names, as spelled.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A request as it arrived at an origin.
#[derive(Debug, Clone)]
pub struct RawRequest {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Headers,
    /// The content, without its framing.
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// Every byte of it.
    pub raw: Vec<u8>,
    /// Which of the origin's connections it came on, from 0.
    pub connection: usize,
}

impl RawRequest {
    /// The value of the first field with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// The header block as text, with the empty line that ends it.
    pub fn head(&self) -> String {
        let end = find_head_end(&self.raw).unwrap_or(self.raw.len());
        String::from_utf8_lossy(&self.raw[..end]).into_owned()
    }
}

/// A response as it arrived at a client.
#[derive(Debug, Clone)]
pub struct RawResponse {
    pub status: u16,
    pub version: String,
    pub reason: String,
    pub headers: Headers,
    /// The content, without its framing.
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// Every byte of it.
    pub raw: Vec<u8>,
    /// The statuses of the interim responses (1xx) before it.
    pub interim: Vec<u16>,
}

impl RawResponse {
    /// The value of the first field with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text()))
    }
}

/// The first line and the fields of a message.
#[derive(Debug, Clone)]
pub struct Head {
    pub start: String,
    pub headers: Headers,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// Of a request with these fields.
    pub fn of_request(headers: &Headers) -> Self {
        Self::declared(headers).unwrap_or(Self::None)
    }
    /// Of a response to a request that was HEAD or not.
    pub fn of_response(status: u16, headers: &Headers, head_request: bool) -> Self {
        let declared = Self::declared(headers);
        if head_request || status < 200 || status == 204 || status == 304 {
            return Self::None;
        }
        declared.unwrap_or(Self::UntilClose)
    }
    fn declared(headers: &Headers) -> Option<Self> {
        let length = headers.get("content-length").and_then(|value| value.trim().parse().ok()).map(Self::Length);
        if headers.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked")) {
            // RFC 9112 section 6.2: who reads the one and who reads the other disagree about where the next message begins.
            assert_eq!(length, None, "a body with two lengths: {headers:?}");
            return Some(Self::Chunked);
        }
        length
    }
}

fn find_head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// A stream with what was read from it and not used yet.
pub struct Wire<S> {
    pub stream: S,
    buffer: Vec<u8>,
    /// Bytes of the message that is being read.
    message: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), message: Vec::new() }
    }

    /// Reads once; 0 at the end of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece).await?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// What was read and not used.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes what was read and not used.
    pub fn take_pending(&mut self) -> Vec<u8> {
        self.take(self.buffer.len())
    }

    /// The bytes of the message that is being, or has just been, read.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    async fn need(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => {
                let seen = String::from_utf8_lossy(&self.buffer);
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed in the middle of a message, after {seen:?}")))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken: Vec<u8> = self.buffer.drain(..count).collect();
        self.message.extend_from_slice(&taken);
        taken
    }

    /// Exactly `count` bytes, whatever they are.
    pub async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.need().await?;
        }
        Ok(self.take(count))
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let mut line = self.take(at + 2);
                line.truncate(at);
                return Ok(line);
            }
            self.need().await?;
        }
    }

    /// The head of the next message; `None` when the stream ended before its first byte.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        self.message.clear();
        let end = loop {
            if let Some(end) = find_head_end(&self.buffer) {
                break end;
            }
            if self.buffer.is_empty() {
                if self.fill().await? == 0 {
                    return Ok(None);
                }
            } else {
                self.need().await?;
            }
        };
        let block = String::from_utf8_lossy(&self.take(end)).into_owned();
        let (start, fields) = block.split_once("\r\n").ok_or_else(|| broken("no first line"))?;
        Ok(Some(Head { start: start.to_owned(), headers: parse_fields(fields)? }))
    }

    /// The content and the trailers.
    pub async fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, Headers)> {
        match framing {
            Framing::None => Ok(Default::default()),
            Framing::Length(length) => Ok((self.exactly(length).await?, Headers::default())),
            Framing::UntilClose => Ok((self.rest().await?, Headers::default())),
            Framing::Chunked => self.chunks().await,
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(self.take(self.buffer.len()))
    }

    async fn chunks(&mut self) -> io::Result<(Vec<u8>, Headers)> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.line().await?).into_owned();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| broken(format!("bad chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await?);
            if self.exactly(2).await? != b"\r\n" {
                return Err(broken("a chunk does not end with CRLF"));
            }
        }
        let mut trailers = Headers::default();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok((body, trailers));
            }
            trailers.0.extend(parse_fields(&String::from_utf8_lossy(&line))?.0);
        }
    }

    /// The next request; `None` when the stream ended before its first byte. `continues` is written after the head.
    pub async fn request(&mut self, connection: usize, read_body: bool, continues: &[u8]) -> io::Result<Option<RawRequest>> {
        let Some(Head { start, headers }) = self.head().await? else { return Ok(None) };
        let mut words = start.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().ok_or_else(|| broken(format!("not a request line: {start:?}")));
        let (method, target, version) = (word()?, word()?, word()?);
        if headers.get("expect").is_some() && !continues.is_empty() {
            self.stream.write_all(continues).await?;
        }
        let framing = if read_body { Framing::of_request(&headers) } else { Framing::None };
        let (body, trailers) = self.body(framing).await?;
        Ok(Some(RawRequest { method, target, version, headers, body, trailers, raw: self.message.clone(), connection }))
    }

    /// The next response after any interim ones (101 is final); `None` when the stream ended before its first byte.
    pub async fn response(&mut self, head_request: bool) -> io::Result<Option<RawResponse>> {
        let mut interim = Vec::new();
        loop {
            let Some(Head { start, headers }) = self.head().await? else { return Ok(None) };
            let mut words = start.splitn(3, ' ');
            let version = words.next().unwrap_or_default().to_owned();
            let status = words.next().and_then(|code| code.parse().ok());
            let status = status.ok_or_else(|| broken(format!("not a status line: {start:?}")))?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let reason = words.next().unwrap_or_default().to_owned();
            let (body, trailers) = self.body(Framing::of_response(status, &headers, head_request)).await?;
            let raw = self.message.clone();
            return Ok(Some(RawResponse { status, version, reason, headers, body, trailers, raw, interim }));
        }
    }
}

fn parse_fields(block: &str) -> io::Result<Headers> {
    let lines = block.split("\r\n").filter(|line| !line.is_empty());
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| broken(format!("not a field: {line:?}")))?;
        Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
    };
    lines.map(field).collect::<io::Result<_>>().map(Headers)
}
