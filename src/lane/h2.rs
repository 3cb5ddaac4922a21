//! A stream of HTTP/2. The library drives the frames; how much it holds is decided here.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Response};

use super::stream::{PIECE, RequestStream, gone};
use crate::{
    gate::Version,
    pace::{Pace, Sent},
};

/// One stream.
#[derive(Debug)]
pub struct H2Stream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// Once the final head was sent.
    send: Option<SendStream<Bytes>>,
    pace: Arc<Pace>,
    /// What the socket has taken of the response.
    sent: Sent,
}

impl H2Stream {
    /// The stream of a request with this body and this way back.
    pub fn new(body: RecvStream, respond: SendResponse<Bytes>, pace: Arc<Pace>, sent: Sent) -> Self {
        Self { body, respond, send: None, pace, sent }
    }

    fn broken(error: h2::Error) -> io::Error {
        error.into_io().unwrap_or_else(gone)
    }
}

impl RequestStream for H2Stream {
    const VERSION: Version = Version::Http2;

    fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    fn is_read(&self) -> bool {
        self.body.is_end_stream()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.body.poll_data(cx).map_err(Self::broken)
    }

    fn release(&mut self, bytes: usize) {
        let _ = self.body.flow_control().release_capacity(bytes);
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>> {
        self.body.poll_trailers(cx).map_err(Self::broken)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(drop)
    }

    fn interim(&mut self, head: Response<()>) {
        // A client that is gone by now is told of by whatever is sent next.
        let _ = self.respond.send_informational(head);
    }

    fn head(&mut self, head: Response<()>, end: bool) -> io::Result<()> {
        self.send = Some(self.respond.send_response(head, end).map_err(|_| gone())?);
        self.sent.is_whole = end;
        Ok(())
    }

    fn poll_capacity(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(gone())) };
        ready!(self.pace.window.poll_turn(cx));
        let wanted = bytes.min(PIECE);
        send.reserve_capacity(wanted);
        Poll::Ready(match send.capacity() {
            0 => match ready!(send.poll_capacity(cx)) {
                Some(Ok(capacity)) => Ok(capacity.min(wanted)),
                Some(Err(_)) | None => Err(gone()),
            },
            capacity => Ok(capacity.min(wanted)),
        })
    }

    fn data(&mut self, part: Bytes, end: bool) -> io::Result<()> {
        let send = self.send.as_mut().ok_or_else(gone)?;
        self.pace.window.handed(part.len());
        send.send_data(part, end).map_err(|_| gone())?;
        self.sent.is_whole = end;
        Ok(())
    }

    fn trailers(&mut self, fields: HeaderMap) -> io::Result<()> {
        let send = self.send.as_mut().ok_or_else(gone)?;
        send.send_trailers(fields).map_err(|_| gone())?;
        self.sent.is_whole = true;
        Ok(())
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_sent(&self) -> bool {
        self.sent.is_whole
    }

    fn poll_arrived(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // The library sends what it has before it closes the connection.
        Poll::Ready(())
    }

    fn farewell(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }

    fn reset(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}
