//! A table of many routes.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use weir::{
    filter::Chains,
    route::{Route, RouteSpec, Table},
    types::Problems,
};

/// So many routes, `r0` and on, each with what it matches.
pub fn table(count: usize, matches: impl Fn(usize) -> Value) -> Table {
    let problems = Problems::default();
    let at = problems.root().key("routes");
    let routes = (0..count).map(|index| {
        let spec = json!({"name": format!("r{index}"), "match": matches(index), "respond": {"status": 204}});
        let spec: RouteSpec = serde_json::from_value(spec).expect("a route");
        Route::compile(index, &spec, &BTreeMap::new(), &Chains::default(), &at.index(index)).expect("compiles")
    });
    let table = Table::build(routes.collect::<Vec<Arc<Route>>>(), &at);
    assert!(problems.take().is_empty(), "no route shadows another");
    table
}
