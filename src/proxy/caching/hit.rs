//! A stored response was found: may it be used?

use std::time::SystemTime;

use pingora_cache::{CacheMeta, ForcedFreshness};
use pingora_proxy::Session;

use super::{RequestCtx, behind, seconds_until};
use crate::{
    cache::{Reuse, Stored},
    proxy::Weir,
};

/// `None` for what its age says.
pub(in crate::proxy) fn filter(
    weir: &Weir,
    session: &Session,
    meta: &CacheMeta,
    fresh: bool,
    ctx: &mut RequestCtx,
) -> Option<ForcedFreshness> {
    let caching = ctx.caching.as_mut()?;
    let asked = caching.asked()?;
    let now = SystemTime::now();
    let stored = Stored { fields: meta.headers(), age: meta.age().as_secs(), ttl: seconds_until(meta.fresh_until(), now) };
    match caching.policy.reuse(&asked, &stored) {
        Reuse::Never => {
            caching.story.unusable = true;
            return Some(ForcedFreshness::ForceMiss);
        }
        Reuse::Validated => {
            caching.story.unusable = fresh;
            return Some(ForcedFreshness::ForceExpired);
        }
        Reuse::Accepted => return Some(ForcedFreshness::ForceFresh),
        Reuse::AsItIs if fresh || caching.is_behind() => return None,
        Reuse::AsItIs => {}
    }
    if !meta.serve_stale_while_revalidate(now) {
        return None;
    }
    behind::start(weir, session, ctx);
    if let Some(caching) = &mut ctx.caching {
        caching.story.updating = true;
    }
    Some(ForcedFreshness::ForceFresh)
}
