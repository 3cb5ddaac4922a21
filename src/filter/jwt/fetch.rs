//! Fetches a key set from its issuer: a few kilobytes an hour.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use rustls::ClientConfig;

use crate::wire::{AskPatience, Url, ask};

/// The longest answer is that of large issuers, with the certificates of each key: some 20 KiB.
pub(super) const PATIENCE: AskPatience = AskPatience { time: Duration::from_secs(5), bytes: 512 << 10 };

/// A key set as it was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// For how long it may be kept, if it says so.
    pub(super) max_age: Option<Duration>,
}

/// Fetches it, or says why not. `tls` is there for an address that needs it.
pub(super) async fn fetch(url: &Url, tls: Option<Arc<ClientConfig>>) -> Result<Answer, String> {
    let request = Request::get("/").header(header::ACCEPT, "application/jwk-set+json, application/json").body(Bytes::new());
    let answer = ask(url, request.map_err(|error| error.to_string())?, tls, PATIENCE).await?;
    match answer.status() {
        StatusCode::OK => Ok(Answer { max_age: max_age(answer.headers()), body: answer.into_body() }),
        status if status.is_redirection() => Err(format!("the answer is {status}, and redirects are not followed")),
        status => Err(format!("the answer is {status}")),
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|one| one.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_say_how_long_it_lasts() {
        let age = |value: &'static str| {
            max_age(&HeaderMap::from_iter([(header::CACHE_CONTROL, http::HeaderValue::from_static(value))]))
        };
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!((age("no-store"), age("max-age=x"), age("s-max-age=1")), (None, None, None));
    }
}
