//! The HTTP/2 client of the HTTP probe, for upstreams that are spoken to in HTTP/2.

use ::http::Request;
use bytes::Bytes;
use h2::client::SendRequest;

use super::http::{BODY_TOO_LARGE, HttpProbe, MAX_BODY, MAX_HEAD};
use crate::wire::Stream;

/// Asks on this connection and closes it.
pub(super) async fn ask(stream: Stream, scheme: &str, host: &str, probe: &HttpProbe) -> Result<(), String> {
    let mut request = Request::builder()
        .method(probe.method())
        .uri(format!("{scheme}://{host}{}", probe.path()))
        .body(())
        .map_err(|_| "the request cannot be made: `host` or `path` is not part of a URL".to_owned())?;
    *request.headers_mut() = probe.fields();
    on(stream, async |sender| exchange(sender, request, probe).await).await
}

/// One exchange on this connection, which is closed then.
pub(super) async fn on(
    stream: Stream,
    exchange: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<(), String>,
) -> Result<(), String> {
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_window_size(MAX_BODY as u32)
        .handshake(stream)
        .await
        .map_err(reason)?;
    // The connection must be driven while the exchange is under way; its end ends the exchange as well.
    let drive = async {
        let _ = connection.await;
        std::future::pending().await
    };
    let exchange = async { exchange(sender.ready().await.map_err(reason)?).await };
    tokio::select! {
        biased;
        result = exchange => result,
        result = drive => result,
    }
}

async fn exchange(mut sender: SendRequest<Bytes>, request: Request<()>, probe: &HttpProbe) -> Result<(), String> {
    let (response, _) = sender.send_request(request, true).map_err(reason)?;
    let mut response = response.await.map_err(reason)?;
    if !probe.judge_status(response.status().as_u16())? {
        return Ok(());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.body_mut().data().await {
        let piece = piece.map_err(reason)?;
        if body.len() + piece.len() > MAX_BODY {
            return Err(BODY_TOO_LARGE.into());
        }
        body.extend_from_slice(&piece);
        // Fails only for a stream that is gone, which the next read tells.
        let _ = response.body_mut().flow_control().release_capacity(piece.len());
    }
    probe.judge_body(&body)
}

/// Why an exchange failed.
pub(super) fn reason(error: h2::Error) -> String {
    let text = error.to_string();
    error.into_io().map_or_else(|| format!("HTTP/2: {text}"), super::connect::reason)
}
