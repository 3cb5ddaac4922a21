//! Layer 3: certificates that are obtained and renewed by themselves, from an authority that speaks ACME (RFC 8555).
//!
//! | file | owns |
//! |---|---|
//! | `spec` | what users write under `acme` |
//! | `authority` | the authorities that are known by name |
//! | `plan` | what one configuration wants: names, settings, who may ask on demand |
//! | `storage` | where everything is kept; several edges may share it |
//! | `client` | requests to an authority |
//! | `desk` | accounts and orders: one order from its beginning, or from where a process that died left it, to a certificate |
//! | `proof` | how a name is proven: http-01, tls-alpn-01, dns-01 |
//! | `dns` | where records are written for dns-01 |
//! | `schedule` | when to renew, and when to try again: pure functions |
//! | `standing` | what is known of each name, for the operator |
//! | `demand` | names that nobody has written down, and clients ask for |
//! | `tickets` | the secrets of session tickets, which edges with one storage share |
//! | `keeper` | the loop: looks what is due, orders it, serves it |
//!
//! An order holds the lock of its name in the storage. What it needs to go on is written before the authority learns of it, so a process may
//! die at any point: the next one goes on with the same order, or begins another. The certificate before serves until the new one is
//! stored whole.

mod authority;
mod client;
mod demand;
mod desk;
mod dns;
mod keeper;
mod plan;
mod proof;
mod schedule;
mod spec;
mod standing;
mod storage;
mod tickets;

pub use authority::Authority;
pub use keeper::{Acme, Opened, is_proof_path};
pub use plan::{OnDemand, Plan, Settings, Unfit, issuable, without_covered};
pub use spec::{AcmeSpec, DnsSpec, EabSpec, KeyKind};
pub use standing::{Phase, Standing};
pub use storage::StorageError;
