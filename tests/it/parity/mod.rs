//! Parity: one behaviour whatever the versions of HTTP on the two sides of the edge.
//!
//! A row (`rows/`) says what a client sends, what an endpoint answers, and what is to come of it: at both ends, in the access
//! log, in what is known of the endpoint. It is run over every pair of kinds of client and endpoint. `PARITY=part-of-a-name`
//! runs some rows only.

mod client;
mod course;
mod endpoint;
mod frames;
mod h1;
pub mod h2;
mod h3;
mod judge;
pub mod message;
mod row;
mod rows;

use std::fmt;

/// A version of HTTP over TLS or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    H1,
    H1Tls,
    H2,
    H2c,
    /// Of clients only.
    H3,
}

impl Kind {
    pub fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::H2c)
    }
    pub fn is_h1(self) -> bool {
        !self.is_multiplexed()
    }
    /// Does each request have a stream of its own?
    pub fn is_multiplexed(self) -> bool {
        self.is_h2() || self == Self::H3
    }
    pub fn is_tls(self) -> bool {
        matches!(self, Self::H1Tls | Self::H2 | Self::H3)
    }
    /// The version, as the log and `Via` have it.
    pub fn version(self) -> &'static str {
        match self {
            Self::H1 | Self::H1Tls => "1.1",
            Self::H2 | Self::H2c => "2",
            Self::H3 => "3",
        }
    }
    fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1-clear",
            Self::H1Tls => "h1-tls",
            Self::H2 => "h2-tls",
            Self::H2c => "h2c",
            Self::H3 => "h3",
        }
    }
}

/// Both sides of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub client: Kind,
    pub endpoint: Kind,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.client.name(), self.endpoint.name())
    }
}

/// Runs all rows over a pair, and fails with everything that is not as it should be.
async fn holds(client: Kind, endpoint: Kind) {
    let pair = Pair { client, endpoint };
    let wanted = std::env::var("PARITY").unwrap_or_default();
    let rows: Vec<row::Row> =
        rows::all(pair).into_iter().filter(|row| row.skipped.is_none() && row.name.contains(&wanted)).collect();
    let mut report = String::new();
    for (name, (problems, notes)) in course::run(pair, rows).await {
        if !problems.0.is_empty() {
            report += &format!("\n{pair}: {name:?}\n");
            problems.0.iter().for_each(|problem| report += &format!("    {problem}\n"));
            notes.iter().for_each(|note| report += &format!("    (differs here: {note})\n"));
        }
    }
    assert!(report.is_empty(), "{report}");
}

macro_rules! pairs {
    ($($name:ident: $client:ident -> $endpoint:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            holds(Kind::$client, Kind::$endpoint).await;
        }
    )*};
}

pairs! {
    h1_to_h1: H1 -> H1;
    h1_to_h1_tls: H1 -> H1Tls;
    h1_to_h2: H1 -> H2;
    h1_to_h2c: H1 -> H2c;
    h1_tls_to_h1: H1Tls -> H1;
    h1_tls_to_h1_tls: H1Tls -> H1Tls;
    h1_tls_to_h2: H1Tls -> H2;
    h1_tls_to_h2c: H1Tls -> H2c;
    h2_to_h1: H2 -> H1;
    h2_to_h1_tls: H2 -> H1Tls;
    h2_to_h2: H2 -> H2;
    h2_to_h2c: H2 -> H2c;
    h2c_to_h1: H2c -> H1;
    h2c_to_h1_tls: H2c -> H1Tls;
    h2c_to_h2: H2c -> H2;
    h2c_to_h2c: H2c -> H2c;
    h3_to_h1: H3 -> H1;
    h3_to_h1_tls: H3 -> H1Tls;
    h3_to_h2: H3 -> H2;
    h3_to_h2c: H3 -> H2c;
}
