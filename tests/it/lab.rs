//! The lab's own tests.
