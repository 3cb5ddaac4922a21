//! One accepted connection of a layer-4 listener, up to the bytes that are passed on.

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;

use super::{
    Shared, connection,
    handshake::{self, Peer},
};
use crate::{
    l4::{self, Arrival},
    snapshot::Listener,
    types::RequestId,
    wire::Socket,
};

/// Serves an accepted socket until it closes.
pub(super) async fn serve(socket: Socket, peer: Option<SocketAddr>, listener: Arc<Listener>, shared: Arc<Shared>) {
    // Boxed and gone when it is done, as everything that only begins a connection.
    let Some(arrival) = Box::pin(arrive(socket, peer, listener, shared)).await else { return };
    l4::serve(arrival).await;
}

async fn arrive(mut socket: Socket, peer: Option<SocketAddr>, listener: Arc<Listener>, shared: Arc<Shared>) -> Option<Arrival> {
    // Nobody else wants to know.
    let tells = listener.tcp.as_ref().is_some_and(|tcp| tcp.send_proxy_protocol.is_some());
    let mut destination = socket.local_address().filter(|_| tells);
    let (mut ip, mut port) = connection::address(peer);
    if let Some(proxied) = connection::proxied(&mut socket, Peer(ip, port), &listener, &shared).await? {
        (ip, port) = (proxied.source.ip().to_canonical(), proxied.source.port());
        destination = proxied.destination.or(destination);
    }
    let (client, ahead, tls) = match &listener.tls {
        None => {
            let (client, ahead) = socket.into_parts();
            (client, ahead, None)
        }
        Some(server) => {
            let accepted = Box::pin(handshake::accept(server, socket, Peer(ip, port), &listener, &shared)).await;
            let (stream, client) = accepted.ok()?;
            (stream.into(), BytesMut::new(), Some(Arc::new(client)))
        }
    };
    Some(Arrival {
        client,
        ahead,
        ip,
        port,
        destination,
        tls,
        generation: shared.store.load().generation,
        listener,
        id: RequestId::new(std::time::SystemTime::now()),
        observer: shared.observer.clone(),
        cut: shared.cut.clone(),
    })
}
