//! A request on an HTTP/2 or HTTP/3 connection as Pingora sees it.
//!
//! Pingora's own session for HTTP/2 drops interim responses and hands bodies to the library as fast as the library takes them, and it
//! has none for HTTP/3. This one passes on what RFC 9113 has, and writes at the pace of the client (see [`crate::pace`]).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream as streams};
use http::{HeaderMap, HeaderValue, Response, header};
use pingora_core::{
    Error, ErrorType, OrErr, Result,
    protocols::{
        Digest,
        http::{
            HttpTask,
            custom::{CustomMessageWrite, server::Session},
        },
        l4::socket::SocketAddr,
    },
};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;

use crate::{
    gate::{Refusal, hop::CONNECTION_FIELDS, response::admit_trailers},
    lane::RequestStream,
    pace::{Pace, Watch},
};

/// A request body up to this length can be sent once more. As Pingora's over HTTP/1.
const REPLAY: usize = 64 * 1024;

/// One request and its response.
pub(super) struct StreamSession<S> {
    head: RequestHeader,
    stream: S,
    /// The head of the final response, once sent.
    written: Option<Box<ResponseHeader>>,
    /// Our end of the stream is closed.
    ended: bool,
    read: usize,
    sent: usize,
    replay: Option<Replay>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    pace: Arc<Pace>,
    watch: Watch,
    digest: Digest,
}

/// What was read of a body, for another attempt.
#[derive(Default)]
struct Replay {
    bytes: BytesMut,
    truncated: bool,
}

impl<S: RequestStream> StreamSession<S> {
    pub(super) fn new(head: RequestHeader, stream: S) -> Self {
        Self {
            head,
            pace: stream.pace().clone(),
            stream,
            written: None,
            ended: false,
            read: 0,
            sent: 0,
            replay: None,
            read_timeout: None,
            write_timeout: None,
            drain_timeout: None,
            watch: Watch::default(),
            digest: Digest::default(),
        }
    }

    /// Resolves when the exchange, or a part of it, has taken too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        match self.watch.poll(&self.pace, cx) {
            Some(_) => Poll::Ready(Error::explain(ErrorType::ReadTimedout, "a limit of the exchange has passed")),
            None => Poll::Pending,
        }
    }

    /// Resolves when the endpoint has room for the next piece.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.poll_overdue(cx) {
            Poll::Ready(late) => Poll::Ready(Err(late)),
            Poll::Pending => self.pace.upload.poll_ready(cx).map(Ok),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if let Poll::Ready(late) = self.poll_overdue(cx) {
            return Poll::Ready(Err(late));
        }
        let piece = ready!(self.stream.poll_data(cx)).transpose();
        Poll::Ready(piece.or_err(ErrorType::ReadError, "reading a request body"))
    }

    async fn read_piece(&mut self) -> Result<Option<Bytes>> {
        // An endpoint that takes nothing is no silence of the client.
        poll_fn(|cx| self.poll_room(cx)).await?;
        let patience = self.read_timeout;
        let piece = poll_fn(|cx| self.poll_piece(cx));
        let piece = match patience {
            None => piece.await?,
            Some(patience) => match timeout(patience, piece).await {
                Ok(piece) => piece?,
                Err(_) => return Error::e_explain(ErrorType::ReadTimedout, "reading a request body"),
            },
        };
        let Some(piece) = piece else {
            // Trailers end a body too, and go no further. Until they are taken, the library says that the stream goes on, and Pingora
            // would ask for the next piece for ever.
            let trailers = poll_fn(|cx| self.stream.poll_trailers(cx)).await;
            let trailers = trailers.or_err(ErrorType::ReadError, "reading request trailers")?;
            if trailers.is_some_and(|trailers| admit_trailers(&trailers).is_err()) {
                return Error::e_because(ErrorType::InvalidHTTPHeader, "trailers of a request", Refusal::BadTrailer);
            }
            return Ok(None);
        };
        self.read += piece.len();
        if let Some(replay) = &mut self.replay {
            replay.truncated |= replay.bytes.len() + piece.len() > REPLAY;
            if replay.truncated {
                replay.bytes = BytesMut::new();
            } else {
                replay.bytes.extend_from_slice(&piece);
            }
        }
        self.stream.release(piece.len());
        Ok(Some(piece))
    }

    /// Resolves when the client wants no more of the stream.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Poll::Ready(late) = self.poll_overdue(cx) {
            self.pace.window.abandon();
            return Poll::Ready(Err(late));
        }
        ready!(self.stream.poll_gone(cx));
        self.pace.window.abandon();
        Poll::Ready(Ok(()))
    }

    /// Resolves to how much of a piece may be sent now.
    fn poll_capacity(&mut self, piece: usize, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if self.stream.poll_gone(cx).is_ready() {
            return Poll::Ready(Error::e_explain(ErrorType::WriteError, "a client reset its stream"));
        }
        let capacity = ready!(self.stream.poll_capacity(piece, cx));
        Poll::Ready(capacity.or_err(ErrorType::WriteError, "waiting for the window of a client"))
    }

    async fn send_body(&mut self, mut piece: Bytes, end: bool) -> Result<()> {
        while !piece.is_empty() {
            let (left, patience) = (piece.len(), self.write_timeout);
            // The patience is with a client that takes nothing: each part that it takes is a new beginning.
            let ready = poll_fn(|cx| self.poll_capacity(left, cx));
            let ready = match patience {
                None => ready.await,
                Some(patience) => match timeout(patience, ready).await {
                    Ok(ready) => ready,
                    Err(_) => Error::e_explain(ErrorType::WriteTimedout, "a client takes nothing"),
                },
            };
            let count = match ready {
                Ok(count) => count,
                Err(error) => {
                    self.pace.window.abandon();
                    return Err(error);
                }
            };
            let part = piece.split_to(count);
            self.send_frame(part, end && piece.is_empty())?;
        }
        if end && !self.ended {
            self.send_frame(Bytes::new(), true)?;
        }
        Ok(())
    }

    /// Waits until the library has taken what was queued.
    async fn flush(&mut self) -> Result<()> {
        let patience = self.write_timeout;
        let flushed = poll_fn(|cx| self.stream.poll_flush(cx));
        let flushed = match patience {
            None => flushed.await,
            Some(patience) => match timeout(patience, flushed).await {
                Ok(flushed) => flushed,
                Err(_) => return Error::e_explain(ErrorType::WriteTimedout, "a client takes nothing"),
            },
        };
        flushed.or_err(ErrorType::WriteError, "writing a response")
    }

    fn send_frame(&mut self, part: Bytes, end: bool) -> Result<()> {
        if self.written.is_none() {
            return Error::e_explain(ErrorType::InternalError, "a body without a head");
        }
        self.sent += part.len();
        self.ended |= end;
        self.stream.data(part, end).or_err(ErrorType::WriteError, "writing a response body")
    }

    fn send_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.ended || self.written.is_some() {
            return Ok(());
        }
        for name in &CONNECTION_FIELDS {
            head.remove_header(name);
        }
        if head.status.is_informational() {
            self.stream.interim(Response::from_parts(head.as_owned_parts(), ()));
            return Ok(());
        }
        if !head.headers.contains_key(header::DATE) {
            let now = httpdate::fmt_http_date(std::time::SystemTime::now());
            head.insert_header(header::DATE, HeaderValue::from_str(&now).or_err(ErrorType::InternalError, "a date")?)?;
        }
        let response = Response::from_parts(head.as_owned_parts(), ());
        self.stream.head(response, end).or_err(ErrorType::WriteError, "writing a response")?;
        self.written = Some(head);
        self.ended |= end;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.written.is_none() || self.ended {
            return Ok(());
        }
        self.stream.trailers(trailers).or_err(ErrorType::WriteError, "writing trailers")?;
        self.ended = true;
        Ok(())
    }
}

#[async_trait]
impl<S: RequestStream> Session for StreamSession<S> {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        // Whoever cannot be read from is gone; what is being stored for others goes on.
        self.read_piece().await.inspect_err(|_| self.pace.window.abandon())
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let patience = self.drain_timeout;
        let drain = async {
            while !self.is_body_done() && self.read_piece().await?.is_some() {}
            Ok(())
        };
        match patience {
            None => drain.await,
            Some(patience) => match timeout(patience, drain).await {
                Ok(drained) => drained,
                Err(_) => Error::e_explain(ErrorType::ReadTimedout, "draining a request body"),
            },
        }
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.send_head(head, end)?;
        self.flush().await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.send_head(Box::new(head.clone()), end)?;
        self.flush().await
    }

    async fn write_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.send_body(piece, end).await?;
        self.flush().await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_trailers(trailers)?;
        self.flush().await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut over = false;
        for task in tasks {
            over |= match task {
                HttpTask::Header(head, end) => {
                    self.send_head(head, end).map_err(|error| error.into_down())?;
                    end
                }
                HttpTask::Body(piece, end) => {
                    if let Some(piece) = piece.filter(|piece| !piece.is_empty())
                        && !self.ended
                    {
                        self.send_body(piece, end).await.map_err(|error| error.into_down())?;
                    }
                    end
                }
                HttpTask::UpgradedBody(..) => return Error::e_explain(ErrorType::InternalError, "a tunnel in a stream"),
                HttpTask::Trailer(Some(trailers)) => {
                    self.send_trailers(*trailers).map_err(|error| error.into_down())?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        match over {
            true => self.finish().await,
            false => self.flush().await,
        }
        .map_err(|error| error.into_down())?;
        Ok(over)
    }

    fn set_read_timeout(&mut self, patience: Option<Duration>) {
        self.read_timeout = patience;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, patience: Option<Duration>) {
        self.write_timeout = patience;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, patience: Option<Duration>) {
        self.drain_timeout = patience;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        if !self.ended {
            self.ended = true;
            self.stream.reset();
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_body_empty() || self.stream.is_read()
    }

    async fn finish(&mut self) -> Result<()> {
        // Without a head there is nothing to end: the stream is reset when it is dropped.
        if !self.ended && self.written.is_some() {
            self.send_frame(Bytes::new(), true)?;
        }
        self.flush().await
    }

    fn is_body_empty(&mut self) -> bool {
        let declared_empty = || self.head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        self.read == 0 && (self.stream.is_read() || declared_empty())
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        poll_fn(|cx| self.poll_left(cx)).await?;
        Error::e_explain(ErrorType::H2Error, "a client reset its stream")
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // For requests that Pingora makes behind this one, of which it reads method, target and fields.
        let target = self.head.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut raw = BytesMut::with_capacity(512);
        for part in [self.head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            raw.extend_from_slice(part.as_bytes());
        }
        for (name, value) in &self.head.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                raw.extend_from_slice(part);
            }
        }
        raw.extend_from_slice(b"\r\n");
        raw.freeze()
    }

    fn enable_retry_buffering(&mut self) {
        self.replay.get_or_insert_default();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        let replay = self.replay.as_ref().filter(|replay| !replay.truncated && !replay.bytes.is_empty())?;
        Some(Bytes::copy_from_slice(&replay.bytes))
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(streams::empty()))
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        // Pingora insists on one towards endpoints that speak what it does not know, and does more with one towards others.
        self.pace.upload.is_open().then(|| Box::new(()) as Box<dyn CustomMessageWrite>)
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
