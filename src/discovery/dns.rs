//! Endpoints from DNS: the addresses of a name, or the SRV records of a service.
//!
//! An answer is asked for again when its TTL is over, at the latest after `refresh` and at the earliest
//! after a second. No answer, an error and an empty answer are all the same: what was found last stays,
//! since a name server in trouble, or one that was restarted with half of its zone, is more likely than a
//! service that was wound up, and endpoints that are really gone fail their connects and health checks.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndpointSpec, ListedEndpoint, MAX_FOUND, run::Asked};
use crate::types::{Address, At, Code, OneOrMany, Span};

/// TTLs below this would make a name server's mistake our load on it.
const LEAST_TTL: Duration = Duration::from_secs(1);
/// A `refresh` below this is no refresh but an attack.
const LEAST_REFRESH: Duration = Duration::from_millis(100);
/// For all questions that one answer takes, retries included. The resolver's own timeouts are per server.
const PATIENCE: Duration = Duration::from_secs(30);
/// Per question and server, where `servers` names them: they are near.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// SRV targets that are asked for at a time.
const PARALLEL: usize = 16;

/// A name in DNS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsSpec {
    /// The name; of a service (`_http._tcp.api.internal`) for SRV records.
    pub name: String,
    /// The port of the endpoints. SRV records bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Ask for SRV records. Left out: when the name starts with `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv: Option<bool>,
    /// The longest time between two questions; a shorter TTL makes it sooner.
    #[serde(default = "DnsSpec::default_refresh")]
    pub refresh: Span,
    /// Name servers to ask, `IP:port`. The system's (`/etc/resolv.conf`, `/etc/hosts`) when left out.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub servers: OneOrMany<Address>,
}

impl DnsSpec {
    fn default_refresh() -> Span {
        Span::secs(10)
    }

    pub(super) fn compile(&self, at: &At) -> Option<Dns> {
        let name = Name::from_utf8(&self.name).ok().filter(|name| !name.is_root() && self.name.parse::<IpAddr>().is_err());
        if name.is_none() {
            at.key("name").problem(Code::BadValue, format!("`{}` is not a name in DNS", self.name));
        }
        let srv = self.srv.unwrap_or(self.name.starts_with('_'));
        let question = match (srv, self.port) {
            (true, None) => Some(Question::Service),
            (false, Some(port)) => Some(Question::Host(port.get())),
            (true, Some(_)) => {
                at.key("port").problem(Code::Conflict, "SRV records bring the port with them").at_key().hint("remove `port`");
                None
            }
            (false, None) => {
                at.problem(Code::MissingKey, "addresses in DNS have no port").hint("add `port: 8080`, or `srv: true`");
                None
            }
        };
        let refresh = self.refresh.get();
        if refresh < LEAST_REFRESH {
            at.key("refresh").problem(Code::BadValue, "`refresh` must be at least 100ms").hint("write `10s`");
        }
        let servers: Option<Vec<SocketAddr>> = self.servers.iter().map(Address::tcp).collect();
        if servers.is_none() {
            at.key("servers").problem(Code::BadValue, "a name server is `IP:port`");
        }
        let fine = refresh >= LEAST_REFRESH;
        let (name, question, servers) = (name?, question?, servers?);
        let as_listed = AsListed::default();
        fine.then(|| Dns { name, question, refresh, servers, as_listed, resolver: None, known: HashMap::new(), failures: 0 })
    }
}

/// What all addresses of a name have in common.
#[derive(Debug, Clone)]
struct AsListed {
    weight: NonZeroU32,
    priority: u8,
    zone: Option<crate::types::Name>,
}

impl Default for AsListed {
    fn default() -> Self {
        Self { weight: NonZeroU32::MIN, priority: 0, zone: None }
    }
}

#[derive(Debug, Clone, Copy)]
enum Question {
    /// A and AAAA, with this port.
    Host(u16),
    /// SRV, then A and AAAA of each target.
    Service,
}

/// A name, and what is needed to ask for it again.
#[derive(Clone)]
pub(super) struct Dns {
    name: Name,
    question: Question,
    refresh: Duration,
    servers: Vec<SocketAddr>,
    as_listed: AsListed,
    /// Made at the first question, and again after a failure: the system's settings may have changed.
    resolver: Option<TokioResolver>,
    /// Of the name, or of each target: what it had last.
    known: HashMap<Name, Family>,
    failures: u32,
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.question {
            Question::Host(port) => write!(f, "dns {}:{port}", self.name)?,
            Question::Service => write!(f, "dns srv {}", self.name)?,
        }
        self.servers.iter().enumerate().try_for_each(|(index, server)| {
            f.write_str(if index == 0 { " at " } else { ", " })?;
            server.fmt(f)
        })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The addresses of a name. One family may fail while the other answers, with name servers that do not
/// know AAAA for instance: then the failing one keeps what it had.
#[derive(Debug, Clone, Default)]
struct Family {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Family {
    fn endpoints(&self, port: u16, all: AsListed) -> impl Iterator<Item = EndpointSpec> {
        self.v4.iter().chain(&self.v6).map(move |ip| {
            let AsListed { weight, priority, zone } = all.clone();
            EndpointSpec { address: Address::Tcp(SocketAddr::new(*ip, port)), weight, priority, zone }
        })
    }
}

impl Dns {
    /// Of an endpoint that the configuration names. `None` where it is no name in DNS.
    pub(super) fn of(name: &str, port: u16, weight: NonZeroU32, listed: &ListedEndpoint) -> Option<Self> {
        Some(Self {
            name: Name::from_utf8(name).ok()?,
            question: Question::Host(port),
            refresh: DnsSpec::default_refresh().get(),
            servers: Vec::new(),
            as_listed: AsListed { weight, priority: listed.priority, zone: listed.zone.clone() },
            resolver: None,
            known: HashMap::new(),
            failures: 0,
        })
    }

    pub(super) async fn ask(&mut self) -> Asked {
        let asked = tokio::time::timeout(PATIENCE, self.question()).await;
        match asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok((found, ttl)) => {
                self.failures = 0;
                Asked { found: Ok(Some(found)), again: ttl.max(LEAST_TTL).min(self.refresh) }
            }
            Err(reason) => {
                self.resolver = None;
                // 1 s, 2 s, 4 s ... up to `refresh`.
                let pause = Duration::from_secs(1 << self.failures.min(10));
                self.failures += 1;
                Asked { found: Err(reason), again: pause.min(self.refresh) }
            }
        }
    }

    async fn question(&mut self) -> Result<(Vec<EndpointSpec>, Duration), String> {
        let resolver = match &self.resolver {
            Some(resolver) => resolver.clone(),
            None => self.resolver.insert(resolver(&self.servers).await?).clone(),
        };
        let (found, ttl) = match self.question {
            Question::Host(port) => {
                let known = self.known.entry(self.name.clone()).or_default();
                let ttl = addresses(&resolver, &self.name, known).await?;
                (known.endpoints(port, self.as_listed.clone()).collect(), ttl)
            }
            Question::Service => service(&resolver, &self.name, &mut self.known).await?,
        };
        match found.len() {
            0 => Err("the answer is empty".into()),
            many if many > MAX_FOUND => Err(format!("{many} endpoints, {MAX_FOUND} at most are taken")),
            _ => Ok((found, ttl)),
        }
    }
}

async fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let (config, mut options) = if servers.is_empty() {
        let read = tokio::task::spawn_blocking(hickory_resolver::system_conf::read_system_conf).await;
        read.map_err(|error| error.to_string())?.map_err(|error| format!("/etc/resolv.conf: {error}"))?
    } else {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let mut options = ResolverOpts::default();
        options.timeout = SERVER_TIMEOUT;
        options.use_hosts_file = ResolveHosts::Never;
        (ResolverConfig::from_name_servers(servers.collect()), options)
    };
    // We decide when to ask; an answer from a cache would be older than its TTL says.
    options.cache_size = 0;
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    builder.build().map_err(|error| error.to_string())
}

/// Asks for both families at once. `known` is changed only when this succeeds.
async fn addresses(resolver: &TokioResolver, name: &Name, known: &mut Family) -> Result<Duration, String> {
    let (v4, v6) = tokio::join!(family(resolver, name, RecordType::A), family(resolver, name, RecordType::AAAA));
    let (v4, v6) = match (v4, v6) {
        (Ok(v4), Ok(v6)) => (v4, v6),
        (Ok(v4), Err(_)) if !v4.0.is_empty() => (v4, (known.v6.clone(), Duration::MAX)),
        (Err(_), Ok(v6)) if !v6.0.is_empty() => ((known.v4.clone(), Duration::MAX), v6),
        (Err(error), _) | (_, Err(error)) => return Err(reason(&error)),
    };
    if v4.0.is_empty() && v6.0.is_empty() {
        return Err(format!("{name} has no address"));
    }
    *known = Family { v4: v4.0, v6: v6.0 };
    Ok(v4.1.min(v6.1))
}

/// The addresses of one family, in an order of their own, and for how long they are good.
async fn family(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Result<(Vec<IpAddr>, Duration), NetError> {
    let answer = match resolver.lookup(name.clone(), kind).await {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() => return Ok((Vec::new(), Duration::MAX)),
        Err(error) => return Err(error),
    };
    let mut addresses: Vec<IpAddr> = answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    // Name servers rotate their answers, which must not look like a change.
    addresses.sort_unstable();
    addresses.dedup();
    Ok((addresses, ttl(&answer)))
}

/// The records of the lowest priority number (RFC 2782: the others are for when those are out of reach)
/// with their weights, and for each target its addresses.
async fn service(
    resolver: &TokioResolver,
    name: &Name,
    known: &mut HashMap<Name, Family>,
) -> Result<(Vec<EndpointSpec>, Duration), String> {
    let answer = resolver.lookup(name.clone(), RecordType::SRV).await.map_err(|error| reason(&error))?;
    let records = answer.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some(srv),
        _ => None,
    });
    let first = records.clone().map(|srv| srv.priority).min().ok_or_else(|| format!("{name} has no SRV record"))?;
    let records: Vec<_> = records.filter(|srv| srv.priority == first).collect();
    // Several records may name one target, with different ports.
    let targets: HashSet<Name> = records.iter().map(|srv| srv.target.clone()).collect();
    let asked = targets.into_iter().map(|target| {
        let (resolver, mut known) = (resolver.clone(), known.get(&target).cloned().unwrap_or_default());
        async move {
            let ttl = addresses(&resolver, &target, &mut known).await.map_err(|reason| format!("{target}: {reason}"));
            (target, known, ttl)
        }
        .boxed()
    });
    let mut asked = stream::iter(asked).buffer_unordered(PARALLEL);
    let (mut ttls, mut now) = (Vec::new(), HashMap::new());
    while let Some((target, family, ttl)) = asked.next().await {
        now.insert(target, family);
        ttls.push(ttl);
    }
    drop(asked);
    *known = now;
    let mut found: Vec<_> = records
        .iter()
        .filter_map(|srv| Some((srv, known.get(&srv.target)?)))
        .flat_map(|(srv, known)| {
            let weight = NonZeroU32::new(srv.weight.into()).unwrap_or(NonZeroU32::MIN);
            known.endpoints(srv.port, AsListed { weight, ..AsListed::default() })
        })
        .collect();
    found.sort_by_key(|endpoint| endpoint.address.tcp());
    found.dedup_by(|a, b| a.address == b.address);
    let error = ttls.iter().find_map(|ttl| ttl.as_ref().err());
    match error {
        Some(error) if found.is_empty() => Err(error.clone()),
        // A target that cannot be resolved now keeps what it had and takes no other one out.
        Some(_) => Ok((found, LEAST_TTL)),
        None => Ok((found, ttls.into_iter().flatten().fold(ttl(&answer), Duration::min))),
    }
}

/// The shortest TTL of an answer, aliases on the way included.
fn ttl(answer: &hickory_resolver::lookup::Lookup) -> Duration {
    let shortest = answer.answers().iter().map(|record| record.ttl).min();
    shortest.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()))
}

fn reason(error: &NetError) -> String {
    if error.is_nx_domain() {
        "the name does not exist".into()
    } else if error.is_no_records_found() {
        "the name has no such record".into()
    } else {
        error.to_string()
    }
}
