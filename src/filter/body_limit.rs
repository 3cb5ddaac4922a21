//! The `body_limit` filter: how much a client may send.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, RequestPiece, Slot, Verdict};
use crate::types::{At, Reply, Size};

/// Bounds the request body. A longer one is refused with 413: before anything is forwarded where its length is
/// declared, else as soon as it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyLimitSpec {
    /// The longest body that is accepted. `0` accepts none.
    pub max: Size,
}

impl BodyLimitSpec {
    pub(super) fn compile(&self, _at: &At) -> Option<Arc<dyn Filter>> {
        Some(Arc::new(BodyLimit { max: self.max.get() }))
    }
}

#[derive(Debug)]
struct BodyLimit {
    max: u64,
}

impl BodyLimit {
    fn judge(&self, length: u64) -> Verdict {
        if length > self.max {
            Verdict::Answer { reply: Reply::status(413), reason: "body_too_large" }
        } else {
            Verdict::Continue
        }
    }
}

impl Filter for BodyLimit {
    fn kind(&self) -> &'static str {
        "body_limit"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        self.judge(request.content_length.unwrap_or(0))
    }

    fn request_body(&self, piece: &RequestPiece<'_>, _: &mut Slot) -> Verdict {
        self.judge(piece.so_far)
    }

    fn sees_request_body(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile};

    #[test]
    fn a_declared_length_is_judged_before_anything_is_sent() {
        let chain = compile(r#"[{"body_limit": {"max": "10B"}}]"#);
        assert!(chain.sees_request_body());
        for (length, accepted) in [(None, true), (Some(0), true), (Some(10), true), (Some(11), false), (Some(u64::MAX), false)] {
            let mut exchange = Exchange { content_length: length, ..Exchange::default() };
            assert_eq!(exchange.request(&chain).is_ok(), accepted, "{length:?}");
        }
    }

    #[test]
    fn an_undeclared_length_is_judged_as_it_grows() {
        let chain = compile(r#"[{"body_limit": {"max": "10B"}}]"#);
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        let bytes = bytes::Bytes::new();
        let piece = |so_far| RequestPiece { bytes: &bytes, so_far, end: false };
        assert!(matches!(chain.request_body(&piece(10), &mut exchange.slots), Verdict::Continue));
        let verdict = chain.request_body(&piece(11), &mut exchange.slots);
        assert!(matches!(verdict, Verdict::Answer { reply, reason: "body_too_large" } if reply.status == 413));
    }
}
