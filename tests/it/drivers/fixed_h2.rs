//! Cases that are worth a name with a client of HTTP/2.

use super::{
    case::{Answer, Behaviour, Body, Case, Course, Ending, Fault, Request, chunked, get, good, post},
    fixed::{CUT, DONE, NOT_HTTP, Row, answers, early, faulty, fresh, row, waits},
};

const OPEN: (&str, &str) = ("client connection", "stayed open");
const WHOLE: (&str, &str) = ("client 0 end", "Whole");
const STOPPED: (&str, &str) = ("client 0 reset", "NO_ERROR");
const CUT_OFF: (&str, &str) = ("client 0 reset", "INTERNAL_ERROR");
const NO_RESET: (&str, &str) = ("client 0 reset", "");

/// The table.
pub fn rows() -> Vec<Row> {
    let leaves = |after, reset| Request { course: Course::Cut { after, reset }, ..post(Body::Length(40)) };
    let trailer = |trailer| post(Body::Chunked { sizes: vec![5], extension: "", trailer });
    let malformed = |text| Request { course: Course::Malformed(text), ..post(chunked(&[40])) };
    let hints = Behaviour { interim: vec!["103 Early Hints\r\nLink: </a>\r\n\r\n"], ..good() };
    let narrow = |window, length| Case { window: Some(window), ..fresh(get(), answers(200, Body::Length(length))) };
    let both = Case {
        requests: vec![post(Body::Length(5)), post(chunked(&[2000, 30]))],
        behaviours: vec![answers(200, chunked(&[7])), answers(404, Body::Length(30_000))],
        together: true,
        ..fresh(get(), good())
    };
    vec![
        row(
            "a response without the request's body, which nobody waits for",
            fresh(waits("POST"), early(404, Body::Length(9))),
            &[("client 0 status", "404"), WHOLE, STOPPED, OPEN, ("log 0 end", DONE)],
        ),
        row("the same without content", fresh(waits("PUT"), early(404, Body::Length(0))), &[WHOLE, STOPPED, OPEN]),
        row("the same to HEAD", fresh(waits("HEAD"), early(200, Body::Length(9))), &[WHOLE, STOPPED, OPEN]),
        row("an expectation that is met", fresh(waits("PUT"), good()), &[("client 0 interim", "100 "), WHOLE, NO_RESET, OPEN]),
        row(
            "a response ahead of its request",
            fresh(Request { course: Course::Paced, ..post(chunked(&[30, 30])) }, early(200, Body::Length(5))),
            &[("origin 0 whole", "true"), WHOLE, NO_RESET, OPEN, ("log 0 bytes_in", "60"), ("log 0 end", DONE)],
        ),
        row(
            "trailers end a request and go no further",
            fresh(trailer("X-Sum: 1\r\n"), good()),
            &[("origin 0 content", "abcde"), ("origin 0 trailers", ""), WHOLE, OPEN],
        ),
        row(
            "trailers that would change the framing",
            fresh(malformed("0\r\nContent-Length: 3\r\n\r\n"), good()),
            &[("client 0 status", "400"), ("origin 0 whole", "false"), OPEN],
        ),
        row("more content than was said", fresh(malformed("3\r\nabcd"), good()), &[("client 0 reset", "PROTOCOL_ERROR"), OPEN]),
        row("less content than was said", fresh(malformed("zz\r\n"), good()), &[("client 0 reset", "PROTOCOL_ERROR"), OPEN]),
        row(
            "HEAD",
            fresh(Request { method: "HEAD", ..get() }, answers(200, Body::Length(9))),
            &[("client 0 fields", "content-length: 9"), ("client 0 content", ""), WHOLE, OPEN],
        ),
        row("a 204", fresh(get(), answers(204, Body::None)), &[("client 0 status", "204"), WHOLE, OPEN]),
        row("a 304 that tells a length", fresh(get(), answers(304, Body::Length(9))), &[("client 0 content", ""), WHOLE, OPEN]),
        row(
            "an empty DATA frame that ends a request",
            fresh(post(chunked(&[])), good()),
            &[("origin 0 whole", "true"), ("origin 0 content", ""), WHOLE],
        ),
        row(
            "a length of 0 and no DATA frame",
            fresh(post(Body::Length(0)), good()),
            &[("origin 0 fields", "content-length: 0"), ("origin 0 whole", "true"), WHOLE],
        ),
        row(
            "a response with a length of 0",
            fresh(get(), answers(200, Body::Length(0))),
            &[("client 0 fields", "content-length: 0"), ("client 0 content", ""), WHOLE],
        ),
        row("a response of no chunks", fresh(get(), answers(200, chunked(&[]))), &[("client 0 content", ""), WHOLE]),
        row("a response in many windows", narrow(1000, 30_000), &[("log 0 bytes_out", "30000"), WHOLE, OPEN]),
        row("a response that is exactly its window", narrow(1000, 1000), &[("log 0 bytes_out", "1000"), WHOLE, OPEN]),
        row(
            "a response that ends with its connection",
            fresh(get(), Behaviour { body: Answer::UntilClose(99), end: Ending::Close, ..good() }),
            &[("log 0 bytes_out", "99"), WHOLE, NO_RESET],
        ),
        row(
            "a response that is cut",
            fresh(get(), faulty(Fault::CutBody(128), Ending::Close)),
            &[("client 0 status", "200"), ("client 0 end", "Open"), CUT_OFF, OPEN, ("log 0 end", CUT)],
        ),
        row(
            "a response that is cut behind its head",
            fresh(get(), faulty(Fault::CutBody(0), Ending::Close)),
            &[("client 0 status", "200"), ("client 0 end", "Open"), CUT_OFF, OPEN, ("log 0 end", CUT)],
        ),
        row(
            "a response with a malformed chunk",
            fresh(get(), faulty(Fault::Chunk("zz\r\n"), Ending::KeepAlive)),
            &[("client 0 end", "Open"), CUT_OFF, OPEN, ("log 0 end", NOT_HTTP)],
        ),
        row("an interim response", fresh(get(), hints), &[("client 0 interim", "103 link: </a>"), WHOLE]),
        row(
            "cookies in several fields are one field of HTTP/1",
            fresh(Request { fields: vec!["Cookie: a=1", "X-One: a", "cookie: b=2"], ..get() }, good()),
            &[("origin 0 fields", "cookie: a=1; b=2 |")],
        ),
        row(
            "an authority and no Host",
            fresh(get(), good()),
            &[("origin 0 fields", "host: "), ("log 0 host", r#""example.com""#)],
        ),
        row(
            "an authority and the same Host",
            fresh(Request { fields: vec!["Host: Example.com"], ..get() }, good()),
            &[("origin 0 fields", "host: "), ("client 0 status", "200")],
        ),
        row("a client that leaves behind its head", fresh(leaves(0, true), good()), &[("log 0 status", "0"), OPEN]),
        row("one that leaves within its body", fresh(leaves(128, true), good()), &[("origin 0 whole", "false"), OPEN]),
        row(
            "one that closes the connection",
            fresh(leaves(128, false), good()),
            &[("origin 0 whole", "false"), ("log 0 status", "0")],
        ),
        row(
            "two requests at a time",
            both,
            &[
                ("client 0 status", "200"),
                ("client 1 status", "404"),
                ("log 1 bytes_out", "30000"),
                ("log 1 bytes_in", "2030"),
                OPEN,
            ],
        ),
    ]
}
