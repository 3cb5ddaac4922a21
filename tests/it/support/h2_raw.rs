//! HTTP/2 frame by frame: for floods, broken frames, and everything that a library refuses to send.

use std::{io, net::SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    BoxStream,
    certs::Tls,
    client::{secure, tcp},
    within,
};

/// Frame types (RFC 9113, section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, flags, stream, payload: payload.as_ref().to_vec() }
    }
    /// HEADERS with these fields, complete.
    pub fn headers(stream: u32, end_stream: bool, fields: &[(&str, &str)]) -> Self {
        let end = if end_stream { flag::END_STREAM } else { flag::NONE };
        Self::new(kind::HEADERS, flag::END_HEADERS | end, stream, hpack(fields))
    }
    /// RST_STREAM with this code.
    pub fn rst(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, flag::NONE, stream, code.to_be_bytes())
    }
    /// SETTINGS with these values.
    pub fn settings(values: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> =
            values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
        Self::new(kind::SETTINGS, flag::NONE, 0, payload)
    }
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        self.payload.get(at..at + 4).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes")))
    }
    /// As on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a length").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// The fields of a GET, with further fields after them.
pub fn get_fields<'a>(
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)];
    fields.extend(more);
    fields
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, section 6.2.2): any bytes may be
/// in it, also those that no library would send.
pub fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A connection on which the test writes every frame itself.
pub struct RawH2 {
    stream: BoxStream,
}

impl RawH2 {
    /// Cleartext; nothing is sent yet.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: Box::new(tcp(address).await) }
    }

    /// TLS with ALPN `h2`; nothing is sent yet.
    pub async fn connect_tls(address: SocketAddr, tls: &Tls) -> Self {
        let secured = secure(tcp(address).await, &tls.clone().alpn("h2")).await;
        let secured = secured.unwrap_or_else(|error| panic!("TLS with {address}: {error}"));
        assert_eq!(secured.alpn.as_deref(), Some("h2"), "the server did not take h2");
        Self { stream: secured.stream }
    }

    /// Sends the preface and empty SETTINGS, reads the server's SETTINGS and acknowledges them; returns them.
    pub async fn handshake(&mut self) -> Frame {
        self.handshake_with(&[]).await
    }

    /// The same with these settings.
    pub async fn handshake_with(&mut self, settings: &[(u16, u32)]) -> Frame {
        self.send_bytes(PREFACE).await.expect("the preface");
        self.send(&Frame::settings(settings)).await.expect("SETTINGS");
        let theirs = self.until(|frame| frame.kind == kind::SETTINGS && frame.flags & flag::ACK == 0).await;
        self.send(&Frame::new(kind::SETTINGS, flag::ACK, 0, [])).await.expect("the acknowledgement");
        theirs.expect("SETTINGS from the server")
    }

    /// Sends these bytes; an error when the other side is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("HTTP/2 bytes to be taken", sending).await
    }

    /// Sends a frame; an error when the other side is gone.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.send_bytes(&frame.bytes()).await
    }

    /// Sends frames until the other side is gone or `limit` is reached; how many were taken. Frames that come back are
    /// read meanwhile, so that it is the server's defence that ends a flood and not a full buffer; a GOAWAY ends it too.
    pub async fn flood(&mut self, limit: usize, mut frame: impl FnMut(usize) -> Frame) -> Flood {
        let Self { stream } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut sent = 0;
        // True when the other side no longer takes frames.
        let writing = async {
            while sent < limit {
                if writer.write_all(&frame(sent).bytes()).await.is_err() {
                    return true;
                }
                sent += 1;
            }
            writer.flush().await.is_err()
        };
        let reading = async {
            loop {
                match read_frame(&mut reader).await {
                    Ok(Some(frame)) if frame.kind == kind::GOAWAY => return frame.code(),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        };
        let (ended, goaway) = within("the flood to end", async {
            let mut reading = std::pin::pin!(reading);
            tokio::select! {
                // Ended by the server: what is left of the flood stays unsent.
                goaway = &mut reading => (true, goaway),
                gone = writing => (gone, if gone { reading.await } else { None }),
            }
        })
        .await;
        Flood { sent, ended, goaway }
    }

    /// The next frame; `None` at the end of the connection, in order or not.
    pub async fn next(&mut self) -> Option<Frame> {
        within("an HTTP/2 frame", read_frame(&mut self.stream)).await.ok().flatten()
    }

    /// The first frame that `wanted` is true for; `None` when the connection ends before it.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let found = async {
            loop {
                match read_frame(&mut self.stream).await {
                    Ok(Some(frame)) if wanted(&frame) => return Some(frame),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        };
        within("a certain HTTP/2 frame", found).await
    }

    /// The code of the GOAWAY that ends the connection; `None` when it ends without one.
    pub async fn goaway(&mut self) -> Option<u32> {
        self.until(|frame| frame.kind == kind::GOAWAY).await.and_then(|frame| frame.code())
    }
}

/// What came of a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Frames taken by the socket.
    pub sent: usize,
    /// True when the server ended it, false when the limit did.
    pub ended: bool,
    /// The code of the GOAWAY that ended it. `None` proves nothing: a server that closes while frames of the flood are unread
    /// resets the connection, and the reset may overtake its GOAWAY.
    pub goaway: Option<u32>,
}

/// The next frame; `None` when the connection ends before one.
pub async fn read_frame(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0; 9];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
}
