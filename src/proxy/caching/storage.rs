//! Our store as Pingora asks for one.

use std::{any::Any, sync::Arc, time::UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::response::Parts;
use pingora_cache::{
    CacheKey, CacheMeta,
    key::CacheHashKey,
    storage::{HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage},
    trace::SpanHandle,
};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use crate::cache::{Cache, Entry, Fill, Freshness, Head, Key};

/// What the store needs to know beside Pingora's key, which carries it.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) cache: &'static Cache,
    pub(super) key: Key,
    /// The largest body that is stored.
    pub(super) max_object: u64,
    /// What was purged after the request began must not come back by it.
    pub(super) mark: u64,
}

fn wanted(key: &CacheKey) -> Result<&Wanted> {
    key.extensions.get().ok_or_else(|| Error::explain(ErrorType::InternalError, "a key without what is behind it"))
}

/// The head in Pingora's form.
fn meta(head: &Head) -> Result<CacheMeta> {
    let mut response = ResponseHeader::build_no_case(head.status, Some(0))?;
    let mut parts = Parts::from(response);
    parts.headers = head.fields.clone();
    response = ResponseHeader::from(parts);
    let Freshness { epoch, fresh_until, stale_while_revalidate, stale_if_error } = head.freshness;
    // Pingora takes variants that are older than the first one it meets for purged ones. Ours are purged together, and which of them
    // is met first says nothing: so none of them is older.
    let mut meta = CacheMeta::new(fresh_until, UNIX_EPOCH, stale_while_revalidate, stale_if_error, response);
    meta.set_epoch_override(epoch);
    if let Some(variance) = head.variance {
        meta.set_variance(variance);
    }
    Ok(meta)
}

/// Pingora's form of a head as ours.
fn head(meta: &CacheMeta) -> Head {
    let response = meta.response_header();
    Head {
        status: response.status,
        fields: response.headers.clone(),
        freshness: Freshness {
            epoch: meta.epoch(),
            fresh_until: meta.fresh_until(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
        },
        created: meta.created(),
        variance: meta.variance(),
    }
}

#[async_trait]
impl Storage for Cache {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let wanted = &wanted(key)?.key;
        let variance = key.variance_bin();
        let mut found = self.get(wanted, variance.as_ref());
        if found.is_none() && self.is_on_disk(wanted, variance.as_ref()) {
            // A thread waits for the disk, and not a worker.
            let wanted = wanted.clone();
            let read = tokio::task::spawn_blocking(move || self.load(&wanted, variance.as_ref()));
            found = read.await.ok().flatten();
        }
        let Some(entry) = found else { return Ok(None) };
        let meta = meta(&entry.head)?;
        let end = entry.body.length();
        Ok(Some((meta, Box::new(Hit { entry, at: 0, end }))))
    }

    async fn get_miss_handler(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        let wanted = wanted(key)?;
        Ok(Box::new(Miss(Some(self.fill(wanted.key.clone(), head(meta), wanted.max_object, wanted.mark)))))
    }

    async fn purge(&'static self, _: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        // Purging is by URL, and not Pingora's business here.
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        Ok(self.renew(&wanted(key)?.key, head(meta)))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A stored response that is being sent.
struct Hit {
    entry: Arc<Entry>,
    at: u64,
    end: u64,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let piece = self.entry.body.piece(self.at, self.end);
        self.at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }

    async fn finish(self: Box<Self>, _: &'static (dyn Storage + Sync), _: &CacheKey, _: &SpanHandle) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.entry.body.length();
        if start as u64 > length {
            return Error::e_explain(ErrorType::InternalError, "a range behind the end");
        }
        (self.at, self.end) = (start as u64, end.map_or(length, |end| end as u64));
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// A response that is being stored.
struct Miss(Option<Fill>);

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _end: bool) -> Result<()> {
        if let Some(fill) = &mut self.0 {
            fill.write(&data);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        // A response that did not become an entry is no failure of the exchange, and who waited for it looks for themselves.
        let _ = self.0.take().map(Fill::finish);
        Ok(MissFinishType::Created(0))
    }
}
