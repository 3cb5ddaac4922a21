//! Layer 7: the `ProxyHttp` implementation, as a table of contents. One file per phase.
//!
//! A request has passed the gate, and it is decided what becomes of it, before it comes here as an [`Arrival`]. What it means, and what
//! comes next, says its [`crate::exchange::Exchange`]; these files carry that into Pingora's phases and back.

mod admit;
mod arrival;
mod body;
mod caching;
mod ctx;
mod fail;
mod finish;
mod forward;
mod heads;
mod reply;
mod respond;
mod select;

pub use arrival::{Arrival, Link};
pub use ctx::RequestCtx;

use std::{
    mem::ManuallyDrop,
    sync::{Arc, OnceLock, Weak, atomic::AtomicUsize},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable, key::HashBinary};
use pingora_core::{Error, Result, protocols::Digest, server::configuration::ServerConf, upstreams::peer::HttpPeer};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{
    FailToProxy, HttpProxy, ProcessCustomSession, ProxyHttp, ProxyServiceBuilder, ProxyWarnLogContext, RangeType, Session,
};

use self::caching::Locks;
use crate::{exchange::Decision, upstream::EndpointConnector};

/// The one Pingora proxy of a process, with its pool of upstream connections.
pub type Edge = HttpProxy<Weir, EndpointConnector>;

/// Weir's phases. What they carry out was decided before, by [`crate::exchange`].
pub struct Weir {
    /// For requests of its own.
    own: Weak<Edge>,
    locks: OnceLock<Locks>,
    /// Requests of its own that are under way.
    behind: Arc<AtomicUsize>,
}

impl Weir {
    fn locks(&self) -> &Locks {
        self.locks.get_or_init(Locks::leak)
    }
}

/// Idle upstream connections kept in all, as a bound on descriptors and memory.
const UPSTREAM_POOL: usize = 8192;

/// Tries of one request that Pingora may make, whatever we allow: a backstop against a loop.
const MAX_TRIES: usize = 16;

/// The proxy of a process with so many threads.
pub fn edge(threads: usize) -> Arc<Edge> {
    let conf =
        ServerConf { threads, upstream_keepalive_pool_size: UPSTREAM_POOL, max_retries: MAX_TRIES, ..ServerConf::default() };
    Arc::new_cyclic(|own| {
        let weir = Weir { own: own.clone(), locks: OnceLock::new(), behind: Arc::default() };
        build(conf, weir)
    })
}

/// Is all that was read of the request's body still at hand, so that it can be sent once more?
fn at_hand(session: &Session) -> bool {
    !session.as_ref().retry_buffer_truncated()
}

/// The proxy around our connector. Pingora makes one within a service alone, which accepts connections for itself; ours come from
/// `listener`.
fn build(conf: ServerConf, weir: Weir) -> Edge {
    // Only connections that are accepted by that service could be of a protocol which Pingora does not know.
    let on_custom: ProcessCustomSession<Weir, EndpointConnector> = Arc::new(|_, _, _| Box::pin(std::future::ready(None)));
    let service = ProxyServiceBuilder::new(&Arc::new(conf), weir).custom(EndpointConnector::new(), on_custom).build();
    let mut service = ManuallyDrop::new(service);
    let edge = service.app_logic_mut().expect("the service was not started");
    // SAFETY: the proxy is moved out of a service that is never used or dropped from here on. What else it holds, a name and no
    // listeners, is forgotten once for each process.
    unsafe { std::ptr::read(edge) }
}

#[async_trait]
impl ProxyHttp for Weir {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        caching::behind_ctx().unwrap_or_else(|| RequestCtx::new(Arrival::current()))
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
        admit::admit(session, ctx)
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        match ctx.decision.take() {
            // With an error the connection ends as it is. Otherwise Pingora would close the body in order, complete or not.
            Some(Decision::Answer(answer)) => reply::send(session, ctx, *answer).await.map(|()| true),
            // A stored response is found again in its phase.
            Some(Decision::Forward | Decision::Fresh(_)) | None => Ok(false),
        }
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
        if ctx.keeping.policy.is_some() || ctx.caching.is_some() {
            caching::begin(session, ctx, self.locks());
        }
        Ok(())
    }

    fn cache_key_callback(&self, _: &Session, ctx: &mut RequestCtx) -> Result<CacheKey> {
        caching::key(ctx)
    }

    fn cache_miss(&self, session: &mut Session, ctx: &mut RequestCtx) {
        caching::miss(session, ctx);
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        fresh: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(caching::hit(self, session, meta, fresh, ctx))
    }

    fn cache_vary_filter(&self, meta: &CacheMeta, _: &mut RequestCtx, request: &RequestHeader) -> Option<HashBinary> {
        caching::vary(meta, request)
    }

    fn range_header_filter(&self, session: &mut Session, response: &mut ResponseHeader, _: &mut RequestCtx) -> RangeType {
        caching::ranges(session.req_header(), response)
    }

    async fn proxy_upstream_filter(&self, _: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        caching::forwarding(ctx)
    }

    fn response_cache_filter(&self, session: &Session, response: &ResponseHeader, ctx: &mut RequestCtx) -> Result<RespCacheable> {
        Ok(caching::cacheable(session, response, ctx))
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut RequestCtx, error: Option<&Error>) -> bool {
        caching::serve_stale(session, ctx, error)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Duration>> {
        let length = body.as_ref().map_or(0, Bytes::len);
        ctx.pace.window.passing(length);
        if ctx.caching.is_some() {
            caching::body_piece(session, length, ctx);
        }
        Ok(None)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        body::request(session, body, end, ctx).map_err(|error| {
            // Pingora would wait for an HTTP/2 endpoint's answer to a body without an end.
            ctx.pace.upload.stop();
            error.into_down()
        })
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        select::peer(session.req_header(), ctx).await
    }

    fn fail_to_connect(&self, session: &mut Session, _: &HttpPeer, ctx: &mut RequestCtx, error: Box<Error>) -> Box<Error> {
        fail::connecting(session, ctx, error)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        ctx.connected(reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        forward::request(session, request, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        respond::received(session, response, ctx)
    }

    async fn response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
        respond::send(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Duration>> {
        body::response(session, body, end, ctx).map(|()| None)
    }

    fn upstream_response_trailer_filter(&self, _: &mut Session, trailers: &mut HeaderMap, _: &mut RequestCtx) -> Result<()> {
        respond::trailers(trailers)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        _: &mut HeaderMap,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Bytes>> {
        Ok(body::trailers(session, ctx).await)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestCtx,
        client_reused: bool,
    ) -> Box<Error> {
        fail::proxying(session, ctx, error, client_reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut RequestCtx) -> FailToProxy {
        fail::answer(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestCtx) {
        finish::finish(session, ctx);
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, _: &Error) -> bool {
        // The access log and the metrics say it, in one place and typed.
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &RequestCtx, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
