//! Cases that are worth a name: what the drivers have disagreed on, and what is rare among generated ones.

use super::case::{Answer, Behaviour, Body, Case, Course, Ending, Fault, Request, Route, chunked, get, good, post};

/// A case on which both drivers must agree, and some of what must come of it.
pub struct Row {
    pub name: &'static str,
    pub case: Case,
    pub expected: &'static [(&'static str, &'static str)],
}

pub fn row(name: &'static str, case: Case, expected: &'static [(&'static str, &'static str)]) -> Row {
    Row { name, case, expected }
}

/// A case with one request on a route without connections that wait.
pub fn fresh(request: Request, behaviour: Behaviour) -> Case {
    Case::of(Route::Fresh, request, behaviour)
}

pub fn answers(status: u16, body: Body) -> Behaviour {
    Behaviour { status, body: Answer::Framed(body), ..good() }
}

pub fn faulty(fault: Fault, end: Ending) -> Behaviour {
    Behaviour { fault, end, ..answers(200, chunked(&[10, 20])) }
}

pub fn waits(method: &'static str) -> Request {
    Request { method, course: Course::Waits, ..post(Body::Length(20)) }
}

pub fn early(status: u16, body: Body) -> Behaviour {
    Behaviour { early: true, ..answers(status, body) }
}

pub const DONE: &str = r#"{"who":"upstream","phase":"done","type":null,"reason":null}"#;
pub const NOT_HTTP: &str = r#"{"who":"upstream","phase":"response","type":"http_protocol_error","reason":null}"#;
pub const CUT: &str = r#"{"who":"upstream","phase":"response","type":"http_response_incomplete","reason":null}"#;

/// The table.
pub fn rows() -> Vec<Row> {
    let old = Request { old: true, ..get() };
    let folded = Behaviour { fields: vec!["X-Fold: a\r\n b"], ..faulty(Fault::Chunk("3;\0\r\nabc\r\n0\r\n\r\n"), Ending::Close) };
    let gone = Behaviour { fault: Fault::Absent, end: Ending::Close, ..good() };
    let busy = answers(503, Body::Length(5));
    vec![
        row(
            "a response that ends with its connection and is cut does not end like a whole one",
            fresh(old.clone(), faulty(Fault::CutBody(128), Ending::Close)),
            &[("client 0 end", "UntilClose"), ("client connection", "ended"), ("log 0 end", CUT)],
        ),
        row(
            "nor does one with a malformed chunk",
            fresh(old.clone(), faulty(Fault::Chunk("zz\r\n"), Ending::KeepAlive)),
            &[("client 0 end", "UntilClose"), ("log 0 end", NOT_HTTP)],
        ),
        row(
            "it does when it is whole",
            fresh(old, Behaviour { body: Answer::UntilClose(99), end: Ending::Close, ..good() }),
            &[("client 0 end", "Whole"), ("log 0 end", DONE)],
        ),
        row(
            "a refused expectation, answered without content",
            fresh(waits("POST"), early(404, Body::Length(0))),
            &[("client 0 status", "404"), ("client connection", "ended"), ("log 0 end", DONE)],
        ),
        row("the same with a 304", fresh(waits("GET"), early(304, Body::Length(9))), &[("log 0 end", DONE)]),
        row("the same to HEAD", fresh(waits("HEAD"), early(200, Body::Length(9))), &[("log 0 end", DONE)]),
        row("the same with content", fresh(waits("PUT"), early(404, chunked(&[3]))), &[("log 0 end", DONE)]),
        row(
            "an expectation that is met",
            fresh(waits("PUT"), good()),
            &[("client 0 interim", "100 "), ("client connection", "stayed open")],
        ),
        row(
            "a response ahead of its request",
            fresh(Request { course: Course::Paced, ..post(chunked(&[30, 30])) }, early(200, Body::Length(5))),
            &[("origin 0 whole", "true"), ("client connection", "stayed open"), ("log 0 bytes_in", "60"), ("log 0 end", DONE)],
        ),
        row(
            "a malformed chunk behind a folded field",
            fresh(get(), folded),
            &[("client 0 end", "Open"), ("log 0 end", NOT_HTTP)],
        ),
        row(
            "a connection that waited and was closed",
            Case::of(Route::Plain, get(), gone.clone()),
            &[("client 0 status", "200"), ("log 0 attempt", r#""first \"connection_terminated\" \"waiting\"""#)],
        ),
        row(
            "the same of a request that is not sent twice",
            Case::of(Route::Plain, post(Body::Length(5)), gone),
            &[("client 0 status", "502")],
        ),
        row(
            "a connection that closes, as the second of two fields says",
            Case {
                requests: vec![get(), post(Body::Length(5))],
                behaviours: vec![
                    Behaviour { fields: vec!["Connection: keep-alive"], end: Ending::SaysClose, ..good() },
                    answers(404, Body::Length(5)),
                ],
                ..fresh(get(), good())
            },
            &[("client 1 status", "404"), ("log 1 attempt", r#""first 404 null""#)],
        ),
        row(
            "a request of no chunks that is sent again",
            Case::of(Route::Retry, Request { method: "PUT", ..post(chunked(&[])) }, busy.clone()),
            &[("client 0 status", "200"), ("origin 1 content", "")],
        ),
        row(
            "one with content",
            Case::of(Route::Retry, Request { method: "PUT", ..post(chunked(&[9, 9])) }, busy.clone()),
            &[("client 0 status", "200")],
        ),
        row("one that is not sent again", Case::of(Route::Retry, post(chunked(&[9])), busy), &[("client 0 status", "503")]),
        row(
            "a malformed chunk of a client",
            fresh(Request { course: Course::Malformed("zz\r\n"), ..post(chunked(&[40])) }, good()),
            &[("client 0 status", "400"), ("origin 0 whole", "false"), ("client connection", "ended")],
        ),
        row(
            "a client that leaves",
            fresh(Request { course: Course::Cut { after: 128, reset: true }, ..post(Body::Length(40)) }, good()),
            &[("origin 0 whole", "false"), ("log 0 status", "0")],
        ),
    ]
}
