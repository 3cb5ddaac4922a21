//! Layer 2: QUIC. UDP sockets, connections over them, and their streams as the HTTP/3 library wants them.
//!
//! | file | owns |
//! |---|---|
//! | `endpoint` | a bound socket, and the connections on it |
//! | `socket` | who reads the socket: this process, or the one that comes after it |
//! | `ids` | connection ids, which say whose a connection is |
//! | `relay` | packets for the process before this one |
//! | `streams` | the traits of the HTTP/3 library |
//! | `frames` | what of a request stream that library gets to see |
//!
//! What is decided here, and why:
//! - **One endpoint for each address**, with one task that reads and writes the socket for all connections: with segmentation by the
//!   kernel in both directions, a reader for each worker brings nothing on the few cores of an edge, and connections that change their
//!   address need no steering.
//! - **A new process takes the socket over at once**, and passes the packets of older connections on to the process that has them
//!   (`ids`, `relay`): an upgrade cuts no connection.
//! - **No early data**: a replayed request is not worth a round trip.
//! - **The address of a client is the one that it had during the handshake**, which was proven then. A later one may be used by whoever
//!   can forge the sender of a packet, for one round trip.

mod endpoint;
mod frames;
mod ids;
mod relay;
mod socket;
mod streams;

pub use endpoint::{Endpoint, Handed, server_config};
pub use ids::Tag;
pub use streams::{EXCESSIVE_LOAD, NO_ERROR, Out, REQUEST_REJECTED, RequestStream, Streams};
