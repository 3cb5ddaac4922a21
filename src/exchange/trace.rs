//! The request's place in a trace: read from its caller, told to its endpoint. While tracing is off the fields pass through.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Exchange;
use crate::{
    observe::{Traceparent, is_tracestate},
    types::FieldsMut,
};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Finds the trace that the request belongs to. `trusted`: the peer is one of the listener's trusted proxies.
pub(super) fn begin(fields: &mut HeaderMap, ctx: &mut Exchange, trusted: bool) {
    let tracing = ctx.observer.tracing();
    let Some(tracing) = &*tracing else { return };
    let trace = tracing.begin(caller(fields), trusted, ctx.client.scheme, ctx.admitted.port);
    // The state belongs to the parent; alone, or malformed, it means nothing.
    let state = fields.get_all(&TRACESTATE).iter().map(HeaderValue::as_bytes);
    if trace.parent.is_none() || !is_tracestate(state) {
        fields.remove(&TRACESTATE);
    }
    ctx.outcome.trace = Some(Box::new(trace));
}

/// The caller's place. Two of them are none.
fn caller(fields: &HeaderMap) -> Option<Traceparent> {
    let mut values = fields.get_all(&TRACEPARENT).iter();
    let first = values.next()?;
    if values.next().is_none() { Traceparent::parse(first.as_bytes()) } else { None }
}

/// Tells the endpoint that this attempt is its parent.
pub(super) fn onward(fields: &mut dyn FieldsMut, ctx: &Exchange) {
    let Some(trace) = &ctx.outcome.trace else { return };
    let Some(span) = ctx.attempt.as_ref().and_then(|attempt| attempt.span) else { return };
    // Hexadecimal digits and hyphens.
    if let Ok(value) = HeaderValue::from_bytes(&trace.traceparent(span).text()[..]) {
        fields.set(TRACEPARENT, value);
    }
}

/// Adds what only the spans need, when the exchange has ended.
pub(super) fn finish(ctx: &mut Exchange) {
    let tls = ctx.upstream().map(|upstream| upstream.spec().tls.is_some());
    let Some(trace) = ctx.outcome.trace.as_mut().filter(|trace| trace.sampled) else { return };
    if let Some(tls) = tls {
        trace.onward.tls = tls;
    }
    let path = ctx.rewritten.as_deref().map(|target| target.split_once('?').map_or(target, |(path, _)| path));
    trace.onward.path = path.map(str::to_owned);
}
