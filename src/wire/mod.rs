//! Layer 2: connections, as bytes. Every socket that Weir serves a client on, or reaches an endpoint by, is one of these.
//!
//! The accepted side: a [`Socket`] holds bytes that were read ahead, a [`Transport`] is the socket or TLS over it with small writes
//! collected, and [`Patience`] gives up a client that takes nothing. The side of endpoints: [`dial`] opens a connection, TLS included,
//! and says why there is none. A [`Stream`] is either side for those that need the socket itself. [`ask`] is for
//! what Weir itself wants to know of others.
//!
//! Nothing here knows what is spoken inside, or anything of Pingora: whoever hands a connection to Pingora wraps it.

mod ask;
mod dial;
mod patience;
mod redis;
mod socket;
mod stream;
mod transport;

pub use ask::{Patience as AskPatience, Url, ask};
pub use dial::{ClientTls, Hindrance, Unconnected, dial};
pub use patience::Patience;
pub use redis::redis_client;
pub use socket::{Socket, WriteBuffer, set_options, unbound};
pub use stream::Stream;
pub use transport::Transport;
