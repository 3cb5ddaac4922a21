//! Bodies of lab responses: whole, in pieces over time, or many bytes without holding them.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};

/// The body of every lab response.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn empty() -> Body {
    whole(Bytes::new())
}

/// What comes in goes out, trailers included, at the pace of the slower side.
pub(super) fn mirror(incoming: Incoming) -> Body {
    incoming.map_err(io::Error::other).boxed_unsync()
}

fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// `count` pieces, `pause` before each but the first.
pub(super) fn pieces(count: u64, pause: Duration, piece: impl Fn(u64) -> String + Send + 'static) -> Body {
    streamed(stream::unfold((0, piece), move |(index, piece)| async move {
        if index == count {
            return None;
        }
        if index > 0 {
            tokio::time::sleep(pause).await;
        }
        Some((Bytes::from(piece(index)), (index + 1, piece)))
    }))
}

/// One block of the pattern that [`pattern`] repeats; printable, so that a terminal survives it.
static BLOCK: [u8; 64 * 1024] = {
    let mut block = [b'.'; 64 * 1024];
    let mut line = 63;
    while line < block.len() {
        block[line] = b'\n';
        line += 64;
    }
    block
};

/// `count` bytes of a fixed pattern, made while they are sent.
pub(super) fn pattern(count: u64) -> Body {
    streamed(stream::unfold(count, |left| async move {
        let size = left.min(BLOCK.len() as u64) as usize;
        (size > 0).then(|| (Bytes::from_static(&BLOCK[..size]), left - size as u64))
    }))
}
