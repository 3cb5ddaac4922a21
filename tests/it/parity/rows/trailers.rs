//! Trailers (RFC 9110 section 6.5): those of requests are dropped on purpose, those of responses go on between HTTP/2
//! connections, and malformed ones are judged as strictly as heads.

use super::super::{
    Kind, Pair,
    message::{Framing, Script, Until, get, ok, post, respond},
    row::{Arrives, Row, Want, row},
};
use crate::support::h3_raw::code;

const OPEN: Framing = Framing::Open;
const SUM: &[(&str, &str)] = &[("x-sum", "1")];

pub fn rows(pair: Pair) -> Vec<Row> {
    [sound(pair), malformed(pair)].concat()
}

fn grpc(script: Script) -> Script {
    script.field("content-type", "application/grpc")
}

fn sound(pair: Pair) -> Vec<Row> {
    vec![
        row(pair, "trailers of a request", post(OPEN).piece("hello").trailers(SUM), [ok("fine")]).request_lacks("x-sum"),
        row(
            pair,
            "trailers of a request after a while",
            post(OPEN).piece("hello").wait("heard").trailers(SUM),
            [ok("fine").hearing(Until::Bytes(5), "heard")],
        )
        .request_lacks("x-sum"),
        row(pair, "trailers of a request without content", post(OPEN).trailers(SUM), [ok("fine")]),
        row(pair, "trailers of a request with a length", post(Framing::Length(5)).piece("hello").trailers(SUM), [ok("fine")]),
        row(pair, "trailers of a response", get().field("te", "trailers"), [respond(200, OPEN).piece("hello").trailers(SUM)])
            .response_lacks("x-sum"),
        row(pair, "trailers of a response that nobody asked for", get(), [respond(200, OPEN).piece("hello").trailers(SUM)]),
        row(
            pair,
            "trailers of a response after a while",
            get().until(Until::Bytes(5)).cue("seen"),
            [respond(200, OPEN).piece("hello").wait("seen").trailers(SUM)],
        ),
        row(pair, "trailers of a response without content", get(), [respond(200, OPEN).trailers(SUM)]),
        row(
            pair,
            "a call of gRPC",
            grpc(post(OPEN)).field("te", "trailers").last("\0\0\0\0\0"),
            [grpc(respond(200, OPEN)).piece("\0\0\0\0\0").trailers(&[("grpc-status", "0"), ("grpc-message", "")])],
        )
        .differs(
            "HTTP/1 has no trailers here for TE to ask for",
            |pair| pair.client.is_multiplexed() && pair.endpoint.is_h2(),
            |row| row.request_has("te", "trailers"),
        ),
        row(
            pair,
            "a call of gRPC that fails at once",
            grpc(post(OPEN)).last("\0\0\0\0\0"),
            [grpc(respond(200, Framing::None)).field("grpc-status", "12")],
        )
        .only("gRPC is HTTP/2", |pair| pair.endpoint.is_h2())
        .response_has("grpc-status", "12"),
    ]
}

/// The names of the rows, and the one trailer that each is about.
const MALFORMED: [(&str, &str, (&str, &str)); 3] = [
    ("trailers of a request that are no fields", "trailers of a response that are no fields", ("x sum", "1")),
    ("trailers of a request that are framing", "trailers of a response that are framing", ("content-length", "7")),
    ("trailers of a request with a control byte", "trailers of a response with a control byte", ("x-sum", "a\u{1}b")),
];

fn refused(row: Row, status: u16, reason: &'static str) -> Row {
    row.status(status).requests(&[Arrives::Cut]).ended("client", "http_request_error", reason).attempts(&["abandoned"])
}

/// The same of a header block that the library takes for malformed.
fn unreadable(row: Row) -> Row {
    let breaks = "a header block that cannot be read is the end of an HTTP/2 connection (RFC 9113 section 4.3), and all that its streams \
                  are told is that it ended";
    let malformed = "the library of HTTP/3 reads it, and says that the message is malformed (RFC 9114 section 4.1.2)";
    let gone = |row: Row| row.response(Arrives::Never).logged(0).ended("client", "connection_terminated", "client_gone");
    row.differs(breaks, |pair| pair.client.is_h2(), gone).differs(
        malformed,
        |pair| pair.client == Kind::H3,
        |row| gone(row).reset(code::MESSAGE_ERROR as u32),
    )
}

fn malformed(pair: Pair) -> Vec<Row> {
    let mut rows = Vec::new();
    for (of_request, of_response, trailer) in MALFORMED {
        let sent = post(OPEN).piece("hello").wait("heard").trailers(&[trailer]);
        let refused = refused(row(pair, of_request, sent, [ok("fine").hearing(Until::Bytes(5), "heard")]), 400, "bad_trailer");
        rows.push(if trailer.0 == "content-length" { refused } else { unreadable(refused) });
        rows.push(
            row(
                pair,
                of_response,
                get().until(Until::Bytes(5)).cue("seen"),
                [respond(200, OPEN).piece("hello").wait("seen").trailers(&[trailer])],
            )
            .response(Arrives::Cut)
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["200"]),
        );
    }
    rows.push(
        refused(
            row(
                pair,
                "trailers that are framing and all there is",
                post(OPEN).trailers(&[("content-length", "7")]),
                [ok("fine")],
            ),
            400,
            "bad_trailer",
        )
        .requests(&[Arrives::NotWhole]),
    );
    let large: Vec<(String, String)> = (0..30).map(|index| (format!("x-{index}"), "y".repeat(2_000))).collect();
    let large: Vec<(&str, &str)> = large.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sent = post(OPEN).piece("hello").wait("heard").trailers(&large);
    let row = row(pair, "trailers of a request beyond the limit", sent, [ok("fine").hearing(Until::Bytes(5), "heard")]);
    rows.push(unreadable(refused(row, 431, "trailers_too_large")).differs(
        "over HTTP/3 they may have as many bytes as a head with the cookies of a site, and go nowhere",
        |pair| pair.client == Kind::H3,
        |row| Row { want: Want::default(), ..row },
    ));
    rows
}
