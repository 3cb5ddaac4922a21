//! Fields on their way: those that go no further, those that nobody knows, and as many as there may be.

use super::super::{
    Kind, Pair,
    message::{Framing, Script, get, ok},
    row::{Arrives, Row, Want, row},
};

/// With so many fields of this length, names included.
fn many(mut script: Script, count: usize, length: usize) -> Script {
    for index in 0..count {
        let name = format!("x-{index:03}");
        let value = "v".repeat(length.saturating_sub(name.len()));
        script = script.field(&name, &value);
    }
    script
}

fn refused(row: Row, status: u16, reason: &'static str) -> Row {
    row.status(status).requests(&[]).ended("client", "http_request_error", reason).attempts(&[]).uncounted()
}

pub fn rows(pair: Pair) -> Vec<Row> {
    let via = format!("{} weir", pair.client.version());
    let mut rows = vec![
        row(pair, "a request through Weir", get(), [ok("fine")]).request_has("via", &*via),
        row(pair, "a request through another proxy", get().field("via", "1.0 first"), [ok("fine")])
            .request_has("via", format!("1.0 first\n{via}")),
        row(
            pair,
            "fields with one name",
            get().field("x-a", "1").field("x-b", "0").field("x-a", "2"),
            [ok("fine").field("x-c", "1").field("x-d", "0").field("x-c", "2")],
        )
        .request_has("x-a", "1\n2")
        .response_has("x-c", "1\n2"),
        row(pair, "a field without a value", get().field("x-a", ""), [ok("fine").field("x-b", "")])
            .request_has("x-a", "")
            .response_has("x-b", ""),
        row(pair, "a field beyond ASCII", get().field("x-a", "café"), [ok("fine").field("x-b", "naïve")])
            .request_has("x-a", "café")
            .response_has("x-b", "naïve"),
        row(
            pair,
            "names of a request that scripts cannot tell from others",
            get().field("x_a", "1").field("x-b", "2"),
            [ok("fine")],
        )
        .request_lacks("x_a")
        .request_has("x-b", "2"),
        row(
            pair,
            "names of a response that scripts cannot tell from others",
            get(),
            [ok("fine").field("x_a", "1").field("x-b", "2")],
        )
        .response_has("x_a", "1")
        .response_has("x-b", "2"),
        row(pair, "names with dots", get().field("x.a", "1"), [ok("fine").field("x.b", "2")])
            .request_has("x.a", "1")
            .response_has("x.b", "2"),
        row(
            pair,
            "many cookies for the client",
            get(),
            [ok("fine").field("set-cookie", "a=1").field("set-cookie", "b=2").field("set-cookie", "c=3")],
        )
        .response_has("set-cookie", "a=1\nb=2\nc=3"),
        row(pair, "a cookie", get().field("cookie", "a=1; b=2"), [ok("fine")]).request_has("cookie", "a=1; b=2"),
        row(pair, "cookies in fields of their own", cookies(30), [ok("fine")])
            .only("HTTP/1 has them not (RFC 9113 section 8.2.3, RFC 9114 section 4.2.1)", |pair| pair.client.is_multiplexed())
            .request_has("cookie", (0..30).map(|index| format!("c{index}=1")).collect::<Vec<_>>().join("; ")),
        row(pair, "many fields", many(get(), 90, 100), [many(ok("fine"), 90, 100)])
            .request_has("x-089", "v".repeat(95))
            .response_has("x-089", "v".repeat(95)),
        row(pair, "a long field", get().field("x-a", &"v".repeat(15_000)), [ok("fine").field("x-b", &"v".repeat(15_000))])
            .request_has("x-a", "v".repeat(15_000))
            .response_has("x-b", "v".repeat(15_000)),
        row(pair, "a response with very many fields", get(), [many(ok("fine"), 200, 200)]).response_has("x-199", "v".repeat(195)),
        row(pair, "a query that browsers send", get().target("?a={b}|c&d=[e]^`'f&g=%5c%C3%A9"), [ok("fine")]),
        row(pair, "a long target", get().target(&format!("/{}", "p".repeat(8_000))), [ok("fine")]),
        refused(
            row(pair, "a target that is too long", get().target(&format!("/{}", "p".repeat(8_300))), []),
            414,
            "uri_too_long",
        ),
        row(pair, "a long head", many(get(), 60, 500), [ok("fine")]).request_has("x-059", "v".repeat(495)),
        row(pair, "what a refusal says of itself", many(get(), 101, 10), [])
            .status(431)
            .requests(&[])
            .ended("client", "http_request_error", "too_many_headers")
            .attempts(&[]),
        refused(row(pair, "too many fields", many(get(), 101, 10), []), 431, "too_many_headers"),
        refused(row(pair, "a field that is too long", get().field("x-a", &"v".repeat(17_000)), []), 431, "field_too_large"),
        refused(row(pair, "a head that is too long", many(get(), 80, 500), []), 431, "header_too_large"),
    ];
    rows.push(
        row(pair, "fields for the next hop alone", get().field("connection", "x-private").field("x-private", "1"), [ok("fine")])
            .only("HTTP/2 has no Connection", |pair| pair.client.is_h1())
            .request_lacks("x-private"),
    );
    rows.push(
        row(
            pair,
            "fields of a response for the next hop alone",
            get(),
            [ok("fine").field("connection", "x-private").field("x-private", "1").field("keep-alive", "timeout=5")],
        )
        .only("HTTP/2 has no Connection", |pair| pair.endpoint.is_h1())
        .response_lacks("x-private")
        .response_lacks("keep-alive"),
    );
    rows.push(
        row(pair, "a response after which the endpoint closes", get(), [ok("fine").field("connection", "close").head_closes()])
            .only("HTTP/2 has no Connection", |pair| pair.endpoint.is_h1()),
    );
    rows.push(
        row(pair, "a request with Connection", get().field("connection", "close"), [])
            .only("HTTP/1 has Connection", |pair| pair.client.is_multiplexed())
            .response(Arrives::Never)
            .unlogged()
            .differs(
                "the library of HTTP/3 lets it through, and the gate answers",
                |pair| pair.client == Kind::H3,
                |row| refused(Row { want: Want::default(), ..row }, 400, "connection_field"),
            ),
    );
    rows.push(
        row(pair, "a response with Connection", get(), [ok("fine").field("connection", "close")])
            .only("HTTP/1 has Connection", |pair| pair.endpoint.is_h2())
            .status(502)
            .requests(&[Arrives::Whole])
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["http_protocol_error"])
            .errors(1),
    );
    rows.push(
        row(pair, "lengths that contradict each other", get(), [ok("fine").field("content-length", "5")])
            .status(502)
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["http_protocol_error"])
            .errors(1),
    );
    rows.push(
        row(pair, "a status that is none", get(), [super::super::message::respond(600, Framing::Length(2)).last("ok")])
            .status(502)
            .ended("upstream", "http_protocol_error", "")
            .attempts(&["http_protocol_error"])
            .errors(1),
    );
    rows
}

fn cookies(count: usize) -> Script {
    (0..count).fold(get(), |script, index| script.field("cookie", &format!("c{index}=1")))
}
