//! Pingora's headers as the fields that policy works on.

use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::types::{Fields, FieldsMut};

/// The fields of a request.
pub(super) struct RequestFields<'a>(pub(super) &'a mut RequestHeader);

/// The fields of a response.
pub(super) struct ResponseFields<'a>(pub(super) &'a mut ResponseHeader);

macro_rules! fields {
    ($type:ident) => {
        impl Fields for $type<'_> {
            fn get(&self, name: &str) -> Option<&[u8]> {
                self.0.headers.get(name).map(HeaderValue::as_bytes)
            }
            fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
                Fields::get_all(&self.0.headers, name)
            }
            fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
                self.0.headers.each(see);
            }
        }
        impl FieldsMut for $type<'_> {
            // Both fail only for names that are no header names, which the type rules out.
            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                let _ = self.0.insert_header(name, value);
            }
            fn append(&mut self, name: HeaderName, value: HeaderValue) {
                let _ = self.0.append_header(name, value);
            }
            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    };
}
fields!(RequestFields);
fields!(ResponseFields);
