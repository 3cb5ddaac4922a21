//! TLS with a client, up to the connection that is secured: its metrics, and a line of the process log when it fails.

use std::net::{IpAddr, SocketAddr};

use log::Level;
use serde_json::Value;
use tokio_rustls::server::TlsStream;

use super::Shared;
use crate::{
    observe::process_log::{self, Notice},
    snapshot::Listener,
    tls::{self, Arrival, HandshakeError, Heard, Refusal, ServerTls},
    types::TlsClient,
    wire::Socket,
};

/// The address and port of a client. Both are unspecified on a unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr, pub(super) u16);

impl Peer {
    /// As it stands in the log.
    pub(super) fn text(self) -> String {
        match self {
            Peer(ip, 0) if ip.is_unspecified() => "a unix socket".to_owned(),
            Peer(ip, port) => SocketAddr::new(ip, port).to_string(),
        }
    }
}

/// Speaks TLS with a client within the listener's `header_timeout`. The error holds the connection of a client that sent
/// cleartext and can be answered likewise.
pub(super) async fn accept(
    server: &ServerTls,
    socket: Socket,
    peer: Peer,
    listener: &Listener,
    shared: &Shared,
) -> Result<(TlsStream<Socket>, TlsClient), Option<Socket>> {
    let metrics = shared.observer.metrics();
    let arrival = Arrival { client: peer.0, listener: &listener.name };
    match server.accept(socket, listener.http.header_timeout.get(), arrival).await {
        Ok((stream, client)) => {
            metrics.handshake(&listener.name, client.version, "ok", tls::resumed(&stream));
            Ok((stream, client))
        }
        Err(refusal) => {
            refused(&refusal, peer, listener, shared);
            Err(refusal.cleartext)
        }
    }
}

/// A handshake over QUIC failed. What the client has said before is not known.
pub(super) fn failed(error: HandshakeError, peer: Peer, listener: &Listener, shared: &Shared) {
    let heard = Heard { anything: true, sni: None };
    refused(&Refusal::<()> { error, heard, cleartext: None }, peer, listener, shared);
}

fn refused<S>(refusal: &Refusal<S>, peer: Peer, listener: &Listener, shared: &Shared) {
    shared.observer.metrics().handshake(&listener.name, "", refusal.error.reason(), false);
    tell(refusal, peer, listener);
}

fn tell<S>(refusal: &Refusal<S>, peer: Peer, listener: &Listener) {
    let Refusal { error, heard, .. } = refusal;
    // Health checks and port scanners connect and say nothing.
    if matches!(error, HandshakeError::Eof) && !heard.anything {
        return;
    }
    // It is no failure, and whoever ordered the certificate says how it went.
    if matches!(error, HandshakeError::NameChecked) {
        return;
    }
    // One kind for all alerts: their number is up to the client.
    let kind = if matches!(error, HandshakeError::Alert(_)) { "alert" } else { error.reason() };
    let notice = Notice { level: Level::Info, target: module_path!(), kind, about: &listener.name };
    notice.tell(|| {
        let client = peer.text();
        let sni = heard.sni.as_ref().map_or_else(String::new, |sni| format!(", SNI {sni}"));
        let silent = if heard.anything { "" } else { ": the client sent nothing" };
        let message = format!("TLS handshake failed on listener {}, client {client}{sni}: {error}{silent}", listener.name);
        let facts = process_log::facts([
            ("listener", listener.name.as_str().into()),
            ("client", client.into()),
            ("sni", heard.sni.as_deref().map_or(Value::Null, Value::from)),
            ("reason", error.reason().into()),
        ]);
        (message, facts)
    });
}
