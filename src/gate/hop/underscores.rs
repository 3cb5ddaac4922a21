//! Request fields whose names services cannot tell from others.
//!
//! Who puts fields into variables (CGI, WSGI, PHP) makes one of `X-Forwarded-For`, `X_Forwarded_For` and, here and there,
//! `X.Forwarded.For`. So a spelling of a field that Weir answers for goes no further, whatever the listener says; about all
//! others with `_` the listener decides. Responses are not looked at: a client reads a name as what it is.

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::names::passes_for_ours;
use crate::gate::{Admitted, Refusal};

/// What becomes of request fields with `_` in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreFields {
    /// They go no further, which is counted.
    #[default]
    Drop,
    /// They are forwarded, except for spellings of fields that Weir sets or removes itself.
    Forward,
    /// The request is refused: 400.
    Refuse,
}

/// Why a request field was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Its name has a `_`.
    Underscore,
    /// Its name passes for one that Weir sets or removes itself.
    Lookalike,
}

impl DropReason {
    /// The word in the log and in the metric label.
    pub const fn word(self) -> &'static str {
        match self {
            DropReason::Underscore => "underscore",
            DropReason::Lookalike => "lookalike",
        }
    }
}

/// The fields that were dropped.
pub type Dropped = SmallVec<[(HeaderName, DropReason); 2]>;

/// Does a name give cause to look closer? `name` in whatever case.
pub(in crate::gate) fn is_suspicious(name: &str) -> bool {
    name.contains('_') || passes_for_ours(name)
}

impl UnderscoreFields {
    /// Refuses a request whose names give cause, where the listener wants that.
    pub fn judge(self, admitted: &Admitted) -> Result<(), Refusal> {
        match self {
            UnderscoreFields::Refuse if admitted.underscores => Err(Refusal::UnderscoreField),
            _ => Ok(()),
        }
    }

    /// Removes what goes no further.
    pub fn apply(self, fields: &mut HeaderMap) -> Dropped {
        let dropped: Dropped = fields.keys().filter_map(|name| Some((name.clone(), self.drops(name.as_str())?))).collect();
        for (name, _) in &dropped {
            fields.remove(name);
        }
        dropped
    }

    fn drops(self, name: &str) -> Option<DropReason> {
        if passes_for_ours(name) {
            return Some(DropReason::Lookalike);
        }
        (name.contains('_') && self != UnderscoreFields::Forward).then_some(DropReason::Underscore)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(policy: UnderscoreFields, names: &[&'static str]) -> (Vec<&'static str>, Vec<&'static str>) {
        let mut fields: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        let dropped = policy.apply(&mut fields);
        let words = dropped.iter().map(|(_, reason)| reason.word()).collect();
        (names.iter().copied().filter(|name| fields.contains_key(*name)).collect(), words)
    }

    #[test]
    fn the_listener_decides_about_fields_with_underscores() {
        let names = ["api_key", "x.y", "accept"];
        assert_eq!(left(UnderscoreFields::Drop, &names), (vec!["x.y", "accept"], vec!["underscore"]));
        assert_eq!(left(UnderscoreFields::Forward, &names), (names.to_vec(), vec![]));
    }

    #[test]
    fn no_spelling_of_a_field_that_weir_answers_for_goes_on() {
        for name in [
            "x_forwarded_for",
            "x.forwarded.for",
            "x-forwarded_host",
            "x_real_ip",
            "x_client_cert_subject",
            "client_cert",
            "content_length",
            "transfer_encoding",
            "proxy_connection",
            "keep_alive",
            "x_request_id",
            "max_forwards",
            "x_weir_explain",
        ] {
            for policy in [UnderscoreFields::Drop, UnderscoreFields::Forward] {
                assert_eq!(left(policy, &[name]), (vec![], vec!["lookalike"]), "{name} {policy:?}");
            }
            assert!(is_suspicious(name) && is_suspicious(&name.to_ascii_uppercase()), "{name}");
        }
        for name in ["x-forwarded-for", "accept", "x.y", "xforwardedfor", "content.type", "x.forwarded"] {
            assert!(!is_suspicious(name), "{name}");
        }
        assert!(is_suspicious("api_key"));
    }
}
