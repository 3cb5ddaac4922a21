//! HTTP/1: a reader without any tolerance, and what writes a script as bytes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::message::{Break, Ear, End, Fields, Framing, Head, Voice};
use crate::support::{BoxStream, h2_raw::Frame};

/// The host that every request asks for.
pub const HOST: &str = "parity.test";

/// Why reading ended before the end of a message.
#[derive(Debug)]
pub enum Trouble {
    /// The connection ended: in order or not.
    Ended(String),
    /// What came is not HTTP/1.1 as RFC 9112 has it.
    Broken(String),
}

impl Trouble {
    pub fn text(self) -> String {
        match self {
            Self::Ended(text) | Self::Broken(text) => text,
        }
    }
}

/// Reads messages from one connection.
pub struct Reader {
    half: ReadHalf<BoxStream>,
    ahead: Vec<u8>,
}

impl Reader {
    pub fn new(half: ReadHalf<BoxStream>) -> Self {
        Self { half, ahead: Vec::new() }
    }
    /// What was read and belongs to no message yet.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }
    /// Reads whatever comes next; 0 at the end of the connection.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = self.half.read(&mut bytes).await?;
        self.ahead.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    async fn need(&mut self) -> Result<(), Trouble> {
        let ended = match self.fill().await {
            Ok(0) => "a close".to_owned(),
            Ok(_) => return Ok(()),
            Err(error) => format!("{:?}", error.kind()),
        };
        Err(Trouble::Ended(format!("{ended} after {:?}", String::from_utf8_lossy(&self.ahead))))
    }
    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Trouble> {
        while self.ahead.len() < count {
            self.need().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }
    /// A line without its CR LF; a CR or an LF alone is none.
    async fn line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.ahead.drain(..=at).collect::<Vec<u8>>()).into_owned();
                return match line.strip_suffix("\r\n") {
                    Some(line) if !line.contains('\r') => Ok(line.to_owned()),
                    _ => Err(Trouble::Broken(format!("a line that ends otherwise than with CR LF: {line:?}"))),
                };
            }
            self.need().await?;
        }
    }
    async fn fields(&mut self) -> Result<Fields, Trouble> {
        let mut fields = Fields::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let broken = || Trouble::Broken(format!("not a field: {line:?}"));
            let (name, value) = line.split_once(':').ok_or_else(broken)?;
            if name.is_empty() || !name.bytes().all(is_tchar) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
                return Err(broken());
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }
    /// The first line and the fields of a message; `None` when the connection ends before it.
    pub async fn head(&mut self) -> Result<Option<(String, Fields)>, Trouble> {
        if self.ahead.is_empty() {
            match self.fill().await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(Trouble::Ended(format!("{:?}", error.kind()))),
            }
        }
        Ok(Some((self.line().await?, self.fields().await?)))
    }
    /// The content, told as it comes, and its end.
    pub async fn body(&mut self, framing: Framing, ear: &Ear) -> Result<(), Trouble> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.content(length, ear).await?,
            Framing::Open => self.chunks(ear).await?,
            Framing::Close => loop {
                let piece = std::mem::take(&mut self.ahead);
                ear.hear(|heard| heard.body.extend(piece));
                match self.fill().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => return Err(Trouble::Ended(format!("{:?}", error.kind()))),
                }
            },
        }
        ear.end(End::Whole);
        Ok(())
    }
    async fn content(&mut self, mut left: usize, ear: &Ear) -> Result<(), Trouble> {
        while left > 0 {
            if self.ahead.is_empty() {
                self.need().await?;
            }
            let count = left.min(self.ahead.len());
            let piece: Vec<u8> = self.ahead.drain(..count).collect();
            ear.hear(|heard| heard.body.extend(piece));
            left -= count;
        }
        Ok(())
    }
    async fn chunks(&mut self, ear: &Ear) -> Result<(), Trouble> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(&line, 16).ok().filter(|_| !line.starts_with('+'));
            let size = size.ok_or_else(|| Trouble::Broken(format!("not the size of a chunk: {line:?}")))?;
            if size == 0 {
                let trailers = self.fields().await?;
                ear.hear(|heard| heard.trailers = trailers);
                return Ok(());
            }
            self.content(size, ear).await?;
            if self.exactly(2).await? != b"\r\n" {
                return Err(Trouble::Broken("a chunk that is longer than its size".to_owned()));
            }
        }
    }
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the fields say of the content, if they contradict neither each other nor RFC 9112 section 6.
pub fn declared(fields: &Fields) -> Result<Option<Framing>, Trouble> {
    let values = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str()).collect()
    };
    let broken = || Trouble::Broken(format!("framing: {fields:?}"));
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => Ok(None),
        (["chunked"], []) => Ok(Some(Framing::Open)),
        ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(|length| Some(Framing::Length(length))).map_err(|_| broken())
        }
        _ => Err(broken()),
    }
}

/// The request of a first line and fields: what of it is told at once.
pub fn request(line: &str, fields: Fields, ear: &Ear) -> Result<Framing, Trouble> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(Trouble::Broken(format!("not a request line: {line:?}")));
    };
    let hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
    if method.is_empty() || !method.bytes().all(is_tchar) || !target.starts_with('/') || hosts != 1 {
        return Err(Trouble::Broken(format!("not a request: {line:?} with {hosts} hosts")));
    }
    let framing = declared(&fields)?.unwrap_or(Framing::None);
    ear.hear(|heard| {
        (heard.method, heard.target, heard.fields) = (method.to_owned(), target.to_owned(), fields);
        heard.framing = Some(framing);
    });
    Ok(framing)
}

/// The same of a response; `None` when it is informational.
pub fn response(line: &str, fields: Fields, to_head: bool, ear: &Ear) -> Result<Option<Framing>, Trouble> {
    let broken = || Trouble::Broken(format!("not a status line: {line:?}"));
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(broken)?;
    let (code, _reason) = rest.split_once(' ').ok_or_else(broken)?;
    let status: u16 = code.parse().map_err(|_| broken())?;
    let declared = declared(&fields)?;
    if (100..200).contains(&status) {
        if declared.is_some() {
            return Err(Trouble::Broken(format!("a {status} with framing: {fields:?}")));
        }
        ear.hear(|heard| heard.interim.push((status, fields)));
        return Ok(None);
    }
    if status == 204 && declared.is_some() {
        return Err(Trouble::Broken(format!("a 204 with framing: {fields:?}")));
    }
    let none = to_head || matches!(status, 204 | 304);
    let framing = if none { Framing::None } else { declared.unwrap_or(Framing::Close) };
    ear.hear(|heard| {
        (heard.status, heard.fields) = (status, fields);
        heard.framing = Some(framing);
    });
    Ok(Some(framing))
}

/// Writes one side's messages.
pub struct H1Voice {
    half: WriteHalf<BoxStream>,
    socket: socket2::Socket,
    framing: Framing,
    /// What is left of the length that the head has promised.
    left: usize,
    /// The message on the wire is complete, whatever the script still has to do.
    pub said: Arc<AtomicBool>,
}

impl H1Voice {
    pub fn new(half: WriteHalf<BoxStream>, socket: socket2::Socket) -> Self {
        Self { half, socket, framing: Framing::None, left: 0, said: Arc::default() }
    }
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.half.write_all(bytes).await?;
        self.half.flush().await
    }
    async fn close(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }
}

fn lines(fields: &Fields) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

#[async_trait]
impl Voice for H1Voice {
    async fn interim(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.write(format!("HTTP/1.1 {status} Interim\r\n{}\r\n", lines(fields)).as_bytes()).await
    }

    async fn head(&mut self, head: &Head, last: bool) -> io::Result<()> {
        let version = if head.old { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut text = match head.status {
            0 => format!("{} {} {version}\r\nhost: {HOST}\r\n", head.method, head.path),
            status => format!("{version} {status} Status\r\n"),
        };
        text += &lines(&head.fields);
        match head.framing {
            Framing::Length(length) => text += &format!("content-length: {length}\r\n"),
            Framing::Open => text += "transfer-encoding: chunked\r\n",
            Framing::None | Framing::Close => {}
        }
        self.framing = head.framing;
        self.left = if let Framing::Length(length) = head.framing { length } else { 0 };
        self.said.store(last || head.framing == Framing::Length(0), Relaxed);
        self.write((text + "\r\n").as_bytes()).await?;
        if last && head.framing == Framing::Close { self.close().await } else { Ok(()) }
    }

    async fn data(&mut self, bytes: &[u8], last: bool, _: Option<u8>) -> io::Result<()> {
        let mut text = bytes.to_vec();
        if self.framing == Framing::Open && !bytes.is_empty() {
            text = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        }
        if last && self.framing == Framing::Open {
            text.extend(b"0\r\n\r\n");
        }
        self.left = self.left.saturating_sub(bytes.len());
        if last || self.left == 0 && matches!(self.framing, Framing::Length(_)) {
            self.said.store(true, Relaxed);
        }
        self.write(&text).await?;
        if last && self.framing == Framing::Close { self.close().await } else { Ok(()) }
    }

    async fn trailers(&mut self, fields: &Fields) -> io::Result<()> {
        self.said.store(true, Relaxed);
        match self.framing {
            Framing::Open => self.write(format!("0\r\n{}\r\n", lines(fields)).as_bytes()).await,
            _ => self.end().await,
        }
    }

    async fn end(&mut self) -> io::Result<()> {
        self.said.store(true, Relaxed);
        match self.framing {
            Framing::Open => self.write(b"0\r\n\r\n").await,
            Framing::Close => self.close().await,
            Framing::None | Framing::Length(_) => Ok(()),
        }
    }

    async fn raw(&mut self, h1: &[u8], _: &[Frame]) -> io::Result<()> {
        self.write(h1).await
    }

    async fn break_off(&mut self, how: Break) -> io::Result<()> {
        match how {
            // The reset goes out when the driver drops the connection.
            Break::Reset(_) | Break::Cut => self.socket.set_linger(Some(Duration::ZERO)),
            Break::Close | Break::GoAway => self.half.shutdown().await,
            Break::Silence => Ok(()),
        }
    }
}
