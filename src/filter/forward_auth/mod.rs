//! The `forward_auth` filter: who may come in, by what a service says of the request.
//!
//! [`ask`] words the question, [`verdict`] does what the answer says, [`names`] knows which fields pass. The service is an upstream: balanced, checked, limited and judged like any other, and called over connections
//! that are kept open.

mod ask;
mod names;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header, uri::PathAndQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, FilterResponse, Scope, Service, Slot, Verdict, headers::field_name};
use crate::types::{At, Code, Name, OneOrMany, Reply, Size, Span, Template, parse_authority};
use ask::Question;
use names::Names;
use verdict::{Back, Cookies, Judge};

/// The longest `timeout`. Where there is no route yet, and on upgrades, a verdict is waited for 30 s at most.
const MAX_TIMEOUT: Span = Span::secs(25);
/// The largest `max_body`: it is held in memory until the client has it, and a refusal has no need of more.
const MAX_BODY: Size = Size::bytes(1024 * 1024);

/// Admits by the verdict of a service: 2xx admits, 3xx and 4xx are the answer to the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuthSpec {
    /// The upstream that is asked.
    pub upstream: Name,
    /// The path, and the query if there is one, that it is asked at: `/api/authz/forward-auth`.
    pub path: String,
    /// The `Host` that it is asked with. Left out: the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How long a verdict may take, at most 25 s.
    #[serde(default = "ForwardAuthSpec::default_timeout")]
    pub timeout: Span,
    /// The fields of the request that the service sees, beside those that Weir makes. `all` shows it all of them.
    #[serde(default = "ForwardAuthSpec::default_request_headers")]
    pub request_headers: OneOrMany<String>,
    /// The fields of a verdict that admits which the endpoint sees. What a client sends in them itself is removed.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub response_headers: OneOrMany<String>,
    /// Pass the cookies of a verdict that admits on to the client.
    #[serde(default = "ForwardAuthSpec::default_set_cookies")]
    pub set_cookies: bool,
    /// Where browsers are sent that get 401: `https://login.example.com/?rd={url}`, or `/sign_in?rd={uri}` on the same
    /// host. Left out: the 401 is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The largest body of a verdict.
    #[serde(default = "ForwardAuthSpec::default_max_body")]
    pub max_body: Size,
    /// What becomes of requests while the service gives no verdicts.
    #[serde(default)]
    pub on_error: OnError,
}

/// What becomes of a request without a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is answered with 503.
    #[default]
    Deny,
    /// It goes on, without any of the fields in `response_headers`.
    Allow,
}

impl ForwardAuthSpec {
    fn default_timeout() -> Span {
        Span::secs(5)
    }
    fn default_request_headers() -> OneOrMany<String> {
        OneOrMany(["accept", "authorization", "cookie", "user-agent", "x-requested-with"].map(String::from).into())
    }
    fn default_set_cookies() -> bool {
        true
    }
    fn default_max_body() -> Size {
        Size::bytes(64 * 1024)
    }

    pub(super) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let bounded = self.bounded(at);
        let target = self.target(&at.key("path"));
        let host = self.host(&at.key("host"));
        let shown = Names::shown(&self.request_headers, &at.key("request_headers"));
        let taken = self.taken(&at.key("response_headers"));
        let login = self.login(&at.key("login"));
        let service = scope.service(&self.upstream);
        let (target, host, shown, taken, login, service) = (target?, host?, shown?, taken?, login?, service?);
        let max_body = usize::try_from(self.max_body.get()).ok().filter(|_| bounded)?;
        let question = Question { target, host, shown, within: self.timeout.get(), max_body };
        let judge = Judge::new(self.upstream.clone(), taken, self.set_cookies, login, self.on_error);
        Some(Arc::new(ForwardAuth { question, judge: Arc::new(judge), service }))
    }

    fn bounded(&self, at: &At) -> bool {
        let timely = !self.timeout.get().is_zero() && self.timeout <= MAX_TIMEOUT;
        if !timely {
            at.key("timeout")
                .problem(Code::BadValue, format!("{} is no time to wait for a verdict", self.timeout))
                .hint(format!("more than none, and at most {MAX_TIMEOUT}; 5s is usual"));
        }
        let small = self.max_body <= MAX_BODY;
        if !small {
            at.key("max_body")
                .problem(Code::BadValue, format!("{} is too much to be held for each request", self.max_body))
                .hint(format!("at most {MAX_BODY}"));
        }
        timely && small
    }

    fn target(&self, at: &At) -> Option<String> {
        let target = self.path.parse::<PathAndQuery>().ok();
        if !self.path.starts_with('/') || self.path.contains('#') || target.is_none() {
            at.problem(Code::BadValue, format!("{:?} is not a path", self.path))
                .hint("the path on the service, as in `/verify` or `/verify?group=staff`");
            return None;
        }
        Some(self.path.clone())
    }

    fn host(&self, at: &At) -> Option<Option<HeaderValue>> {
        let Some(text) = &self.host else { return Some(None) };
        let host = HeaderValue::from_str(text).ok().filter(|_| parse_authority(text).is_some());
        if host.is_none() {
            at.problem(Code::BadValue, format!("{text:?} is not a host")).hint("as in `auth.example.com`");
        }
        host.map(Some)
    }

    /// The fields that verdicts may set. Each name is looked at, so that every problem is reported.
    fn taken(&self, at: &At) -> Option<Names> {
        let item = |index: usize| if self.response_headers.len() == 1 { at.clone() } else { at.index(index) };
        let taken = |(index, text): (usize, &String)| taken(text, &item(index));
        let each: Vec<_> = self.response_headers.iter().enumerate().map(taken).collect();
        each.into_iter().collect::<Option<Vec<HeaderName>>>().map(Names::new)
    }

    fn login(&self, at: &At) -> Option<Option<Template<Back>>> {
        let Some(text) = &self.login else { return Some(None) };
        let template = match Template::parse(text, &[("url", Back::Url), ("uri", Back::Uri)]) {
            Ok(template) => template,
            Err(error) => {
                at.problem(Code::BadValue, error.to_string())
                    .hint("`{url}` is what the client asked for, `{uri}` its path and query");
                return None;
            }
        };
        let begins = ["https://", "http://", "/"].iter().any(|start| text.starts_with(start));
        if !begins || !text.bytes().all(|b| b.is_ascii_graphic()) {
            at.problem(Code::BadValue, format!("{text:?} is no place to send browsers to"))
                .hint("a URL, or a path on the same host: `/oauth2/sign_in?rd={uri}`");
            return None;
        }
        Some(Some(template))
    }
}

fn taken(text: &str, at: &At) -> Option<HeaderName> {
    let name = field_name(text, at)?;
    let hint = match &name {
        name if *name == header::SET_COOKIE => "`set_cookies` passes cookies on to the client",
        name if *name == header::HOST => "`headers` sets the host that is forwarded",
        name if names::is_forwarded(name.as_str()) => "Weir itself tells the endpoint this",
        _ => return Some(name),
    };
    at.problem(Code::BadValue, format!("`{name}` is not for a verdict to say")).hint(hint);
    None
}

#[derive(Debug)]
struct ForwardAuth {
    question: Question,
    judge: Arc<Judge>,
    service: Arc<dyn Service>,
}

impl Filter for ForwardAuth {
    fn kind(&self) -> &'static str {
        "forward_auth"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        // The service might read the first of two, the endpoint the last, and they would not agree on who asks.
        if request.fields.get_all(header::AUTHORIZATION.as_str()).nth(1).is_some() {
            return Verdict::Answer { reply: Reply::status(400), reason: "forward_auth_ambiguous" };
        }
        let asked = self.question.ask(request);
        // Whatever the verdict is, also where there is none.
        self.judge.take_away(request.fields);
        let Some((call, wanted)) = asked else { return self.judge.refuse() };
        let (calling, judge) = (self.service.call(call), self.judge.clone());
        Verdict::later(async move {
            let answered = calling.await;
            move |request: &mut FilterRequest<'_>, slot: &mut Slot| judge.judge(answered, &wanted, request, slot)
        })
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        if let Some(Cookies(cookies)) = slot.take().and_then(|slot| slot.downcast::<Cookies>().ok()).map(|cookies| *cookies) {
            cookies.into_iter().for_each(|cookie| response.fields.append(header::SET_COOKIE, cookie));
        }
    }
}
