//! In front of Pebble: counts what is asked, holds requests up, and speaks what Pebble does not: renewal information and profiles.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;

use tempfile::TempDir;

use crate::{
    edge::Setting,
    pebble::{Pebble, Ports, ask_tls},
    support::certs,
};

/// What a request was for.
pub const NEW_ORDER: &str = "order-plz";

/// It runs until the test ends.
pub struct Front {
    address: SocketAddr,
    state: Arc<State>,
    ports: Ports,
    /// The authority that signs Pebble's certificates.
    pub root: String,
    /// That of Pebble's own TLS, and storages.
    files: TempDir,
}

struct State {
    pebble: SocketAddr,
    root: String,
    paths: Mutex<Vec<String>>,
    payloads: Mutex<Vec<Value>>,
    /// The request after so many, counted from 0, gets no answer.
    stop_at: AtomicUsize,
    stopped: watch::Sender<bool>,
    /// What is said about renewals: RFC 9773.
    window: Mutex<Option<(String, String)>>,
    profiles: Mutex<Vec<&'static str>>,
}

impl Front {
    /// Stands in front of this one, with its certificate.
    pub async fn of(pebble: Pebble) -> Self {
        let (address, ports, root) = (pebble.address, pebble.ports, pebble.root().await);
        let files = TempDir::new().expect("a directory");
        std::fs::write(files.path().join("ca.pem"), pebble.ca.pem()).expect("a directory to write to");
        let identity = pebble.ca.server(&["127.0.0.1", "localhost"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let acceptor = TlsAcceptor::from(certs::server_config(&identity, &[b"http/1.1"], None));
        let state = Arc::new(State {
            pebble: address,
            root: pebble.ca.pem().to_owned(),
            paths: Mutex::default(),
            payloads: Mutex::default(),
            stop_at: AtomicUsize::new(usize::MAX),
            stopped: watch::Sender::new(false),
            window: Mutex::default(),
            profiles: Mutex::default(),
        });
        let address = listener.local_addr().expect("an address");
        let front = Self { address, state: state.clone(), ports, root, files };
        tokio::spawn(async move {
            let _pebble = pebble;
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let state = state.clone();
                        async move { Ok::<_, std::convert::Infallible>(state.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        front
    }

    /// An edge for these hosts, whose authority this is, at the ports where that looks for proofs. Those with the same name share a storage.
    pub fn setting(&self, storage: &str, hosts: &[&str]) -> Setting {
        let directory = format!("https://{}/dir", self.address);
        let storage = self.files.path().join(storage);
        Setting::at(&directory, &self.files.path().join("ca.pem"), storage.to_str().expect("UTF-8"), self.ports, hosts)
    }

    /// Which of all requests was the first whose path has this in it, from 0.
    pub fn position(&self, what: &str) -> usize {
        self.state.paths.lock().iter().position(|path| path.contains(what)).expect("a request")
    }

    /// How often something was asked whose path has this in it.
    pub fn asked(&self, what: &str) -> usize {
        self.state.paths.lock().iter().filter(|path| path.contains(what)).count()
    }

    /// What new orders said.
    pub fn orders(&self) -> Vec<Value> {
        self.state.payloads.lock().clone()
    }

    /// Answers no more after so many requests from now; `None` answers all again.
    pub fn stop_after(&self, requests: Option<usize>) {
        let now = self.state.paths.lock().len();
        self.state.stop_at.store(requests.map_or(usize::MAX, |more| now + more), SeqCst);
        self.state.stopped.send_replace(false);
    }

    /// Waits until a request got no answer.
    pub async fn stopped(&self) {
        let mut stopped = self.state.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Wants certificates to be renewed from then to then.
    pub fn wants_renewal(&self, start: &str, end: &str) {
        *self.state.window.lock() = Some((start.to_owned(), end.to_owned()));
    }

    pub fn has_profile(&self, name: &'static str) {
        self.state.profiles.lock().push(name);
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let number = {
            let mut paths = self.paths.lock();
            paths.push(path.clone());
            paths.len() - 1
        };
        if number >= self.stop_at.load(SeqCst) {
            self.stopped.send_replace(true);
            std::future::pending::<()>().await;
        }
        if path.starts_with("/renewal-info/") {
            return self.renewal_info();
        }
        let host = request.headers()[header::HOST].clone();
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let payload = (path.contains(NEW_ORDER)).then(|| payload(&body));
        if let Some(payload) = &payload {
            self.payloads.lock().push(payload.clone());
        }
        let answer = ask_tls(self.pebble, &self.root, Request::from_parts(parts, Full::new(body))).await;
        let (mut parts, mut body) = answer.into_parts();
        if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
            if path == "/dir" {
                if self.window.lock().is_some() {
                    value["renewalInfo"] = format!("https://{}/renewal-info", host.to_str().expect("a host")).into();
                }
                let profiles = self.profiles.lock();
                if !profiles.is_empty() {
                    value["meta"]["profiles"] = profiles.iter().map(|name| (name.to_string(), json!("a profile"))).collect();
                }
            }
            // RFC 9773 section 5: the answer says it again.
            if let Some(replaces) =
                payload.as_ref().and_then(|payload| payload.get("replaces")).filter(|_| parts.status.is_success())
            {
                value["replaces"] = replaces.clone();
            }
            body = value.to_string().into();
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        Response::from_parts(parts, Full::new(body))
    }

    fn renewal_info(&self) -> Response<Full<Bytes>> {
        let Some((start, end)) = self.window.lock().clone() else {
            return Response::builder().status(404).body(Full::default()).expect("an answer");
        };
        let info = json!({"suggestedWindow": {"start": start, "end": end}});
        let answer = Response::builder().header("retry-after", "60").header("content-type", "application/json");
        answer.body(Full::new(info.to_string().into())).expect("an answer")
    }
}

/// What is signed.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).expect("JOSE");
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str().expect("a payload")).expect("base64url");
    serde_json::from_slice(&payload).unwrap_or_default()
}
