//! Requests to an authority.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::ClientConfig;

use crate::wire::{AskPatience, Url, ask};

/// Directories, orders and chains have a few KiB. Some authorities take their time to sign.
const PATIENCE: AskPatience = AskPatience { time: Duration::from_secs(60), bytes: 1 << 20 };

/// No authority's `Retry-After` counts for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an authority asks us to do without for a while.
pub(super) type Pause = Arc<Mutex<Option<SystemTime>>>;

/// Our client, for the library that speaks the protocol.
pub(super) struct Client {
    pub(super) tls: Arc<ClientConfig>,
    /// Until when the authority wants to hear nothing more, as it has last said.
    pub(super) pause: Pause,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (tls, pause) = (self.tls.clone(), self.pause.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = Url::parse(&parts.uri.to_string()).map_err(failed)?;
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes());
            let answer = ask(&url, request, Some(tls), PATIENCE).await;
            let answer = answer.map_err(|reason| failed(format!("{} cannot be asked: {reason}", url.name())))?;
            if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                *pause.lock() = retry_after(answer.headers(), SystemTime::now());
            }
            let (parts, body) = answer.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

fn failed(reason: String) -> Error {
    Error::Other(reason.into())
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let at = match text.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds))?,
        Err(_) => httpdate::parse_http_date(text).ok()?,
    };
    Some(at.min(now + LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_may_ask_for_a_pause() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let after = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, http::HeaderValue::from_static(value))]);
            retry_after(&headers, now).and_then(|at| at.duration_since(now).ok()).map(|after| after.as_secs())
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77));
        assert_eq!(after("99999999"), Some(LONGEST_PAUSE.as_secs()), "not for ever");
        assert_eq!((after("soon"), after("18446744073709551615")), (None, None));
    }
}
