//! A Pebble of the test's own: an authority that checks names as a public one does, at ports of the test's choice.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};
use tokio_rustls::TlsConnector;

use crate::support::{
    certs::{self, Ca},
    free_port,
    tools::tool,
    within,
};

/// How Pebble is to be.
#[derive(Default)]
pub struct Options {
    /// Of a hundred nonces that are good, so many are refused.
    pub bad_nonces: u32,
    /// Accounts need this key: its name, and the key in base64url.
    pub eab: Option<(&'static str, &'static str)>,
    /// How long certificates are valid, in seconds. Pebble's own choice is five years.
    pub validity: Option<u64>,
}

/// Where an authority looks for proofs.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub http: u16,
    pub tls: u16,
}

impl Ports {
    pub fn free() -> Self {
        Self { http: free_port(), tls: free_port() }
    }
}

/// A Pebble that runs, with its name server.
pub struct Pebble {
    /// The authority of its own TLS.
    pub ca: Ca,
    /// Where it answers.
    pub address: SocketAddr,
    pub ports: Ports,
    management: SocketAddr,
    names: SocketAddr,
    children: [Child; 2],
    _directory: TempDir,
}

/// Starts one. `None`, and a word of it, where there is none.
pub async fn pebble(options: Options) -> Option<Pebble> {
    pebble_asking(options, None).await
}

/// The same, which asks this name server instead of its own.
pub async fn pebble_asking(options: Options, name_server: Option<SocketAddr>) -> Option<Pebble> {
    let (pebble, challtestsrv) = (tool("pebble")?, tool("pebble-challtestsrv")?);
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let [address, management, names, records] = std::array::from_fn(|_| local(free_port()));
    let ports = Ports::free();
    let ca = certs::ca();
    let identity = ca.server(&["127.0.0.1", "localhost"]);
    let directory = TempDir::new().expect("a directory");
    let config = serde_json::json!({"pebble": {
        "listenAddress": address.to_string(),
        "managementListenAddress": management.to_string(),
        "certificate": identity.cert_file,
        "privateKey": identity.key_file,
        "httpPort": ports.http,
        "tlsPort": ports.tls,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": options.eab.is_some(),
        "externalAccountMACKeys": options.eab.map(|(kid, key)| serde_json::json!({kid: key})).unwrap_or_default(),
        "certificateValidityPeriod": options.validity.unwrap_or(90 * 86_400),
    }});
    let file = directory.path().join("pebble.json");
    std::fs::write(&file, config.to_string()).expect("a directory to write to");
    let record_server = started(Command::new(challtestsrv).args([
        "-dns01",
        &records.to_string(),
        "-management",
        &names.to_string(),
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-defaultIPv6",
        "",
    ]));
    let authority = started(
        Command::new(pebble)
            .args([
                Path::new("-config"),
                &file,
                Path::new("-dnsserver"),
                &PathBuf::from(name_server.unwrap_or(records).to_string()),
            ])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", options.bad_nonces.to_string()),
    );
    let pebble = Pebble { ca, address, ports, management, names, children: [record_server, authority], _directory: directory };
    for address in [address, management, names] {
        eventually!(TcpStream::connect(address).await.is_ok());
    }
    Some(pebble)
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("it starts")
}

impl Pebble {
    /// Its directory, as users write it.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The authority that signs its certificates, in PEM.
    pub async fn root(&self) -> String {
        let request = Request::get("/roots/0").header("host", "localhost").body(Full::default()).expect("a request");
        let answer = ask_tls(self.management, self.ca.pem(), request).await;
        String::from_utf8(answer.into_body().to_vec()).expect("PEM")
    }

    /// Ends it.
    pub async fn stop(&mut self) {
        for child in &mut self.children {
            child.kill().await.expect("a process of ours");
        }
    }

    /// Where records are told to the name server, by HTTP.
    pub fn names(&self) -> SocketAddr {
        self.names
    }
}

/// One request over TLS that this authority vouches for.
pub async fn ask_tls(address: SocketAddr, root: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let config = certs::tls().root(root).config();
    let stream = within("a connection", TcpStream::connect(address)).await.expect("it accepts");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.expect("a handshake");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let (parts, body) = within("an answer", sender.send_request(request)).await.expect("an answer").into_parts();
    Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
}
