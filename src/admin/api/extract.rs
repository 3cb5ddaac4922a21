//! What is read of a request, with refusals in the form of all others.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{admin::answer::Refusal, config::MAX_BYTES};

/// The variable parts of the path.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(parts)) => Ok(Self(parts)),
            Err(_) => Err(Refusal::Path),
        }
    }
}

/// A body in JSON. Nothing that it describes takes more than this.
const MAX_JSON: usize = 64 * 1024;

/// A body in JSON; where the type has a default, none at all is that.
pub(super) struct InBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for InBody<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let kind = media_type(&parts.headers)?;
        let body = read(body, MAX_JSON).await?;
        // Where nothing has to be said, nothing may be sent.
        let text: &[u8] = match body.is_empty() {
            true if kind.is_none() => b"{}",
            _ if kind.as_deref() == Some("application/json") => &body,
            _ => return Err(Refusal::MediaType("application/json")),
        };
        let wrong = |error: serde_json::Error| Refusal::Body(error.to_string());
        match serde_json::from_slice(text).map_err(wrong)? {
            // A list would do for serde: its items are taken for the keys in their order.
            body @ Value::Object(_) => serde_json::from_value(body).map(Self).map_err(wrong),
            _ => Err(Refusal::Body("the body is not an object".to_owned())),
        }
    }
}

/// The media types of YAML that are in use; JSON is YAML, too.
const YAML: [&str; 5] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"];

/// A configuration as text.
pub(super) struct Configuration(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Configuration {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if !media_type(&parts.headers)?.is_some_and(|kind| YAML.contains(&&*kind)) {
            return Err(Refusal::MediaType("application/yaml"));
        }
        let body = read(body, MAX_BYTES).await?;
        String::from_utf8(body).map(Self).map_err(|_| Refusal::Body("the file is not UTF-8".to_owned()))
    }
}

/// The type of the body, without its parameters.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, None) = (values.next(), values.next()) else {
        return Err(Refusal::Body("there are two Content-Type".to_owned()));
    };
    let kind = |value: &header::HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    };
    Ok(first.map(kind))
}

async fn read(body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    // Either it is too long, or its sender has gone and reads no answer.
    to_bytes(body, most).await.map(Vec::from).map_err(|_| Refusal::TooLarge(most))
}

/// The generation that a change is meant for: `If-Match: "7"`. `*` is any.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok("*")), None) => Ok(None),
        (Some(Ok(tag)), None) => {
            let generation = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            generation
                .map(Some)
                .ok_or_else(|| Refusal::Body("If-Match is not the ETag of a configuration, as in \"7\"".to_owned()))
        }
        _ => Err(Refusal::Body("If-Match is not one ETag".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_quoted() {
        let parse = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, header::HeaderValue::from_static(value));
            }
            if_match(&headers).ok()
        };
        assert_eq!(parse(&[]), Some(None));
        assert_eq!((parse(&["*"]), parse(&["\"7\""])), (Some(None), Some(Some(7))));
        for bad in [&["7"][..], &["W/\"7\""], &["\"x\""], &[""], &["\"1\"", "\"2\""], &["\"1\", \"2\""]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
