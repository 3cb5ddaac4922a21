//! One request over a connection of its own: for what Weir asks of others, a few times an hour.
//!
//! So there is no pool and no HTTP/2, and a library for whole clients would bring along much that must then be turned off. Redirects are
//! not followed: what is asked for comes from where the configuration says.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    tls::{ClientTlsError, Trust, client_config, in_words},
    types::{Secret, bare_host},
};

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Url {
    /// The URL, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| format!("`{text}` is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{text}` does not start with `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL has no user and no password here".into());
        }
        let host = bare_host(authority.host()).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// The URL for people. What stands in a query may be a key of its own, and goes into no log.
    pub fn name(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let (path, query) = self.path.split_once('?').map_or((&*self.path, None), |(path, query)| (path, Some(query)));
        format!("{scheme}://{}{path}{}", self.authority, query.map_or(String::new(), |_| format!("?{}", Secret::HIDDEN)))
    }

    /// Does it need TLS?
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// It leads to this machine, where nobody listens in.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// What a connection to it is made with; `None` for one without TLS. Reads files: call it when the configuration is compiled.
    pub fn client_tls(&self, trust: Trust<'_>) -> Result<Option<Arc<ClientConfig>>, ClientTlsError> {
        if !self.tls {
            return Ok(None);
        }
        let mut config = client_config(trust, None)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }

    /// The same with one more parameter in its query.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        let sign = if self.path.contains('?') { '&' } else { '?' };
        self.path = format!("{}{sign}{key}={}", self.path, utf8_percent_encode(value, NON_ALPHANUMERIC));
        self
    }
}

/// What is put up with.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For all of it: finding the name, connecting, the answer.
    pub time: Duration,
    /// The longest answer, in bytes.
    pub bytes: usize,
}

/// Sends a request, whose target is replaced by the path of the URL, and reads the answer whole; or says why there is none. `tls` is there
/// for a URL that needs it.
pub async fn ask(
    url: &Url,
    request: Request<Bytes>,
    tls: Option<Arc<ClientConfig>>,
    patience: Patience,
) -> Result<Response<Bytes>, String> {
    let exchange = async {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| match error.raw_os_error() {
            // From the resolver, which has words of its own.
            None => error.to_string(),
            Some(_) => error.kind().to_string(),
        })?;
        let Some(config) = tls.filter(|_| url.tls) else { return send(stream, url, request, patience).await };
        let name = ServerName::try_from(url.host.clone()).map_err(|_| "the host has no name to verify".to_owned())?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = connecting.await.map_err(|error| format!("TLS handshake failed: {}", in_words(&error.to_string())))?;
        send(stream, url, request, patience).await
    };
    let late = || Err(format!("no answer within {} s", patience.time.as_secs()));
    tokio::time::timeout(patience.time, exchange).await.unwrap_or_else(|_| late())
}

async fn send<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: S,
    url: &Url,
    request: Request<Bytes>,
    patience: Patience,
) -> Result<Response<Bytes>, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = request.map(Full::new);
    *request.uri_mut() = url.path.parse().map_err(|_| format!("`{}` is no target", url.path))?;
    let host = HeaderValue::try_from(&url.authority).map_err(|_| format!("`{}` is no host", url.authority))?;
    request.headers_mut().insert(header::HOST, host);
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
    let answer = async {
        let (parts, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        let body = Limited::new(body, patience.bytes).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    let moving = async {
        // Whoever reads the answer learns of its end.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = moving => never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_once() {
        let url = |text: &str| Url::parse(text).map(|a| (a.is_tls(), a.is_loopback(), a.host, a.port, a.authority, a.path));
        let found = |tls, local, host: &str, port, authority: &str, path: &str| {
            Ok((tls, local, host.into(), port, authority.into(), path.into()))
        };
        assert_eq!(url("https://a.test/x?y"), found(true, false, "a.test", 443, "a.test", "/x?y"));
        assert_eq!(url("http://localhost:81"), found(false, true, "localhost", 81, "localhost:81", "/"));
        assert_eq!(url("http://[::1]:81/k"), found(false, true, "::1", 81, "[::1]:81", "/k"));
        assert_eq!(url("http://127.1.2.3/k"), found(false, true, "127.1.2.3", 80, "127.1.2.3", "/k"));
        for wrong in ["", "a.test", "/x", "ftp://a.test", "https://u:p@a.test/", "https:///x"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_in_the_query_is_not_shown() {
        let name = |text: &str| Url::parse(text).unwrap().name();
        assert_eq!(name("https://a.test:444/keys?token=hunter2"), "https://a.test:444/keys?[hidden]");
        assert_eq!((name("http://[::1]:81/k"), name("https://a.test")), ("http://[::1]:81/k".into(), "https://a.test/".into()));
    }

    #[test]
    fn a_parameter_is_added_to_those_that_are_there() {
        let with = |text: &str| Url::parse(text).unwrap().with("domain", "*.a b").path;
        assert_eq!(
            (with("http://a/x"), with("http://a/?k=1")),
            ("/x?domain=%2A%2Ea%20b".into(), "/?k=1&domain=%2A%2Ea%20b".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap();
        let began = tokio::time::Instant::now();
        let patience = Patience { time: Duration::from_secs(5), bytes: 1 };
        let answer = ask(&url, Request::new(Bytes::new()), None, patience).await;
        assert_eq!(answer.map(|_| ()), Err("no answer within 5 s".to_owned()));
        assert!(began.elapsed() >= patience.time);
    }
}
