//! Every framing and every ending of a body, in both directions (RFC 9112 section 6, RFC 9113 section 8.1).

use super::super::{
    Pair,
    message::{Framing, Until, form, get, ok, post, respond, send},
    row::{Row, row},
};

const OPEN: Framing = Framing::Open;

/// More than a frame, a chunk of ours and the first window.
fn large(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}

pub fn rows(pair: Pair) -> Vec<Row> {
    [of_requests(pair), of_responses(pair), streaming(pair)].concat()
}

fn of_requests(pair: Pair) -> Vec<Row> {
    let length = Framing::Length;
    vec![
        row(pair, "a GET", get(), [ok("fine")]),
        row(pair, "a body with a length", post(length(11)).piece("hello").last(" there"), [ok("fine")]),
        row(pair, "a body in pieces", post(OPEN).piece("hello").last(" there"), [ok("fine")]),
        row(
            pair,
            "a body that ends after a while",
            post(OPEN).piece("hello").wait("heard").end(),
            [ok("fine").hearing(Until::Bytes(5), "heard")],
        ),
        row(
            pair,
            "a body with a length that ends after a while",
            post(length(5)).piece("hello").wait("heard").end(),
            [ok("fine").hearing(Until::Bytes(5), "heard")],
        ),
        row(
            pair,
            "a last piece after a while",
            post(OPEN).piece("hello").wait("heard").last(" there"),
            [ok("fine").hearing(Until::Bytes(5), "heard")],
        ),
        row(pair, "a body without content", post(OPEN).end(), [ok("fine")]),
        row(
            pair,
            "a body without content that ends after a while",
            post(OPEN).wait("heard").end(),
            [ok("fine").hearing(Until::Head, "heard")],
        ),
        row(pair, "a POST without a body", post(Framing::None), [ok("fine")]),
        row(pair, "a POST of length 0", post(length(0)).head_only(), [ok("fine")]),
        row(pair, "a POST of length 0 that ends by itself", post(length(0)).end(), [ok("fine")]),
        row(pair, "a padded body", post(OPEN).padded("hello", 200, false).padded(" there", 0, true), [ok("fine")]),
        row(pair, "a padded body with a length", post(length(5)).padded("hello", 7, true), [ok("fine")]),
        row(pair, "a body with padding for an end", post(OPEN).piece("hello").padded("", 9, true), [ok("fine")]),
        row(pair, "a body with empty pieces", post(OPEN).piece("").piece("hello").piece("").last("!"), [ok("fine")]),
        row(pair, "a GET with a body", send("GET", length(5)).last("hello"), [ok("fine")]),
        row(
            pair,
            "a GET with a body in pieces",
            send("GET", OPEN).piece("hello").wait("heard").end(),
            [ok("fine").hearing(Until::Bytes(5), "heard")],
        ),
        row(
            pair,
            "a GET with nothing for a body",
            send("GET", OPEN).wait("heard").end(),
            [ok("fine").hearing(Until::Head, "heard")],
        ),
        row(pair, "a PUT", send("PUT", length(5)).last("hello"), [ok("fine")]),
        row(pair, "a DELETE with a body", send("DELETE", OPEN).last("hello"), [ok("fine")]),
        row(pair, "a method of nobody's", send("BREW", length(3)).last("tea"), [ok("fine")]),
        row(pair, "a large body", post(OPEN).piece(large(150_000)).last(large(7)), [ok("fine")]),
        row(pair, "a large body with a length", post(length(200_000)).last(large(200_000)), [ok("fine")]),
        row(pair, "a request in HTTP/1.0", form("hello").old(), [ok("fine")])
            .only("HTTP/2 has no older version", |pair| pair.client.is_h1()),
        row(pair, "a request in HTTP/1.0 answered in pieces", get().old(), [respond(200, OPEN).piece("hello").last(" there")])
            .only("HTTP/2 has no older version", |pair| pair.client.is_h1()),
    ]
}

fn of_responses(pair: Pair) -> Vec<Row> {
    let respond = |framing| respond(200, framing);
    vec![
        row(pair, "a response in pieces", get(), [respond(OPEN).piece("hello").last(" there")]),
        row(pair, "a response that ends by itself", get(), [respond(OPEN).piece("hello").end()]),
        row(
            pair,
            "a response that ends after a while",
            get().until(Until::Bytes(5)).cue("seen"),
            [respond(OPEN).piece("hello").wait("seen").end()],
        ),
        row(
            pair,
            "a response with a length that ends after a while",
            get().until(Until::Bytes(5)).cue("seen"),
            [respond(Framing::Length(5)).piece("hello").wait("seen").end()],
        ),
        row(pair, "a response without content", get(), [respond(OPEN).end()]),
        row(
            pair,
            "a response without content that ends after a while",
            get().until(Until::Head).cue("seen"),
            [respond(OPEN).wait("seen").end()],
        ),
        row(pair, "a response of length 0", get(), [respond(Framing::Length(0)).head_only()]),
        row(pair, "a response of length 0 that ends by itself", get(), [respond(Framing::Length(0)).end()]),
        row(pair, "a padded response", get(), [respond(OPEN).padded("hello", 255, false).padded("", 1, true)]),
        row(pair, "a response with empty pieces", get(), [respond(OPEN).piece("").piece("hello").piece("").last("!")]),
        row(pair, "a response that ends with its connection", get(), [respond(Framing::Close).piece("hello").last(" there")]),
        row(pair, "a response without content that ends with its connection", get(), [respond(Framing::Close).end()]),
        row(pair, "a response in HTTP/1.0", get(), [ok("hello").old()])
            .only("HTTP/2 has no older version", |pair| pair.endpoint.is_h1()),
        row(
            pair,
            "a response in HTTP/1.0 that ends with its connection",
            get(),
            [respond(Framing::Close).piece("hello").last(" there").old()],
        )
        .only("HTTP/2 has no older version", |pair| pair.endpoint.is_h1()),
        row(pair, "a large response", get(), [respond(OPEN).piece(large(150_000)).last(large(7))]),
        row(pair, "a large response with a length", get(), [respond(Framing::Length(200_000)).last(large(200_000))]),
        row(pair, "an error of the endpoint's own", get(), [super::super::message::respond(404, Framing::Length(3)).last("not")]),
    ]
}

/// Both directions at once.
fn streaming(pair: Pair) -> Vec<Row> {
    let any = super::super::row::Arrives::Any;
    vec![
        row(
            pair,
            "a response piece by piece",
            get().until(Until::Bytes(5)).cue("seen"),
            [respond(200, OPEN).piece("hello").wait("seen").last(" there")],
        ),
        row(
            pair,
            "a dialogue",
            post(OPEN).piece("one").until(Until::Bytes(3)).piece("two").until(Until::Bytes(6)).end(),
            [respond(200, OPEN)
                .early()
                .before_head(Until::Bytes(3))
                .piece("uno")
                .until(Until::Bytes(6))
                .piece("due")
                .until(Until::End)
                .end()],
        ),
        row(
            pair,
            "a dialogue whose response is as long as it says",
            post(Framing::Length(6)).piece("one").until(Until::Bytes(3)).last("two"),
            [respond(200, Framing::Length(6)).early().before_head(Until::Bytes(3)).piece("uno").until(Until::End).last("due")],
        ),
        // Whether the endpoint gets the rest of a body that it has answered is nobody's business.
        row(
            pair,
            "an answer before the end of the body",
            post(OPEN).piece("one").until(Until::End).last("two"),
            [respond(200, Framing::Length(4)).early().before_head(Until::Bytes(3)).last("fine")],
        )
        .requests(&[any]),
        row(pair, "an answer before the body", post(Framing::Length(6)).until(Until::End).last("onetwo"), [ok("fine").early()])
            .requests(&[any]),
        row(
            pair,
            "an answer before the rest of a large body",
            post(OPEN).piece(large(60_000)).until(Until::Head).last(large(60_000)),
            [respond(413, Framing::Length(3)).early().last("no!")],
        )
        .requests(&[any]),
    ]
}
