//! One request and its response on an HTTP/2 connection to an endpoint.
//!
//! It follows RFC 9113: interim responses come out one by one (section 8.1), a stream that was refused or that a GOAWAY does not
//! cover was not processed (sections 6.8 and 8.7), the window is given back as the client takes the bytes (section 5.2).

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use h2::{Reason, RecvStream, client::ResponseFuture};
use http::{HeaderMap, HeaderValue, Request, Version, header, uri};
use pingora_core::{
    Error, ErrorSource, ErrorType, OrErr, Result,
    protocols::{
        Digest, UniqueIDType,
        http::custom::{BodyWrite, CustomMessageWrite, client::Session},
        l4::socket::SocketAddr,
    },
};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Sleep, sleep_until};

use super::h2_pool;
use crate::{
    gate::hop::CONNECTION_FIELDS,
    pace::{Pace, Progress},
};

/// The endpoint has said that it has not processed the request, which may be sent again whatever its method.
pub const NOT_PROCESSED: ErrorType = ErrorType::new("NotProcessed");

/// One exchange.
pub struct H2Exchange {
    stream: h2_pool::Stream,
    pace: Arc<Pace>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    head: Option<ResponseHeader>,
    /// Bytes of the body that were read and whose window the endpoint has not got back.
    unreleased: usize,
    /// Bytes of the body that were read.
    received: u64,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    timer: Option<std::pin::Pin<Box<Sleep>>>,
    began: Instant,
}

impl H2Exchange {
    pub(super) fn new(stream: h2_pool::Stream, pace: Arc<Pace>) -> Self {
        Self {
            stream,
            pace,
            response: None,
            body: None,
            head: None,
            unreleased: 0,
            received: 0,
            read_timeout: None,
            write_timeout: None,
            timer: None,
            began: Instant::now(),
        }
    }

    /// Resolves when this moment has passed.
    fn poll_until(&mut self, moment: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let moment = tokio::time::Instant::from_std(moment);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        if timer.deadline() != moment {
            timer.as_mut().reset(moment);
        }
        timer.as_mut().poll(cx)
    }

    /// The next head, interim or final.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Error::e_explain(ErrorType::InternalError, "no response to wait for"));
        };
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let interim = interim.map_err(|error| self.failed(error))?;
            self.head = Some(interim.into_parts().0.into());
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(arrived) = std::pin::Pin::new(response).poll(cx) {
            let (head, body) = arrived.map_err(|error| self.failed(error))?.into_parts();
            (self.head, self.body, self.response) = (Some(head.into()), Some(body), None);
            return Poll::Ready(Ok(()));
        }
        // An endpoint owes no answer before the request is whole, and whoever sends slowly is no business of its.
        let (since, timeout, late) = match self.pace.upload.progress(cx) {
            Progress::Flowing => return Poll::Pending,
            Progress::Blocked(since) => (since, self.write_timeout, ErrorType::WriteTimedout),
            Progress::Done(since) => (since.max(self.began), self.read_timeout, ErrorType::ReadTimedout),
            Progress::Stopped => return Poll::Ready(Error::e_explain(ErrorType::InternalError, "the request is refused")),
        };
        let Some(timeout) = timeout else { return Poll::Pending };
        ready!(self.poll_until(since + timeout, cx));
        Poll::Ready(Error::e_explain(late, "waiting for an HTTP/2 response"))
    }

    /// The next piece of the body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        self.pace.window.watch(cx);
        if self.pace.upload.progress(cx) == Progress::Stopped {
            return Poll::Ready(Error::e_explain(ErrorType::InternalError, "the request is refused"));
        }
        let held = self.pace.window.held();
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        let taken = self.unreleased.saturating_sub(held);
        if taken > 0 {
            self.unreleased -= taken;
            let _ = body.flow_control().release_capacity(taken);
        }
        let piece = match body.poll_data(cx) {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                // What the client has not taken keeps the endpoint from sending: its silence is none then.
                let (Some(timeout), 0) = (self.read_timeout.or_else(|| self.pace.orphaned()), self.unreleased) else {
                    self.timer = None;
                    return Poll::Pending;
                };
                let moment = match &self.timer {
                    Some(timer) => timer.deadline().into_std(),
                    None => Instant::now() + timeout,
                };
                ready!(self.poll_until(moment, cx));
                return Poll::Ready(Error::e_explain(ErrorType::ReadTimedout, "reading an HTTP/2 response body"));
            }
        };
        self.timer = None;
        match piece {
            None => Poll::Ready(Ok(None)),
            Some(Ok(piece)) => {
                self.unreleased += piece.len();
                self.received += piece.len() as u64;
                self.pace.window.read(piece.len());
                Poll::Ready(Ok(Some(piece)))
            }
            // It has told all it wants to tell, and does not want the rest of the request (RFC 9113 section 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) && error.is_reset() && body.is_end_stream() => {
                Poll::Ready(Ok(None))
            }
            Some(Err(error)) => Poll::Ready(Err(self.failed(error))),
        }
    }

    /// Has less of the body come than its Content-Length says?
    fn is_short(&self) -> bool {
        let declared = self.head.as_ref().and_then(|head| head.headers.get(header::CONTENT_LENGTH));
        let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        self.body.is_some() && declared.is_some_and(|declared| self.received < declared)
    }

    /// What an error of the stream means.
    fn failed(&self, error: h2::Error) -> Box<Error> {
        if error.is_io() || error.is_go_away() {
            self.stream.retire();
        }
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // The library fails those streams alone that come after the last one which the endpoint says it has processed.
        let left_out = error.is_go_away();
        let kind = if error.is_remote() && (refused || left_out) {
            NOT_PROCESSED
        } else if error.is_io() {
            ErrorType::ReadError
        } else if error.is_library() && self.is_short() {
            // It ended before its length.
            ErrorType::H2Error
        } else if error.is_library() {
            ErrorType::InvalidH2
        } else {
            ErrorType::H2Error
        };
        let closed = error.get_io().is_some_and(|io| {
            matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
        });
        let mut error = Error::because(kind, "in an HTTP/2 response", error);
        if closed && self.head.is_none() {
            // It may have been closed before the request came: see `proxy::fail` for what may be sent again.
            error.retry = pingora_core::RetryType::ReusedOnly;
        }
        error.esource = ErrorSource::Upstream;
        error
    }

    /// The request as HTTP/2 spells it (RFC 9113 section 8.3.1).
    fn request(&self, request: RequestHeader) -> Result<Request<()>> {
        let mut parts = http::request::Parts::from(request);
        let fields = &mut parts.headers;
        CONNECTION_FIELDS.iter().for_each(|name| drop(fields.remove(name)));
        let takes_trailers = fields.get_all(header::TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
        fields.remove(header::TE);
        if takes_trailers {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let host = fields.remove(header::HOST);
        let target = std::mem::take(&mut parts.uri).into_parts();
        let mut target_of_ours = uri::Parts::default();
        target_of_ours.scheme = Some(if self.stream.is_secure() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
        target_of_ours.authority = match host {
            Some(host) => {
                Some(uri::Authority::try_from(host.as_bytes()).or_err(ErrorType::InvalidHTTPHeader, "the host is no authority")?)
            }
            None => target.authority,
        };
        target_of_ours.path_and_query = target.path_and_query.or_else(|| Some(uri::PathAndQuery::from_static("/")));
        parts.uri = http::Uri::from_parts(target_of_ours).or_err(ErrorType::InvalidHTTPHeader, "no target for HTTP/2")?;
        parts.version = Version::HTTP_2;
        Ok(Request::from_parts(parts, ()))
    }
}

#[async_trait]
impl Session for H2Exchange {
    async fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
        let request = self.request(*request)?;
        let sent = self.stream.requests.send_request(request, end);
        let (response, body) = sent.map_err(|error| self.failed(error))?;
        self.pace.upload.begin(body, end);
        self.began = Instant::now();
        self.response = Some(response);
        Ok(())
    }

    async fn write_request_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        self.pace.upload.send(piece, end);
        Ok(())
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        self.pace.upload.send(Bytes::new(), true);
        Ok(())
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    async fn read_response_header(&mut self) -> Result<()> {
        self.timer = None;
        poll_fn(|cx| self.poll_head(cx)).await
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn response_finished(&self) -> bool {
        self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.pace.upload.end();
        (self.response, self.body) = (None, None);
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.head.as_ref()
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        let Some(body) = &mut self.body else { return Ok(None) };
        match body.trailers().await {
            Ok(trailers) => Ok(trailers),
            Err(error) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn fd(&self) -> UniqueIDType {
        self.stream.id()
    }

    async fn check_response_end_or_error(&mut self, _head: bool) -> Result<bool> {
        let Some(body) = &mut self.body else { return Ok(false) };
        if !body.is_end_stream() {
            return Ok(false);
        }
        // The library says "end" of a stream that failed as well. What comes next tells them apart, and is there already.
        let next = poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await;
        match next {
            Poll::Ready(Some(Err(error))) if error.reason() != Some(Reason::NO_ERROR) => Err(self.failed(error)),
            Poll::Ready(Some(Ok(_))) => Error::e_explain(ErrorType::InvalidH2, "data behind the end of a stream"),
            _ => Ok(true),
        }
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        self.response.is_some().then(|| Box::new(Writer(self.pace.clone())) as Box<dyn BodyWrite>)
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}

impl Drop for H2Exchange {
    fn drop(&mut self) {
        if self.body.is_none() && self.pace.deadlines.has_passed() {
            // Whoever does not answer in time may not answer at all: those who come next try another connection.
            self.stream.retire();
        }
        // Its stream is one of the handles that keep an HTTP/2 stream from being reset.
        self.pace.upload.end();
    }
}

/// Where the request's body goes: see [`crate::pace::Upload`] for why it never waits and never fails.
struct Writer(Arc<Pace>);

#[async_trait]
impl BodyWrite for Writer {
    async fn write_all_buf(&mut self, piece: &mut Bytes) -> Result<()> {
        self.0.upload.send(std::mem::take(piece), false);
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.0.upload.send(Bytes::new(), true);
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
