//! The `headers` filter: header fields set, added and removed, in both directions.
//!
//! Fields that belong to the connection or to the framing of the message are the proxy's own business
//! (RFC 9110 section 7.6.1) and refused when the file is read, and so is what could have no effect. Fields that Weir writes behind
//! the filters (`via`, `max-forwards`, `traceparent`) stay as a filter has set or removed them.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use smallvec::SmallVec;

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict, alike::remove_alike, asked::Asked};
use crate::types::{At, Code, FieldsMut, OneOrMany, Template, TemplateError, parse_authority};

/// Sets, adds and removes header fields of the request to the upstream and of the response to the client.
///
/// Values may hold `{client_ip}`, `{host}`, `{request_id}`, `{route}`. In requests they may also hold `{scheme}`, `{method}`, `{path}`,
/// `{query}`, `{country}`, `{client_cert}`, `{header:NAME}`, `{cookie:NAME}` and `{query:NAME}`; `{header:NAME|none}` gives a default. In
/// responses they may also hold `{endpoint}`. A field whose value is not known is left out. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersSpec {
    /// On the way to the upstream.
    #[serde(skip_serializing_if = "ChangesSpec::is_empty")]
    pub request: ChangesSpec,
    /// On the way to the client, on responses of the upstream and on Weir's own.
    #[serde(skip_serializing_if = "ChangesSpec::is_empty")]
    pub response: ChangesSpec,
}

/// First `remove`, then `set`, then `add`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangesSpec {
    /// These fields get this value, whatever they had.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// These fields get this value (or these) beside those they have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, OneOrMany<String>>,
    /// These fields go.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub remove: OneOrMany<String>,
}

impl ChangesSpec {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_absent()
    }
}

impl HeadersSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        if self.request.is_empty() && self.response.is_empty() {
            at.problem(Code::MissingKey, "`headers` without any field changes nothing")
                .hint("add `request` or `response` with `set`, `add` or `remove`");
            return None;
        }
        let request = Changes::compile(&self.request, Side::Request, &at.key("request"));
        let response = Changes::compile(&self.response, Side::Response, &at.key("response"));
        let (request, response) = (request?, response?);
        let remembers = response.values().any(|value| matches!(value, Variable::ClientIp | Variable::Host));
        Some(Arc::new(Headers { request, response, remembers }))
    }
}

#[derive(Debug)]
struct Headers {
    request: Changes,
    response: Changes,
    /// The response pass needs what only the request pass sees.
    remembers: bool,
}

#[derive(Debug)]
struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
    /// What the values ask of the request: [`Variable::Asked`] is a place in it.
    asked: Vec<Asked>,
    /// Of a request: the fields that are set or removed, of which no other spelling may be left that a service takes for it.
    guarded: Vec<HeaderName>,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Template(Template<Variable>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    ClientIp,
    Host,
    RequestId,
    Route,
    Endpoint,
    Asked(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

const VARIABLES: &[(&str, Variable)] = &[
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("request_id", Variable::RequestId),
    ("route", Variable::Route),
    ("endpoint", Variable::Endpoint),
];

impl Side {
    /// No endpoint has been chosen while the request's filters run, so `endpoint` (the last) is for responses.
    fn variables(self) -> &'static [(&'static str, Variable)] {
        match self {
            Side::Request => &VARIABLES[..VARIABLES.len() - 1],
            Side::Response => VARIABLES,
        }
    }

    /// The name of a field that can be changed on this side; `None` when a problem was reported instead.
    fn field_name(self, text: &str, at: &At) -> Option<HeaderName> {
        let name = field_name(text, at)?;
        if self == Side::Response && name == header::DATE {
            at.problem(Code::BadValue, "`date` is written when a response is sent, after all filters")
                .hint("remove it; every response has one");
            return None;
        }
        Some(name)
    }
}

/// Fields of the connection and of the message's framing. `Host` may be set (the upstream may want its own name)
/// and neither added nor removed: there is exactly one.
const FORBIDDEN: [&str; 13] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "proxy-authenticate",
    "proxy-authorization",
    "x-weir-explain",
];

/// The name of a field that filters may change; `None` when a problem was reported instead.
pub(super) fn field_name(text: &str, at: &At) -> Option<HeaderName> {
    let problem = |message: String, hint: &str| {
        at.problem(Code::BadValue, message).hint(hint);
        None
    };
    if text.starts_with(':') {
        return problem(format!("`{text}` is a pseudo-header of HTTP/2, not a field"), "use `host` for `:authority`");
    }
    match HeaderName::from_bytes(text.as_bytes()) {
        Err(_) => problem(format!("`{text}` is not the name of a header field"), "names hold letters, digits and `-`"),
        Ok(name) if FORBIDDEN.contains(&name.as_str()) => {
            problem(format!("`{name}` belongs to the connection or the framing"), "remove it; the proxy sees to this field")
        }
        Ok(name) => Some(name),
    }
}

impl Changes {
    fn compile(spec: &ChangesSpec, side: Side, at: &At) -> Option<Self> {
        let mut sound = true;
        let mut changes = Self { remove: Vec::new(), set: Vec::new(), add: Vec::new(), asked: Vec::new(), guarded: Vec::new() };
        for (index, name) in spec.remove.iter().enumerate() {
            let at = if spec.remove.len() == 1 { at.key("remove") } else { at.key("remove").index(index) };
            match side.field_name(name, &at).filter(|name| is_not_host(name, &at)) {
                Some(name) => changes.remove.push(name),
                None => sound = false,
            }
        }
        for (text, value) in &spec.set {
            let at = at.key("set").key(text.clone());
            match (side.field_name(text, &at), Value::compile(value, side, &mut changes.asked, &at)) {
                (Some(name), _) if spec.remove.iter().any(|removed| removed.eq_ignore_ascii_case(text)) => {
                    at.problem(Code::Conflict, format!("`{name}` is both set and removed"))
                        .at_key()
                        .hint("`set` alone replaces it");
                    sound = false;
                }
                (Some(name), _) if changes.set.iter().any(|(other, _)| *other == name) => {
                    at.problem(Code::Duplicate, format!("`{name}` is set twice")).at_key();
                    sound = false;
                }
                (Some(name), Some(value)) => {
                    sound &= name != header::HOST || value.is_host(&at);
                    changes.set.push((name, value));
                }
                _ => sound = false,
            }
        }
        for (text, values) in &spec.add {
            let at = at.key("add").key(text.clone());
            let name = side.field_name(text, &at).filter(|name| is_not_host(name, &at));
            for (index, value) in values.iter().enumerate() {
                let at = if values.len() == 1 { at.clone() } else { at.index(index) };
                match (&name, Value::compile(value, side, &mut changes.asked, &at)) {
                    (Some(name), Some(value)) => changes.add.push((name.clone(), value)),
                    _ => sound = false,
                }
            }
            sound &= name.is_some();
        }
        if side == Side::Request {
            let decided = changes.remove.iter().chain(changes.set.iter().map(|(name, _)| name));
            // Letters and digits have no other spelling.
            changes.guarded = decided.filter(|name| !name.as_str().bytes().all(|b| b.is_ascii_alphanumeric())).cloned().collect();
        }
        sound.then_some(changes)
    }

    fn values(&self) -> impl Iterator<Item = Variable> {
        self.set.iter().chain(&self.add).flat_map(|(_, value)| match value {
            Value::Fixed(_) => Vec::new(),
            Value::Template(template) => template.values().collect(),
        })
    }

    fn apply(&self, fields: &mut dyn FieldsMut, seen: &Seen<'_>) {
        if !self.guarded.is_empty() {
            remove_alike(fields, &self.guarded);
        }
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            if let Some(value) = value.fill(seen) {
                fields.set(name.clone(), value);
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.fill(seen) {
                fields.append(name.clone(), value);
            }
        }
    }
}

fn is_not_host(name: &HeaderName, at: &At) -> bool {
    let host = *name == header::HOST;
    if host {
        at.problem(Code::BadValue, "a request has exactly one `host`").hint("use `set` to send another");
    }
    !host
}

/// What values may be made of.
struct Seen<'a> {
    asked: &'a [Option<String>],
    client_ip: &'a dyn std::fmt::Display,
    host: &'a str,
    request_id: &'a str,
    route: &'a str,
    endpoint: Option<&'a str>,
}

/// A variable of nginx or HAProxy in this text, and its equivalent here.
fn foreign(text: &str) -> Option<(&str, Option<&'static str>)> {
    const VARIABLES: [(&str, Option<&str>); 14] = [
        ("$http_host", Some("host")),
        ("$host", Some("host")),
        ("$server_name", Some("host")),
        ("$remote_addr", Some("client_ip")),
        ("$proxy_add_x_forwarded_for", None),
        ("$realip_remote_addr", Some("client_ip")),
        ("$request_id", Some("request_id")),
        ("$upstream_addr", Some("endpoint")),
        ("$scheme", Some("scheme")),
        ("$request_method", Some("method")),
        ("$request_uri", None),
        ("$args", Some("query")),
        ("$server_port", None),
        ("%[src]", Some("client_ip")),
    ];
    let (name, own) = VARIABLES.iter().find(|(name, _)| text.contains(name))?;
    let at = text.find(name)?;
    Some((&text[at..at + name.len()], *own))
}

impl Value {
    fn compile(text: &str, side: Side, asked: &mut Vec<Asked>, at: &At) -> Option<Self> {
        let known = side.variables();
        let find = |name: &str| {
            let own = known.iter().find(|(own, _)| *own == name).map(|(_, variable)| *variable);
            own.or_else(|| {
                asked.push(Asked::parse(name).filter(|_| side == Side::Request)?);
                Some(Variable::Asked(asked.len() - 1))
            })
        };
        let template = match Template::parse_with(text, find) {
            Ok(template) => template,
            Err(error) => {
                let problem = at.problem(Code::BadValue, error.to_string());
                match &error {
                    TemplateError::Unknown(name) if name == "endpoint" => problem.hint("no endpoint is chosen yet on the way in"),
                    TemplateError::Unknown(name) if side == Side::Response && Asked::parse(name).is_some() => {
                        problem.hint("what the request holds can be used in `request` only")
                    }
                    TemplateError::Unknown(name) => {
                        let more: &[&str] = if side == Side::Request { &Asked::NAMES } else { &[] };
                        problem.nearest(name, known.iter().map(|(name, _)| *name).chain(more.iter().copied()))
                    }
                    TemplateError::Unbalanced => problem,
                };
                return None;
            }
        };
        if template.texts().any(|text| HeaderValue::from_bytes(text.as_bytes()).is_err()) {
            at.problem(Code::BadValue, format!("{text:?} has a character that no header field may hold"));
            return None;
        }
        if let Some((foreign, own)) = foreign(text) {
            at.problem(Code::Foreign, format!("`{foreign}` is not a variable here and is sent as it is")).hint(match own {
                Some(own) => format!("write `{{{own}}}`"),
                None => {
                    "variables are written in braces, as in `{host}`; the fields `x-forwarded-*` and `x-real-ip` are set anyway"
                        .into()
                }
            });
        }
        Some(match template.literal().map(|text| HeaderValue::from_bytes(text.as_bytes())) {
            Some(Ok(value)) => Value::Fixed(value),
            _ => Value::Template(template),
        })
    }

    /// A fixed host must be one: the upstream would refuse the request otherwise.
    fn is_host(&self, at: &At) -> bool {
        let Value::Fixed(value) = self else { return true };
        let valid = value.to_str().is_ok_and(|host| parse_authority(host).is_some());
        if !valid {
            at.problem(Code::BadValue, "this is not a host").hint("write `example.com` or `example.com:8080`");
        }
        valid
    }

    /// `None` where a value needs what there is not, or a client's text cannot stand in a field.
    fn fill(&self, seen: &Seen<'_>) -> Option<HeaderValue> {
        let template = match self {
            Value::Fixed(value) => return Some(value.clone()),
            Value::Template(template) => template,
        };
        let unknown = |value| match value {
            Variable::Endpoint => seen.endpoint.is_none(),
            Variable::Asked(place) => seen.asked.get(place).is_none_or(Option::is_none),
            _ => false,
        };
        if template.values().any(unknown) {
            return None;
        }
        let text = template.fill(|variable, out| match variable {
            Variable::ClientIp => out.push_str(&seen.client_ip.to_string()),
            Variable::Host => out.push_str(seen.host),
            Variable::RequestId => out.push_str(seen.request_id),
            Variable::Route => out.push_str(seen.route),
            Variable::Endpoint => out.push_str(seen.endpoint.unwrap_or_default()),
            Variable::Asked(place) => out.push_str(seen.asked.get(place).and_then(Option::as_deref).unwrap_or_default()),
        });
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
    }
}

/// What the response pass needs of the request.
struct Remembered {
    client_ip: std::net::IpAddr,
    host: Box<str>,
}

impl Filter for Headers {
    fn kind(&self) -> &'static str {
        "headers"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        if self.remembers {
            *slot = Some(Box::new(Remembered { client_ip: request.client.ip, host: request.host.into() }));
        }
        let asked: SmallVec<[Option<String>; 2]> = self.request.asked.iter().map(|asked| asked.of(request)).collect();
        let seen = Seen {
            asked: &asked,
            client_ip: &request.client.ip,
            host: request.host,
            request_id: request.request_id,
            route: request.route,
            endpoint: None,
        };
        self.request.apply(request.fields, &seen);
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        let remembered = slot.as_ref().and_then(|slot| slot.downcast_ref::<Remembered>());
        let seen = Seen {
            asked: &[],
            client_ip: remembered.map_or(&"", |remembered| &remembered.client_ip),
            host: remembered.map_or("", |remembered| &remembered.host),
            request_id: response.request_id,
            route: response.route,
            endpoint: response.endpoint,
        };
        self.response.apply(response.fields, &seen);
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn fields_are_removed_set_and_added() {
        let chain = compile(
            r#"[{"headers": {"request": {"set": {"X-Edge": "weir", "host": "in.example"}, "add": {"x-tag": ["b", "c"]}, "remove": ["X-Debug"]}}}]"#,
        );
        let mut exchange = Exchange::default();
        exchange.set("x-edge", "forged");
        exchange.set("x-debug", "1");
        exchange.set("x-tag", "a");
        exchange.request(&chain).unwrap();
        assert_eq!(exchange.get("x-edge"), Some("weir"));
        assert_eq!(exchange.get("host"), Some("in.example"));
        assert_eq!(exchange.get("x-debug"), None);
        assert_eq!(exchange.fields.get_all("x-tag").iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    /// A client's own spelling must not stand beside what is set, nor survive what is removed.
    #[test]
    fn no_spelling_of_a_field_that_is_set_or_removed_is_left() {
        let chain =
            compile(r#"[{"headers": {"request": {"set": {"x-user": "a"}, "add": {"x-tag": "b"}, "remove": "x-debug"}}}]"#);
        let mut exchange = Exchange::default();
        for name in ["x_user", "x.user", "x_debug", "x_tag", "x-other"] {
            exchange.set(name, "forged");
        }
        exchange.request(&chain).unwrap();
        assert_eq!(exchange.get("x-user"), Some("a"));
        for name in ["x_user", "x.user", "x_debug"] {
            assert_eq!(exchange.get(name), None, "{name}");
        }
        assert_eq!((exchange.get("x_tag"), exchange.get("x-other")), (Some("forged"), Some("forged")));
    }

    #[test]
    fn values_are_filled_in_on_both_ways() {
        let values = r#"{"set": {"x-who": "{client_ip} {host} {request_id} {route}"}}"#;
        let chain = compile(&format!(r#"[{{"headers": {{"request": {values}, "response": {values}}}}}]"#));
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        let want = "192.0.2.1 a.example id-1 route-1";
        assert_eq!(exchange.get("x-who"), Some(want));
        assert_eq!(exchange.response(&chain, 200)["x-who"], want);
    }

    #[test]
    fn the_endpoint_is_named_only_where_one_answered() {
        let chain = compile(r#"[{"headers": {"response": {"add": {"x-served-by": "e={endpoint}"}}}}]"#);
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        assert!(!exchange.response(&chain, 502).contains_key("x-served-by"));
        exchange.endpoint = Some("127.0.0.1:9001".into());
        assert_eq!(exchange.response(&chain, 200)["x-served-by"], "e=127.0.0.1:9001");
    }

    #[test]
    fn what_the_request_holds_is_a_value() {
        let chain = compile(
            r#"[{"headers": {"request": {"set": {
                "x-all": "{scheme} {method} {path} {query}", "x-tenant": "t-{header:X-Tenant}", "x-session": "{cookie:sid|none}",
                "x-page": "{query:page|1}", "x-country": "{country}", "x-cert": "{client_cert|}"}}}}]"#,
        );
        let mut exchange = Exchange { query: Some("a=b&page=7".into()), path: "/x".into(), ..Exchange::default() };
        exchange.set("x-tenant", "acme");
        exchange.set("cookie", "a=b; sid=42");
        exchange.request(&chain).unwrap();
        for (name, value) in [
            ("x-all", Some("http GET /x a=b&page=7")),
            ("x-tenant", Some("t-acme")),
            ("x-session", Some("42")),
            ("x-page", Some("7")),
            // Not known, and without a default.
            ("x-country", None),
            ("x-cert", Some("")),
        ] {
            assert_eq!(exchange.get(name), value, "{name}");
        }
        let mut bare = Exchange::default();
        bare.set("x-tenant", "");
        bare.request(&chain).unwrap();
        assert_eq!((bare.get("x-session"), bare.get("x-page"), bare.get("x-all")), (Some("none"), Some("1"), None));
        for (wrong, hint) in
            [("{hots}", "host"), ("{scheem}", "scheme"), ("{header:}", "header:NAME"), ("{cookie:a=b}", "cookie:NAME")]
        {
            let text = format!(r#"[{{"headers": {{"request": {{"set": {{"x-a": "{wrong}"}}}}}}}}]"#);
            let problem = refused(&text);
            assert!(format!("{problem:?}").contains(hint), "{wrong}: {problem:?}");
        }
        let problem = refused(r#"[{"headers": {"response": {"set": {"x-a": "{header:x}"}}}}]"#);
        assert!(format!("{problem:?}").contains("`request` only"), "{problem:?}");
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{}"#, "changes nothing"),
            (r#"{"request": {"set": {"Connection": "x"}}}"#, "`connection` belongs"),
            (r#"{"response": {"remove": "content-length"}}"#, "`content-length` belongs"),
            (r#"{"request": {"add": {":path": "/"}}}"#, "pseudo-header"),
            (r#"{"request": {"set": {"proxy-authorization": "x"}}}"#, "`proxy-authorization` belongs"),
            (r#"{"response": {"remove": ["date"]}}"#, "`date` is written when"),
            (r#"{"response": {"set": {"Date": "x"}}}"#, "`date` is written when"),
            (r#"{"request": {"add": {"host": "a"}}}"#, "exactly one"),
            (r#"{"request": {"remove": "Host"}}"#, "exactly one"),
            (r#"{"request": {"set": {"host": "a b"}}}"#, "not a host"),
            (r#"{"request": {"set": {"a b": "x"}}}"#, "not the name"),
            (r#"{"request": {"set": {"x": "a\r\nb: c"}}}"#, "no header field may hold"),
            (r#"{"request": {"set": {"x": "{endpoint}"}}}"#, "`{endpoint}`"),
            (r#"{"response": {"set": {"x": "{hots}"}}}"#, "`{hots}`"),
            (r#"{"response": {"set": {"x": "{host"}}}"#, "brace"),
            (r#"{"response": {"set": {"x": "1"}, "remove": ["X"]}}"#, "both set and removed"),
            (r#"{"response": {"set": {"x": "1", "X": "2"}}}"#, "set twice"),
        ] {
            let problems = refused(&format!(r#"[{{"headers": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
