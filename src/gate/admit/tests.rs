//! Hostile requests, each with the refusal it must get. The groups are the sections of the RFCs they break.

use super::*;
use crate::gate::head::{Limits, parse, scan};

fn admit(bytes: &[u8]) -> Result<Admitted, Refusal> {
    let limits = Limits::default();
    let end = scan(bytes, &limits, &mut 0)?.ok_or(Refusal::IncompleteHead)?;
    admit_h1(&parse(&bytes[..end], &limits)?, false)
}
