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

pub const KNOWN: &[Known] = &[
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
        why: "the trailers of a request over HTTP/2 are dropped without a look (listener/h2_request.rs, read_piece)",
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
        rows: &["what a refusal says of itself"],
        pairs: ANY,
        why: "the body of a refusal of the gate is not counted in bytes_out",
    },
];

impl Known {
    pub fn of(row: &str, pair: Pair) -> Option<&'static Known> {
        let covers =
            |known: &&Known| known.rows.contains(&row) && known.pairs.iter().any(|(client, endpoint)| pair.is(client, endpoint));
        KNOWN.iter().find(covers)
    }
}
