//! `listen`: which sockets there are, and which servers are behind each.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::draft::Listener, super::draft::Names, super::draft::Tls, super::yaml::Node, Ctx, Directive, Scope, server::Server,
    value,
};

/// One `listen` of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// As our file has it.
    pub address: String,
    /// Over TLS.
    pub ssl: bool,
    /// For hosts of no server.
    pub default: bool,
    /// With a PROXY header in front.
    pub proxy_protocol: bool,
    /// HTTP/3, over UDP.
    pub quic: bool,
}

impl Listen {
    /// A `listen`, or why there is none of it.
    pub fn read(directive: &Directive, ssl_on: bool) -> Result<Self, &'static str> {
        let has = |word: &str| directive.args[1..].iter().any(|arg| arg == word);
        if directive.args.is_empty() {
            return Err("there is no address");
        }
        if has("udp") {
            return Err("UDP is not spoken");
        }
        Ok(Self {
            address: address(directive.arg(0)).ok_or("this is no address")?,
            ssl: has("ssl") || has("quic") || ssl_on,
            default: has("default_server") || has("default"),
            proxy_protocol: has("proxy_protocol"),
            quic: has("quic"),
        })
    }
}

/// `80`, `*:80`, `1.2.3.4`, `[::]:80`, `localhost:80`, `unix:/path`.
pub fn address(text: &str) -> Option<String> {
    if text.starts_with("unix:") {
        return Some(text.to_owned());
    }
    if let Ok(port) = text.parse::<u16>() {
        return Some(format!("0.0.0.0:{port}"));
    }
    let text = text.replacen("localhost", "127.0.0.1", 1);
    let text = text.strip_prefix("*:").map_or(text.clone(), |port| format!("0.0.0.0:{port}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    let ip: IpAddr = text.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(ip, 80).to_string())
}

/// A listener and the servers behind it.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Positions of its servers; the first is the default one.
    pub servers: Vec<usize>,
    /// Over TLS.
    pub ssl: bool,
}

/// One socket of nginx.
#[derive(Debug, Default)]
struct Socket {
    servers: Vec<usize>,
    default: Option<usize>,
    ssl: bool,
    proxy_protocol: bool,
    quic: bool,
}

/// The name of a listener at this address.
pub fn name(address: &str, ssl: bool) -> String {
    let word = if ssl { "https" } else { "http" };
    match address.rsplit_once(':').map(|(_, port)| port) {
        Some("80") if !ssl => word.to_owned(),
        Some("443") if ssl => word.to_owned(),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => format!("{word}-{port}"),
        _ => format!("{word}-{}", address.rsplit('/').next().unwrap_or_default()),
    }
}

/// Port and TLS of an address that means every address of the machine.
fn wildcard(address: &str) -> Option<&str> {
    address.strip_prefix("0.0.0.0:").or_else(|| address.strip_prefix("[::]:"))
}

impl Ctx {
    /// The listeners of these servers, which are put into the draft.
    pub(super) fn listeners(&mut self, scope: &Scope<'_>, servers: &[Server<'_>]) -> Vec<Group> {
        let mut sockets: BTreeMap<String, Socket> = BTreeMap::new();
        // As in the file.
        let mut order: Vec<String> = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            for listen in &server.listens {
                let socket = sockets.entry(listen.address.clone()).or_insert_with(|| {
                    order.push(listen.address.clone());
                    Socket::default()
                });
                if !socket.servers.contains(&index) {
                    socket.servers.push(index);
                }
                socket.ssl |= listen.ssl;
                socket.proxy_protocol |= listen.proxy_protocol;
                socket.quic |= listen.quic;
                if listen.default {
                    socket.default.get_or_insert(index);
                }
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut names = Names::default();
        for address in order {
            let Some(mut socket) = sockets.remove(&address) else { continue };
            let default = socket.default.unwrap_or(socket.servers[0]);
            socket.servers.retain(|index| *index != default);
            socket.servers.insert(0, default);
            // `0.0.0.0:80` and `[::]:80` are one listener when they have the same servers.
            let twin = groups.iter().position(|group| {
                let listener = self.draft.listeners.iter().find(|listener| listener.name == group.name);
                let same = wildcard(&address).is_some()
                    && listener.is_some_and(|listener| wildcard(&listener.addresses[0]) == wildcard(&address));
                same && group.ssl == socket.ssl && group.servers == socket.servers
            });
            if let Some(twin) = twin {
                let name = &groups[twin].name;
                if let Some(listener) = self.draft.listeners.iter_mut().find(|listener| listener.name == *name) {
                    listener.addresses.push(address);
                }
                continue;
            }
            let name = names.take(&name(&address, socket.ssl));
            let listener = self.listener(
                scope,
                servers,
                &socket,
                Listener { name: name.clone(), addresses: vec![address], ..Listener::default() },
            );
            self.draft.listeners.push(listener);
            groups.push(Group { name, servers: socket.servers, ssl: socket.ssl });
        }
        groups
    }

    fn listener(&mut self, scope: &Scope<'_>, servers: &[Server<'_>], socket: &Socket, mut listener: Listener) -> Listener {
        let scopes: Vec<Scope<'_>> = socket.servers.iter().map(|index| scope.inner(servers[*index].block)).collect();
        if socket.ssl {
            let mut tls = Tls::default();
            for (index, scope) in socket.servers.iter().zip(&scopes) {
                let comments = self.certificates(&servers[*index], scope, &mut tls);
                listener.comments.extend(comments);
            }
            if tls.certificates.is_empty() {
                listener.comments.push("no certificate was found: this one is for trying things out".into());
                let names: Vec<String> = socket
                    .servers
                    .iter()
                    .flat_map(|index| servers[*index].names.iter().map(ToString::to_string))
                    .filter(|name| !name.contains('*'))
                    .collect();
                tls.self_signed = if names.is_empty() { vec!["localhost".into()] } else { names };
            }
            if socket.quic {
                tls.more.push(("h3".into(), Node::bare(true)));
            }
            self.tls_options(&scopes, &mut tls, &mut listener.comments);
            listener.tls = Some(tls);
        }
        self.trust(socket, &scopes, &mut listener);
        let http = http_options(&scopes);
        if !http.is_empty() {
            listener.more.push(("http".into(), Node::Map(http)));
        }
        listener
    }

    fn certificates(&mut self, server: &Server<'_>, scope: &Scope<'_>, tls: &mut Tls) -> Vec<String> {
        let (certs, keys) = (scope.all(&["ssl_certificate"]), scope.all(&["ssl_certificate_key"]));
        let mut comments = Vec::new();
        for (cert, key) in certs.iter().zip(keys) {
            let pair = (scope.text(cert.arg(0)), scope.text(key.arg(0)));
            if pair.0.contains('$') || pair.0.starts_with("data:") || pair.0.starts_with("engine:") {
                comments.push(self.left(cert, "certificates are files, named in the configuration"));
            } else if !tls.certificates.contains(&pair) {
                tls.certificates.push(pair);
            }
        }
        comments.extend(server.tls_left.clone());
        comments
    }

    fn tls_options(&mut self, scopes: &[Scope<'_>], tls: &mut Tls, comments: &mut Vec<String>) {
        if let Some(protocols) = scopes[0].one("ssl_protocols") {
            let has = |version: &str| protocols.args.iter().any(|arg| arg == version);
            if !has("TLSv1.2") && has("TLSv1.3") {
                tls.more.push(("min_version".into(), Node::text("1.3")));
            } else if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
                comments.push(self.differs(protocols, "TLS 1.2 is the oldest version that is spoken"));
            }
        }
        let verified =
            scopes.iter().find_map(|scope| Some((scope.one("ssl_verify_client")?, scope.value("ssl_client_certificate")?)));
        if let Some((verify, ca)) = verified {
            let mut client = vec![("ca".to_owned(), Node::text(ca))];
            match verify.arg(0) {
                "on" => {}
                "optional" => client.push(("required".into(), Node::bare(false))),
                "off" => return,
                _ => {
                    comments.push(self.left(verify, "client certificates are required or verified when they are sent"));
                    return;
                }
            }
            if scopes.len() > 1 {
                comments.push(self.differs(verify, "it is for all hosts of the listener"));
            }
            tls.more.push(("client_certificates".into(), Node::Map(client)));
        }
    }

    /// `set_real_ip_from` and `proxy_protocol`.
    fn trust(&mut self, socket: &Socket, scopes: &[Scope<'_>], listener: &mut Listener) {
        let mut ranges = Vec::new();
        for directive in scopes.iter().flat_map(|scope| scope.all(&["set_real_ip_from"])) {
            match directive.arg(0).parse::<crate::types::Cidr>() {
                Ok(range) if !ranges.contains(&range.to_string()) => ranges.push(range.to_string()),
                Ok(_) => {}
                Err(_) => listener.comments.push(self.left(directive, "trusted proxies are address ranges")),
            }
        }
        if let Some(header) = scopes.iter().find_map(|scope| scope.one("real_ip_header"))
            && !matches!(header.arg(0).to_ascii_lowercase().as_str(), "x-forwarded-for" | "proxy_protocol" | "x-real-ip")
        {
            listener
                .comments
                .push(self.left(header, "the client is told by `X-Forwarded-For`, `Forwarded` or the PROXY protocol"));
        }
        if socket.proxy_protocol {
            let from = if ranges.is_empty() { vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()] } else { ranges.clone() };
            listener.more.push(("proxy_protocol".into(), Node::map([("from", Node::texts(from))])));
        } else if !ranges.is_empty() {
            listener.more.push(("trusted_proxies".into(), Node::texts(ranges)));
        }
    }
}

/// Timeouts of clients: the longest of the servers.
fn http_options(scopes: &[Scope<'_>]) -> Vec<(String, Node)> {
    let mut http = Vec::new();
    let longest = |names: &[&str]| {
        let found = scopes.iter().flat_map(|scope| names.iter().filter_map(|name| value::duration(scope.value(name)?)));
        found.max_by_key(|time| value::millis(time))
    };
    let keys: [(&str, &[&str]); 3] = [
        ("header_timeout", &["client_header_timeout"]),
        ("body_idle_timeout", &["client_body_timeout", "send_timeout"]),
        ("keepalive_timeout", &["keepalive_timeout"]),
    ];
    for (key, names) in keys {
        http.extend(longest(names).filter(|time| value::millis(time) > 0).map(|time| (key.to_owned(), Node::text(time))));
    }
    if scopes.iter().any(|scope| scope.is_on("underscores_in_headers")) {
        http.push(("underscore_fields".into(), Node::text("forward")));
    }
    http
}
