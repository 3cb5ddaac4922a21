//! Responses without content, whatever they say of it (RFC 9110 sections 6.4.1, 9.3.2 and 15.3.5, 15.3.6 and 15.4.5).

use super::super::{
    Pair,
    message::{Framing, Script, form, get, ok, respond, send},
    row::{Arrives, Row, row},
};
use crate::support::h2_raw::{Frame, flag, kind};

fn head() -> Script {
    send("HEAD", Framing::None)
}

fn only(status: u16, framing: Framing) -> Script {
    respond(status, framing).head_only()
}

pub fn rows(pair: Pair) -> Vec<Row> {
    let length = Framing::Length;
    vec![
        row(pair, "a HEAD with a length", head(), [only(200, length(5))]),
        row(pair, "a HEAD with pieces", head(), [only(200, Framing::Open)]),
        row(pair, "a HEAD without framing", head(), [only(200, Framing::None)]),
        row(pair, "a HEAD of an error", head(), [only(404, length(9))]),
        row(pair, "a HEAD that ends by itself", head(), [respond(200, Framing::None).head_later().end()])
            .only("on HTTP/1 the head is the end", |pair| pair.endpoint.is_h2()),
        row(pair, "a 204", get(), [only(204, Framing::None)]).response_lacks("content-length"),
        row(pair, "a 204 of length 0", form("hello"), [only(204, length(0))]).response_lacks("content-length"),
        row(pair, "a 204 that ends by itself", get(), [respond(204, Framing::None).head_later().end()])
            .only("on HTTP/1 the head is the end", |pair| pair.endpoint.is_h2()),
        row(pair, "a 204 in pieces", get(), [only(204, Framing::Open)])
            .only("HTTP/2 has no Transfer-Encoding", |pair| pair.endpoint.is_h1())
            .status(502)
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["http_protocol_error"])
            .errors(1),
        row(pair, "a 205", get(), [only(205, length(0))]),
        row(pair, "a 205 in pieces", get(), [respond(205, Framing::Open).end()]),
        row(pair, "a 304", get(), [only(304, Framing::None)]),
        row(pair, "a 304 with a length", get(), [only(304, length(5))]),
        row(pair, "a 304 in pieces", get(), [only(304, Framing::Open)]),
        row(pair, "a 304 to a HEAD", head(), [only(304, length(5))]),
        row(pair, "a body for a HEAD", head(), [too_much(200)]).differs(
            "on HTTP/2 such a response is malformed (RFC 9113 section 8.1.1), its head sent or not",
            |pair| pair.endpoint.is_h2(),
            |row| row.response(Arrives::Whatever).ended("upstream", "http_protocol_error", ""),
        ),
        row(pair, "a body for a 204", get(), [too_much(204)]),
        row(pair, "a body for a 304", get(), [too_much(304)]),
        row(pair, "a HEAD of what ends with its connection", head(), [only(200, Framing::Close)]),
        row(pair, "a GET after a HEAD", get(), [ok("fine")]).warm(),
    ]
}

/// A head that has no content, and content all the same.
fn too_much(status: u16) -> Script {
    respond(status, Framing::None).head_later().raw("hello", &[Frame::new(kind::DATA, flag::END_STREAM, 0, "hello")])
}
