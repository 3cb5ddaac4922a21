//! The `stream` block: layer 4.

use std::collections::BTreeMap;

use super::{
    super::{
        draft::{Listener, Tls},
        yaml::Node,
    },
    Ctx, Directive, Scope,
    listen::address,
    value,
};

impl Ctx {
    pub(super) fn stream(&mut self, block: &[Directive]) {
        // Names of upstreams are the stream's own.
        let http = std::mem::take(&mut self.declared);
        let used = std::mem::take(&mut self.used);
        let mut names: BTreeMap<String, &Directive> = BTreeMap::new();
        for directive in block {
            match directive.name.as_str() {
                "upstream" => {
                    self.declared.insert(directive.arg(0).to_owned(), directive.clone());
                }
                // `map $ssl_preread_server_name $name { ... }`.
                "map" if directive.arg(0) == "$ssl_preread_server_name" => {
                    names.insert(directive.arg(1).trim_start_matches('$').to_owned(), directive);
                }
                _ => {}
            }
        }
        let scope = Scope::default().inner(block);
        for server in block.iter().filter(|directive| directive.name == "server") {
            self.report.carried(&server.place, &server.words());
            self.tcp(&scope.inner(server.inside()), server, &names);
        }
        let comments: Vec<String> = block
            .iter()
            .filter(|directive| !matches!(directive.name.as_str(), "server" | "upstream" | "map"))
            .flat_map(|directive| self.layer4(directive))
            .collect();
        self.draft.comments.extend(comments);
        self.declared = http;
        self.used = used;
    }

    /// What becomes of a directive of layer 4 that is not read in [`Ctx::tcp`].
    fn layer4(&mut self, directive: &Directive) -> Option<String> {
        match directive.name.as_str() {
            "listen"
            | "proxy_pass"
            | "proxy_timeout"
            | "proxy_connect_timeout"
            | "ssl_preread"
            | "ssl_certificate"
            | "ssl_certificate_key" => {
                self.report.carried(&directive.place, &directive.words());
                None
            }
            "proxy_protocol" => {
                self.report.carried(&directive.place, &directive.words());
                None
            }
            _ => self.account(std::slice::from_ref(directive)).pop(),
        }
    }

    fn tcp(&mut self, scope: &Scope<'_>, server: &Directive, names: &BTreeMap<String, &Directive>) {
        let mut comments: Vec<String> = server.inside().iter().filter_map(|directive| self.layer4(directive)).collect();
        let mut addresses = Vec::new();
        let mut ssl = false;
        for listen in server.inside().iter().filter(|directive| directive.name == "listen") {
            ssl |= listen.args.iter().any(|arg| arg == "ssl");
            match address(listen.arg(0)).filter(|_| !listen.args.iter().any(|arg| arg == "udp")) {
                Some(address) => addresses.push(address),
                None => comments.push(self.left(listen, "only TCP is passed on, from an address of this machine")),
            }
        }
        let mut tcp = Vec::new();
        let Some(pass) = scope.one("proxy_pass") else { return self.draft.comments.extend(comments) };
        let text = scope.text(pass.arg(0));
        let mapped = text.strip_prefix("${").and_then(|name| names.get(name.trim_end_matches('}')));
        match mapped {
            Some(map) => {
                let mut sni = Vec::new();
                self.report.carried(&map.place, &map.words());
                for entry in map.inside() {
                    let host = if entry.name == "default" { "*" } else { entry.name.trim_start_matches("hostnames") };
                    let host = host.strip_prefix('.').map_or(host.to_owned(), |host| format!("*.{host}"));
                    let target = scope.text(entry.arg(0));
                    let upstream = host.parse::<crate::types::HostPattern>().map_err(|error| error.to_string());
                    match upstream.and_then(|_| self.upstream("tcp", &target, &Scope::default(), &entry.place)) {
                        Ok(upstream) => sni.push((host, Node::text(upstream))),
                        Err(_) if entry.name == "hostnames" => {}
                        Err(why) => comments.push(self.left(entry, why)),
                    }
                }
                tcp.push(("sni".to_owned(), Node::Map(sni)));
            }
            None => match self.upstream("tcp", &text, &Scope::default(), &pass.place) {
                Ok(upstream) => tcp.push(("upstream".to_owned(), Node::text(upstream))),
                Err(why) => {
                    comments.push(self.left(pass, why));
                    return self.draft.comments.extend(comments);
                }
            },
        }
        if addresses.is_empty() {
            return self.draft.comments.extend(comments);
        }
        if let Some(time) = scope.value("proxy_timeout").and_then(value::duration) {
            tcp.push(("idle_timeout".into(), Node::text(time)));
        }
        if scope.is_on("proxy_protocol") {
            tcp.push(("send_proxy_protocol".into(), Node::text("v1")));
        }
        let port = addresses[0].rsplit(':').next().unwrap_or_default();
        let mut listener = Listener { name: self.names.take(&format!("tcp-{port}")), comments, addresses, ..Listener::default() };
        if ssl {
            let pair = scope.value("ssl_certificate").zip(scope.value("ssl_certificate_key"));
            let certificates: Vec<_> = pair.map(|(cert, key)| (cert.to_owned(), key.to_owned())).into_iter().collect();
            let self_signed = if certificates.is_empty() { vec!["localhost".to_owned()] } else { Vec::new() };
            listener.tls = Some(Tls { certificates, self_signed, ..Tls::default() });
        }
        listener.more.push(("tcp".into(), Node::Map(tcp)));
        self.draft.listeners.push(listener);
    }
}
