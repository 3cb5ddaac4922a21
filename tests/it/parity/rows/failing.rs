//! Endpoints that fail, at each stage: a typed answer while there is none yet, a response that can be told from a whole one
//! after that, and never a byte for somebody else.

use super::super::{
    Pair,
    message::{Break, Framing, Script, Step, Until, get, nothing, ok, post, respond},
    row::{Arrives, Row, row},
};
use crate::support::h2_raw::{Frame, flag, hpack, kind};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;

/// How an endpoint breaks off, and what each row is called then.
const WAYS: [(Break, [&str; 6]); 3] = [
    (
        Break::Close,
        [
            "an endpoint that closes instead of an answer",
            "an endpoint that closes within the request",
            "an endpoint that closes within the head",
            "an endpoint that closes within a response with a length",
            "an endpoint that closes within a response in pieces",
            "an endpoint that closes after early hints",
        ],
    ),
    (
        Break::Reset(INTERNAL_ERROR),
        [
            "an endpoint that resets instead of an answer",
            "an endpoint that resets within the request",
            "an endpoint that resets within the head",
            "an endpoint that resets within a response with a length",
            "an endpoint that resets within a response in pieces",
            "an endpoint that resets after early hints",
        ],
    ),
    (
        Break::Cut,
        [
            "an endpoint that vanishes instead of an answer",
            "an endpoint that vanishes within the request",
            "an endpoint that vanishes within the head",
            "an endpoint that vanishes within a response with a length",
            "an endpoint that vanishes within a response in pieces",
            "an endpoint that vanishes after early hints",
        ],
    ),
];

fn bad(row: Row, status: u16, word: &'static str) -> Row {
    row.status(status).ended("upstream", word, "").attempts(&[word]).errors(1)
}

/// A client that has the first five bytes says so.
fn reading() -> Script {
    get().until(Until::Bytes(5)).cue("seen")
}

fn broken_off(row: Row, word: &'static str) -> Row {
    row.response(Arrives::Cut).ended("upstream", word, "").attempts(&["200"])
}

/// Half a head.
fn half() -> Script {
    let block = hpack(&[(":status", "200"), ("x-a", "1")]);
    nothing().raw("HTTP/1.1 200 OK\r\nx-a", &[Frame::new(kind::HEADERS, flag::NONE, 0, block)])
}

pub fn rows(pair: Pair) -> Vec<Row> {
    [breaking(pair), silent(pair), malformed(pair), beside(pair), too_much(pair)].concat()
}

fn breaking(pair: Pair) -> Vec<Row> {
    let mut rows = Vec::new();
    for (how, [instead, in_request, in_head, in_length, in_pieces, after_hints]) in WAYS {
        rows.push(bad(row(pair, instead, get(), [nothing().breaks(how)]), 502, "connection_terminated"));
        rows.push(
            bad(
                row(
                    pair,
                    in_request,
                    post(Framing::Open).piece("hello").until(Until::End).end(),
                    [nothing().early().until(Until::Bytes(5)).breaks(how)],
                ),
                502,
                "connection_terminated",
            )
            .requests(&[Arrives::Any]),
        );
        if how == Break::Close || pair.endpoint.is_h1() {
            rows.push(bad(row(pair, in_head, get(), [half().breaks(how)]), 502, "connection_terminated"));
        }
        rows.push(broken_off(
            row(pair, in_length, reading(), [respond(200, Framing::Length(10)).piece("hello").wait("seen").breaks(how)]),
            "http_response_incomplete",
        ));
        rows.push(broken_off(
            row(pair, in_pieces, reading(), [respond(200, Framing::Open).piece("hello").wait("seen").breaks(how)]),
            "http_response_incomplete",
        ));
        rows.push(
            bad(
                row(
                    pair,
                    after_hints,
                    get().until(Until::Interim).cue("seen"),
                    [nothing().informed(103, &[("link", "</a.css>")]).wait("seen").breaks(how)],
                ),
                502,
                "connection_terminated",
            )
            .interim(&[103]),
        );
    }
    rows
}

fn silent(pair: Pair) -> Vec<Row> {
    const TIMEOUT: &str = "response_timeout: 300ms";
    vec![
        bad(row(pair, "an endpoint that says nothing", get(), [nothing().breaks(Break::Silence)]), 504, "http_response_timeout")
            .connections(TIMEOUT)
            .cancelled(),
        bad(
            row(
                pair,
                "an endpoint that says nothing to a body",
                post(Framing::Open).piece("hello").end(),
                [nothing().breaks(Break::Silence)],
            ),
            504,
            "http_response_timeout",
        )
        .connections(TIMEOUT)
        .cancelled(),
        bad(
            row(pair, "an endpoint that stops within the head", get(), [half().breaks(Break::Silence)]),
            504,
            "http_response_timeout",
        )
        .only("on HTTP/2 half a header block is half a connection", |pair| pair.endpoint.is_h1())
        .connections(TIMEOUT)
        .cancelled(),
        broken_off(
            row(
                pair,
                "an endpoint that stops within the response",
                get(),
                [respond(200, Framing::Length(10)).piece("hello").breaks(Break::Silence)],
            ),
            "connection_read_timeout",
        )
        .connections(TIMEOUT)
        .cancelled(),
        bad(
            row(pair, "an endpoint that is silent for longer than the route waits", get(), [nothing().breaks(Break::Silence)]),
            504,
            "http_response_timeout",
        )
        .ended("weir", "http_response_timeout", "timeout")
        .route("timeout: 300ms")
        .cancelled(),
    ]
}

fn malformed(pair: Pair) -> Vec<Row> {
    let no_status = Frame::headers(0, true, &[("x-a", "1")]);
    let name = Frame::headers(0, true, &[(":status", "200"), ("x a", "1")]);
    let value = Frame::headers(0, true, &[(":status", "200"), ("x-a", "a\u{1}b")]);
    vec![
        bad(
            row(pair, "an answer that is not HTTP", get(), [nothing().raw("SSH-2.0-OpenSSH_9.6\r\n\r\n", &[no_status])]),
            502,
            "http_protocol_error",
        ),
        bad(
            row(
                pair,
                "an answer with a name that is no token",
                get(),
                [nothing().raw("HTTP/1.1 200 OK\r\nx a: 1\r\n\r\n", &[name])],
            ),
            502,
            "http_protocol_error",
        ),
        bad(
            row(
                pair,
                "an answer with a control byte",
                get(),
                [nothing().raw("HTTP/1.1 200 OK\r\nx-a: a\u{1}b\r\n\r\n", &[value])],
            ),
            502,
            "http_protocol_error",
        ),
        broken_off(
            row(
                pair,
                "a chunk without a size",
                reading(),
                [respond(200, Framing::Open).piece("hello").wait("seen").raw("zz\r\nhello\r\n", &[])],
            )
            .only("HTTP/2 has no chunks", |pair| pair.endpoint.is_h1()),
            "http_protocol_error",
        ),
        broken_off(
            row(pair, "less than the length", reading(), [respond(200, Framing::Length(10)).piece("hello").wait("seen").end()])
                .only("on HTTP/1 nothing but a close ends it before", |pair| pair.endpoint.is_h2()),
            "http_response_incomplete",
        ),
        broken_off(
            row(
                pair,
                "a head within the response",
                reading(),
                [respond(200, Framing::Open)
                    .piece("hello")
                    .wait("seen")
                    .raw("", &[Frame::headers(0, false, &[(":status", "200")])])],
            )
            .only("on HTTP/1 it would be content", |pair| pair.endpoint.is_h2()),
            "http_protocol_error",
        ),
    ]
}

/// What HTTP/2 says of the connection or of the request beside the response.
fn beside(pair: Pair) -> Vec<Row> {
    let goaway = Frame::new(kind::GOAWAY, flag::NONE, 0, [i32::MAX.to_be_bytes(), [0; 4]].concat());
    vec![
        row(
            pair,
            "a GOAWAY that lets the request finish",
            get(),
            [ok("fine").before(Step::Raw { h1: Vec::new(), h2: vec![goaway.clone()] })],
        )
        .only("HTTP/1 has no GOAWAY", |pair| pair.endpoint.is_h2()),
        row(
            pair,
            "a GOAWAY within the response",
            reading(),
            [respond(200, Framing::Open).piece("hello").raw("", &[goaway]).wait("seen").last(" there")],
        )
        .only("HTTP/1 has no GOAWAY", |pair| pair.endpoint.is_h2()),
        row(
            pair,
            "an answer that declines the rest of the body",
            post(Framing::Open).piece("one").until(Until::End).last("two"),
            [respond(200, Framing::Length(4))
                .early()
                .before_head(Until::Bytes(3))
                .last("fine")
                .raw("", &[Frame::rst(0, NO_ERROR)])],
        )
        .only("HTTP/1 has no way to say so", |pair| pair.endpoint.is_h2())
        .requests(&[Arrives::Any]),
    ]
}

/// More than was asked for: what was asked for stands.
fn too_much(pair: Pair) -> Vec<Row> {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let data = Frame::new(kind::DATA, flag::END_STREAM, 0, "evil");
    vec![
        row(
            pair,
            "an answer more than there are requests",
            get().until(Until::End).wait("said"),
            [ok("fine").raw(evil, std::slice::from_ref(&data)).cue("said")],
        ),
        row(
            pair,
            "an answer more than there are requests, after a while",
            get().until(Until::End).cue("seen").wait("said"),
            [ok("fine").wait("seen").raw(evil, std::slice::from_ref(&data)).cue("said")],
        ),
        row(
            pair,
            "bytes behind an answer in pieces",
            get().until(Until::End).wait("said"),
            [respond(200, Framing::Open).piece("fine").end().raw("evil", std::slice::from_ref(&data)).cue("said")],
        ),
        row(
            pair,
            "more than the length",
            get(),
            [respond(200, Framing::Length(4))
                .raw("fine, and evil", &[Frame::new(kind::DATA, flag::END_STREAM, 0, "fine, and evil")])],
        )
        .body("fine")
        .differs(
            "on HTTP/2 a body has one length (RFC 9113 section 8.1.1), and the library says the same of one that is too long or too short",
            |pair| pair.endpoint.is_h2(),
            |row| {
                let row = Row { want: Default::default(), ..row }.response(Arrives::NotWhole);
                row.ended("upstream", "http_response_incomplete", "")
            },
        ),
    ]
}
