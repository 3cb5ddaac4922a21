//! What is counted. To add a scene, write a function that prepares it and returns one round of it, and give it a line here.

mod edge;
mod parts;

/// One round of a scene: one look-up, one line, one exchange.
pub type Round = Box<dyn FnMut()>;

/// Prepares a scene.
pub type Scene = fn() -> Round;

/// Every scene, under a name that can be one of a file.
pub const SCENES: &[(&str, Scene)] = &[
    ("gate", parts::gate),
    ("route-host", parts::route_host),
    ("route-predicates", parts::route_predicates),
    ("select-round_robin", || parts::select("round_robin")),
    ("select-least_connections", || parts::select("least_connections")),
    ("select-peak_ewma", || parts::select("peak_ewma")),
    ("select-consistent_hash", || parts::select("consistent_hash")),
    ("filters-none", parts::filters_none),
    ("filters-common", parts::filters_common),
    ("log-json", parts::log_json),
    ("metrics", parts::metrics),
    ("h1", edge::h1),
    ("h1-common", edge::h1_common),
    ("h1-upload", edge::h1_upload),
    ("h1-answer", edge::h1_answer),
    ("h1-hit", edge::h1_hit),
    ("h1-pingora", edge::h1_pingora),
    ("h2", edge::h2),
    ("h2-answer", edge::h2_answer),
];
