//! Fixtures. Every await in them is bounded, and what runs out of time says what it was waiting for.
