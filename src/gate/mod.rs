//! Layer 2: the strict gate. What a request must be before anything else of Weir looks at it, and what an
//! intermediary must change in a message that it passes on.
//!
//! Pure functions: no I/O, no clock, no framework. A driver that reads raw bytes calls [`head::scan`] and
//! [`head::parse`] and then [`admit::admit_h1`]; one whose HTTP/2 library has parsed already calls
//! [`admit::admit_stream`]. Both end with the same [`admit::Admitted`], so routing and filters cannot tell which
//! it was. Nothing here repairs a message: where two recipients could read the same bytes in two ways, the
//! request is refused, because the second reader is the service that we protect.
//!
//! Every refusal has one word ([`Refusal::reason`]), which is its metric label and its log word.

pub mod admit;
pub mod chunked;
mod glimpse;
pub mod h2_frames;
pub mod head;
pub mod hop;
mod refusal;
pub mod response;
mod spelling;
mod syntax;
pub mod target;

pub use admit::{Admitted, BodyFraming, Upgrade, admit_h1, admit_stream};
pub use glimpse::Glimpse;
pub use head::{Head, Limits};
pub use hop::UnderscoreFields;
pub use refusal::Refusal;
pub use spelling::Spelling;

pub use crate::types::Version;
