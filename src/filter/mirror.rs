//! The `mirror` filter: a copy of some requests goes to another upstream, and nobody waits for what that says.
//!
//! A copy runs beside its request. What it may hold is bounded, and whatever goes wrong with it concerns it alone: the
//! request neither waits for room nor fails.

use std::{
    io,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Call, Filter, FilterRequest, RequestPiece, Scope, Service, Slot, Take, Verdict};
use crate::{
    observe::Sample,
    types::{At, BodyStream, Code, Name, Ratio, Size, Span},
};

/// More copies at a time than this are a load that should be balanced, not mirrored.
const MAX_IN_FLIGHT: u32 = 10_000;
/// Pieces of a body that a copy may lag behind, whatever their size: what each costs beside its bytes is bounded too.
const MAX_PIECES: usize = 256;

/// Sends a copy of some requests to another upstream, whose answers are thrown away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSpec {
    /// Who gets the copies.
    pub upstream: Name,
    /// Of the requests that come here.
    #[serde(default = "MirrorSpec::default_share")]
    pub share: Ratio,
    /// Copies at a time. Requests beyond them have none.
    #[serde(default = "MirrorSpec::default_max_in_flight")]
    pub max_in_flight: NonZeroU32,
    /// How many bytes of its body a copy may lag behind its request. One that is slower is given up.
    #[serde(default = "MirrorSpec::default_max_lag")]
    pub max_lag: Size,
    /// How long a copy may take in all.
    #[serde(default = "MirrorSpec::default_timeout")]
    pub timeout: Span,
}

impl MirrorSpec {
    fn default_share() -> Ratio {
        Ratio::percent(100)
    }
    fn default_max_in_flight() -> NonZeroU32 {
        const { NonZeroU32::new(100).unwrap() }
    }
    fn default_max_lag() -> Size {
        Size::bytes(256 * 1024)
    }
    fn default_timeout() -> Span {
        Span::secs(30)
    }

    pub(super) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        if self.max_in_flight.get() > MAX_IN_FLIGHT {
            let message = format!("{} copies at a time are too many", self.max_in_flight);
            at.key("max_in_flight").problem(Code::BadValue, message).hint(format!("at most {MAX_IN_FLIGHT}"));
            sound = false;
        }
        if self.timeout.get().is_zero() {
            at.key("timeout")
                .problem(Code::BadValue, "a copy without end would keep its place for ever")
                .hint("give it some seconds");
            sound = false;
        }
        let service = scope.service(&self.upstream)?;
        let max = self.max_in_flight.get() as usize;
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(Mirror {
                service,
                share: self.share.get(),
                max_lag: self.max_lag.get() as usize,
                timeout: self.timeout.get(),
                owner: scope.owner().to_owned(),
                upstream: self.upstream.clone(),
                // Copies that are under way over a reload are under way after it.
                places: scope.shared(&format!("mirror {} {max}", self.upstream), || Semaphore::new(max)),
                counts: scope.shared(&format!("mirror {}", self.upstream), Counts::default),
            })
        })
    }
}

#[derive(Debug)]
struct Mirror {
    service: Arc<dyn Service>,
    share: f64,
    max_lag: usize,
    timeout: Duration,
    owner: String,
    upstream: Name,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// What became of copies.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// The body of a copy, as its request sees it.
struct Copying {
    pieces: mpsc::Sender<Bytes>,
    lag: Arc<Lag>,
    /// Bytes that were passed on. A body that is sent again to another endpoint is copied once.
    copied: u64,
}

/// What both ends of it know.
#[derive(Default)]
struct Lag {
    /// Bytes between them.
    bytes: AtomicUsize,
    /// The whole body was passed on.
    complete: AtomicBool,
}

impl Mirror {
    /// Starts a copy. The body follows through what is returned, if there is one.
    fn copy(&self, request: &FilterRequest<'_>, place: OwnedSemaphorePermit) -> Option<Copying> {
        let (copying, body) = match request.content_length {
            Some(0) => (None, None),
            length => {
                let (copying, body) = pipe(length);
                (Some(copying), Some(body))
            }
        };
        let lag = copying.as_ref().map(|copying| copying.lag.clone());
        let method = Method::from_bytes(request.method.as_bytes()).ok()?;
        let (target, client) = (target(request), request.client.ip);
        let call = Call { method, target, fields: fields(request), body, client, within: self.timeout, take: Take::Head };
        let (calling, counts) = (self.service.call(call), self.counts.clone());
        tokio::spawn(async move {
            let result = calling.await;
            let whole = lag.is_none_or(|lag| lag.complete.load(Relaxed));
            let count = match result {
                Ok(_) => &counts.answered,
                Err(_) if whole => &counts.failed,
                // Its request was given up, or went on without it.
                Err(_) => &counts.dropped,
            };
            count.fetch_add(1, Relaxed);
            drop(place);
        });
        copying
    }
}

/// The two ends of the body of a copy. It fails when its request ends before its body does.
fn pipe(length: Option<u64>) -> (Copying, BodyStream) {
    let (pieces, receiver) = mpsc::channel(MAX_PIECES);
    let lag = Arc::new(Lag::default());
    let copying = Copying { pieces, lag: lag.clone(), copied: 0 };
    let body = stream::unfold((receiver, lag), async |(mut receiver, lag): (mpsc::Receiver<Bytes>, Arc<Lag>)| {
        match receiver.recv().await {
            Some(piece) => {
                lag.bytes.fetch_sub(piece.len(), Relaxed);
                Some((Ok(piece), (receiver, lag)))
            }
            None if lag.complete.load(Relaxed) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), (receiver, lag))),
        }
    });
    (copying, BodyStream::new(length, body))
}

/// The path and query as they would be forwarded.
fn target(request: &FilterRequest<'_>) -> String {
    match (&*request.forward, request.query) {
        (Some(target), _) => target.clone(),
        (None, Some(query)) => format!("{}?{query}", request.path),
        (None, None) => request.path.to_owned(),
    }
}

/// The fields as they would be forwarded. Nobody waits for a leave to send the body.
fn fields(request: &FilterRequest<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    request.fields.each(&mut |name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    });
    fields.remove(header::EXPECT);
    if !fields.contains_key(header::HOST)
        && !request.host.is_empty()
        && let Ok(host) = HeaderValue::from_str(request.host)
    {
        fields.insert(header::HOST, host);
    }
    fields
}

impl Filter for Mirror {
    fn kind(&self) -> &'static str {
        "mirror"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        // Of [0, 1): a share of 100 % is all of them and one of 0 % none.
        if request.upgrade || rand::random::<f64>() >= self.share {
            return Verdict::Continue;
        }
        match self.places.clone().try_acquire_owned() {
            Ok(place) => *slot = self.copy(request, place).map(|copying| Box::new(copying) as _),
            Err(_) => _ = self.counts.dropped.fetch_add(1, Relaxed),
        }
        Verdict::Continue
    }

    fn sees_request_body(&self) -> bool {
        true
    }

    fn request_body(&self, piece: &RequestPiece<'_>, slot: &mut Slot) -> Verdict {
        let Some(copying) = slot.as_mut().and_then(|slot| slot.downcast_mut::<Copying>()) else { return Verdict::Continue };
        let began = piece.so_far - piece.bytes.len() as u64;
        let known = copying.copied.saturating_sub(began).min(piece.bytes.len() as u64) as usize;
        let fresh = piece.bytes.slice(known..);
        copying.copied += fresh.len() as u64;
        let lag = copying.lag.bytes.fetch_add(fresh.len(), Relaxed) + fresh.len();
        let follows = fresh.is_empty() || (lag <= self.max_lag && copying.pieces.try_send(fresh).is_ok());
        if piece.end && follows {
            copying.lag.complete.store(true, Relaxed);
        }
        if piece.end || !follows {
            *slot = None;
        }
        Verdict::Continue
    }

    fn samples(&self) -> Vec<Sample> {
        let Counts { answered, failed, dropped } = &*self.counts;
        let sample = |(result, count): (&str, &AtomicU64)| Sample {
            metric: "weir_mirrored_requests_total",
            labels: vec![self.owner.clone(), self.upstream.to_string(), result.to_owned()],
            value: count.load(Relaxed) as f64,
        };
        [("answered", answered), ("failed", failed), ("dropped", dropped)].map(sample).into()
    }
}
