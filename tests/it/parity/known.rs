//! Faults of the edge that are known and not mended yet. An entry of which a row holds fails the test: it is to be deleted then.

use super::Pair;

/// Rows that do not hold on some pairs.
pub struct Known {
    pub rows: &'static [&'static str],
    /// Of client and endpoint: `any`, `h1` or `h2` (with TLS or without), or the name of one kind.
    pub pairs: &'static [(&'static str, &'static str)],
    pub why: &'static str,
}

const H2_CLIENT: &[(&str, &str)] = &[("h2", "any")];
const H2_ENDPOINT: &[(&str, &str)] = &[("any", "h2")];

pub const KNOWN: &[Known] = &[
    Known {
        rows: &["more than the length"],
        pairs: H2_ENDPOINT,
        why: "logged as http_response_incomplete, like a body that is shorter than its length (upstream/h2_exchange.rs, failed)",
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
];

impl Known {
    pub fn of(row: &str, pair: Pair) -> Option<&'static Known> {
        let covers =
            |known: &&Known| known.rows.contains(&row) && known.pairs.iter().any(|(client, endpoint)| pair.is(client, endpoint));
        KNOWN.iter().find(covers)
    }
}
