//! Services that filters talk to on their own account: upstreams, seen from below.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::types::{BodyStream, Name};

/// A request of a filter's own.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path and query, as in `/verify?app=1`.
    pub target: String,
    /// The fields, `Host` among them. The framing of the body is seen to by the service.
    pub fields: HeaderMap,
    /// The body, if there is one. It is read only once, so a call with one is not tried again after it began.
    pub body: Option<BodyStream>,
    /// On whose behalf: what strategies that keep to the client go by.
    pub client: IpAddr,
    /// How long it may take in all.
    pub within: Duration,
    /// What is wanted of the answer.
    pub take: Take,
}

/// What a filter wants of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The head. The body is read and thrown away.
    Head,
    /// The head and a body of at most so many bytes; a longer one makes the call fail.
    Body(usize),
}

/// What a service answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status, not 1xx.
    pub status: StatusCode,
    /// The fields, without those of the connection.
    pub fields: HeaderMap,
    /// The body, where it was asked for.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No endpoint may take a request, or all places are taken.
    #[error("no endpoint is available")]
    Unavailable,
    /// No connection could be made.
    #[error("cannot connect")]
    Connect,
    /// Time was up.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, or what came was no HTTP.
    #[error("the answer broke off")]
    Broken,
    /// The body is longer than was asked for.
    #[error("the answer is too large")]
    TooLarge,
}

/// A service that can be asked.
pub trait Service: Send + Sync + Debug {
    /// Asks it. Dropping the future gives the call up.
    fn call(&self, call: Call) -> Calling;
}

/// A call under way.
pub type Calling = Pin<Box<dyn Future<Output = Result<Answered, CallError>> + Send>>;

/// The services of a configuration, by the names of its upstreams. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Services(Arc<BTreeMap<Name, Arc<dyn Service>>>);

impl FromIterator<(Name, Arc<dyn Service>)> for Services {
    fn from_iter<I: IntoIterator<Item = (Name, Arc<dyn Service>)>>(services: I) -> Self {
        Self(Arc::new(services.into_iter().collect()))
    }
}

impl Services {
    /// The one of that name.
    pub fn get(&self, name: &Name) -> Option<Arc<dyn Service>> {
        self.0.get(name).cloned()
    }
}
