use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::Instant,
};

use super::*;

/// What the socket in a test holds in each direction.
const SOCKET: usize = 64;

fn end(side: Side, tunnel: &Arc<Tunnel>) -> (End<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(SOCKET);
    (End::new(near, side, tunnel.clone()), far)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

/// Writes and flushes without waiting.
#[track_caller]
fn write(end: &mut End<impl Carrier>, bytes: &[u8]) {
    let written = async {
        end.write_all(bytes).await?;
        end.flush().await
    };
    written.now_or_never().expect("no write waits").expect("no error");
}

/// Reads as Pingora does, until the future is done.
async fn pump(end: &mut End<impl Carrier>, until: impl Future) {
    tokio::select! {
        read = end.read_u8() => panic!("read {read:?}"),
        _ = until => {}
    }
}

#[tokio::test]
async fn until_it_is_open_an_end_is_its_stream() {
    let (tunnel, parting) = Tunnel::new();
    let (mut client, mut far) = end(Side::Client, &tunnel);
    assert!(client.write_all(&bytes(SOCKET + 1)).now_or_never().is_none(), "waits for the socket");
    far.read_exact(&mut [0; SOCKET]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    drop(client);
    assert!(far.write_all(b"x").await.is_err(), "closed with the end");
    assert!(parting.finish().now_or_never().is_some());
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_kept_and_sent_in_order() {
    let (tunnel, _parting) = Tunnel::new();
    let (mut client, mut far) = end(Side::Client, &tunnel);
    tunnel.open();
    let (sent, mut came) = (bytes(3000), vec![0; 3000]);
    for piece in sent.chunks(1000) {
        write(&mut client, piece);
    }
    pump(&mut client, far.read_exact(&mut came)).await;
    assert_eq!(came, sent);
}

#[tokio::test]
async fn a_side_is_not_read_while_much_is_kept_for_the_other() {
    let (tunnel, _parting) = Tunnel::new();
    let (mut client, mut browser) = end(Side::Client, &tunnel);
    let (mut endpoint, mut service) = end(Side::Endpoint, &tunnel);
    tunnel.open();
    browser.write_all(b"more").await.unwrap();
    service.write_all(b"answer").await.unwrap();
    write(&mut endpoint, &bytes(SOCKET + ENOUGH));
    assert_eq!(client.read_u8().now_or_never().expect("not too much").unwrap(), b'm');
    write(&mut endpoint, b"!");
    assert!(client.read_u8().now_or_never().is_none());
    // The direction that stands still holds up nothing in the other one.
    assert_eq!(endpoint.read_u8().now_or_never().expect("an answer").unwrap(), b'a');
    service.read_exact(&mut [0; 10]).await.unwrap();
    // The reader that waits is woken, by the one that finds room.
    let mut rest = Vec::new();
    let (read, ()) = tokio::join!(client.read_u8(), async {
        tokio::task::yield_now().await;
        while let Some(byte) = endpoint.read_u8().now_or_never() {
            rest.push(byte.unwrap());
        }
    });
    assert_eq!((read.unwrap(), &rest[..]), (b'o', &b"nswer"[..]));
}

#[tokio::test]
async fn who_hears_no_more_is_heard_to_the_end() {
    let (tunnel, _parting) = Tunnel::new();
    let (mut client, _browser) = end(Side::Client, &tunnel);
    let (mut endpoint, mut service) = end(Side::Endpoint, &tunnel);
    tunnel.open();
    write(&mut endpoint, &bytes(SOCKET + ENOUGH + 1));
    assert!(client.read_u8().now_or_never().is_none());
    service.write_all(b"bye").await.unwrap();
    drop(service);
    write(&mut endpoint, b"anybody there?");
    write(&mut endpoint, b"hello?");
    let mut words = Vec::new();
    endpoint.read_to_end(&mut words).await.unwrap();
    assert_eq!(words, b"bye");
    assert!(tunnel.poll_readable(Side::Client, &mut Context::from_waker(std::task::Waker::noop())).is_ready());
}

/// A connection that was reset, which is found out by who writes first.
#[derive(Debug)]
struct Reset(Vec<u8>);

impl AsyncRead for Reset {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buf.put_slice(&std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_broke_a_write_is_told_to_the_reader_behind_the_last_word() {
    let (tunnel, _parting) = Tunnel::new();
    let mut endpoint = End::new(Reset(b"bye".to_vec()), Side::Endpoint, tunnel.clone());
    tunnel.open();
    write(&mut endpoint, b"hello");
    let mut words = Vec::new();
    let error = endpoint.read_to_end(&mut words).await.unwrap_err();
    assert_eq!((error.kind(), &words[..]), (io::ErrorKind::ConnectionReset, &b"bye"[..]));
}

/// A tunnel that Pingora has let go of, while something was kept for the client.
fn over(kept: &[u8]) -> (Parting, DuplexStream) {
    let (tunnel, parting) = Tunnel::new();
    let (mut client, far) = end(Side::Client, &tunnel);
    tunnel.open();
    write(&mut client, kept);
    client.shutdown().now_or_never().expect("nothing waits").unwrap();
    (parting, far)
}

#[tokio::test]
async fn what_is_kept_at_the_end_is_delivered() {
    let (parting, mut far) = over(&bytes(1000));
    let mut came = Vec::new();
    let (_, read) = tokio::join!(parting.finish(), async {
        let read = far.read_to_end(&mut came).await;
        drop(far);
        read
    });
    assert_eq!((read.unwrap(), came), (1000, bytes(1000)));
}

#[tokio::test]
async fn who_is_stuck_with_words_of_its_own_gets_the_rest() {
    let (parting, mut far) = over(&bytes(1000));
    let mut came = Vec::new();
    let (_, read) = tokio::join!(parting.finish(), async {
        far.write_all(&bytes(1000)).await.unwrap();
        let read = far.read_to_end(&mut came).await;
        far.write_all(&bytes(1000)).await.unwrap();
        drop(far);
        read
    });
    assert_eq!(read.unwrap(), 1000);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_forever() {
    let (parting, _far) = over(&bytes(1000));
    let began = Instant::now();
    parting.finish().await;
    assert_eq!(began.elapsed().as_secs(), 60, "takes nothing");
    let (parting, mut far) = over(&bytes(10));
    let began = Instant::now();
    let talking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        while far.write_all(b"and another thing").await.is_ok() {
            pause.tick().await;
        }
    };
    tokio::join!(parting.finish(), talking);
    assert!(began.elapsed() < Duration::from_secs(3), "talks on");
}

#[tokio::test]
async fn a_tunnel_that_is_cut_is_closed_at_once() {
    let (parting, mut far) = over(&bytes(1000));
    drop(parting);
    let mut came = Vec::new();
    far.read_to_end(&mut came).now_or_never().expect("closed").unwrap();
    assert_eq!(came, bytes(SOCKET));
}
