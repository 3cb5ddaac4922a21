//! Clients that go away, at each stage: the endpoint is told, and nothing is held against it (`http.md` rule 16).

use super::super::{
    Kind, Pair,
    message::{Break, Framing, Until, get, nothing, post, respond},
    row::{Arrives, Row, row},
};
use crate::support::h3_raw::code;

const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;

/// How a client goes, and what each row is called then.
const WAYS: [(Break, [&str; 4]); 3] = [
    (
        Break::Close,
        [
            "a client that closes within its body",
            "a client that closes while it waits",
            "a client that closes within the response",
            "a client that closes within a body in pieces that is answered already",
        ],
    ),
    (
        Break::Reset(CANCEL),
        [
            "a client that resets within its body",
            "a client that resets while it waits",
            "a client that resets within the response",
            "a client that resets within a body in pieces that is answered already",
        ],
    ),
    (
        Break::Cut,
        [
            "a client that vanishes within its body",
            "a client that vanishes while it waits",
            "a client that vanishes within the response",
            "a client that vanishes within a body in pieces that is answered already",
        ],
    ),
];

pub fn rows(pair: Pair) -> Vec<Row> {
    let gone = |row: Row, status: u16, attempts: &[&str]| {
        row.ended("client", "connection_terminated", "client_gone").logged(status).attempts(attempts).cancelled()
    };
    let mut rows = Vec::new();
    for (how, [in_body, waiting, in_response, in_both]) in WAYS {
        for framing in [Framing::Open, Framing::Length(10)] {
            if framing != Framing::Open && how != Break::Close {
                continue;
            }
            let name = if framing == Framing::Open { in_body } else { "a client that closes before the length of its body" };
            let sent = post(framing).piece("hello").wait("heard").breaks(how);
            let row = row(pair, name, sent, [nothing().hearing(Until::Bytes(5), "heard").wait("never")]);
            rows.push(gone(row.response(Arrives::Never).requests(&[Arrives::Cut]), 0, &["abandoned"]));
        }
        rows.push(gone(
            row(pair, waiting, get().wait("asked").breaks(how), [nothing().cue("asked").wait("never")]).response(Arrives::Never),
            0,
            &["abandoned"],
        ));
        rows.push(gone(
            row(
                pair,
                in_response,
                get().until(Until::Bytes(5)).breaks(how),
                [respond(200, Framing::Length(10)).piece("hello").wait("never")],
            )
            .response(Arrives::Any),
            200,
            &["200"],
        ));
        rows.push(gone(
            row(
                pair,
                in_both,
                post(Framing::Open).piece("hello").until(Until::Bytes(3)).breaks(how),
                [respond(200, Framing::Open).early().before_head(Until::Bytes(5)).piece("uno").wait("never")],
            )
            .response(Arrives::Any)
            .requests(&[Arrives::Cut]),
            200,
            &["200"],
        ));
    }
    let short = post(Framing::Length(10)).piece("hello").wait("heard").end();
    let row =
        row(pair, "a body that is shorter than its length", short, [nothing().hearing(Until::Bytes(5), "heard").wait("never")])
            .only("on HTTP/1 nothing but a close ends it before", |pair| pair.client.is_multiplexed())
            .response(Arrives::Never)
            .requests(&[Arrives::Cut])
            .reset(if pair.client == Kind::H3 { code::MESSAGE_ERROR as u32 } else { PROTOCOL_ERROR });
    rows.push(gone(row, 0, &["abandoned"]));
    rows
}
