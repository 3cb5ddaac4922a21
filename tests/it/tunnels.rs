//! What flows through an open tunnel: both directions at once, held back where nobody reads, and whole to its end.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpSocket, TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    support::{
        BoxStream, PATIENCE,
        certs::{ca, server_config},
        edge::{Edge, edge_from},
        wire::Wire,
        within,
    },
    websockets::{SWITCH, UPGRADE, to},
};

/// The kernel doubles it. Less than it gives by itself, and more than what makes loopback slow.
const SOCKET_BUFFER: u32 = 128 * 1024;

/// More than all sockets between the two ends can hold, of which Weir's grow to 36 MiB.
const MUCH: usize = 48 << 20;

/// More than they hold while nobody reads from them, which is when they do not grow.
const MESSAGE: usize = 8 << 20;

/// Some messages, one after the other.
const MESSAGES: usize = 3 * MESSAGE;

/// No write that is held back gets on within this.
const HELD_BACK: Duration = Duration::from_millis(500);

/// Cleartext or TLS, on the client's side and on the endpoint's.
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Both ends of an open tunnel, in the hands of the test.
struct Ends {
    edge: Edge,
    client: BoxStream,
    endpoint: BoxStream,
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(SOCKET_BUFFER).expect("SO_SNDBUF");
    socket.set_recv_buffer_size(SOCKET_BUFFER).expect("SO_RCVBUF");
    socket
}

async fn open((client_tls, endpoint_tls): (bool, bool)) -> Ends {
    let listening = socket();
    listening.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bind");
    let listener = listening.listen(8).expect("listen");
    let keys = if endpoint_tls { "tls: {sni: app.test, verify: false}" } else { "" };
    let edge = to(listener.local_addr().expect("an address"), keys).tls().start().await;
    let acceptor = TlsAcceptor::from(server_config(&ca().server(&["app.test"]), &[b"http/1.1"], None));
    let endpoint = async {
        let (stream, _) = listener.accept().await.expect("accept");
        let stream: BoxStream =
            if endpoint_tls { Box::new(acceptor.accept(stream).await.expect("a handshake")) } else { Box::new(stream) };
        switch(stream, None, SWITCH).await
    };
    let address = edge.address(if client_tls { "edge" } else { "web" });
    let trust = edge.trust().alpn("http/1.1");
    let client = async {
        let stream: TcpStream = socket().connect(address).await.expect("connect");
        let stream: BoxStream = if client_tls {
            let connected = TlsConnector::from(trust.config()).connect(trust.server_name(), stream).await;
            Box::new(connected.expect("a handshake"))
        } else {
            Box::new(stream)
        };
        switch(stream, Some(UPGRADE), "").await
    };
    let (client, endpoint) = within("a tunnel", async { tokio::join!(client, endpoint) }).await;
    Ends { edge, client, endpoint }
}

/// Says what opens the exchange, waits for the other side's head, and answers it.
async fn switch(mut stream: BoxStream, first: Option<&str>, answer: &str) -> BoxStream {
    stream.write_all(first.unwrap_or_default().as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    let mut wire = Wire::new(stream);
    wire.head().await.expect("a head").expect("a head, not a close");
    assert!(wire.pending().is_empty(), "nothing was said through the tunnel");
    wire.stream.write_all(answer.as_bytes()).await.expect("sent");
    wire.stream.flush().await.expect("sent");
    wire.stream
}

/// The byte at this place of everything that is sent in one direction.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// Sends so many bytes.
async fn send(to: &mut (impl AsyncWrite + Unpin), until: usize) {
    let mut at = 0;
    while at < until {
        let piece: Vec<u8> = (at..until.min(at + 48 * 1024)).map(byte).collect();
        to.write_all(&piece).await.expect("sent");
        to.flush().await.expect("sent");
        at += piece.len();
    }
}

/// Sends from the beginning until nothing more is taken, or everything is; answers how much was.
async fn send_until_held_back(to: &mut (impl AsyncWrite + Unpin)) -> usize {
    let mut sent = 0;
    while sent < MUCH {
        let piece: Vec<u8> = (sent..sent + 16 * 1024).map(byte).collect();
        match timeout(HELD_BACK, to.write(&piece)).await {
            Ok(taken) => sent += taken.expect("sent"),
            Err(_) => return sent,
        }
    }
    sent
}

/// Reads so many bytes, which must be the ones that were sent.
async fn receive(from: &mut (impl AsyncRead + Unpin), until: usize) {
    let mut at = 0;
    let mut piece = vec![0; 64 * 1024];
    while at < until {
        let room = piece.len().min(until - at);
        let count = from.read(&mut piece[..room]).await.expect("bytes");
        assert!(count > 0, "ended after {at} of {until}");
        assert!(piece[..count].iter().enumerate().all(|(offset, found)| *found == byte(at + offset)), "other bytes at {at}");
        at += count;
    }
}

/// Reads to the end, which comes after so many bytes.
async fn receive_all(from: &mut (impl AsyncRead + Unpin), until: usize) {
    receive(from, until).await;
    assert_eq!(from.read(&mut [0; 1]).await.expect("an orderly end"), 0, "more than {until}");
}

/// Reads a message, sends it back, and only then reads the next one.
async fn echo(mut stream: BoxStream) {
    let mut message = vec![0; MESSAGE];
    while stream.read_exact(&mut message).await.is_ok() {
        stream.write_all(&message).await.expect("sent");
        stream.flush().await.expect("sent");
    }
    let _ = stream.shutdown().await;
}

/// One end echoes in one task; the other writes and reads at the same time.
async fn echoes(writing: BoxStream, echoing: BoxStream) {
    let echo = tokio::spawn(echo(echoing));
    let (mut reader, mut writer) = split(writing);
    let both = async { tokio::join!(send(&mut writer, MESSAGES), receive(&mut reader, MESSAGES)) };
    timeout(PATIENCE * 3, both).await.expect("everything came back");
    writer.shutdown().await.expect("the end");
    within("the echo to end", echo).await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_as_fast_as_its_own_words_are_taken_is_no_obstacle() {
    for way in WAYS {
        let ends = open(way).await;
        echoes(ends.client, ends.endpoint).await;
        let ends = open(way).await;
        echoes(ends.endpoint, ends.client).await;
    }
}

/// One has written until nothing more was taken. The other one reads that only when its own message was read.
async fn flows_against(standing: BoxStream, flowing: BoxStream) {
    let ((mut came, mut standing), (mut reader, mut writer)) = (split(standing), split(flowing));
    let sent = send_until_held_back(&mut standing).await;
    let both = async { tokio::join!(send(&mut writer, MESSAGE), receive(&mut came, MESSAGE)) };
    within("the message", both).await;
    let both = async { tokio::join!(standing.flush(), receive(&mut reader, sent)) };
    within("what had stood still", both).await.0.expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_direction_flows_while_the_other_one_stands_still() {
    for way in WAYS {
        let ends = open(way).await;
        flows_against(ends.client, ends.endpoint).await;
        let ends = open(way).await;
        flows_against(ends.endpoint, ends.client).await;
    }
}

/// Nobody reads at first: the one who writes is held back by what the sockets between the two hold, and some hundred
/// kilobytes of Weir's. Then everything comes.
async fn held_back(writing: BoxStream, reading: BoxStream) {
    let ((mut came, _answering), (_answers, mut writer)) = (split(reading), split(writing));
    let sent = send_until_held_back(&mut writer).await;
    assert!(sent < MUCH, "{sent} bytes taken that nobody reads");
    let both = async { tokio::join!(writer.flush(), receive(&mut came, sent)) };
    within("what was sent", both).await.0.expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_back_who_writes() {
    for way in WAYS {
        let ends = open(way).await;
        held_back(ends.client, ends.endpoint).await;
        let ends = open(way).await;
        held_back(ends.endpoint, ends.client).await;
    }
}

#[tokio::test]
async fn little_is_kept_for_who_does_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let [front, back] = ["front", "back"].map(|name| directory.path().join(name));
    let listener = UnixListener::bind(&back).expect("bind");
    let _edge = edge_from(&format!(
        "listeners: {{web: {{address: 'unix:{}'}}}}\nadmin: off\nobservability: {{access_log: {{path: off}}}}\n\
         routes: [{{name: all, upstream: app}}]\nupstreams: {{app: {{endpoints: ['unix:{}']}}}}\n",
        front.display(),
        back.display()
    ))
    .await;
    let endpoint = async { switch(Box::new(listener.accept().await.expect("accept").0), None, SWITCH).await };
    let client = async { switch(Box::new(UnixStream::connect(&front).await.expect("connect")), Some(UPGRADE), "").await };
    let (mut client, mut endpoint) = within("a tunnel", async { tokio::join!(client, endpoint) }).await;
    // What a unix socket holds does not grow: 208 KiB in each of the two, where nobody has set them to something else.
    let bound = 1 << 20;
    let sent = [send_until_held_back(&mut client).await, send_until_held_back(&mut endpoint).await];
    assert!(sent.iter().all(|sent| *sent < bound), "{sent:?}");
    let both = async { tokio::join!(receive(&mut endpoint, sent[0]), receive(&mut client, sent[1])) };
    within("what was sent", both).await;
}

/// One ends when it has written much, while the other one has written until nothing more was taken, and has not read.
async fn ends_behind_much(leaving: BoxStream, staying: BoxStream) {
    let (mut leaving_reads, mut leaving) = split(leaving);
    let (mut reader, mut writer) = split(staying);
    let gone = tokio::spawn(async move {
        send(&mut leaving, MESSAGE).await;
        leaving.shutdown().await.expect("the end");
    });
    send_until_held_back(&mut writer).await;
    within("everything that was sent before the end", receive_all(&mut reader, MESSAGE)).await;
    within("the end", gone).await.expect("no panic");
    // What was on its way to the one that has left is there, too.
    receive(&mut leaving_reads, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_was_sent_before_the_end_arrives() {
    for way in WAYS {
        let ends = open(way).await;
        ends_behind_much(ends.client, ends.endpoint).await;
        let ends = open(way).await;
        ends_behind_much(ends.endpoint, ends.client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_of_who_leaves_without_a_farewell_arrive() {
    for way in WAYS {
        let Ends { edge, mut client, mut endpoint } = open(way).await;
        let gone = tokio::spawn(async move {
            send(&mut endpoint, MESSAGE).await;
            // Over TLS this is no orderly end: the close_notify is missing.
            drop(endpoint);
        });
        within("the last words", receive_all(&mut client, MESSAGE)).await;
        gone.await.expect("no panic");
        let log = &edge.access_log().await[0];
        assert_eq!((&log["status"], &log["bytes_out"]), (&101.into(), &MESSAGE.into()), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_cuts_a_tunnel_that_stands_still() {
    let Ends { edge, mut client, mut endpoint } = open((true, true)).await;
    tokio::join!(send_until_held_back(&mut client), send_until_held_back(&mut endpoint));
    assert!(!within("the end of the grace period", edge.server.stop_within(HELD_BACK)).await, "it was cut");
}
