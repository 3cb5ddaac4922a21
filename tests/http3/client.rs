//! A client: requests by the library, and streams of bytes for what no library sends.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, VarInt, crypto::rustls::QuicClientConfig};

pub use crate::support::h3_raw::{code, number};
use crate::support::{certs::Tls, h3_raw::Frame, within};

/// An endpoint for clients with this TLS.
pub fn endpoint(tls: &Tls) -> Endpoint {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let tls = QuicClientConfig::try_from(tls.clone().alpn("h3").config()).expect("TLS 1.3");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    endpoint
}

/// A connection, with nothing of HTTP said yet.
pub async fn connect(edge: SocketAddr, tls: &Tls, name: &str) -> Result<Connection, ConnectionError> {
    let connecting = endpoint(tls).connect(edge, name).expect("a name");
    within("a connection over QUIC", connecting).await
}

/// A request and its response.
pub type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A connection that speaks HTTP/3.
pub struct Client {
    pub quic: Connection,
    send: SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Client {
    /// Connects, and asks for the certificate of `localhost`.
    pub async fn connect(edge: SocketAddr, tls: &Tls) -> Self {
        Self::over(connect(edge, tls, "localhost").await.expect("a connection")).await
    }

    /// Speaks HTTP/3 on this connection.
    pub async fn over(quic: Connection) -> Self {
        let (mut driver, send) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await.expect("HTTP/3");
        tokio::spawn(async move { driver.wait_idle().await });
        Self { quic, send }
    }

    /// Sends a head.
    pub async fn begin(&mut self, request: Request<()>) -> Result<Stream, h3::error::StreamError> {
        within("a stream", self.send.send_request(request)).await
    }

    /// A GET that must be answered whole.
    pub async fn get(&mut self, path: &str) -> Answer {
        let mut stream = self.begin(get(path)).await.expect("a stream");
        within("the end of a request", stream.finish()).await.expect("sent");
        answer(&mut stream).await.expect("an answer")
    }

    /// A GET whose response has begun.
    pub async fn download(&mut self, path: &str) -> Stream {
        let mut stream = self.begin(get(path)).await.expect("a stream");
        within("the end of a request", stream.finish()).await.expect("sent");
        assert_eq!(head(&mut stream).await.expect("a head").status(), 200);
        stream
    }

    /// Sends a request with this content.
    pub async fn send(&mut self, request: Request<()>, content: &[&[u8]]) -> Result<Answer, h3::error::StreamError> {
        let mut stream = self.begin(request).await?;
        for piece in content {
            // Whoever answers early may not take all of it.
            if within("content", stream.send_data(Bytes::copy_from_slice(piece))).await.is_err() {
                break;
            }
        }
        let _ = within("the end of a request", stream.finish()).await;
        answer(&mut stream).await
    }
}

/// A GET for this path.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).expect("a request")
}

/// A POST to this path.
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("https://localhost{path}")).body(()).expect("a request")
}

/// The head of the response.
pub async fn head(stream: &mut Stream) -> Result<Response<()>, h3::error::StreamError> {
    within("a response", stream.recv_response()).await
}

/// The next piece of the response.
pub async fn piece(stream: &mut Stream) -> Result<Option<Bytes>, h3::error::StreamError> {
    let piece = within("content", stream.recv_data()).await?;
    Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
}

/// What is left of the response's content.
pub async fn rest_of(stream: &mut Stream) -> Vec<u8> {
    let mut body = vec![];
    while let Some(piece) = piece(stream).await.expect("the rest") {
        body.extend_from_slice(&piece);
    }
    body
}

/// The whole response.
pub async fn answer(stream: &mut Stream) -> Result<Answer, h3::error::StreamError> {
    let (head, ()) = head(stream).await?.into_parts();
    let mut body = vec![];
    while let Some(piece) = piece(stream).await? {
        body.extend_from_slice(&piece);
    }
    let trailers = within("trailers", stream.recv_trailers()).await?;
    Ok(Answer { status: head.status, fields: head.headers, body, trailers })
}

/// A frame of this type.
pub fn frame(kind: u64, content: &[u8]) -> Vec<u8> {
    Frame::new(kind, content).bytes()
}

/// A HEADERS frame with these fields.
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    Frame::headers(fields).bytes()
}

/// A HEADERS frame that begins a request with this method, with these further fields.
pub fn request_frame(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let first = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    headers(&[&first[..], more].concat())
}

/// Opens a stream in one direction with these bytes.
pub async fn one_way(quic: &Connection, bytes: &[u8]) -> quinn::SendStream {
    let mut stream = within("a stream", quic.open_uni()).await.expect("a stream");
    stream.write_all(bytes).await.expect("written");
    stream
}

/// Opens the stream for settings, with none.
pub async fn control(quic: &Connection) -> quinn::SendStream {
    one_way(quic, &[&number(0)[..], &frame(4, b"")].concat()).await
}

/// How a connection ended: the code of HTTP/3 with which the edge closed it.
pub async fn closed(quic: &Connection) -> u64 {
    match within("the end of the connection", quic.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// What came on a stream until its end, or the code with which it was reset.
pub async fn rest(stream: &mut quinn::RecvStream) -> Result<Vec<u8>, VarInt> {
    match within("the end of a stream", stream.read_to_end(1 << 20)).await {
        Ok(bytes) => Ok(bytes),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code),
        Err(other) => panic!("{other}"),
    }
}
