//! The fields of a request as filters change them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::trace::TRACEPARENT;
use crate::types::{Fields, FieldsMut};

/// Which of the fields that are written behind the filters one of them has set or removed: those stay as it left them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled {
    /// Via.
    pub via: bool,
    /// Max-Forwards.
    pub max_forwards: bool,
    /// Traceparent.
    pub traceparent: bool,
    /// Host: the endpoint is asked for by another name than the client used.
    pub host: bool,
}

impl Settled {
    fn note(&mut self, name: &HeaderName) {
        match name {
            name if *name == header::VIA => self.via = true,
            name if *name == header::MAX_FORWARDS => self.max_forwards = true,
            name if *name == TRACEPARENT => self.traceparent = true,
            name if *name == header::HOST => self.host = true,
            _ => {}
        }
    }
}

/// The fields of a request, and what is settled of them.
pub(super) struct RequestFields<'a> {
    pub(super) fields: &'a mut HeaderMap,
    pub(super) settled: &'a mut Settled,
}

impl Fields for RequestFields<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        Fields::get(&*self.fields, name)
    }
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Fields::get_all(&*self.fields, name)
    }
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.fields.each(see);
    }
}

impl FieldsMut for RequestFields<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.settled.note(&name);
        self.fields.insert(name, value);
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.fields.append(name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.settled.note(name);
        self.fields.remove(name);
    }
}
