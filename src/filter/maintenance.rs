//! The `maintenance` filter: answers in place of the service while a file exists.
//!
//! The file is looked at when a request comes and the last look is older than `refresh`: by that one request, on its
//! way, since a look takes a microsecond or two on a local disk and no clock ticks where nobody asks. So a change is
//! in force `refresh` after it was made, at the latest, and a second holds one look however many requests it brings.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Filter, FilterRequest, Slot, Verdict,
    small_file::{self, Stamp},
};
use crate::types::{At, Cidr, CidrSet, Code, ConfigPath, OneOrMany, Reply, Span};

/// The longest page: it is kept in memory.
const MAX_BODY: u64 = 1 << 20;

/// The shortest `refresh`: below this, busy edges would look all the time.
const MIN_REFRESH: Span = Span::millis(100);

/// While the file exists, answers with it instead of going on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSpec {
    /// The file. What is in it is the body, up to 1 MiB; an empty one gets the short standard text for the status.
    pub file: ConfigPath,
    /// The status: 503 or another error.
    #[serde(default = "MaintenanceSpec::default_status")]
    pub status: u16,
    /// When clients are told to come back. `0` does not tell.
    #[serde(default = "MaintenanceSpec::default_retry_after")]
    pub retry_after: Span,
    /// The body's type.
    #[serde(default = "MaintenanceSpec::default_content_type")]
    pub content_type: String,
    /// These clients go on to the service.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub allow: OneOrMany<Cidr>,
    /// How often the file is looked at, 100 ms at least.
    #[serde(default = "MaintenanceSpec::default_refresh")]
    pub refresh: Span,
}

impl MaintenanceSpec {
    fn default_status() -> u16 {
        503
    }
    fn default_retry_after() -> Span {
        Span::secs(60)
    }
    fn default_content_type() -> String {
        "text/html; charset=utf-8".into()
    }
    fn default_refresh() -> Span {
        Span::secs(1)
    }

    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let mut refuse = |key: &str, message: String, hint: &str| {
            at.key(key).problem(Code::BadValue, message).hint(hint);
            sound = false;
        };
        if !(400..=599).contains(&self.status) {
            refuse("status", format!("{} does not say that something is missing", self.status), "503 is usual; 400 to 599");
        }
        if self.refresh < MIN_REFRESH {
            refuse("refresh", "the file would be looked at all the time".into(), "100ms at least; 1s is usual");
        }
        let content_type = HeaderValue::from_str(&self.content_type).ok().filter(|value| !value.is_empty());
        if content_type.is_none() {
            let message = format!("{:?} is not the value of a header field", self.content_type);
            refuse("content_type", message, "write a media type such as `text/html`");
        }
        let content_type = content_type.filter(|_| sound)?;
        let reply = Reply::status(self.status);
        let reply = match self.retry_after.limit() {
            // Fields have whole seconds.
            Some(after) => reply.with(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1))),
            None => reply,
        };
        let page = Page::new(&self.file, self.refresh.get());
        Some(Arc::new(Maintenance { reply, content_type, allow: self.allow.iter().copied().collect(), page }))
    }
}

#[derive(Debug)]
struct Maintenance {
    /// Without a body.
    reply: Reply,
    content_type: HeaderValue,
    allow: CidrSet,
    page: Page,
}

impl Filter for Maintenance {
    fn kind(&self) -> &'static str {
        "maintenance"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let Some(seen) = self.page.now(Instant::now()) else { return Verdict::Continue };
        if self.allow.contains(request.client.ip) {
            return Verdict::Continue;
        }
        let reply = match &seen.body {
            Some(body) => {
                Reply { body: Some(body.clone()), ..self.reply.clone() }.with(header::CONTENT_TYPE, self.content_type.clone())
            }
            None => self.reply.clone(),
        };
        Verdict::Answer { reply, reason: "maintenance" }
    }
}

/// The file as it was seen last.
#[derive(Debug)]
struct Page {
    path: Box<Path>,
    refresh: Duration,
    began: Instant,
    /// When to look again, in milliseconds since `began`.
    next: AtomicU64,
    /// `None`: there is no file.
    seen: ArcSwapOption<Seen>,
    /// The last look told nothing, so that the log says it once.
    blind: AtomicBool,
}

/// A file that was there.
#[derive(Debug, PartialEq)]
struct Seen {
    stamp: Stamp,
    /// `None` where the file is empty or cannot be read.
    body: Option<Bytes>,
}

impl Page {
    fn new(path: &Path, refresh: Duration) -> Self {
        let page = Self {
            path: path.into(),
            refresh,
            began: Instant::now(),
            next: AtomicU64::new(0),
            seen: ArcSwapOption::empty(),
            blind: AtomicBool::new(false),
        };
        page.look();
        page
    }

    /// The file, as it was at most `refresh` ago.
    fn now(&self, now: Instant) -> Option<Arc<Seen>> {
        let millis = |time: Instant| u64::try_from(time.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Acquire);
        // One request wins and looks; others go by what was seen last.
        if millis(now) >= next
            && self.next.compare_exchange(next, millis(now + self.refresh), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            self.look();
        }
        self.seen.load_full()
    }

    fn look(&self) {
        let looked = Stamp::of(&self.path);
        let was_blind = self.blind.swap(looked.is_err(), Ordering::Relaxed);
        let stamp = match looked {
            Ok(Some(stamp)) => stamp,
            Ok(None) => {
                if self.seen.swap(None).is_some() {
                    log::info!("maintenance has ended: {} is gone", self.path.display());
                }
                return;
            }
            Err(error) => {
                // Nobody has ended it, and nobody has begun it.
                if !was_blind {
                    let (path, kind) = (self.path.display(), error.kind());
                    log::warn!("cannot tell whether the maintenance page {path} is there, all stays as it was: {kind}");
                }
                return;
            }
        };
        let before = self.seen.load();
        if before.as_ref().is_some_and(|seen| seen.stamp == stamp) {
            return;
        }
        let body = small_file::read(&self.path, MAX_BODY).map_err(|reason| {
            // It exists, so the service is in maintenance whatever can be read.
            log::warn!("the maintenance page {} cannot be used, the standard text is sent: {reason}", self.path.display());
        });
        if before.is_none() {
            log::info!("maintenance has begun: {} is there", self.path.display());
        }
        let body = body.ok().filter(|body| !body.is_empty()).map(Bytes::from);
        self.seen.store(Some(Arc::new(Seen { stamp, body })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn the_answer_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("down.html");
        std::fs::write(&path, "<h1>Back soon</h1>").unwrap();
        let options = serde_json::json!({"file": path, "retry_after": "5m", "allow": ["198.51.100.0/24"]});
        let chain = compile(&format!(r#"[{{"maintenance": {options}}}]"#));
        let (reply, reason) = Exchange::default().request(&chain).unwrap_err();
        assert_eq!((reply.status.as_u16(), reason), (503, "maintenance"));
        assert_eq!(reply.body.as_deref(), Some(&b"<h1>Back soon</h1>"[..]));
        let field = |name| reply.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!((field(header::RETRY_AFTER), field(header::CONTENT_TYPE)), (Some("300"), Some("text/html; charset=utf-8")));
        let mut inside = Exchange::default();
        inside.client.ip = "198.51.100.7".parse().unwrap();
        inside.request(&chain).expect("goes on");
    }

    #[test]
    fn a_change_is_seen_after_refresh_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("down");
        let page = Page::new(&path, Duration::from_secs(1));
        let at = |millis| page.began + Duration::from_millis(millis);
        let body = |millis| page.now(at(millis)).map(|seen| seen.body.clone());
        assert_eq!(body(0), None);
        std::fs::write(&path, "one").unwrap();
        assert_eq!((body(999), body(1000)), (None, Some(Some("one".into()))));
        std::fs::write(&path, "other").unwrap();
        assert_eq!((body(1999), body(2000)), (Some(Some("one".into())), Some(Some("other".into()))));
        std::fs::remove_file(&path).unwrap();
        assert_eq!((body(2999), body(3000)), (Some(Some("other".into())), None));
        std::fs::write(&path, "").unwrap();
        assert_eq!(body(60_000), Some(None), "after a long silence the first request looks; an empty file counts");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(body(70_000), Some(None), "what exists and cannot be read counts");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(body(80_000), Some(None), "as does what is too long");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(body(90_000), Some(None), "what cannot be looked at has not ended");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(body(100_000), None);
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(body(110_000), None, "nor has it begun");
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"file": "x", "status": 200}"#, "200 does not say"),
            (r#"{"file": "x", "refresh": "0"}"#, "all the time"),
            (r#"{"file": "x", "content_type": "a\nb"}"#, "not the value"),
        ] {
            let problems = refused(&format!(r#"[{{"maintenance": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
