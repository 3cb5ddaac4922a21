//! A new response is fetched behind a stale one that was sent: a request of our own, in a task of its own.
//!
//! It is the same request to the endpoint as the one that found the stale response, as its filters had left it. No filter sees it
//! again: it is nobody's, and nobody's limits apply to it. One is made for a key at a time, by the lock that misses use, too.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::{Version, header};
use pingora_cache::lock::{LockStatus, Locked};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::{Session, SubrequestSpawner, subrequest};

use super::{Caching, Part, RequestCtx};
use crate::{
    cache::{Asked, RequestDirectives},
    proxy::Weir,
};

/// So many run at a time. Beyond, stale responses are sent without one, and a later request tries again.
const MOST: usize = 1024;

tokio::task_local! {
    /// Pingora makes contexts without knowing for what: this one waits for that.
    static BEHIND: RefCell<Option<RequestCtx>>;
}

/// The context of the request that this task makes, if it is one of ours.
pub(in crate::proxy) fn current() -> Option<RequestCtx> {
    BEHIND.try_with(|behind| behind.borrow_mut().take()).ok().flatten()
}

/// Counts one in, until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn enter(running: &Arc<AtomicUsize>) -> Option<Self> {
        let entered = running.fetch_update(Relaxed, Relaxed, |count| (count < MOST).then_some(count + 1));
        entered.ok().map(|_| Self(running.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Starts it, unless one is under way for this key.
pub(super) fn start(weir: &Weir, session: &Session, ctx: &RequestCtx) {
    let Some(edge) = weir.own.upgrade() else { return };
    let Some(running) = Running::enter(&weir.behind) else { return };
    let lock = weir.locks().lock;
    let key = session.cache.cache_key().clone();
    let Locked::Write(permit) = lock.lock(&key, true) else { return };
    let Some(behind) = context(session.req_header(), ctx) else {
        lock.release(&key, permit, LockStatus::TransientError);
        return;
    };
    let inner = subrequest::Ctx::builder().cache_write_lock(lock, key, permit).build();
    let (prepared, handle) = SubrequestSpawner::new(edge).create_subrequest(session.as_ref(), inner);
    handle.drain_tasks();
    tokio::spawn(BEHIND.scope(RefCell::new(Some(behind)), async move {
        prepared.run().await;
        drop(running);
    }));
}

fn context(request: &RequestHeader, ctx: &RequestCtx) -> Option<RequestCtx> {
    let caching = ctx.caching.as_ref()?;
    let mut head = request.clone();
    head.set_version(Version::HTTP_11);
    if !head.headers.contains_key(header::HOST) {
        let host = &ctx.outcome.host;
        let host = ctx.admitted.port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        head.insert_header(header::HOST, host).ok()?;
    }
    // All of it is wanted, whatever the client asked for.
    head.set_method(http::Method::GET);
    head.remove_header(&header::RANGE);
    let asked =
        Asked { directives: RequestDirectives::default(), head: false, range: false, personal: asked_by_somebody(caching) };
    let mut inner = Caching::new(caching.policy.clone(), caching.cache, caching.key.clone(), Part::Looks(asked));
    inner.behind = Some(Box::new(head));
    Some(RequestCtx::behind(ctx, Box::new(inner)))
}

fn asked_by_somebody(caching: &Caching) -> bool {
    caching.asked().is_some_and(|asked| asked.personal)
}

/// The head that such a request goes on with. False for requests of clients.
pub(in crate::proxy) fn resume(session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
    let Some(head) = ctx.caching.as_ref().and_then(|caching| caching.behind.as_deref()) else { return Ok(false) };
    *session.req_header_mut() = head.clone();
    Ok(true)
}
