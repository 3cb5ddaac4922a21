//! The client: one connection, in cleartext or over TLS, and what it does with it.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::origin::{FRAME_HEAD, HUGE, MASK, MESSAGE, WEBSOCKET_KEY};

/// The host of all requests, and the name in the certificate.
pub const HOST: &str = "bench.example";

/// Opens connections.
#[derive(Clone)]
pub struct Client {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    http3: Arc<ClientConfig>,
}

/// Where to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: bool,
}

impl Client {
    /// One cipher and one group for key exchange, so that every program does the same work.
    pub fn new() -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let config = |protocol: &str| -> anyhow::Result<Arc<ClientConfig>> {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified))
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            // A resumed session would keep other memory than a new one.
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        Ok(Self { http1: config("http/1.1")?, http2: config("h2")?, http3: config("h3")? })
    }

    /// One that resumes the sessions of its own connections.
    pub fn with_sessions(&self) -> Self {
        let mut http1 = ClientConfig::clone(&self.http1);
        http1.resumption = Resumption::in_memory_sessions(8);
        Self { http1: Arc::new(http1), ..self.clone() }
    }

    pub async fn open(&self, target: Target) -> anyhow::Result<Connection> {
        let stream = connect(target.address).await?;
        let mut resumed = false;
        let stream: Box<dyn Stream> = if target.tls {
            let stream = TlsConnector::from(self.http1.clone()).connect(ServerName::try_from(HOST)?, stream).await?;
            resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            Box::new(stream)
        } else {
            Box::new(stream)
        };
        Ok(Connection { stream, resumed, buffer: vec![0; 128 << 10] })
    }

    /// A connection for HTTP/3, on a socket of its own, with these windows.
    pub async fn open_h3(&self, target: Target, stream: u32, connection: u32) -> anyhow::Result<quinn::Connection> {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(stream.into()).receive_window(connection.into());
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(self.http3.clone())?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(endpoint.connect_with(config, target.address, HOST)?.await?)
    }

    /// A connection for HTTP/2.
    pub async fn open_h2(&self, target: Target) -> anyhow::Result<impl Stream + use<>> {
        ensure!(target.tls, "HTTP/2 is measured over TLS");
        let connector = TlsConnector::from(self.http2.clone());
        Ok(connector.connect(ServerName::try_from(HOST)?, connect(target.address).await?).await?)
    }
}

/// Verifies nothing: a signature costs more to verify than to make, and the load must not be the slower side.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// The TLS handshake took up an earlier session.
    pub resumed: bool,
    buffer: Vec<u8>,
}

impl Connection {
    /// With room for small answers only, where many connections are open.
    pub fn with_small_buffer(mut self) -> Self {
        self.buffer = vec![0; 1 << 10];
        self
    }

    /// Sends a request and reads the answer, whose body has this length.
    pub async fn ask(&mut self, request: &[u8], length: usize) -> anyhow::Result<()> {
        self.send(request).await?;
        let (head, mut got) = self.head().await?;
        let text = &self.buffer[..head];
        ensure!(text.starts_with(b"HTTP/1.1 200"), "an answer that begins with {:?}", first_line(text));
        ensure!(content_length(text)? == length, "an answer of another length: {:?}", String::from_utf8_lossy(text));
        while got < head + length {
            // Of a body only its length matters.
            got += self.read(0).await?;
        }
        ensure!(got == head + length, "more came than was asked for");
        Ok(())
    }

    /// Nothing may come any more, and the other side closes. Over TLS, not all say so first.
    pub async fn closed(&mut self) -> anyhow::Result<()> {
        let more = match self.stream.read(&mut self.buffer).await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            more => more?,
        };
        ensure!(more == 0, "bytes after the answer");
        Ok(())
    }

    pub async fn upgrade(&mut self) -> anyhow::Result<()> {
        let fields = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n"
        );
        self.send(&request("/websocket", &fields)).await?;
        let (head, got) = self.head().await?;
        let text = &self.buffer[..head];
        ensure!(text.starts_with(b"HTTP/1.1 101"), "an answer that begins with {:?}", first_line(text));
        ensure!(got == head, "bytes after the head");
        Ok(())
    }

    /// A message there and back.
    pub async fn echo(&mut self, frame: &[u8], payload: &[u8]) -> anyhow::Result<()> {
        self.send(frame).await?;
        let answer = &mut self.buffer[..FRAME_HEAD + MESSAGE];
        self.stream.read_exact(answer).await?;
        ensure!(answer[FRAME_HEAD..] == *payload, "another message came back");
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS may keep something back.
        self.stream.flush().await
    }

    /// The length of the head, and how much is in the buffer.
    async fn head(&mut self) -> anyhow::Result<(usize, usize)> {
        let mut got = 0;
        loop {
            got += self.read(got).await?;
            if let Some(end) = memchr::memmem::find(&self.buffer[..got], b"\r\n\r\n") {
                return Ok((end + 4, got));
            }
        }
    }

    async fn read(&mut self, at: usize) -> anyhow::Result<usize> {
        let count = self.stream.read(&mut self.buffer[at..]).await?;
        ensure!(count > 0, "the connection was closed");
        Ok(count)
    }
}

fn first_line(head: &[u8]) -> String {
    String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned()
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME)));
    let value = std::str::from_utf8(&line.context("an answer without a length")?[NAME.len()..])?;
    Ok(value.trim().parse()?)
}

pub fn request(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n{fields}\r\n").into_bytes()
}

/// A request with a body of 10 MiB.
pub fn upload() -> Vec<u8> {
    let mut upload =
        format!("POST /upload HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nContent-Length: {HUGE}\r\n\r\n").into_bytes();
    upload.resize(upload.len() + HUGE, b'u');
    upload
}

/// A masked text message, and its payload.
pub fn message() -> (Vec<u8>, Vec<u8>) {
    let (payload, mask) = (vec![b'm'; MESSAGE], [0x37, 0xfa, 0x21, 0x3d]);
    let mut frame = vec![0x81, 0x80 | MESSAGE as u8];
    frame.extend(mask);
    debug_assert_eq!(frame.len(), FRAME_HEAD + MASK);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    (frame, payload)
}
