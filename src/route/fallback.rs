//! The answer in place of an upstream that has none.

use http::{HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    filter::small_file,
    types::{At, Code, ConfigPath, Reply},
};

/// The longest body file: it is kept in memory, once per configuration.
const MAX_BODY: u64 = 1 << 20;

/// What clients get when every try has failed, instead of Weir's own 502, 503 or 504.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FallbackSpec {
    /// 200 to 599.
    #[serde(default = "FallbackSpec::default_status")]
    pub status: u16,
    /// The body. Without it and `body_file`, the short standard text for the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the body, up to 1 MiB, read when the configuration is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_file: Option<ConfigPath>,
    /// The body's type.
    #[serde(default = "FallbackSpec::default_content_type")]
    pub content_type: String,
}

impl FallbackSpec {
    fn default_status() -> u16 {
        503
    }
    fn default_content_type() -> String {
        "text/html; charset=utf-8".into()
    }

    /// The answer that the user wrote; `None` when a problem was reported instead.
    pub(super) fn compile(&self, at: &At) -> Option<Reply> {
        let mut sound = true;
        let mut refuse = |at: At, code, message: String, hint: &str| {
            at.problem(code, message).hint(hint);
            sound = false;
        };
        if !(200..=599).contains(&self.status) || matches!(self.status, 204 | 304) {
            let message = format!("{} cannot stand for an answer that is missing", self.status);
            refuse(at.key("status"), Code::BadValue, message, "200 to 599 with a body; 503 is usual");
        }
        if self.body.is_some() && self.body_file.is_some() {
            let message = "a fallback has either a `body` or a `body_file`".into();
            refuse(at.key("body_file"), Code::Conflict, message, "remove one of them");
        }
        let content_type = HeaderValue::from_str(&self.content_type).ok().filter(|value| !value.is_empty());
        if content_type.is_none() {
            let message = format!("{:?} is not the value of a header field", self.content_type);
            refuse(at.key("content_type"), Code::BadValue, message, "write a media type such as `text/html`");
        }
        let file = self.body_file.as_ref().map(|file| {
            small_file::read(file, MAX_BODY).map_err(|reason| {
                let hint = "name a file that Weir can read when it starts";
                refuse(at.key("body_file"), Code::UnreadableFile, format!("cannot read `{file}`: {reason}"), hint);
            })
        });
        let body = match file {
            Some(content) => content.ok().map(Some),
            None => Some(self.body.clone().map(String::into_bytes)),
        };
        let (body, content_type) = (body?, content_type.filter(|_| sound)?);
        let reply = Reply::status(self.status);
        let reply = match body {
            Some(body) => Reply { body: Some(body.into()), ..reply }.with(header::CONTENT_TYPE, content_type),
            None => reply,
        };
        // What is unavailable says when to come back; how long it lasts cannot be known.
        Some(if self.status == 503 { reply.with(header::RETRY_AFTER, HeaderValue::from_static("1")) } else { reply })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Problems;

    fn compile(json: serde_json::Value) -> (Option<Reply>, Vec<String>) {
        let problems = Problems::default();
        let spec: FallbackSpec = serde_json::from_value(json).unwrap();
        let reply = spec.compile(&problems.root());
        (reply, problems.take().into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn the_body_is_inline_or_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sorry.html");
        std::fs::write(&path, "<h1>Sorry</h1>").unwrap();
        let (reply, _) = compile(serde_json::json!({"body_file": path}));
        let reply = reply.unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.as_deref()), (503, Some(&b"<h1>Sorry</h1>"[..])));
        assert!(reply.headers.iter().any(|(name, _)| name == header::RETRY_AFTER));
        let (reply, _) = compile(serde_json::json!({"status": 200, "body": "later", "content_type": "text/plain"}));
        let reply = reply.unwrap();
        assert_eq!((reply.body.as_deref(), reply.headers.len()), (Some(&b"later"[..]), 1));
        assert!(compile(serde_json::json!({})).0.unwrap().body.is_none(), "the standard text");

        std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        for path in [path, directory.path().join("none"), directory.path().into()] {
            let (reply, problems) = compile(serde_json::json!({"body_file": path}));
            assert!(reply.is_none() && problems.len() == 1, "{problems:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for wrong in [
            serde_json::json!({"status": 100}),
            serde_json::json!({"status": 204}),
            serde_json::json!({"content_type": "a\nb"}),
            serde_json::json!({"body": "x", "body_file": "Cargo.toml"}),
        ] {
            let (reply, problems) = compile(wrong.clone());
            assert!(reply.is_none() && problems.len() == 1, "{wrong}: {problems:?}");
        }
    }
}
