//! What a request holds, as values of header fields: `{scheme}`, `{header:NAME}`, `{cookie:NAME|none}`.

use std::borrow::Cow;

use http::HeaderName;

use super::FilterRequest;
use crate::types::{RequestHead, is_cookie_name};

/// A value of the request, and what stands for it where the request has none.
#[derive(Debug)]
pub(super) struct Asked {
    what: What,
    otherwise: Option<Box<str>>,
}

#[derive(Debug)]
enum What {
    Scheme,
    Method,
    Path,
    Query,
    Country,
    ClientCert,
    Header(HeaderName),
    Cookie(Box<str>),
    Parameter(Box<str>),
}

impl Asked {
    /// The names, for whoever has misspelt one.
    pub(super) const NAMES: [&str; 9] =
        ["scheme", "method", "path", "query", "country", "client_cert", "header:NAME", "cookie:NAME", "query:NAME"];

    /// `None` where there is no such variable.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, otherwise) = match text.split_once('|') {
            Some((name, otherwise)) => (name, Some(otherwise.into())),
            None => (text, None),
        };
        let what = match name.split_once(':') {
            None => match name {
                "scheme" => What::Scheme,
                "method" => What::Method,
                "path" => What::Path,
                "query" => What::Query,
                "country" => What::Country,
                "client_cert" => What::ClientCert,
                _ => return None,
            },
            Some(("header", name)) => What::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            Some(("cookie", name)) if is_cookie_name(name) => What::Cookie(name.into()),
            Some(("query", name)) if !name.is_empty() => What::Parameter(name.into()),
            Some(_) => return None,
        };
        Some(Self { what, otherwise })
    }

    /// The value, or what stands for it. Several fields of a name count as their first.
    pub(super) fn of(&self, request: &FilterRequest<'_>) -> Option<String> {
        let FilterRequest { method, host, path, query, client, .. } = *request;
        let head = RequestHead { method, host, path, query, fields: &*request.fields };
        let value: Option<Cow<'_, str>> = match &self.what {
            What::Scheme => Some(client.scheme.as_str().into()),
            What::Method => Some(method.into()),
            What::Path => Some(path.into()),
            What::Query => query.map(Cow::from),
            What::Country => client.country().map(|country| country.to_string().into()),
            What::ClientCert => client.tls.as_ref().and_then(|tls| tls.subject.as_deref()).map(Cow::from),
            What::Header(name) => head.fields.get(name.as_str()).and_then(|value| std::str::from_utf8(value).ok()).map(Cow::from),
            What::Cookie(name) => head.cookie(name).map(Cow::from),
            What::Parameter(name) => head.query_values(name).next().map(Cow::from),
        };
        value.map(Cow::into_owned).or_else(|| self.otherwise.as_deref().map(str::to_owned))
    }
}
