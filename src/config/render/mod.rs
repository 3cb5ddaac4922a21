//! Diagnostics for people, for scripts, and for code review tools.

mod human;
mod json;
mod sarif;

pub use human::human;
pub use json::json;
pub use sarif::sarif;
