//! One client connection, HTTP/1.1 or HTTP/2.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{HttpRequest, HttpResponse, MAX_SHOWN, SendError, Transport, tls};

/// A connection that takes one request after the other.
pub(in crate::lab) enum Connection {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub(in crate::lab) async fn open(uri: &Uri, transport: &Transport) -> Result<Self, SendError> {
        let host = uri.host().ok_or_else(|| SendError::Url(format!("`{uri}` names no host")))?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = transport.address.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let connected = TcpStream::connect(&address).await;
        let stream = connected.map_err(|source| SendError::Connect { address, source })?;
        let _ = stream.set_nodelay(true);
        if !secure {
            return Self::shake_hands(TokioIo::new(stream), transport.http2_only).await;
        }
        let stream = tls::connect(stream, host, transport).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self::shake_hands(TokioIo::new(stream), h2).await
    }

    async fn shake_hands<S>(stream: S, h2: bool) -> Result<Self, SendError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        // The drivers end with the connection; what went wrong reaches the request that was on it.
        if h2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(driver);
            Ok(Self::H2(sender))
        } else {
            let (sender, driver) = http1::handshake(stream).await?;
            tokio::spawn(driver);
            Ok(Self::H1(sender))
        }
    }

    /// False once the server has closed it.
    pub(in crate::lab) fn is_usable(&self) -> bool {
        match self {
            Connection::H1(sender) => !sender.is_closed(),
            Connection::H2(sender) => !sender.is_closed(),
        }
    }

    pub(super) async fn exchange(&mut self, request: &HttpRequest) -> Result<HttpResponse, SendError> {
        let (parts, body) = self.send(request).await?.into_parts();
        let body = Limited::new(body, MAX_SHOWN).collect().await.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => SendError::Http(*error),
            Err(error) if error.is::<LengthLimitError>() => SendError::TooLarge,
            Err(error) => SendError::Io(std::io::Error::other(error)),
        })?;
        Ok(HttpResponse { version: parts.version, status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }

    /// Reads the response to its end without keeping it: its status and who says to have given it.
    pub(in crate::lab) async fn exchange_discarding(
        &mut self,
        request: &HttpRequest,
    ) -> Result<(StatusCode, Option<String>), SendError> {
        let mut response = self.send(request).await?;
        while let Some(frame) = response.frame().await {
            frame?;
        }
        let backend = response.headers().get("x-backend");
        Ok((response.status(), backend.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())))
    }

    async fn send(&mut self, request: &HttpRequest) -> Result<Response<Incoming>, SendError> {
        let mut outgoing = Request::new(Full::new(request.body.clone()));
        *outgoing.method_mut() = request.method.clone();
        *outgoing.headers_mut() = request.headers.clone();
        match self {
            Connection::H1(sender) => {
                *outgoing.uri_mut() = origin_form(&request.uri);
                if let (None, Some(authority)) = (request.headers.get(header::HOST), request.uri.authority()) {
                    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
                    let host = HeaderValue::from_str(host).map_err(|error| SendError::Url(error.to_string()))?;
                    outgoing.headers_mut().insert(header::HOST, host);
                }
                sender.ready().await?;
                Ok(sender.send_request(outgoing).await?)
            }
            Connection::H2(sender) => {
                *outgoing.uri_mut() = authority_from_host(&request.uri, outgoing.headers_mut().remove(header::HOST))?;
                sender.ready().await?;
                Ok(sender.send_request(outgoing).await?)
            }
        }
    }
}

/// The path and query: what a request to an origin carries in HTTP/1.1.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map(Uri::from).unwrap_or_default()
}

/// HTTP/2 has `:authority` in the place of `host`, so a host that the user gave goes there.
fn authority_from_host(uri: &Uri, host: Option<HeaderValue>) -> Result<Uri, SendError> {
    let Some(host) = host else { return Ok(uri.clone()) };
    let mut parts = uri.clone().into_parts();
    let authority = host.as_bytes().try_into();
    parts.authority = Some(authority.map_err(|_| SendError::Url(format!("{host:?} is not a host")))?);
    Uri::from_parts(parts).map_err(|error| SendError::Url(error.to_string()))
}
