//! The image and the Compose demo on a real engine: `make test-docker`.
//!
//! Each run has a project of its own, with ports that the engine chooses, and removes what it made. Without an engine there is nothing
//! to test, which it says. The image is made around the binary of this build unless `WEIR_IMAGE` names one.

#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;

mod certificates;
mod demo;
mod edges;
mod engine;
mod image;
mod labels;
mod load;
mod story;
