//! A stream of HTTP/3. The library takes heads apart and puts them together; what is sent is queued and flushed here.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use h3::{error::StreamError, server};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

use super::stream::{PIECE, RequestStream, gone};
use crate::{gate::Version, pace::Pace, quic::Out};

/// Resolves when the client wants no more of a stream (true), or has all of it.
type Stopped = Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

/// One stream.
pub struct H3Stream {
    stream: server::RequestStream<crate::quic::RequestStream, Bytes>,
    out: Arc<Mutex<Out>>,
    pace: Arc<Pace>,
    /// What came right behind the head.
    ahead: Option<Option<io::Result<Bytes>>>,
    /// The trailers, where those are it.
    trailers: Option<HeaderMap>,
    /// What the head has promised of the body, and did not come yet.
    promised: Option<u64>,
    is_read: bool,
    stopped: Option<Stopped>,
    /// How that ended.
    left: Option<bool>,
}

impl H3Stream {
    /// The stream of a request whose head was read, with this way back and so many bytes of content, where it says.
    pub fn new(
        stream: server::RequestStream<crate::quic::RequestStream, Bytes>,
        out: Arc<Mutex<Out>>,
        pace: Arc<Pace>,
        promised: Option<u64>,
    ) -> Self {
        Self { stream, out, pace, ahead: None, trailers: None, promised, is_read: false, stopped: None, left: None }
    }

    /// Reads what is there behind the head: for most requests, that is their end.
    pub fn look(&mut self, cx: &mut Context<'_>) {
        match self.poll_data(cx) {
            Poll::Pending => {}
            Poll::Ready(None) => match self.poll_trailers(cx) {
                Poll::Pending | Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(trailers)) => (self.ahead, self.trailers, self.is_read) = (Some(None), trailers, false),
                Poll::Ready(Err(error)) => self.ahead = Some(Some(Err(error))),
            },
            Poll::Ready(some) => self.ahead = Some(some),
        }
    }

    /// Runs what only queues.
    fn queue(sent: impl Future<Output = Result<(), StreamError>>) -> io::Result<()> {
        match pin!(sent).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(_)) | Poll::Pending => Err(gone()),
        }
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(left) = self.left {
            return Poll::Ready(left);
        }
        let out = &self.out;
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = out.lock().stopped();
            Box::pin(async move { !matches!(stopped.await, Ok(None)) })
        });
        let left = ready!(stopped.as_mut().poll(cx));
        self.left = Some(left);
        if left {
            out.lock().take_back();
        }
        Poll::Ready(left)
    }
}

impl RequestStream for H3Stream {
    const VERSION: Version = Version::Http3;

    fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    fn is_read(&self) -> bool {
        self.is_read
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(ahead);
        }
        let read = match ready!(self.stream.poll_recv_data(cx)) {
            Ok(read) => read.map(|mut piece| piece.copy_to_bytes(piece.remaining())),
            Err(_) => {
                self.out.lock().take_back();
                return Poll::Ready(Some(Err(gone())));
            }
        };
        // RFC 9114 section 4.1.2: a body of another length than was said is none. The library does not look.
        if let Some(promised) = &mut self.promised {
            let length = read.as_ref().map_or(0, Bytes::len) as u64;
            match promised.checked_sub(length) {
                Some(left) if read.is_some() || left == 0 => *promised = left,
                _ => {
                    self.out.lock().malformed();
                    return Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into())));
                }
            }
        }
        Poll::Ready(read.map(Ok))
    }

    fn release(&mut self, _bytes: usize) {
        // The transport counts what is read from it.
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>> {
        if let Some(trailers) = self.trailers.take() {
            self.is_read = true;
            return Poll::Ready(Ok(Some(trailers)));
        }
        let trailers = ready!(self.stream.poll_recv_trailers(cx));
        self.is_read = trailers.is_ok();
        if matches!(trailers, Err(StreamError::StreamError { .. })) {
            self.out.lock().malformed();
        }
        Poll::Ready(trailers.map_err(|_| gone()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_stopped(cx)) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn interim(&mut self, head: Response<()>) {
        let _ = Self::queue(self.stream.send_response(head));
    }

    fn head(&mut self, head: Response<()>, end: bool) -> io::Result<()> {
        Self::queue(self.stream.send_response(head))?;
        if end {
            self.out.lock().end();
        }
        Ok(())
    }

    fn poll_capacity(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let waits = self.out.lock().has_content();
        if waits {
            // It is what the turn may be waited for.
            ready!(self.poll_flush(cx))?;
        }
        ready!(self.pace.window.poll_turn(cx));
        Poll::Ready(Ok(bytes.min(PIECE)))
    }

    fn data(&mut self, part: Bytes, end: bool) -> io::Result<()> {
        self.pace.window.handed(part.len());
        let mut out = self.out.lock();
        out.data(part);
        if end {
            out.end();
        }
        Ok(())
    }

    fn trailers(&mut self, fields: HeaderMap) -> io::Result<()> {
        Self::queue(self.stream.send_trailers(fields))?;
        self.out.lock().end();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let window = &self.pace.window;
        self.out.lock().poll_flush(cx, |taken| window.taken(taken))
    }

    fn is_sent(&self) -> bool {
        self.out.lock().is_ended()
    }

    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.out.lock().was_cut() {
            return Poll::Ready(());
        }
        self.poll_stopped(cx).map(drop)
    }

    fn farewell(&self) -> impl Future<Output = ()> + Send + 'static {
        let out = self.out.clone();
        async move {
            let arrived = {
                let mut out = out.lock();
                out.cut();
                (!out.was_cut()).then(|| out.stopped())
            };
            if let Some(arrived) = arrived {
                let _ = arrived.await;
            }
        }
    }

    fn reset(&mut self) {
        self.out.lock().cut();
    }
}
