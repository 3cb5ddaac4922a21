//! QUIC streams as the HTTP/3 library wants them: its traits over [`quinn`].
//!
//! What is written goes into a queue that its owner flushes, so that nothing waits within the library. What is read passes [`Frames`].

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use parking_lot::Mutex;
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use super::frames::{self, BadFrame, Frames};

/// H3_NO_ERROR (RFC 9114 section 8.1).
pub const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// H3_INTERNAL_ERROR.
const INTERNAL_ERROR: VarInt = VarInt::from_u32(0x102);
/// H3_FRAME_ERROR.
const FRAME_ERROR: VarInt = VarInt::from_u32(0x106);
/// H3_EXCESSIVE_LOAD.
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
/// H3_REQUEST_REJECTED: nothing was done for the request, which may be sent again.
pub const REQUEST_REJECTED: VarInt = VarInt::from_u32(0x10b);
/// H3_MESSAGE_ERROR: the request is malformed (section 4.1.2).
const MESSAGE_ERROR: VarInt = VarInt::from_u32(0x10e);

/// What the streams of a connection for its settings may carry: SETTINGS, and updates of priorities, of which browsers send one or two
/// for each request.
const CONTROL: u64 = 64 * 1024;
const CONTROL_PER_REQUEST: u64 = 256;

/// Streams in one direction that a client may open: three have a use, the rest is grease.
const ONE_WAY: u64 = 100;

/// How much may wait for acknowledgement on a connection: twice what is under way, within these bounds.
const SEND_WINDOW: std::ops::RangeInclusive<u64> = 128 * 1024..=8 * 1024 * 1024;

/// Where a connection's window begins.
pub const FIRST_SEND_WINDOW: u64 = *SEND_WINDOW.start();

/// What a connection has used up of what it may.
#[derive(Debug, Default)]
struct Spent {
    control: u64,
    one_way: u64,
    requests: u64,
}

/// The way back of the request that was accepted last, which the library keeps to itself.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Arc<Mutex<Out>>>>>);

impl Latest {
    /// Takes it.
    pub fn take(&self) -> Option<Arc<Mutex<Out>>> {
        self.0.lock().take()
    }
}

/// One connection.
pub struct Streams {
    latest: Latest,
    /// Shared: each handle of the library's own takes its lock when it is made and dropped.
    quic: Arc<quinn::Connection>,
    header_block: u64,
    spent: Arc<Mutex<Spent>>,
    accepting: Accepting<(quinn::SendStream, quinn::RecvStream)>,
    accepting_one_way: Accepting<quinn::RecvStream>,
    opening: Accepting<quinn::SendStream>,
}

/// Waits for the next one: made anew each time, and kept while it is polled.
type Accepting<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>>;

/// Polls the future that waits for the next one, making it first.
fn poll_next<T, F>(
    waiting: &mut Accepting<T>,
    begin: impl FnOnce() -> F,
    cx: &mut Context<'_>,
) -> Poll<Result<T, ConnectionError>>
where
    F: Future<Output = Result<T, ConnectionError>> + Send + Sync + 'static,
{
    let next = ready!(waiting.get_or_insert_with(|| Box::pin(begin())).as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(next)
}

impl Streams {
    /// The streams of this connection, with header blocks of at most so many bytes, as they are encoded.
    pub fn new(quic: quinn::Connection, header_block: u64) -> (Self, Latest) {
        let streams = Self::of(Arc::new(quic), header_block);
        let latest = streams.latest.clone();
        (streams, latest)
    }

    fn of(quic: Arc<quinn::Connection>, header_block: u64) -> Self {
        let (accepting, accepting_one_way, opening) = (None, None, None);
        Self { latest: Latest::default(), quic, header_block, spent: Arc::default(), accepting, accepting_one_way, opening }
    }
}

impl quic::Connection<Bytes> for Streams {
    type RecvStream = OneWay;
    type OpenStreams = Self;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<OneWay, ConnectionErrorIncoming>> {
        let begin = || {
            let quic = self.quic.clone();
            async move { quic.accept_uni().await }
        };
        let stream = ready!(poll_next(&mut self.accepting_one_way, begin, cx)).map_err(lost)?;
        let mut spent = self.spent.lock();
        spent.one_way += 1;
        if spent.one_way > ONE_WAY {
            self.quic.close(EXCESSIVE_LOAD, b"");
            return Poll::Ready(Err(ConnectionErrorIncoming::InternalError("flood".to_owned())));
        }
        Poll::Ready(Ok(OneWay { stream, quic: self.quic.clone(), spent: self.spent.clone() }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestStream, ConnectionErrorIncoming>> {
        let begin = || {
            let quic = self.quic.clone();
            async move { quic.accept_bi().await }
        };
        let (send, stream) = ready!(poll_next(&mut self.accepting, begin, cx)).map_err(lost)?;
        self.spent.lock().requests += 1;
        let out = Arc::new(Mutex::new(Out::new(send, Some(self.quic.clone()))));
        *self.latest.0.lock() = Some(out.clone());
        let frames = Frames::new(self.header_block);
        Poll::Ready(Ok(RequestStream { out, stream, frames, read: Bytes::new(), refused: None }))
    }

    fn opener(&self) -> Self {
        Self::of(self.quic.clone(), self.header_block)
    }
}

impl quic::OpenStreams<Bytes> for Streams {
    type BidiStream = RequestStream;
    type SendStream = Sender;

    fn poll_open_bidi(&mut self, _cx: &mut Context<'_>) -> Poll<Result<RequestStream, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("servers open none".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sender, StreamErrorIncoming>> {
        let begin = || {
            let quic = self.quic.clone();
            async move { quic.open_uni().await }
        };
        let opened = ready!(poll_next(&mut self.opening, begin, cx));
        let send = opened.map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) })?;
        Poll::Ready(Ok(Sender(Arc::new(Mutex::new(Out::new(send, None))))))
    }

    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        self.quic.close(number(code.value()), reason);
    }
}

/// What waits to be written on a stream.
#[derive(Debug)]
pub struct Out {
    stream: quinn::SendStream,
    /// Of a stream whose content is paced.
    quic: Option<Arc<quinn::Connection>>,
    queue: Vec<Bytes>,
    /// Bytes at the end of the queue that are content.
    content: usize,
    ends: bool,
    /// Its end was handed over, or it was reset.
    over: bool,
    cut: bool,
    taken_back: bool,
    /// What the client is told when it is cut.
    code: VarInt,
}

impl Out {
    fn new(stream: quinn::SendStream, quic: Option<Arc<quinn::Connection>>) -> Self {
        Self {
            stream,
            quic,
            queue: Vec::new(),
            content: 0,
            ends: false,
            over: false,
            cut: false,
            taken_back: false,
            code: INTERNAL_ERROR,
        }
    }

    /// Queues a DATA frame with this content, where none waits.
    pub fn data(&mut self, content: Bytes) {
        if !content.is_empty() {
            self.content = content.len();
            self.queue.extend([frames::data(content.len()), content]);
        }
    }

    /// Does content wait?
    pub fn has_content(&self) -> bool {
        self.content > 0
    }

    /// Nothing follows what is queued.
    pub fn end(&mut self) {
        self.ends = true;
    }

    /// Is its end queued or handed over, or was the stream reset?
    pub fn is_ended(&self) -> bool {
        self.ends || self.over
    }

    /// The client wants no more of it.
    pub fn take_back(&mut self) {
        self.taken_back = true;
    }

    /// Did the client take its request back?
    pub fn was_taken_back(&self) -> bool {
        self.taken_back
    }

    /// The client's request is malformed: it is told so when the stream is cut.
    pub fn malformed(&mut self) {
        self.code = MESSAGE_ERROR;
    }

    /// Cuts the stream, unless all of it was handed over.
    pub fn cut(&mut self) {
        self.reset(self.code);
    }

    /// The same with this code.
    pub fn reset(&mut self, code: VarInt) {
        if !self.over {
            (self.over, self.cut) = (true, true);
            let _ = self.stream.reset(code);
        }
    }

    /// Was it reset?
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// Hands what is queued to the connection, as far as it takes it, and tells how much content that was. Ready when nothing is queued.
    ///
    /// # Errors
    /// When the client wants no more of it, or is gone.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, taken: impl FnOnce(usize)) -> Poll<io::Result<()>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let before = self.content;
        let flushed = self.poll_write(cx);
        if before > self.content {
            taken(before - self.content);
        }
        ready!(flushed)?;
        if self.ends {
            self.over = true;
            let _ = self.stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let written = pin!(self.stream.write_chunks(&mut self.queue)).poll(cx);
            let written = match written {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => {
                    self.take_back();
                    return Poll::Ready(Err(unwritten(&error)));
                }
                Poll::Pending => {
                    self.widen();
                    return Poll::Pending;
                }
            };
            self.queue.drain(..written.chunks);
            let left = self.queue.iter().map(Bytes::len).sum();
            self.content = self.content.min(left);
        }
        Poll::Ready(Ok(()))
    }

    /// As much may wait as the network has shown to carry.
    fn widen(&self) {
        if let Some(quic) = &self.quic {
            let window = quic.stats().path.cwnd.saturating_mul(2);
            quic.set_send_window(window.clamp(*SEND_WINDOW.start(), *SEND_WINDOW.end()));
        }
    }

    /// Resolves when the client wants no more of the stream, is gone, or has all of it.
    pub fn stopped(&self) -> impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync + 'static + use<> {
        self.stream.stopped()
    }

    fn id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // The library of the transport would end the stream in order, and what was cut would look whole.
        self.cut();
    }
}

/// A stream of ours in one direction.
pub struct Sender(Arc<Mutex<Out>>);

/// A stream that carries a request, and the way back.
pub struct RequestStream {
    out: Arc<Mutex<Out>>,
    stream: quinn::RecvStream,
    frames: Frames,
    /// Read, and not looked at.
    read: Bytes,
    refused: Option<BadFrame>,
}

/// A code, of which every one in use has far fewer than the 62 bits that are allowed.
fn number(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(INTERNAL_ERROR)
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    u64::from(id).try_into().expect("both are numbers below 2^62")
}

macro_rules! queued {
    ($stream:ty, $out:ident => $at:expr, $ready:expr) => {
        impl quic::SendStream<Bytes> for $stream {
            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
                let $out = &*self;
                $ready(&mut *$at.lock(), cx)
            }

            fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
                let mut data: WriteBuf<Bytes> = data.into();
                let bytes = data.copy_to_bytes(data.remaining());
                let $out = &*self;
                $at.lock().queue.push(bytes);
                Ok(())
            }

            fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
                let $out = &*self;
                $at.lock().end();
                self.poll_ready(cx)
            }

            fn reset(&mut self, code: u64) {
                let $out = &*self;
                $at.lock().reset(number(code));
            }

            fn send_id(&self) -> StreamId {
                let $out = self;
                $at.lock().id()
            }
        }
    };
}

queued!(Sender, stream => stream.0, |out: &mut Out, cx: &mut Context<'_>| {
    out.poll_flush(cx, |_| ()).map_err(|error| StreamErrorIncoming::Unknown(error.into()))
});
// What is queued waits for whoever flushes it.
queued!(RequestStream, stream => stream.out, |_: &mut Out, _: &mut Context<'_>| Poll::Ready(Ok(())));

impl quic::RecvStream for RequestStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if let Some(refused) = self.refused {
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(refused.into())));
        }
        loop {
            match self.frames.next(&mut self.read) {
                Ok(Some(piece)) => return Poll::Ready(Ok(Some(piece))),
                Ok(None) => {}
                Err(refused) => return Poll::Ready(Err(self.refuse(refused))),
            }
            let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
            match read {
                Ok(Some(chunk)) => self.read = chunk.bytes,
                Ok(None) => {
                    return Poll::Ready(match self.frames.end() {
                        Ok(()) => Ok(None),
                        Err(refused) => Err(self.refuse(refused)),
                    });
                }
                Err(error) => return Poll::Ready(Err(unread(error))),
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        let _ = self.stream.stop(number(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl RequestStream {
    fn refuse(&mut self, why: BadFrame) -> StreamErrorIncoming {
        self.refused = Some(why);
        let code = match why {
            BadFrame::Truncated => FRAME_ERROR,
            BadFrame::HeaderBlock | BadFrame::Empty => EXCESSIVE_LOAD,
        };
        self.out.lock().code = code;
        let _ = self.stream.stop(code);
        StreamErrorIncoming::Unknown(why.into())
    }
}

/// A stream of the client's in one direction: settings, and what has no use here.
pub struct OneWay {
    stream: quinn::RecvStream,
    quic: Arc<quinn::Connection>,
    spent: Arc<Mutex<Spent>>,
}

impl quic::RecvStream for OneWay {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let chunk = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)).map_err(unread)?;
        let Some(chunk) = chunk else { return Poll::Ready(Ok(None)) };
        let mut spent = self.spent.lock();
        spent.control += chunk.bytes.len() as u64;
        if spent.control > CONTROL + spent.requests * CONTROL_PER_REQUEST {
            self.quic.close(EXCESSIVE_LOAD, b"");
            return Poll::Ready(Err(StreamErrorIncoming::Unknown("flood".into())));
        }
        Poll::Ready(Ok(Some(chunk.bytes)))
    }

    fn stop_sending(&mut self, code: u64) {
        let _ = self.stream.stop(number(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) },
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

fn unwritten(error: &WriteError) -> io::Error {
    match error {
        WriteError::Stopped(_) | WriteError::ConnectionLost(_) => io::ErrorKind::ConnectionReset.into(),
        error => io::Error::other(error.to_string()),
    }
}
