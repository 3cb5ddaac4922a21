//! Edges that obtain certificates.

use std::{net::SocketAddr, path::Path};

use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    child::Weir,
    pebble::{Pebble, Ports},
    support::{
        certs::{Tls, tls},
        client::RawClient,
        free_port,
        wire::RawResponse,
    },
};

/// What an edge is made of.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The value of `acme`, as YAML in flow style.
    pub acme: String,
    /// The value of `tls.acme`.
    pub listener: String,
    /// Hosts of routes.
    pub hosts: Vec<String>,
    /// Where an authority looks for proofs: a listener in cleartext, and one with TLS.
    pub ports: Ports,
    /// Without one in cleartext.
    pub only_tls: bool,
    /// The value of `server`.
    pub server: String,
    /// Further keys at the top.
    pub more: String,
}

impl Setting {
    /// For these hosts, by this Pebble.
    pub fn of(pebble: &Pebble, storage: &Path, hosts: &[&str]) -> Self {
        Self::at(&pebble.directory(), &pebble.ca.file(), &storage.display().to_string(), pebble.ports, hosts)
    }

    pub fn at(directory: &str, ca: &Path, storage: &str, ports: Ports, hosts: &[&str]) -> Self {
        Self {
            acme: format!("{{directory: '{directory}', ca: '{}', storage: '{storage}', contact: ops@example.com}}", ca.display()),
            listener: "auto".to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ports,
            only_tls: false,
            server: "{}".to_owned(),
            more: String::new(),
        }
    }

    /// With another option of `acme`, or another value of one.
    pub fn with(mut self, option: &str) -> Self {
        let key = option.split_once(':').expect("a key").0;
        let options = self.acme.trim_matches(['{', '}']).split(", ");
        let kept: Vec<&str> = options.filter(|known| !known.starts_with(&format!("{key}:"))).chain([option]).collect();
        self.acme = format!("{{{}}}", kept.join(", "));
        self
    }

    fn yaml(&self, admin: u16) -> String {
        let Ports { http, tls } = self.ports;
        let cleartext = match self.only_tls {
            true => String::new(),
            // What redirects everything else answers an authority, too.
            false => format!("  plain: {{address: '127.0.0.1:{http}', redirect_to_https: true}}\n"),
        };
        let routes = self.hosts.iter().enumerate().map(|(index, host)| {
            format!("  - {{name: r{index}, match: {{host: '{host}'}}, respond: {{body: 'this is {host}'}}}}\n")
        });
        let routes: String =
            if self.hosts.is_empty() { "  - {name: all, respond: {body: any}}\n".to_owned() } else { routes.collect() };
        format!(
            "server: {}\nadmin: {{address: '127.0.0.1:{admin}', token: secret}}\nacme: {}\nlisteners:\n{cleartext}  edge: {{address: '127.0.0.1:{tls}', tls: {{acme: {}}}}}\nroutes:\n{routes}{}",
            self.server, self.acme, self.listener, self.more
        )
    }
}

/// One edge as a process.
pub struct Edge {
    pub weir: Weir,
    pub setting: Setting,
    admin: SocketAddr,
    directory: TempDir,
}

impl Edge {
    /// Starts it, and waits until it is ready.
    pub async fn start(setting: Setting) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let directory = TempDir::new().expect("a directory");
        let weir = Self::run(&directory, &setting, admin).await;
        Self { weir, setting, admin, directory }
    }

    async fn run(directory: &TempDir, setting: &Setting, admin: SocketAddr) -> Weir {
        let file = directory.path().join("weir.yaml");
        std::fs::write(&file, setting.yaml(admin.port())).expect("a directory to write to");
        let weir = Weir::spawn(&["run", "--config", file.to_str().expect("UTF-8")]);
        weir.err.line_with(" is ready: ").await;
        weir
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.weir.child.kill().await.expect("a process of ours");
    }

    /// Starts it again after its end.
    pub async fn restart(&mut self) {
        self.weir = Self::run(&self.directory, &self.setting, self.admin).await;
    }

    /// Takes another configuration.
    pub async fn reload(&mut self, setting: Setting) {
        std::fs::write(self.directory.path().join("weir.yaml"), setting.yaml(self.admin.port()))
            .expect("a directory to write to");
        self.setting = setting;
        let answer = self.admin("POST", "/api/v1/config/reload", "{}").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.setting.ports.tls))
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub async fn admin(&self, method: &str, path: &str, body: &str) -> RawResponse {
        let mut client = RawClient::connect(self.admin).await;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer secret\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            self.admin
        );
        client.exchange(head + body).await
    }

    /// How a name stands.
    pub async fn standing(&self, name: &str) -> Value {
        let all = self.admin("GET", "/api/v1/certificates", "").await.json();
        let names = all["automatic"].as_array().cloned().unwrap_or_default();
        names.into_iter().find(|one| one["name"] == name).unwrap_or(Value::Null)
    }

    /// Waits until there is a certificate for a name.
    pub async fn holds(&self, name: &str) {
        let standing = eventually!(self.standing(name).await, |standing: &Value| standing["state"] == "held");
        assert_eq!(standing["failures"], 0, "{standing}");
    }

    /// The certificate that a client gets who asks for a name and believes anybody.
    pub async fn certificate(&self, name: &str) -> Option<CertificateDer<'static>> {
        let client = RawClient::try_connect_tls(self.address(), &tls().sni(name)).await.ok()?;
        client.certificate().cloned()
    }

    /// A GET by a client that believes this authority alone.
    pub async fn get(&self, name: &str, root: &str) -> RawResponse {
        let mut client = RawClient::connect_tls(self.address(), &trusting(name, root)).await;
        client.get(name, "/").await
    }
}

/// A client that asks for a name, and believes this authority alone.
pub fn trusting(name: &str, root: &str) -> Tls {
    tls().sni(name).root(root)
}
