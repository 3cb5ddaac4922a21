//! Connections of QUIC: accepted, secured, and served as HTTP/3.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use quinn::Incoming;
use tokio::{sync::watch, time::timeout};

use super::{
    Shared,
    accept::{Opening, Slot},
    connection::address,
    h3,
    handshake::{self, Peer},
    turned,
};
use crate::{
    exchange::Connection,
    gate::hop,
    quic::{Endpoint, NO_ERROR, server_config},
    tls::HandshakeError,
};

/// Handshakes at a time on one address, above which a client must prove its address before anything is done for it (RFC 9000 section
/// 8.1.2). That costs it a round trip, and whoever forges addresses everything.
const UNPROVEN: usize = 100;

/// A connection is let go by HTTP when it is idle, and by the transport when its client has vanished: not before.
const SLACK: Duration = Duration::from_secs(5);
const LEAST_SILENCE: Duration = Duration::from_secs(30);

/// Accepts until the drain begins, the slot is retired or `stop` turns true, and stays until the connections have ended.
pub(super) async fn run(endpoint: &Endpoint, slot: &Slot, shared: &Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let (mut draining, mut retired) = (shared.draining.clone(), slot.retired());
    let handshakes = Arc::<AtomicUsize>::default();
    let (quic, mut turn) = (endpoint.quic(), endpoint.take_turn());
    // Without one nobody is let in. Each connection has the settings of its own moment.
    if let Some(config) = config(&slot.opening()) {
        quic.set_server_config(Some(config));
    }
    loop {
        let incoming = tokio::select! {
            biased;
            _ = turned(&mut stop) => return quic.close(NO_ERROR, b""),
            incoming = quic.accept() => incoming,
            _ = turned(&mut draining) => break,
            _ = turned(&mut retired) => break,
        };
        let Some(incoming) = incoming else { return };
        if !incoming.remote_address_validated() && handshakes.load(Relaxed) >= UNPROVEN {
            shared.observer.metrics().handshake(&slot.opening().listener.name, "", "retry", false);
            let _ = incoming.retry();
            continue;
        }
        let opening = slot.opening();
        let Some(places) = opening.enter(shared) else {
            incoming.refuse();
            continue;
        };
        // Counted here and not in its task: of those that come together, too, only so many are unproven.
        let (handshake, shared_by) = (Handshake::new(&handshakes), shared.clone());
        shared.spawn(async move {
            serve(incoming, opening, handshake, shared_by).await;
            drop(places);
        });
    }
    loop {
        tokio::select! {
            biased;
            _ = turned(&mut stop) => return quic.close(NO_ERROR, b""),
            () = quic.wait_idle() => return,
            // The listener is back.
            () = turn.over() => return,
            Some(incoming) = quic.accept() => incoming.refuse(),
        }
    }
}

/// A handshake that counts until it is over.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn new(handshakes: &Arc<AtomicUsize>) -> Self {
        handshakes.fetch_add(1, Relaxed);
        Self(handshakes.clone())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn config(Opening { listener, .. }: &Opening) -> Option<quinn::ServerConfig> {
    let tls = listener.tls.as_ref()?.quic_config()?;
    let silence = listener.http.keepalive_timeout.get().max(LEAST_SILENCE) + SLACK;
    server_config(tls, listener.http.h2_max_concurrent_streams.get(), silence).ok()
}

async fn serve(incoming: Incoming, opening: Opening, handshake: Handshake, shared: Arc<Shared>) {
    let Some((config, tls)) = config(&opening).zip(opening.listener.tls.clone()) else { return incoming.refuse() };
    let (ip, port) = address(Some(incoming.remote_address()));
    let Opening { listener, door, .. } = opening;
    let peer = Peer(ip, port);
    let patience = listener.http.header_timeout.get();
    let secured = match incoming.accept_with(Arc::new(config)) {
        Err(error) => Err(HandshakeError::from(error)),
        Ok(connecting) => match timeout(patience, connecting).await {
            Err(_) => Err(HandshakeError::Timeout),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(quic)) => tls.quic_client(&quic).map(|client| (quic, client)),
        },
    };
    drop(handshake);
    let (quic, client) = match secured {
        Ok(secured) => secured,
        Err(error) => return handshake::failed(error, peer, &listener, &shared),
    };
    let metrics = shared.observer.metrics();
    metrics.handshake(&listener.name, client.version, "ok", false);
    let _open = metrics.connection(&listener.name);
    let connection = Connection {
        listener,
        peer: ip,
        port,
        told: hop::Peer::told(ip),
        tls: Some(Arc::new(client)),
        door,
        cut: shared.cut.clone(),
    };
    h3::serve(quic, Arc::new(connection), shared).await;
}
