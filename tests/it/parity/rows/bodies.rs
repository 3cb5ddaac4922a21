//! Every framing and every ending of a body, in both directions (RFC 9112 section 6, RFC 9113 section 8.1).

use super::super::{
    Pair,
    message::{Framing, get, ok, post},
    row::{Row, row},
};

pub fn rows(pair: Pair) -> Vec<Row> {
    vec![
        row(pair, "a GET", get(), [ok("fine")]),
        row(pair, "a body with a length", post(Framing::Length(11)).piece("hello").last(" there"), [ok("fine")]),
        row(pair, "a body that ends with an empty piece", post(Framing::Open).piece("hello").end(), [ok("fine")]),
    ]
}
