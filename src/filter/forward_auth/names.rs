//! Which fields of a request the service may see, and which of a verdict the endpoint may.

use http::{HeaderName, header};

use crate::{
    filter::{
        alike::{alike, remove_alike},
        headers::field_name,
    },
    types::{At, Code, FieldsMut, OneOrMany},
};

/// What Weir tells a service of a request: nobody else does, by these names or any that pass for them.
const OWN: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-original-method",
    "x-original-url",
    "x-real-ip",
    "forwarded",
];

/// Fields of the connection, the framing and the body, and those that ask for less than a whole answer: the question is
/// another message than the request.
const NOT_SHOWN: [&str; 9] =
    ["connection", "upgrade", "te", "trailer", "transfer-encoding", "expect", "host", "range", "max-forwards"];

/// What Weir tells the endpoint about the client.
pub(super) fn is_forwarded(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" | "x-real-ip" | "forwarded" | "via")
}

/// Some fields.
#[derive(Debug)]
pub(super) struct Names(Box<[HeaderName]>);

/// Which fields of a request a service sees.
#[derive(Debug)]
pub(super) enum Shown {
    /// Those that say something of the client and of the request.
    All,
    /// These.
    These(Names),
}

impl Names {
    pub(super) fn new(names: Vec<HeaderName>) -> Self {
        Self(names.into())
    }

    /// What is written under `request_headers`.
    pub(super) fn shown(spec: &OneOrMany<String>, at: &At) -> Option<Shown> {
        if spec.len() == 1 && spec.iter().all(|name| name == "all") {
            return Some(Shown::All);
        }
        let item = |index: usize| if spec.len() == 1 { at.clone() } else { at.index(index) };
        let each: Vec<_> = spec.iter().enumerate().map(|(index, text)| showable(text, &item(index))).collect();
        each.into_iter().collect::<Option<Vec<_>>>().map(|names| Shown::These(Self::new(names)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter()
    }

    /// Removes these fields, and all that pass for them.
    pub(super) fn remove_from(&self, fields: &mut dyn FieldsMut) {
        if !self.0.is_empty() {
            remove_alike(fields, &self.0);
        }
    }
}

impl Shown {
    /// Is this field among them?
    pub(super) fn holds(&self, name: &str) -> bool {
        match self {
            Shown::All => {
                !is_own(name) && !NOT_SHOWN.contains(&name) && !["content-", "if-"].iter().any(|of| name.starts_with(of))
            }
            Shown::These(names) => names.0.iter().any(|shown| shown == name),
        }
    }
}

fn showable(text: &str, at: &At) -> Option<HeaderName> {
    let name = field_name(text, at)?;
    let hint = match &name {
        name if *name == header::HOST => "`host` sets it; left out, it is the client's",
        name if is_own(name.as_str()) => "Weir itself tells the service this",
        name if name.as_str() == "all" => "`request_headers: all` alone shows all fields",
        _ => return Some(name),
    };
    at.problem(Code::BadValue, format!("`{name}` is not passed on from clients")).hint(hint);
    None
}

/// Is it one that Weir makes, or of its family?
fn is_own(name: &str) -> bool {
    let family = ["x-forwarded-", "x-original-"].iter().any(|of| name.get(..of.len()).is_some_and(|start| alike(start, of)));
    family || OWN.iter().any(|own| alike(own, name))
}
