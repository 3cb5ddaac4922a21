//! A well-behaved HTTP/2 client that shows what happened on the connection.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason, RecvStream, client};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    BoxStream,
    certs::Tls,
    client::{Secured, secure, tcp},
    within,
};

/// One HTTP/2 connection. Requests may run concurrently: [`H2Client::start`] returns at once.
pub struct H2Client {
    sender: client::SendRequest<Bytes>,
    scheme: &'static str,
    ended: watch::Receiver<Option<Ended>>,
    driver: JoinHandle<()>,
}

/// How the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// In order.
    Closed,
    /// The other side sent GOAWAY with this code.
    GoAway(Reason),
    /// Otherwise: the text of the error.
    Broken(String),
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct H2Request {
    pub method: Method,
    pub authority: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct H2Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// Fields from pairs.
pub fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a field name");
        (name, value.parse::<HeaderValue>().expect("a field value"))
    };
    pairs.iter().map(pair).collect()
}

impl H2Request {
    /// A GET.
    pub fn get(authority: &str, path: &str) -> Self {
        Self { authority: authority.to_owned(), path: path.to_owned(), ..Self::default() }
    }
    /// A POST with this body.
    pub fn post(authority: &str, path: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(authority, path) }
    }
    /// With this field as well.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.extend(fields(&[(name, value)]));
        self
    }
    /// With these trailers.
    pub fn trailers(mut self, pairs: &[(&str, &str)]) -> Self {
        self.trailers = Some(fields(pairs));
        self
    }
}

impl H2Response {
    /// The value of the first field with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// The value of the first trailer with this name.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref().and_then(|trailers| trailers.get(name)).and_then(|value| value.to_str().ok())
    }
}

/// A request under way: its body is sent and its response read piece by piece.
pub struct Exchange {
    pub sending: h2::SendStream<Bytes>,
    response: client::ResponseFuture,
}

impl Exchange {
    /// Sends a piece of the body.
    pub fn send(&mut self, piece: impl Into<Bytes>, last: bool) {
        self.sending.send_data(piece.into(), last).expect("an open stream");
    }
    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        self.sending.send_reset(reason);
    }
    /// The two directions, each to be used while the other is.
    pub fn split(self) -> (h2::SendStream<Bytes>, client::ResponseFuture) {
        (self.sending, self.response)
    }
    /// The response's head; its body is read from the stream.
    pub async fn head(self) -> Result<http::Response<RecvStream>, h2::Error> {
        within("an HTTP/2 response", self.response).await
    }
    /// The whole response. The request must have been sent to its end, or the server answer early.
    pub async fn response(self) -> Result<H2Response, h2::Error> {
        // Kept, not dropped, while the response is read: dropping it would cancel the stream.
        let Self { sending: _sending, response } = self;
        let (head, mut stream) = within("an HTTP/2 response", response).await?.into_parts();
        let (body, trailers) = within("an HTTP/2 body", collect(&mut stream)).await?;
        Ok(H2Response { status: head.status, headers: head.headers, body, trailers })
    }
}

/// Reads a body to its end without a pause, but no faster than 4 MB in a second, and returns how many bytes there were.
pub async fn sip(stream: &mut RecvStream) -> Result<usize, h2::Error> {
    /// Given back together, lest the window ends up in crumbs.
    const SIP: usize = 32 << 10;
    let (mut length, mut owed) = (0, 0);
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        (length, owed) = (length + piece.len(), owed + piece.len());
        if owed >= SIP {
            tokio::time::sleep(std::time::Duration::from_micros(owed as u64 / 4)).await;
            stream.flow_control().release_capacity(std::mem::take(&mut owed))?;
        }
    }
    Ok(length)
}

/// The rest of a stream: its body and its trailers.
pub async fn collect(stream: &mut RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok((body.into(), stream.trailers().await?))
}

impl H2Client {
    /// Cleartext with prior knowledge (h2c).
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(Box::new(tcp(address).await), "http").await
    }

    /// TLS; offers `h2` and panics when the server does not take it.
    pub async fn connect_tls(address: SocketAddr, tls: &Tls) -> Self {
        let secured = secure(tcp(address).await, &tls.clone().alpn("h2")).await;
        let Secured { stream, alpn, .. } = secured.unwrap_or_else(|error| panic!("TLS with {address}: {error}"));
        assert_eq!(alpn.as_deref(), Some("h2"), "the server did not take h2");
        Self::over(stream, "https").await
    }

    async fn over(stream: BoxStream, scheme: &'static str) -> Self {
        let (sender, connection) = within("the HTTP/2 handshake", client::handshake(stream)).await.expect("HTTP/2");
        let (report, ended) = watch::channel(None);
        let driver = tokio::spawn(async move {
            let ended = match connection.await {
                Ok(()) => Ended::Closed,
                Err(error) if error.is_go_away() => Ended::GoAway(error.reason().expect("GOAWAY has a code")),
                Err(error) => Ended::Broken(error.to_string()),
            };
            report.send_replace(Some(ended));
        });
        Self { sender, scheme, ended, driver }
    }

    /// Sends the head of a request and nothing more.
    pub async fn open(&mut self, request: &H2Request) -> Result<Exchange, h2::Error> {
        self.open_with(request, false).await
    }

    async fn open_with(&mut self, request: &H2Request, last: bool) -> Result<Exchange, h2::Error> {
        let uri = Uri::builder().scheme(self.scheme).authority(request.authority.as_str()).path_and_query(request.path.as_str());
        let mut head = Request::new(());
        *head.method_mut() = request.method.clone();
        *head.uri_mut() = uri.build().expect("a URL");
        *head.headers_mut() = request.headers.clone();
        let mut sender = within("an HTTP/2 stream to be allowed", self.sender.clone().ready()).await?;
        let (response, sending) = sender.send_request(head, last)?;
        Ok(Exchange { sending, response })
    }

    /// Sends a whole request; its response can be awaited later.
    pub async fn start(&mut self, request: &H2Request) -> Result<Exchange, h2::Error> {
        let (has_body, trailers) = (!request.body.is_empty(), request.trailers.clone());
        let mut exchange = self.open_with(request, !has_body && trailers.is_none()).await?;
        if has_body {
            exchange.sending.send_data(request.body.clone(), trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            exchange.sending.send_trailers(trailers)?;
        }
        Ok(exchange)
    }

    /// Sends a whole request and reads its response.
    pub async fn send(&mut self, request: &H2Request) -> Result<H2Response, h2::Error> {
        self.start(request).await?.response().await
    }

    /// A GET that must succeed on the level of HTTP/2.
    pub async fn get(&mut self, authority: &str, path: &str) -> H2Response {
        self.send(&H2Request::get(authority, path)).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Waits for the end of the connection. A graceful GOAWAY ends it once its streams have ended.
    pub async fn ended(&mut self) -> Ended {
        let ended = within("the HTTP/2 connection to end", self.ended.wait_for(Option::is_some)).await;
        ended.expect("the driver reports before it ends").clone().expect("some")
    }
}

impl Drop for H2Client {
    fn drop(&mut self) {
        // Otherwise the driver, and with it the connection, would live on while a stream is open.
        self.driver.abort();
    }
}
