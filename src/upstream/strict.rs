//! What an HTTP/1 endpoint sends in chunks, judged while it is read.
//!
//! Pingora reads over extensions and trailers without looking at them. Where they are malformed, what follows them could be taken for
//! the next response on the connection by another reader than ours: as in requests, such a message is broken off.

use bytes::{Buf, BytesMut};
use http::{
    HeaderName,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use crate::gate::{
    Limits,
    chunked::ChunkValidator,
    response::{BadResponse, MAX_FIELDS, MAX_HEAD, has_body, parser},
};

/// Follows one response.
#[derive(Debug, Default)]
pub(super) struct Strict {
    state: State,
    closes: bool,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing is looked at: a body of another framing, or what Pingora judges by itself.
    #[default]
    Passing,
    /// In the heads, of which so much is here.
    Head { asked_head: bool, read: BytesMut },
    /// In the chunks.
    Chunks(Box<ChunkValidator>),
}

impl Strict {
    /// A request goes out whose first bytes are these: its response is the next thing to come.
    pub(super) fn begin(request: &[u8]) -> Self {
        let state = State::Head { asked_head: request.starts_with(b"HEAD "), read: BytesMut::new() };
        Self { state, closes: false }
    }

    /// The endpoint has said that no other response follows on the connection. Pingora reads one `Connection` of several.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Looks at the next bytes. An error says that they are no chunks.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        match &mut self.state {
            State::Passing => Ok(()),
            State::Head { asked_head, read } => {
                read.extend_from_slice(bytes);
                let Some((next, rest)) = heads(*asked_head, read)? else { return Ok(()) };
                *self = next;
                self.feed(&rest)
            }
            State::Chunks(validator) => {
                if validator.feed(bytes).map_err(|refusal| refusal.reason())?.complete {
                    self.state = State::Passing;
                }
                Ok(())
            }
        }
    }
}

/// What follows the final head, and what is here of it; `None` while that head is not complete. An error says that it is framed in two
/// ways, of which Pingora would take one and show the other to nobody.
fn heads(asked_head: bool, read: &mut BytesMut) -> Result<Option<(Strict, BytesMut)>, &'static str> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match parser().parse_response(&mut response, read) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if read.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err("head_too_large"),
            // Pingora refuses it, too.
            Err(_) => return Ok(Some((Strict::default(), BytesMut::new()))),
        };
        let status = response.code.unwrap_or_default();
        let named = |name: HeaderName| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_str()));
        let coding = named(TRANSFER_ENCODING);
        if coding.is_some() && named(CONTENT_LENGTH).is_some() {
            return Err(BadResponse::TeAndCl.reason());
        }
        let chunked = coding.is_some_and(|field| field.value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        let options = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(CONNECTION.as_str()));
        let closes = options
            .flat_map(|field| field.value.split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        read.advance(length);
        if matches!(status, 100 | 102..=199) {
            continue;
        }
        let has_body = has_body(if asked_head { "HEAD" } else { "GET" }, status);
        let state = match chunked && has_body {
            true => State::Chunks(Box::new(ChunkValidator::new(&Limits::default()))),
            false => State::Passing,
        };
        return Ok(Some((Strict { state, closes }, std::mem::take(read))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    fn judge(request: &str, response: &str, step: usize) -> Result<(), &'static str> {
        let mut strict = Strict::begin(request.as_bytes());
        response.as_bytes().chunks(step).try_for_each(|bytes| strict.feed(bytes))
    }

    #[test]
    fn malformed_chunks_and_trailers_are_found_wherever_reads_cut_them() {
        for (body, expected) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(())),
            ("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", Ok(())),
            ("5\r\nhello\r\n0\r\nx sum: 1\r\n\r\n", Err("bad_trailer")),
            ("5\r\nhello\r\n0\r\ncontent-length: 7\r\n\r\n", Err("bad_trailer")),
            ("5\nhello\r\n0\r\n\r\n", Err("bad_chunk")),
            ("5\r\nhello!\r\n0\r\n\r\n", Err("bad_chunk")),
        ] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(judge("GET / HTTP/1.1", &format!("{CHUNKED}{body}"), step), expected, "{body:?}");
                let tolerated = CHUNKED.replacen("\r\n", "\r\nx-fold: a\r\n b\r\nx-space : a\r\n", 1);
                assert_eq!(judge("GET / HTTP/1.1", &format!("{tolerated}{body}"), step), expected, "{body:?}");
                let hinted = format!("HTTP/1.1 103 Early Hints\r\n\r\n{CHUNKED}{body}");
                assert_eq!(judge("GET / HTTP/1.1", &hinted, step), expected, "{body:?}");
            }
        }
    }

    #[test]
    fn a_head_that_is_framed_in_two_ways_is_found() {
        let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(judge("GET / HTTP/1.1", both, 10), Err("te_and_cl"));
    }

    #[test]
    fn any_connection_field_may_say_that_it_closes() {
        for (fields, closes) in [
            ("connection: keep-alive\r\nConnection: Close\r\n", true),
            ("connection: x-a, close\r\nconnection: x-b\r\n", true),
            ("connection: x-close\r\nx: close\r\n", false),
        ] {
            let mut strict = Strict::begin(b"GET / HTTP/1.1");
            strict.feed(b"HTTP/1.1 103 Early Hints\r\nconnection: close\r\n\r\n").unwrap();
            strict.feed(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 3\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(strict.closes(), closes, "{fields}");
        }
    }

    #[test]
    fn what_is_in_no_chunks_passes() {
        for response in
            ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nzz\n", "HTTP/1.0 200 OK\r\n\r\nanything", "nothing of HTTP\r\n\r\n"]
        {
            assert_eq!(judge("GET / HTTP/1.1", response, 3), Ok(()));
        }
        assert_eq!(judge("HEAD / HTTP/1.1", &format!("{CHUNKED}HTTP/1.1 "), 3), Ok(()));
        let not_modified = "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\nHTTP/1.1 ";
        assert_eq!(judge("GET / HTTP/1.1", not_modified, 3), Ok(()));
    }
}
