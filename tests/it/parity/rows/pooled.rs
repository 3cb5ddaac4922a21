//! Connections from the pool that end as they are used, and requests that an endpoint says it has not processed.

use super::super::{
    Pair,
    message::{Break, Framing, Script, get, nothing, ok, post, send},
    row::{Arrives, Row, row},
};

const REFUSED_STREAM: u32 = 7;

/// Requests, their names in rows, and whether they may be sent twice (RFC 9110 section 9.2.2).
fn requests() -> [([&'static str; 4], Script, bool); 6] {
    let body = Framing::Length(5);
    [
        (
            [
                "a GET on a connection that closes",
                "a GET on a connection that is reset",
                "a GET that is refused",
                "a GET that meets a GOAWAY",
            ],
            get(),
            true,
        ),
        (
            [
                "a PUT on a connection that closes",
                "a PUT on a connection that is reset",
                "a PUT that is refused",
                "a PUT that meets a GOAWAY",
            ],
            send("PUT", body).last("hello"),
            true,
        ),
        (
            [
                "a PUT in pieces on a connection that closes",
                "a PUT in pieces on a connection that is reset",
                "a PUT in pieces that is refused",
                "a PUT in pieces that meets a GOAWAY",
            ],
            send("PUT", Framing::Open).piece("hel").last("lo"),
            true,
        ),
        (
            [
                "a DELETE on a connection that closes",
                "a DELETE on a connection that is reset",
                "a DELETE that is refused",
                "a DELETE that meets a GOAWAY",
            ],
            send("DELETE", Framing::None),
            true,
        ),
        (
            [
                "a POST on a connection that closes",
                "a POST on a connection that is reset",
                "a POST that is refused",
                "a POST that meets a GOAWAY",
            ],
            post(body).last("hello"),
            false,
        ),
        (
            [
                "a POST without a body on a connection that closes",
                "a POST without a body on a connection that is reset",
                "a POST without a body that is refused",
                "a POST without a body that meets a GOAWAY",
            ],
            post(Framing::None),
            false,
        ),
    ]
}

pub fn rows(pair: Pair) -> Vec<Row> {
    let mut rows = Vec::new();
    for ([closes, reset, refused, goaway], request, idempotent) in requests() {
        for (name, how) in [(closes, Break::Close), (reset, Break::Cut)] {
            rows.push(if idempotent {
                row(pair, name, request.clone(), [nothing().breaks(how), ok("fine")])
                    .warm()
                    .requests(&[Arrives::Any, Arrives::Whole])
                    .attempts(&["*", "200"])
            } else {
                row(pair, name, request.clone(), [nothing().breaks(how)])
                    .warm()
                    .status(502)
                    .ended("upstream", "connection_terminated", "")
                    .attempts(&["connection_terminated"])
                    .errors(1)
            });
        }
        for (name, how) in [(refused, Break::Reset(REFUSED_STREAM)), (goaway, Break::GoAway)] {
            rows.push(
                row(pair, name, request.clone(), [nothing().early().breaks(how), ok("fine")])
                    .only("HTTP/1 has no way to say so", |pair| pair.endpoint.is_h2())
                    .endpoints(2)
                    .warm()
                    .requests(&[Arrives::Any, Arrives::Whole])
                    .attempts(&["*", "200"]),
            );
        }
    }
    rows
}
