//! The filters of a request at work.

use std::time::Duration;

use http::{HeaderMap, request::Parts};

use super::{Answer, Exchange, Origin, fields::RequestFields};
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
pub(super) async fn request(request: &mut Parts, ctx: &mut Exchange, level: Level) -> Result<(), Box<Answer>> {
    if pass(ctx, level).is_empty() {
        return Ok(());
    }
    let mut verdict = see(request, ctx, level, |pass, view| pass.request(view));
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
                verdict = see(request, ctx, level, |pass, view| pass.resume(after, view));
            }
        }
    }
}

fn answer(reply: Reply, reason: &'static str) -> Box<Answer> {
    let answered = reply.status.is_success() || reply.status.is_redirection();
    if answered { Answer::ordinary(reply) } else { Answer::weir(reply, Cause::HttpRequestDenied, reason) }
}

fn pass(ctx: &mut Exchange, level: Level) -> &mut Pass {
    match level {
        Level::Listener => &mut ctx.filters.listener,
        Level::Route => &mut ctx.filters.route,
    }
}

/// Shows the request to the filters of one level.
fn see(
    request: &mut Parts,
    ctx: &mut Exchange,
    level: Level,
    run: impl FnOnce(&mut Pass, &mut FilterRequest<'_>) -> Verdict,
) -> Verdict {
    let mut fields = RequestFields { fields: &mut request.headers, settled: &mut ctx.settled };
    let mut view = FilterRequest {
        method: request.method.as_str(),
        host: &ctx.outcome.host,
        path: &ctx.outcome.path,
        query: ctx.admitted.query.as_deref(),
        forward: &mut ctx.rewritten,
        back: &mut ctx.back,
        client: &ctx.client,
        route: ctx.route.as_ref().map_or("", |route| &route.name),
        fields: &mut fields,
        request_id: &mut ctx.outcome.request_id,
        keeping: &mut ctx.keeping,
        content_length: match ctx.admitted.body {
            BodyFraming::None => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Stream => None,
        },
        upgrade: ctx.admitted.upgrade.is_some(),
    };
    let pass = match level {
        Level::Listener => &mut ctx.filters.listener,
        Level::Route => &mut ctx.filters.route,
    };
    run(pass, &mut view)
}

/// Runs the response pass, and returns what filters want of the body.
pub(super) fn response(fields: &mut HeaderMap, origin: Origin<'_>, ctx: &mut Exchange) -> BodyWish {
    let (endpoint, cached, standard) = match origin {
        Origin::Endpoint(label) => (Some(label), false, false),
        Origin::Cache => (None, true, false),
        Origin::Weir { standard } => (None, false, standard),
    };
    let mut view = FilterResponse {
        status: ctx.outcome.status,
        method: &ctx.outcome.method,
        fields,
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
