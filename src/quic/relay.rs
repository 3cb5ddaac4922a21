//! Datagrams from the process that owns a socket to the one that owned it before, until that has drained.
//!
//! Both write to the socket itself; only one reads it. The other reads from a link between the two: a pair of unix sockets that keeps the
//! bounds of messages and tells when its other end is gone. No privilege is needed, and nothing of the kernel.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use quinn::udp::{EcnCodepoint, RecvMeta};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{io::ReadBuf, net::UnixDatagram};

/// The longest datagram: that of the protocol is shorter, as this endpoint announces.
const LONGEST: usize = 4096;

/// Ahead of each datagram: where it comes from, where it went to, and its mark of congestion.
const HEAD: usize = 16 + 2 + 16 + 1 + 1;

/// Says that the other side reads the socket no more.
const LEFT: &[u8] = b"!";

/// Bytes that may wait in a link: what comes beyond it is lost, and sent again.
const WAITING: usize = 1024 * 1024;

/// One end of a link.
#[derive(Debug)]
pub(super) struct Link(UnixDatagram);

/// What comes through a link.
pub(super) enum Message<'a> {
    Datagram(RecvMeta, &'a [u8]),
    /// The other side reads the socket no more.
    Left,
    /// The other side is gone.
    Gone,
}

impl Link {
    /// Both ends of a new one, the second for another process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        for end in [&ours, &theirs] {
            end.set_send_buffer_size(WAITING)?;
        }
        Ok((Self::new(ours.into())?, theirs.into()))
    }

    /// One that was inherited.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(descriptor);
        socket.set_nonblocking(true)?;
        // A socket of another type than the name says: what is read and written is the same.
        UnixDatagram::from_std(socket).map(Self)
    }

    /// Sends a datagram on. False when the other side is gone.
    pub(super) fn pass(&self, meta: &RecvMeta, datagram: &[u8]) -> bool {
        let mut message = [0; LONGEST + HEAD];
        let Some(room) = message.get_mut(..HEAD + datagram.len()) else { return true };
        room[..16].copy_from_slice(&v6(meta.addr.ip()));
        room[16..18].copy_from_slice(&meta.addr.port().to_be_bytes());
        if let Some(to) = meta.dst_ip {
            room[18..34].copy_from_slice(&v6(to));
        }
        room[34] = family(Some(meta.addr.ip())) | family(meta.dst_ip) << 2;
        room[35] = meta.ecn.map_or(0, |ecn| ecn as u8);
        room[HEAD..].copy_from_slice(datagram);
        // What does not fit is lost, as on any network.
        self.send(room).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
    }

    /// Sends at once or not at all, whether or not the runtime knows already that there is room.
    fn send(&self, message: &[u8]) -> io::Result<()> {
        SockRef::from(&self.0).send(message).map(drop)
    }

    /// Says that this side reads the socket no more.
    pub(super) fn leave(&self) {
        // Nothing else was sent yet.
        let _ = self.send(LEFT);
    }

    /// Reads what comes next.
    pub(super) fn poll_next<R>(&self, cx: &mut Context<'_>, see: impl FnOnce(Message<'_>) -> R) -> Poll<R> {
        let mut space = [0; LONGEST + HEAD];
        let mut read = ReadBuf::new(&mut space);
        let message = match ready!(self.0.poll_recv(cx, &mut read)) {
            Err(_) => Message::Gone,
            Ok(()) if read.filled().is_empty() => Message::Gone,
            Ok(()) => parse(read.filled()),
        };
        Poll::Ready(see(message))
    }
}

fn parse(message: &[u8]) -> Message<'_> {
    let Some((head, datagram)) = message.split_first_chunk::<HEAD>() else { return Message::Left };
    let address = |at: usize, family: u8| {
        let address = Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| head[at + index]));
        match family & 3 {
            V4 => address.to_ipv4_mapped().map(IpAddr::from),
            V6 => Some(address.into()),
            _ => None,
        }
    };
    let Some(from) = address(0, head[34]) else { return Message::Left };
    let meta = RecvMeta {
        addr: SocketAddr::new(from, u16::from_be_bytes([head[16], head[17]])),
        len: datagram.len(),
        stride: datagram.len(),
        ecn: EcnCodepoint::from_bits(head[35]),
        dst_ip: address(18, head[34] >> 2),
    };
    Message::Datagram(meta, datagram)
}

const V4: u8 = 1;
const V6: u8 = 2;

/// An address of version 4 that is written as one of version 6 stays one: it is another for the connection.
fn family(address: Option<IpAddr>) -> u8 {
    match address {
        None => 0,
        Some(IpAddr::V4(_)) => V4,
        Some(IpAddr::V6(_)) => V6,
    }
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_datagram_comes_out_as_it_went_in() {
        let (here, there) = Link::pair().unwrap();
        let there = Link::new(there).unwrap();
        for (from, to) in
            [("192.0.2.1:5", "192.0.2.9"), ("[2001:db8::1]:6", "2001:db8::9"), ("[::ffff:192.0.2.1]:7", "::ffff:192.0.2.9")]
        {
            let ecn = Some(EcnCodepoint::Ce);
            let sent = RecvMeta { addr: from.parse().unwrap(), len: 3, stride: 3, ecn, dst_ip: Some(to.parse().unwrap()) };
            assert!(here.pass(&sent, b"abc"));
            poll_fn(|cx| {
                there.poll_next(cx, |message| {
                    let Message::Datagram(meta, datagram) = message else { panic!("a datagram") };
                    assert_eq!((meta.addr, meta.dst_ip, meta.ecn, datagram), (sent.addr, sent.dst_ip, sent.ecn, &b"abc"[..]));
                })
            })
            .await;
        }
        here.leave();
        assert!(poll_fn(|cx| there.poll_next(cx, |message| matches!(message, Message::Left))).await);
        drop(here);
        assert!(poll_fn(|cx| there.poll_next(cx, |message| matches!(message, Message::Gone))).await);
        assert!(!there.pass(&RecvMeta::default(), b"abc"));
    }
}
