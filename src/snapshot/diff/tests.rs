use std::path::Path;

use super::*;

const BASE: &str = "
listeners:
  web: {address: 127.0.0.1:8080}
  old: {address: [127.0.0.1:81, 127.0.0.1:82]}
routes:
- {name: api, match: {host: [a.test, b.test], path: /v1/*}, filters: [request_id, {headers: {request: {set: {x-a: '1'}}}}], upstream: app}
- {name: one, match: {path: /same}, respond: {body: one}}
- {name: two, match: {path: /same}, respond: {body: two}}
- {name: other, match: {path: /else}, respond: {status: 204}}
upstreams:
  app: {endpoints: ['127.0.0.1:9001', '127.0.0.1:9002'], sticky: {secret: '0123456789abcdef0123456789abcdef'}}
admin: {token: first-token}
";

fn loaded(text: &str, variable: &str) -> Loaded {
    let variables = |name: &str| (name == "V").then(|| variable.to_owned());
    let loaded = config::parse_str("x.yaml", text, Path::new("/"), &variables);
    assert!(loaded.is_ok(), "{}", config::render::human(loaded.document.sources(), &loaded.diagnostics, false));
    loaded
}

fn changes(old: &str, new: &str) -> Diff {
    diff(&loaded(old, "").spec.unwrap(), &loaded(new, "").spec.unwrap())
}

/// The diff after replacing a part of the text.
fn replacing(old: &str, new: &str) -> Diff {
    assert!(BASE.contains(old), "{old}");
    changes(BASE, &BASE.replace(old, new))
}

#[test]
fn what_means_the_same_is_no_change() {
    for (old, new) in [
        ("BASE", "BASE"),
        ("{address: 127.0.0.1:8080}", "{address: [127.0.0.1:8080], http: {header_timeout: 10000ms}, redirect_to_https: false}"),
        ("[127.0.0.1:81, 127.0.0.1:82]", "[127.0.0.1:82, 127.0.0.1:81]"),
        ("[a.test, b.test]", "[b.test, A.test]"),
        ("['127.0.0.1:9001', '127.0.0.1:9002']", "[{address: '127.0.0.1:9002', weight: 1}, '127.0.0.1:9001']"),
        ("app: {", "app: {strategy: weighted_round_robin, circuit_breaker: {failure_threshold: 5}, "),
        ("- {name: other, match: {path: /else}, respond: {status: 204}}\n", ""),
    ] {
        let text = BASE.replace(old, new);
        let text = if new.is_empty() {
            // The route elsewhere, where it makes no difference.
            text.replace("routes:\n", &format!("routes:\n{old}"))
        } else {
            text
        };
        let diff = changes(BASE, &text);
        assert!(diff.is_empty(), "{old} -> {new}: {diff}");
        assert_eq!((diff.summary(), diff.to_string()), ("nothing changes".into(), String::new()));
    }
}

#[test]
fn a_route_says_which_keys_are_different() {
    let diff = replacing("upstream: app}", "timeout: 5s, upstream: app}");
    assert_eq!(diff.to_string(), "routes\n  ~ api\n      timeout: 0s -> 5s\n");
    assert_eq!(diff.summary(), "1 route changed");
    let diff = replacing("x-a: '1'", "x-a: '2'");
    assert_eq!(diff.to_string(), "routes\n  ~ api\n      filters[headers].request.set.x-a: 1 -> 2\n");
    let diff = replacing("filters: [request_id, ", "filters: [");
    assert_eq!(diff.routes.changed[0].changes[0].path, "filters[request_id]");
    let diff = replacing(
        "[request_id, {headers: {request: {set: {x-a: '1'}}}}]",
        "[{headers: {request: {set: {x-a: '1'}}}}, request_id]",
    );
    let change = &diff.routes.changed[0].changes[0];
    assert_eq!((&*change.path, change.order), ("filters", true), "filters run in order");
    let diff = replacing("- {name: other, match: {path: /else}", "- {name: else, match: {path: /else}");
    assert_eq!((&*diff.routes.added[0].name, &*diff.routes.removed[0].name), ("else", "other"));
}

#[test]
fn the_order_of_routes_counts_where_it_decides() {
    let (one, two) = (
        "- {name: one, match: {path: /same}, respond: {body: one}}\n",
        "- {name: two, match: {path: /same}, respond: {body: two}}\n",
    );
    let diff = changes(BASE, &BASE.replace(two, "").replace(one, &format!("{two}{one}")));
    assert_eq!(diff.reordered, [Reordered { first: "two".into(), before: "one".into() }]);
    assert_eq!(diff.summary(), "1 pair of routes reordered");
    assert!(diff.routes.is_empty());
}

#[test]
fn endpoints_are_known_by_their_address() {
    let diff = replacing("['127.0.0.1:9001', '127.0.0.1:9002']", "['127.0.0.1:9003', {address: '127.0.0.1:9001', weight: 3}]");
    let text = diff.to_string();
    assert!(text.contains("endpoints[127.0.0.1:9001].weight: 1 -> 3"), "{text}");
    assert!(text.contains("- endpoints[127.0.0.1:9002]") && text.contains("+ endpoints[127.0.0.1:9003]"), "{text}");
    let diff = replacing("app: {", "app: {strategy: {consistent_hash: {key: path}}, ");
    assert!(diff.to_string().contains("strategy: round_robin -> {consistent_hash: "), "{diff}");
}

#[test]
fn addresses_that_close_are_named() {
    let diff = replacing("[127.0.0.1:81, 127.0.0.1:82]", "127.0.0.1:82");
    assert_eq!(diff.drained, [Drained { listener: "old".into(), address: "127.0.0.1:81".into(), moved_to: None }]);
    let diff = replacing("  old: {address: [127.0.0.1:81, 127.0.0.1:82]}", "  new: {address: 127.0.0.1:81}");
    assert_eq!(diff.drained.len(), 2);
    assert_eq!(diff.drained[0].moved_to.as_deref(), Some("new"));
    assert_eq!(diff.summary(), "1 listener added, 1 listener removed, connections of 2 addresses drained");
}

#[test]
fn the_process_needs_a_restart_and_logs_do_not() {
    let diff = changes(BASE, &format!("{BASE}server: {{threads: 3}}\nobservability: {{access_log: {{sample: 1%}}}}\n"));
    assert_eq!(
        diff.to_string(),
        "settings\n  observability.access_log.sample: 100% -> 1%\nneeds a restart\n  server.threads: auto -> 3\n"
    );
    assert_eq!(diff.restart[0].path, "server.threads");
    assert_eq!(diff.summary(), "1 setting changed, a restart needed for server.threads");
    let diff = changes(BASE, &BASE.replace("admin: {token: first-token}", "admin: off"));
    assert_eq!(diff.settings.len(), 1);
}

#[test]
fn secrets_are_told_apart_and_never_shown() {
    let diff = changes(BASE, &BASE.replace("first-token", "second-token").replace("0123456789abcdef", "fedcba9876543210"));
    let shown = format!("{diff} {diff:?} {}", serde_json::to_string(&diff).unwrap());
    assert!(
        !shown.contains("token:first") && !shown.contains("second") && !shown.contains("fedc") && !shown.contains("0123"),
        "{shown}"
    );
    assert_eq!(diff.settings[0].path, "admin.token");
    assert!(diff.settings[0].hidden);
    assert_eq!(diff.upstreams.changed[0].changes[0].path, "sticky.secret");
    let diff = changes(BASE, &BASE.replace("first-token", "''"));
    assert!(!diff.to_string().contains("first"), "{diff}");
    let diff = changes(
        BASE,
        &BASE.replace(
            "  app:",
            "  more: {endpoints: ['127.0.0.1:1'], sticky: {secret: 'ffffffffffffffffffffffffffffffffff'}}\n  app:",
        ),
    );
    assert!(!serde_json::to_string(&diff).unwrap().contains("ffff"));
}

#[test]
fn variables_are_compared_by_value_and_shown_as_written() {
    let text = BASE.replace("x-a: '1'", "x-a: '${V}'");
    let view = |text: &str, variable: &str| View::of_loaded(&loaded(text, variable)).unwrap();
    let diff = Diff::between(&view(&text, "sesame"), &view(&text, "open"));
    assert_eq!(diff.to_string(), "routes\n  ~ api\n      filters[headers].request.set.x-a: ${V} (another value, not shown)\n");
    assert!(!serde_json::to_string(&diff).unwrap().contains("open"));
    assert!(Diff::between(&view(BASE, ""), &view(&text, "1")).is_empty(), "the same value by another way");
}

#[test]
fn a_running_configuration_is_compared_by_how_it_is_written() {
    let text = BASE.replace("x-a: '1'", "x-a: '${V}'");
    let running = View::of_effective(&config::effective(&loaded(&text, "there"))).unwrap();
    let here = |text: &str| View::of_written(&loaded(text, "here")).unwrap();
    assert!(Diff::between(&running, &here(&text)).is_empty());
    assert_eq!(Diff::between(&running, &here(&text.replace("/else", "/other"))).summary(), "1 route changed");
    assert!(View::of_effective("just text").is_err());
    assert!(View::of_effective("{a: [").is_err());
}

#[test]
fn no_value_can_write_to_a_terminal() {
    let diff = replacing("{body: one}", "{body: \"\\e[2Jgone\\n\"}");
    assert!(!diff.to_string().contains('\u{1b}'), "{diff}");
    assert!(diff.to_string().contains("\\u{1b}[2Jgone\\n"), "{diff}");
}
