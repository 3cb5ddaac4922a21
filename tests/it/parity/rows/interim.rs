//! Informational responses, which go on in order (RFC 9110 section 15.2), and `Expect` (section 10.1.1).

use super::super::{
    Pair,
    message::{Framing, Script, Step, Until, get, ok, post, respond},
    row::{Arrives, Row, row},
};

const LINK: &[(&str, &str)] = &[("link", "</a.css>; rel=preload")];

/// A 100 for a body that is waited for, then the answer.
fn continuing(script: Script) -> Script {
    script.early().informed(100, &[]).before_head(Until::End)
}

fn expecting(script: Script) -> Script {
    script.field("expect", "100-continue").until(Until::Interim)
}

pub fn rows(pair: Pair) -> Vec<Row> {
    vec![
        row(pair, "early hints", get(), [ok("fine").informed(103, LINK)]).interim(&[103]),
        row(
            pair,
            "early hints long before the answer",
            get().until(Until::Interim).cue("seen"),
            [ok("fine").informed(103, LINK).before(Step::Await("seen"))],
        )
        .interim(&[103]),
        row(pair, "early hints twice", get(), [ok("fine").informed(103, LINK).informed(103, LINK)]).interim(&[103, 103]),
        row(
            pair,
            "early hints before the body has come",
            post(Framing::Open).piece("hello").until(Until::Interim).end(),
            [ok("fine").early().informed(103, LINK).before_head(Until::End)],
        )
        .interim(&[103]),
        row(pair, "processing and early hints", get(), [ok("fine").informed(102, &[]).informed(103, LINK)]).interim(&[102, 103]),
        row(pair, "a 100 that nobody asked for", post(Framing::Length(5)).last("hello"), [ok("fine").informed(100, &[])])
            .interim(&[100]),
        row(pair, "an informational response of tomorrow", get(), [ok("fine").informed(199, &[("x-a", "1")])]).interim(&[199]),
        row(pair, "early hints with a name that is no token", get(), [ok("fine").informed(103, &[("x a", "1")])])
            .status(502)
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["http_protocol_error"])
            .errors(1),
        row(pair, "early hints to HTTP/1.0", get().old(), [ok("fine").informed(103, LINK)])
            .only("HTTP/2 has no older version", |pair| pair.client.is_h1()),
        row(pair, "an expectation that is met", expecting(post(Framing::Length(5))).last("hello"), [continuing(ok("fine"))])
            .interim(&[100]),
        row(
            pair,
            "an expectation that is met with a body in pieces",
            expecting(post(Framing::Open)).piece("hello").end(),
            [continuing(ok("fine"))],
        )
        .interim(&[100]),
        row(
            pair,
            "an expectation that does not wait",
            post(Framing::Length(5)).field("expect", "100-continue").last("hello"),
            [ok("fine")],
        ),
        row(
            pair,
            "an expectation answered by the answer",
            post(Framing::Length(5)).field("expect", "100-continue").until(Until::End),
            [respond(401, Framing::Length(2)).early().last("no")],
        )
        .requests(&[Arrives::Cut]),
    ]
}
