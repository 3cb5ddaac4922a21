//! Fetches a key set from its issuer: one GET over hyper, on a connection of its own.
//!
//! It is a few kilobytes an hour, so there is no pool and no HTTP/2, and a library for whole clients would bring along much that
//! must then be turned off. Redirects are not followed: keys come from where the configuration says.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{tls::in_words, types::Secret};

/// For all of it: finding the name, connecting, the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer. Those of large issuers, with the certificates of each key, have some 20 KiB.
const MAX_ANSWER: usize = 512 << 10;

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Address {
    /// The address, or what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| format!("`{text}` is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{text}` does not start with `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL of keys has no user and no password".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// The URL for people. What stands in a query may be a key of its own, and goes into no log.
    pub(super) fn name(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let (path, query) = self.path.split_once('?').map_or((&*self.path, None), |(path, query)| (path, Some(query)));
        format!("{scheme}://{}{path}{}", self.authority, query.map_or(String::new(), |_| format!("?{}", Secret::HIDDEN)))
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// It leads to this machine, where nobody listens in.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// A key set as it was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// For how long it may be kept, if it says so.
    pub(super) max_age: Option<Duration>,
}

/// Fetches it, or says why not. `tls` is there for an address that needs it.
pub(super) async fn fetch(address: &Address, tls: Option<Arc<ClientConfig>>) -> Result<Answer, String> {
    let exchange = async {
        let stream =
            TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| match error.raw_os_error() {
                // From the resolver, which has words of its own.
                None => error.to_string(),
                Some(_) => error.kind().to_string(),
            })?;
        let Some(config) = tls else { return ask(stream, address).await };
        let name = ServerName::try_from(address.host.clone()).map_err(|_| "the host has no name to verify".to_owned())?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        ask(connecting.await.map_err(|error| format!("TLS handshake failed: {}", in_words(&error.to_string())))?, address).await
    };
    let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| late())
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin>(stream: S, address: &Address) -> Result<Answer, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(&address.path)
        .header(header::HOST, &address.authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async { read(sender.send_request(request).await.map_err(failed)?).await };
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

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(format!("the answer is {status}, and redirects are not followed")),
        status => return Err(format!("the answer is {status}")),
    }
    let max_age = max_age(response.headers());
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    Ok(Answer { body, max_age })
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|one| one.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_once() {
        let address =
            |text: &str| Address::parse(text).map(|a| (a.is_tls(), a.is_loopback(), a.host, a.port, a.authority, a.path));
        let found = |tls, local, host: &str, port, authority: &str, path: &str| {
            Ok((tls, local, host.into(), port, authority.into(), path.into()))
        };
        assert_eq!(address("https://a.test/x?y"), found(true, false, "a.test", 443, "a.test", "/x?y"));
        assert_eq!(address("http://localhost:81"), found(false, true, "localhost", 81, "localhost:81", "/"));
        assert_eq!(address("http://[::1]:81/k"), found(false, true, "::1", 81, "[::1]:81", "/k"));
        assert_eq!(address("http://127.1.2.3/k"), found(false, true, "127.1.2.3", 80, "127.1.2.3", "/k"));
        for wrong in ["", "a.test", "/x", "ftp://a.test", "https://u:p@a.test/", "https:///x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_in_the_query_is_not_shown() {
        let name = |text: &str| Address::parse(text).unwrap().name();
        assert_eq!(name("https://a.test:444/keys?token=hunter2"), "https://a.test:444/keys?[hidden]");
        assert_eq!((name("http://[::1]:81/k"), name("https://a.test")), ("http://[::1]:81/k".into(), "https://a.test/".into()));
    }

    #[test]
    fn an_answer_may_say_how_long_it_lasts() {
        let age = |value: &'static str| {
            max_age(&HeaderMap::from_iter([(header::CACHE_CONTROL, http::HeaderValue::from_static(value))]))
        };
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!((age("no-store"), age("max-age=x"), age("s-max-age=1")), (None, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(fetch(&address, None).await.map(|_| ()), Err("no answer within 5 s".to_owned()));
        assert!(began.elapsed() >= PATIENCE);
    }
}
