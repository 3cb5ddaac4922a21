//! Faults of the edge that are known and not mended yet. An entry of which a row holds fails the test: it is to be deleted then.

use super::Pair;

/// Rows that do not hold on some pairs.
pub struct Known {
    pub rows: &'static [&'static str],
    /// Of client and endpoint: `any`, `h1` or `h2` (with TLS or without), or the name of one kind.
    pub pairs: &'static [(&'static str, &'static str)],
    pub why: &'static str,
}

const ANY: &[(&str, &str)] = &[("any", "any")];
const H2_CLIENT: &[(&str, &str)] = &[("h2", "any")];
const H1_ENDPOINT: &[(&str, &str)] = &[("any", "h1")];
const H2_ENDPOINT: &[(&str, &str)] = &[("any", "h2")];
const H2_ANYWHERE: &[(&str, &str)] = &[("h2", "any"), ("any", "h2")];

pub const KNOWN: &[Known] = &[
    Known {
        rows: &[
            "early hints",
            "early hints long before the answer",
            "early hints twice",
            "early hints before the body has come",
            "processing and early hints",
            "a 100 that nobody asked for",
            "an informational response of tomorrow",
            "an expectation that is met",
            "an expectation that is met with a body in pieces",
            "an endpoint that closes after early hints",
            "an endpoint that resets after early hints",
            "an endpoint that vanishes after early hints",
        ],
        pairs: H2_ANYWHERE,
        why: "Pingora drops 1xx: towards HTTP/2 clients (core v2/server.rs, write_response_header), from HTTP/2 endpoints (v2/client.rs, read_response_header)",
    },
    Known {
        rows: &[
            "a POST that is refused",
            "a POST that meets a GOAWAY",
            "a POST without a body that is refused",
            "a POST without a body that meets a GOAWAY",
        ],
        pairs: H2_ENDPOINT,
        why: "Pingora says that the request may be sent again (core v2/client.rs, handle_read_header_error); proxy/fail.rs asks for an idempotent method",
    },
    Known {
        rows: &[
            "early hints with a name that is no token",
            "an answer with a name that is no token",
            "an answer with a control byte",
        ],
        pairs: &[("any", "h2-tls")],
        why: "after one malformed answer Pingora offers HTTP/1.1 alone to this peer for good (proxy lib.rs, InvalidH2 and prefer_h1): one that speaks HTTP/2 only is lost",
    },
    Known {
        rows: &["a response with Connection", "an answer that is not HTTP", "lengths that contradict each other"],
        pairs: H2_ENDPOINT,
        why: "every error of the HTTP/2 library before the response is logged as connection_terminated (proxy/fail.rs, upstream_cause)",
    },
    Known {
        rows: &[
            "a body for a HEAD",
            "a head within the response",
            "more than the length",
            "trailers of a response that are no fields",
            "trailers of a response with a control byte",
        ],
        pairs: H2_ENDPOINT,
        why: "every error of the HTTP/2 library within the response is logged as http_response_incomplete (proxy/fail.rs, upstream_cause)",
    },
    Known {
        rows: &["trailers of a response that are no fields", "trailers of a response with a control byte"],
        pairs: H1_ENDPOINT,
        why: "Pingora reads over the trailers of HTTP/1 without looking at them (core v1/body.rs, ChunkedFinal)",
    },
    Known {
        rows: &["trailers of a response that are framing"],
        pairs: ANY,
        why: "the trailers of a response are not judged, and go on between HTTP/2 connections as they are",
    },
    Known {
        rows: &["trailers of a request that are framing"],
        pairs: H2_CLIENT,
        why: "the trailers of a request over HTTP/2 are dropped without a look",
    },
    Known {
        rows: &[
            "trailers of a request that are no fields",
            "trailers of a request with a control byte",
            "trailers of a request beyond the limit",
        ],
        pairs: H2_CLIENT,
        why: "the library ends the connection, and the log says that the client has gone",
    },
    Known {
        rows: &["an expectation answered by the answer"],
        pairs: H2_CLIENT,
        why: "Pingora has no read timeout on HTTP/2 (core http/server.rs, set_read_timeout): the rest of a body that is answered already is waited for as long as the client likes",
    },
    Known { rows: &["a head that is too long"], pairs: H2_CLIENT, why: "the library answers 431 by itself, and nobody logs it" },
    Known {
        rows: &["what a refusal says of itself"],
        pairs: ANY,
        why: "the body of a refusal of the gate is not counted in bytes_out",
    },
    Known {
        rows: &["names of a response that scripts cannot tell from others"],
        pairs: ANY,
        why: "names with `_` are dropped from responses too",
    },
    Known {
        rows: &["an answer that declines the rest of the body"],
        pairs: &[("h1", "h2")],
        why: "the client's connection is closed behind the response, which has not said so: Pingora fails to write what was declined",
    },
];

impl Known {
    pub fn of(row: &str, pair: Pair) -> Option<&'static Known> {
        let covers =
            |known: &&Known| known.rows.contains(&row) && known.pairs.iter().any(|(client, endpoint)| pair.is(client, endpoint));
        KNOWN.iter().find(covers)
    }
}
