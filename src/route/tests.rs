//! Which route gets which request.

use serde_json::json;

use super::tests_support::{client, head, table};

#[test]
fn the_most_specific_route_wins() {
    let (table, _) = table(&[
        ("any", json!({})),
        ("v1", json!({"path": "/v1/*"})),
        ("v1-exact", json!({"path": "/v1"})),
        ("v1-a", json!({"path": "/v1/a/*"})),
    ]);
    for (path, name) in
        [("/", "any"), ("/v1", "v1-exact"), ("/v1/", "v1"), ("/v1/a", "v1-a"), ("/v1x", "any"), ("/v1/a/b", "v1-a")]
    {
        let client = client();
        assert_eq!(&*table.find(&head("GET", "h", path), &client).unwrap().route.name, name, "{path}");
    }
}
