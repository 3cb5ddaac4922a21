//! The filters of a request at work: what they see is taken from Pingora's session and our context.

use std::time::Duration;

use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{
    RequestCtx,
    fields::{RequestFields, ResponseFields},
    request::Answer,
};
use crate::{
    filter::{BodyWish, FilterRequest, FilterResponse, Pass, Verdict},
    gate::BodyFraming,
    types::{Cause, Reply},
};

/// How long a verdict is waited for where the exchange has no deadline: before a route is chosen, on upgrades, and where the
/// route has no `timeout`. Tests wait less.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });

/// Whose filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Listener,
    Route,
}

/// Runs the request pass of one level. `Err` with the answer that stopped it.
pub(super) async fn request(session: &mut Session, ctx: &mut RequestCtx, level: Level) -> Result<(), Box<Answer>> {
    if pass(ctx, level).is_empty() {
        return Ok(());
    }
    let mut verdict = see(session.req_header_mut(), ctx, level, |pass, request| pass.request(request));
    loop {
        match verdict {
            Verdict::Continue => return Ok(()),
            Verdict::Answer { reply, reason } => return Err(answer(reply, reason)),
            Verdict::Stream { reply, body, reason } => {
                let mut answer = answer(reply, reason);
                answer.stream = Some(body);
                return Err(answer);
            }
            Verdict::Later(later) => {
                let patience = ctx.time_left().unwrap_or(PATIENCE);
                let Ok(after) = tokio::time::timeout(patience, later.wait()).await else {
                    return Err(Answer::weir(Reply::status(504), Cause::HttpResponseTimeout, "timeout"));
                };
                verdict = see(session.req_header_mut(), ctx, level, |pass, request| pass.resume(after, request));
            }
        }
    }
}

fn answer(reply: Reply, reason: &'static str) -> Box<Answer> {
    let answered = reply.status.is_success() || reply.status.is_redirection();
    if answered { Answer::ordinary(reply) } else { Answer::weir(reply, Cause::HttpRequestDenied, reason) }
}

fn pass(ctx: &mut RequestCtx, level: Level) -> &mut Pass {
    match level {
        Level::Listener => &mut ctx.filters.listener,
        Level::Route => &mut ctx.filters.route,
    }
}

/// Shows the request to the filters of one level.
fn see(
    request: &mut RequestHeader,
    ctx: &mut RequestCtx,
    level: Level,
    run: impl FnOnce(&mut Pass, &mut FilterRequest<'_>) -> Verdict,
) -> Verdict {
    let method = request.method.clone();
    let mut fields = RequestFields { head: request, settled: &mut ctx.onward.settled };
    let mut view = FilterRequest {
        method: method.as_str(),
        host: &ctx.outcome.host,
        path: &ctx.outcome.path,
        query: ctx.arrival.admitted.query.as_deref(),
        forward: &mut ctx.onward.rewritten,
        client: &ctx.client,
        route: ctx.route.as_ref().map_or("", |route| &route.name),
        fields: &mut fields,
        request_id: &mut ctx.outcome.request_id,
        keeping: &mut ctx.keeping,
        content_length: match ctx.arrival.admitted.body {
            BodyFraming::None => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Stream => None,
        },
        upgrade: ctx.arrival.admitted.upgrade.is_some(),
    };
    let pass = match level {
        Level::Listener => &mut ctx.filters.listener,
        Level::Route => &mut ctx.filters.route,
    };
    run(pass, &mut view)
}

/// Whose response it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The endpoint with this label.
    Endpoint(&'a str),
    /// An endpoint's, kept since.
    Cache,
    /// Weir's, with the short standard text for its body or with another.
    Weir { standard: bool },
}

/// Runs the response pass, and returns what filters want of the body.
pub(super) fn response(method: &str, response: &mut ResponseHeader, origin: Origin<'_>, ctx: &mut RequestCtx) -> BodyWish {
    let (endpoint, cached, standard) = match origin {
        Origin::Endpoint(label) => (Some(label), false, false),
        Origin::Cache => (None, true, false),
        Origin::Weir { standard } => (None, false, standard),
    };
    let mut fields = ResponseFields { head: response };
    let mut view = FilterResponse {
        status: ctx.outcome.status,
        method,
        fields: &mut fields,
        endpoint,
        cached,
        standard,
        paged: false,
        route: ctx.route.as_ref().map_or("", |route| &route.name),
        request_id: &ctx.outcome.request_id,
        wish: BodyWish::Nothing,
    };
    ctx.filters.response(&mut view);
    view.wish
}
