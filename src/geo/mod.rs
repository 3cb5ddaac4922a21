//! Layer 2: which country an address is in, by a database of MaxMind's format.
//!
//! The whole database is in memory (a few MiB for countries, some 60 for cities): a mapped file would change under
//! requests when a tool writes into it. It is read with the configuration, so a reload swaps it, and a request keeps
//! the one that it began with.

use std::{net::IpAddr, sync::Arc};

use maxminddb::{LookupResult, PathElement, Reader, WithinOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{At, Code, ConfigPath, Countries, Country, unreadable};

/// The largest database. The largest ones that are sold have less; what is over it is no such file.
const MAX_BYTES: u64 = 1 << 30;

/// So many networks are looked at for one that is in a country, to tell a database of something else.
const PROBED: usize = 10_000;

/// Where clients are: enables `match.country` and the filter `geo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoIpSpec {
    /// A database of MaxMind's format (`.mmdb`) that tells countries: GeoLite2-Country, GeoIP2-City, DB-IP and others.
    pub database: ConfigPath,
}

/// The database.
#[derive(Debug)]
pub struct GeoIp {
    reader: Reader<Vec<u8>>,
}

impl GeoIpSpec {
    /// The database that the user named; `None` when a problem was reported instead.
    pub fn compile(&self, at: &At) -> Option<Arc<GeoIp>> {
        let at = at.key("database");
        let file = &self.database;
        match std::fs::metadata(&**file) {
            Err(error) => {
                at.problem(Code::UnreadableFile, format!("cannot read `{file}`: {}", unreadable(&error)));
                return None;
            }
            Ok(found) if !found.is_file() || found.len() > MAX_BYTES => {
                at.problem(Code::UnreadableFile, format!("cannot read `{file}`: it is not a file of at most 1 GiB"));
                return None;
            }
            Ok(_) => {}
        }
        let reader = match Reader::open_readfile(&**file) {
            Ok(reader) => reader,
            Err(maxminddb::MaxMindDbError::Io(error)) => {
                at.problem(Code::UnreadableFile, format!("cannot read `{file}`: {}", unreadable(&error)));
                return None;
            }
            Err(_) => {
                at.problem(Code::BadValue, format!("`{file}` is not a database of MaxMind's format"))
                    .hint("name a `.mmdb` file, such as GeoLite2-Country.mmdb");
                return None;
            }
        };
        let geoip = GeoIp { reader };
        if !geoip.tells_countries() {
            let kind = &geoip.reader.metadata().database_type;
            at.problem(Code::BadValue, format!("`{file}` tells no countries: it is a database of the type `{kind}`"))
                .hint("name one of countries or cities, such as GeoLite2-Country.mmdb");
            return None;
        }
        Some(Arc::new(geoip))
    }
}

/// The code in a record, if there is one.
fn code(record: &LookupResult<'_, Vec<u8>>) -> Option<Country> {
    let path = [PathElement::Key("country"), PathElement::Key("iso_code")];
    record.decode_path::<&str>(&path).ok().flatten().and_then(Country::from_code)
}

impl GeoIp {
    fn tells_countries(&self) -> bool {
        let Ok(networks) = self.reader.networks(WithinOptions::default()) else { return false };
        networks.take(PROBED).any(|found| found.ok().and_then(|record| code(&record)).is_some())
    }
}

impl Countries for GeoIp {
    fn country(&self, ip: IpAddr) -> Option<Country> {
        // An address of a kind that the database does not have is one that it does not know, as is a broken record.
        self.reader.lookup(ip.to_canonical()).ok().and_then(|record| code(&record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Problems;

    fn compile(path: &str) -> (Option<Arc<GeoIp>>, Vec<String>) {
        let problems = Problems::default();
        let geoip = GeoIpSpec { database: path.into() }.compile(&problems.root().key("geoip"));
        (geoip, problems.take().into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn countries_are_found_by_address() {
        let (geoip, problems) = compile(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/examples/countries.mmdb"));
        let geoip = geoip.unwrap_or_else(|| panic!("{problems:?}"));
        for (ip, country) in [
            ("192.0.2.1", Some("DE")),
            ("::ffff:192.0.2.255", Some("DE")),
            ("198.51.100.0", Some("FR")),
            ("203.0.113.9", Some("US")),
            ("2001:db8:ffff::1", Some("SE")),
            ("192.0.3.0", None),
            ("2001:db9::", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(geoip.country(ip.parse().unwrap()).map(|country| country.to_string()).as_deref(), country, "{ip}");
        }
    }

    #[test]
    fn what_is_no_such_database_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.mmdb");
        std::fs::write(&file, "not one").unwrap();
        for (path, word) in [
            (file.to_str().unwrap(), "is not a database"),
            (directory.path().to_str().unwrap(), "is not a file"),
            ("/nonexistent.mmdb", "there is no such file"),
        ] {
            let (geoip, problems) = compile(path);
            assert!(geoip.is_none() && problems.len() == 1 && problems[0].contains(word), "{problems:?}");
        }
    }
}
