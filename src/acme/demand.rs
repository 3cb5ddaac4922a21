//! Names that nobody has written down, and clients ask for.
//!
//! A stranger decides which name a handshake asks for, so nothing here is done for one that has not passed the limits, and no order is made
//! before whoever the configuration names has allowed it.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;

use super::plan::OnDemand;
use crate::{
    types::Name,
    wire::{AskPatience, ask},
};

/// For the decision: a look into a database.
const PATIENCE: AskPatience = AskPatience { time: Duration::from_secs(5), bytes: 64 << 10 };

/// Limits are in an hour.
const HOUR: Duration = Duration::from_secs(3600);

/// How long a name is not asked about again that was refused or failed.
const REFUSED: Duration = Duration::from_secs(60);

/// Entries of each table: beyond that, who comes new is refused until old ones are over.
const MOST: usize = 10_000;

/// What was asked for, and how often.
#[derive(Debug, Default)]
pub(super) struct Demands {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    clients: HashMap<IpAddr, Count>,
    domains: HashMap<String, Count>,
    refused: HashMap<String, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    count: u32,
}

/// Why a name that was asked for gets no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// It was refused a moment ago.
    Again,
    /// The client has asked for too many.
    Client,
    /// Too many were asked for below this registered domain.
    Domain(String),
}

impl Demands {
    /// Counts a demand. `Err` when it is one too many.
    pub(super) fn count(&self, name: &str, client: IpAddr, limits: &OnDemand, now: Instant) -> Result<(), Denied> {
        let domain = psl::domain_str(name).unwrap_or(name).to_owned();
        let mut tables = self.tables.lock();
        tables.forget(now);
        if tables.refused.contains_key(name) {
            return Err(Denied::Again);
        }
        if !is_within(&tables.clients, &masked(client), limits.per_client) {
            return Err(Denied::Client);
        }
        if !is_within(&tables.domains, &domain, limits.per_domain) {
            return Err(Denied::Domain(domain));
        }
        take(&mut tables.clients, masked(client), now);
        take(&mut tables.domains, domain, now);
        Ok(())
    }

    /// Does not ask again about a name for a while.
    pub(super) fn refuse(&self, name: &str, now: Instant) {
        let mut tables = self.tables.lock();
        tables.forget(now);
        if tables.refused.len() < MOST {
            tables.refused.insert(name.to_owned(), now);
        }
    }
}

impl Tables {
    fn forget(&mut self, now: Instant) {
        let full = self.clients.len() >= MOST || self.domains.len() >= MOST || self.refused.len() >= MOST;
        if full {
            self.clients.retain(|_, count| now - count.since < HOUR);
            self.domains.retain(|_, count| now - count.since < HOUR);
        }
        self.refused.retain(|_, since| now - *since < REFUSED);
    }
}

/// An IPv6 client has a whole network to choose its address from.
fn masked(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none() => {
            let mut segments = ip.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
        _ => client.to_canonical(),
    }
}

fn is_within<K: Hash + Eq>(table: &HashMap<K, Count>, key: &K, limit: u32) -> bool {
    match table.get(key) {
        Some(count) => count.count < limit || count.since.elapsed() >= HOUR,
        None => table.len() < MOST,
    }
}

fn take<K: Hash + Eq>(table: &mut HashMap<K, Count>, key: K, now: Instant) {
    let count = table.entry(key).or_insert(Count { since: now, count: 0 });
    if now - count.since >= HOUR {
        *count = Count { since: now, count: 0 };
    }
    count.count += 1;
}

/// Asks whoever decides. The error is for people.
pub(super) async fn allowed(who: &OnDemand, name: &str, client: IpAddr, listener: &Name) -> Result<(), String> {
    let url = who.ask.clone().with("domain", name).with("client", &client.to_string()).with("listener", listener);
    let request = Request::get("/").body(Bytes::new()).map_err(|error| error.to_string())?;
    let answer = ask(&url, request, who.tls.clone(), PATIENCE).await;
    let answer = answer.map_err(|reason| format!("{} cannot be asked: {reason}", who.ask.name()))?;
    match answer.status().as_u16() {
        200 => Ok(()),
        status => Err(format!("{} answers {status}", who.ask.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tls::OnDemandSpec, types::Problems};

    fn limits(text: &str) -> OnDemand {
        let spec: OnDemandSpec = serde_yaml::from_str(text).unwrap();
        OnDemand::compile(&spec, &Problems::default().root()).unwrap()
    }

    #[test]
    fn demands_are_limited_by_client_and_by_registered_domain() {
        let limits = limits("{ask: 'http://127.0.0.1/ok', per_client: 2, per_domain: 3}");
        let (demands, now) = (Demands::default(), Instant::now());
        let count = |name: &str, client: &str| demands.count(name, client.parse().unwrap(), &limits, now);
        assert_eq!(count("a.example.co.uk", "192.0.2.1"), Ok(()));
        assert_eq!(count("b.example.co.uk", "192.0.2.1"), Ok(()));
        assert_eq!(count("c.example.org", "192.0.2.1"), Err(Denied::Client));
        assert_eq!(count("c.example.co.uk", "192.0.2.2"), Ok(()));
        assert_eq!(count("d.example.co.uk", "192.0.2.3"), Err(Denied::Domain("example.co.uk".into())));
        assert_eq!(count("other.co.uk", "192.0.2.3"), Ok(()), "a public suffix is nobody's");
        assert_eq!(count("e.example.net", "2001:db8::1"), Ok(()));
        assert_eq!(count("f.example.net", "2001:db8::2"), Ok(()));
        assert_eq!(count("g.example.net", "2001:db8::3"), Err(Denied::Client), "one network of a client");
        demands.refuse("h.example.net", now);
        assert_eq!(count("h.example.net", "192.0.2.9"), Err(Denied::Again));
    }
}
