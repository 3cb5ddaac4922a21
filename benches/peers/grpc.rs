//! A unary call of gRPC: the service, over HTTP/2 in cleartext, and the call. A message there, a message and the trailers back.

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use super::{client::HOST, origin::SMALL};

/// In front of a message: not compressed, and how long it is.
const PREFIX: usize = 5;

/// A message of 100 bytes.
pub fn message() -> Bytes {
    let mut message = vec![0; PREFIX];
    message[1..].copy_from_slice(&(SMALL as u32).to_be_bytes());
    message.resize(PREFIX + SMALL, b'm');
    message.into()
}

/// Answers calls on a connection.
pub async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    let (message, mut trailers) = (message(), HeaderMap::new());
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let (message, trailers) = (message.clone(), trailers.clone());
        tokio::spawn(async move {
            read(&mut request.into_body()).await?;
            let response = Response::builder().header("content-type", "application/grpc").body(())?;
            let mut answer = respond.send_response(response, false)?;
            answer.send_data(message, false)?;
            answer.send_trailers(trailers)?;
            anyhow::Ok(())
        });
    }
    Ok(())
}

/// One call. `message` is what [`message`] makes.
pub async fn call(sender: &mut SendRequest<Bytes>, message: &Bytes) -> anyhow::Result<()> {
    let request = Request::post(format!("https://{HOST}/bench.Echo/Unary"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "bench")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(message.clone(), true)?;
    let response = response.await?;
    ensure!(response.status() == 200, "an answer with {}", response.status());
    let mut body = response.into_body();
    let got = read(&mut body).await?;
    ensure!(got == message.len(), "a message of another length: {got}");
    let trailers = body.trailers().await?.context("an answer without trailers")?;
    ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "the trailers are {trailers:?}");
    Ok(())
}

/// Reads all of it, and says how long it is.
pub async fn read(body: &mut RecvStream) -> anyhow::Result<usize> {
    let mut got = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        got += piece.len();
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(got)
}
