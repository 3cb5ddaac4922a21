//! The HTTP probe.

use std::{collections::BTreeMap, io};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{ProbeTls, Stream, connect, reason};
use crate::types::{Address, At, Code};

/// A GET that must answer with an accepted status, and optionally with accepted JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// The path to ask for.
    #[serde(default = "HttpProbeSpec::default_path")]
    pub path: String,
    /// The Host to send; the endpoint's own address when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Accepted statuses.
    #[serde(default = "HttpProbeSpec::default_status")]
    pub status: Vec<u16>,
    /// Members that the JSON body must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, serde_json::Value>,
}

impl HttpProbeSpec {
    fn default_path() -> String {
        "/".into()
    }
    fn default_status() -> Vec<u16> {
        vec![200]
    }
}

impl HttpProbeSpec {
    /// The compiled form. What cannot be asked for is a problem at its key.
    pub(super) fn compile(&self, at: &At) -> Option<HttpProbe> {
        let mut ok = true;
        let mut refuse = |at: At, message: String| {
            at.problem(Code::BadValue, message);
            ok = false;
        };
        // Both go into the request as they are, so nothing in them may end a line or a token.
        if !self.path.starts_with('/') || !self.path.bytes().all(|b| b.is_ascii_graphic()) || self.path.contains('#') {
            refuse(at.key("path"), format!("`{}` is not a path to ask for; write `/health`", self.path.escape_default()));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)))
        {
            refuse(at.key("host"), format!("`{}` is not a host", host.escape_default()));
        }
        if self.status.is_empty() {
            refuse(at.key("status"), "no status is accepted, so no check could pass".into());
        }
        for (index, status) in self.status.iter().enumerate() {
            if !(200..600).contains(status) {
                refuse(at.key("status").index(index), format!("{status} is not the status of an answer: 200 to 599"));
            }
        }
        ok.then(|| HttpProbe { spec: self.clone() })
    }
}

/// The HTTP probe, ready to ask.
#[derive(Debug)]
pub(super) struct HttpProbe {
    spec: HttpProbeSpec,
}

/// The response header of a health check is short. 16 KiB is what most servers send at most.
const MAX_HEAD: usize = 16 * 1024;
/// Fields beyond these are a page of cookies, not a health check.
const MAX_FIELDS: usize = 64;
/// A JSON body above this says more than whether an endpoint is well.
const MAX_BODY: usize = 64 * 1024;

impl HttpProbe {
    /// Asks once. Redirects are not followed: a 302 is a status like any other. The caller sets the time.
    pub(super) async fn probe(&self, address: &Address, tls: Option<&ProbeTls>) -> Result<(), String> {
        let mut stream = connect(address, tls).await?;
        let host = match (&self.spec.host, address) {
            (Some(host), _) => host.clone(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".into(),
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.spec.path
        );
        stream.write_all(request.as_bytes()).await.map_err(reason)?;
        let mut answer = Answer { stream, buffer: Vec::with_capacity(1024) };
        let head = answer.head().await?;
        if !self.spec.status.contains(&head.status) {
            return Err(format!("status {}", head.status));
        }
        if self.spec.json.is_empty() {
            return Ok(());
        }
        let body = answer.body(head.framing).await?;
        let body: serde_json::Value = serde_json::from_slice(&body).map_err(|_| "the body is not JSON".to_owned())?;
        for (member, want) in &self.spec.json {
            match body.get(member) {
                Some(got) if got == want => {}
                Some(got) => return Err(format!("json member {member} is {}", shortened(got))),
                None => return Err(format!("json member {member} is missing")),
            }
        }
        Ok(())
    }
}

/// A value for a log line: an endpoint must not decide how long that gets.
fn shortened(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
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
    stream: Box<dyn Stream>,
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
        const TOO_LARGE: &str = "the body is over 64 KiB";
        const CUT: &str = "the connection was closed within the body";
        if let Framing::Length(length) = framing
            && length > MAX_BODY
        {
            return Err(TOO_LARGE.into());
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
                return Err(TOO_LARGE.into());
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
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BODY).ok_or("the body is over 64 KiB")?;
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
