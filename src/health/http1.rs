//! The HTTP/1.1 client of the HTTP probe: one request, one answer, everything bounded.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connect::reason,
    http::{BODY_TOO_LARGE, HttpProbe, MAX_BODY, MAX_HEAD},
};
use crate::wire::Stream;

/// Fields beyond these are a page of cookies, not a health check.
const MAX_FIELDS: usize = 64;

/// Asks on this connection and closes it.
pub(super) async fn ask(mut stream: Stream, host: &str, probe: &HttpProbe) -> Result<(), String> {
    let mut request = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", probe.method(), probe.path());
    for (name, value) in probe.lines() {
        request += &format!("{name}: {value}\r\n");
    }
    request += "Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.map_err(reason)?;
    let mut answer = Answer { stream, buffer: Vec::with_capacity(1024) };
    let head = answer.head().await?;
    match probe.judge_status(head.status)? {
        true => probe.judge_body(&answer.body(head.framing).await?),
        false => Ok(()),
    }
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

struct Head {
    status: u16,
    framing: Framing,
}

/// An answer being read. `buffer` holds what was read and not used yet.
struct Answer {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Answer {
    /// Reads more; false at the end.
    async fn more(&mut self) -> Result<bool, String> {
        // Without `close_notify` a TLS stream ends in an error; framing tells whether something is missing.
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(reason(error)),
        }
    }

    /// The final response header; interim ones (1xx) are skipped.
    async fn head(&mut self) -> Result<Head, String> {
        let mut read = 0;
        loop {
            if let Some((head, used)) = parse_head(&self.buffer)? {
                self.buffer.drain(..used);
                read += used;
                if head.status >= 200 {
                    return Ok(head);
                }
                continue;
            }
            if read + self.buffer.len() > MAX_HEAD {
                return Err("the response header is over 16 KiB".into());
            }
            if !self.more().await? {
                return Err("the connection was closed before the response header".into());
            }
        }
    }

    async fn body(mut self, framing: Framing) -> Result<Vec<u8>, String> {
        const CUT: &str = "the connection was closed within the body";
        if let Framing::Length(length) = framing
            && length > MAX_BODY
        {
            return Err(BODY_TOO_LARGE.into());
        }
        loop {
            match framing {
                Framing::Length(length) if self.buffer.len() >= length => {
                    self.buffer.truncate(length);
                    return Ok(self.buffer);
                }
                Framing::Chunked => {
                    if let Some(body) = unchunk(&self.buffer)? {
                        return Ok(body);
                    }
                }
                Framing::Length(_) | Framing::Close => {}
            }
            // Chunk headers count, too: a body of one-byte chunks is no health check.
            if self.buffer.len() > MAX_BODY {
                return Err(BODY_TOO_LARGE.into());
            }
            if !self.more().await? {
                return if matches!(framing, Framing::Close) { Ok(self.buffer) } else { Err(CUT.into()) };
            }
        }
    }
}

fn parse_head(buffer: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let used = match response.parse(buffer) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer is not HTTP/1: {error}")),
    };
    let value = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    let framing = if value("transfer-encoding").is_some() {
        Framing::Chunked
    } else if let Some(length) = value("content-length") {
        let length = std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok());
        Framing::Length(length.ok_or("the answer's content-length is not a number")?)
    } else {
        Framing::Close
    };
    let status = response.code.ok_or("the answer has no status")?;
    Ok(Some((Head { status, framing }, used)))
}

/// The content of a chunked body, once its last chunk is there.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let bad = || "the answer's chunked body is malformed".to_owned();
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest).map_err(|_| bad())? {
            httparse::Status::Complete(found) => found,
            httparse::Status::Partial => return Ok(None),
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BODY).ok_or(BODY_TOO_LARGE)?;
        rest = &rest[start..];
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err(bad());
        }
        rest = &rest[size + 2..];
    }
}
