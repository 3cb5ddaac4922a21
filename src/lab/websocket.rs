//! `/ws`: a WebSocket (RFC 6455) that echoes messages and answers pings.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;

use super::body::{self, Body};

/// The largest message that is echoed: it is held in memory until it is complete.
const MAX_MESSAGE: usize = 1 << 20;

/// Switches the connection to WebSocket and echoes until the client closes or the backend stops.
pub(super) fn upgrade(mut request: Request<Incoming>, stop: CancellationToken) -> Result<Response<Body>, String> {
    let headers = request.headers();
    if !has_token(headers, header::UPGRADE, "websocket") || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err("/ws wants `Connection: upgrade` and `Upgrade: websocket`".into());
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("a WebSocket handshake has a Sec-WebSocket-Key")?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|error| error.to_string())?;
    tokio::spawn(echo(hyper::upgrade::on(&mut request), stop));
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name);
    lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case(token))
}

async fn echo(upgrade: OnUpgrade, stop: CancellationToken) {
    // The client went away between its request and our 101.
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = stop.cancelled() => {
                let _ = socket.close(None).await;
                return;
            }
        };
        // Pings and closes are answered by the protocol layer itself, while it is read.
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return,
        }
    }
}
