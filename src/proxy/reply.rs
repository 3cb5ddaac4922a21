//! Answers of Weir's own, written by Pingora's session.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    exchange::{Answer, Framing, Own},
    types::BodyStream,
};

/// Sends an answer. An error is that of the client, which went away or takes nothing: its connection is of no more use.
pub(super) async fn send(session: &mut Session, ctx: &mut RequestCtx, answer: Answer) -> pingora_core::Result<()> {
    let request = session.req_header();
    let Ok(Own { status, fields, body, stream, plan }) = ctx.exchange.own(answer, request) else {
        session.as_downstream_mut().shutdown().await;
        return Ok(());
    };
    ctx.ends_with_connection = plan.framing == Framing::UntilEnd;
    if !plan.keep_alive {
        session.as_downstream_mut().set_keepalive(None);
    }
    let response = head(status, fields)?;
    let sent = match stream {
        Some(stream) => pour(session, ctx, response, stream).await,
        None => write(session.as_downstream_mut(), response, body).await,
    };
    sent.map_err(|error| error.into_down())
}

fn head(status: StatusCode, fields: HeaderMap) -> pingora_core::Result<ResponseHeader> {
    let mut parts = http::response::Parts::from(ResponseHeader::build_no_case(status, Some(0))?);
    parts.headers = fields;
    Ok(ResponseHeader::from(parts))
}

/// Sends a body as it is read. What cannot be read to its end is cut, visibly: a reset on HTTP/2, a close on HTTP/1.
async fn pour(
    session: &mut Session,
    ctx: &mut RequestCtx,
    response: ResponseHeader,
    mut stream: BodyStream,
) -> pingora_core::Result<()> {
    session.as_downstream_mut().write_response_header(Box::new(response)).await?;
    let mut left = stream.length;
    while let Ok((mut piece, end)) = ctx.exchange.next_own(&mut stream).await {
        if ctx.exchange.own_piece(&mut piece, &mut left, end).is_err() {
            break;
        }
        ctx.pace.window.passed(piece.len());
        let downstream = session.as_downstream_mut();
        match (end, piece.is_empty()) {
            (false, true) => {}
            (false, false) => downstream.write_response_body(piece, false).await?,
            (true, true) => return downstream.finish_body().await,
            (true, false) => return downstream.write_response_body(piece, true).await,
        }
    }
    session.set_keepalive(None);
    ctx.cut();
    session.as_downstream_mut().shutdown().await;
    Ok(())
}

async fn write(session: &mut ServerSession, response: ResponseHeader, body: Bytes) -> pingora_core::Result<()> {
    session.write_response_header(Box::new(response)).await?;
    if body.is_empty() { session.finish_body().await } else { session.write_response_body(body, true).await }
}
