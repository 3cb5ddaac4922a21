//! Pingora's headers as the fields that policy works on.

use http::{HeaderName, HeaderValue, header};
use pingora_http::{RequestHeader, ResponseHeader};

use super::trace::TRACEPARENT;
use crate::types::{Fields, FieldsMut};

/// The fields of a request.
pub(super) struct RequestFields<'a> {
    pub(super) head: &'a mut RequestHeader,
    pub(super) settled: &'a mut Settled,
}

/// Which of the fields that are written behind the filters one of them has set or removed: those stay as it left them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    pub(super) via: bool,
    pub(super) max_forwards: bool,
    pub(super) traceparent: bool,
}

impl Settled {
    fn note(&mut self, name: &HeaderName) {
        match name {
            name if *name == header::VIA => self.via = true,
            name if *name == header::MAX_FORWARDS => self.max_forwards = true,
            name if *name == TRACEPARENT => self.traceparent = true,
            _ => {}
        }
    }
}

/// The fields of a response.
pub(super) struct ResponseFields<'a> {
    pub(super) head: &'a mut ResponseHeader,
}

macro_rules! read {
    ($type:ident) => {
        impl Fields for $type<'_> {
            fn get(&self, name: &str) -> Option<&[u8]> {
                self.head.headers.get(name).map(HeaderValue::as_bytes)
            }
            fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
                Fields::get_all(&self.head.headers, name)
            }
            fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
                self.head.headers.each(see);
            }
        }
    };
}
read!(RequestFields);
read!(ResponseFields);

// Both kinds of insertion fail only for names that are no header names, which the type rules out.
impl FieldsMut for RequestFields<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.settled.note(&name);
        let _ = self.head.insert_header(name, value);
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.head.append_header(name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.settled.note(name);
        self.head.remove_header(name);
    }
}
impl FieldsMut for ResponseFields<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.head.insert_header(name, value);
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.head.append_header(name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.head.remove_header(name);
    }
}
