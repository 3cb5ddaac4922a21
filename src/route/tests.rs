//! Which route gets which request.

use http::HeaderMap;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    PathPattern, Route, Table,
    tests_support::{client, compile, head, table},
    why_not,
};
use crate::types::{Client, Code, HostPattern, Problem, RequestHead};

fn find<'a>(table: &'a Table, head: &RequestHead<'a>) -> Option<&'a str> {
    table.find(head, &client()).map(|found| found.route.name.as_str())
}

#[test]
fn the_more_specific_path_wins() {
    let (table, _) = table(&[
        ("any", json!({})),
        ("regex", json!({"path_regex": "^/(v1x|re)"})),
        ("v1", json!({"path": "/v1/*"})),
        ("v1-exact", json!({"path": "/v1"})),
        ("v1-a", json!({"path": "/v1/a/*"})),
        ("slash", json!({"path": "/v1/a/"})),
    ]);
    for (path, name, tail) in [
        ("/", "any", "/"),
        ("/v1", "v1-exact", "/v1"),
        ("/v1/", "v1", "/"),
        ("/v1/b", "v1", "/b"),
        ("/v1/a", "v1-a", ""),
        ("/v1/a/", "slash", "/v1/a/"),
        ("/v1/a/b", "v1-a", "/b"),
        ("/v1/ab", "v1", "/ab"),
        ("/v1x", "regex", "/v1x"),
        ("/V1", "any", "/V1"),
        ("/re", "regex", "/re"),
    ] {
        let client = client();
        let found = table.find(&head("GET", "h", path), &client).unwrap();
        assert_eq!((found.route.name.as_str(), found.tail), (name, tail), "{path}");
    }
}

#[test]
fn the_more_specific_host_wins_whatever_the_path() {
    let (table, _) = table(&[
        ("any", json!({"path": "/exact"})),
        ("wild", json!({"host": "*.example.com", "path": "/exact"})),
        ("deep", json!({"host": "*.b.example.com"})),
        ("exact", json!({"host": ["a.b.example.com", "EXAMPLE.com"], "path": "/v1/*"})),
    ]);
    for (host, path, name) in [
        ("a.b.example.com", "/v1", Some("exact")),
        ("example.com", "/v1", Some("exact")),
        ("example.com", "/exact", Some("any")),
        ("x.b.example.com", "/exact", Some("deep")),
        ("b.example.com", "/exact", Some("wild")),
        ("b.example.com", "/other", None),
        ("other.org", "/exact", Some("any")),
        (".example.com", "/exact", Some("any")),
        ("badexample.com", "/exact", Some("any")),
    ] {
        assert_eq!(find(&table, &head("GET", host, path)), name, "{host}{path}");
    }
}

#[test]
fn a_request_falls_back_to_less_specific_paths_and_hosts() {
    let (table, _) = table(&[
        ("exact-post", json!({"host": "a.example.com", "path": "/v1/x", "method": "POST"})),
        ("prefix-put", json!({"host": "a.example.com", "path": "/v1/*", "method": "PUT"})),
        ("root-patch", json!({"host": "a.example.com", "method": "PATCH"})),
        ("wild-get", json!({"host": "*.example.com", "path": "/v1/*", "method": "GET"})),
        ("any", json!({})),
    ]);
    for (method, name) in
        [("POST", "exact-post"), ("PUT", "prefix-put"), ("PATCH", "root-patch"), ("GET", "wild-get"), ("DELETE", "any")]
    {
        assert_eq!(find(&table, &head(method, "a.example.com", "/v1/x")), Some(name), "{method}");
    }
}

#[test]
fn of_equal_paths_the_one_with_more_conditions_wins() {
    let (table, problems) = table(&[
        ("plain", json!({})),
        ("listener", json!({"listener": "web"})),
        ("client", json!({"client_ip": "192.0.2.0/24", "listener": "web"})),
        ("query", json!({"query": {"a": "1"}})),
        ("two-headers", json!({"headers": {"x-a": "1", "x-b": {"present": true}}})),
        ("header", json!({"headers": {"x-a": "1"}, "query": {"a": "1", "b": "1"}})),
        ("method", json!({"method": "POST"})),
    ]);
    assert_eq!(problems, []);
    let mut fields = HeaderMap::new();
    let names = |method, query, fields: &HeaderMap| {
        find(&table, &RequestHead { method, query, fields, ..head("GET", "h", "/") }).unwrap().to_owned()
    };
    assert_eq!(names("GET", None, &fields), "client");
    assert_eq!(names("GET", Some("a=1"), &fields), "query");
    fields.insert("x-a", "1".parse().unwrap());
    assert_eq!(names("GET", Some("a=1&b=1"), &fields), "header");
    fields.insert("x-b", "2".parse().unwrap());
    assert_eq!(names("GET", Some("a=1&b=1"), &fields), "two-headers");
    assert_eq!(names("POST", Some("a=1&b=1"), &fields), "method");
    let elsewhere = Client { ip: "198.51.100.1".parse().unwrap(), listener: "edge".parse().unwrap(), ..client() };
    assert_eq!(table.find(&head("GET", "h", "/"), &elsewhere).unwrap().route.name.as_str(), "plain");
}

#[test]
fn of_equal_conditions_the_first_in_the_file_wins() {
    let (table, problems) = table(&[("first", json!({"path": "/a"})), ("second", json!({"path": "/a"}))]);
    assert_eq!(find(&table, &head("GET", "h", "/a")), Some("first"));
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((problem.code, problem.path.to_string()), (Code::Shadowed, "routes[1].name".into()));
    assert_eq!(problem.also.as_ref().unwrap().0.to_string(), "routes[0].name");
    assert_eq!(table.routes().iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn routes_that_never_match_are_named_and_others_are_not() {
    let shadowed = |first: Value, second: Value| {
        let (_, problems) = table(&[("first", first), ("second", second)]);
        problems.iter().map(|problem| problem.path.to_string()).collect::<Vec<_>>().join(" ")
    };
    for (first, second, want) in [
        (json!({}), json!({"path": "/*"}), "routes[1].name"),
        (json!({"host": "*"}), json!({}), "routes[1].name"),
        (json!({"method": ["GET", "POST"]}), json!({"method": "POST"}), "routes[1].name"),
        (json!({"method": "POST"}), json!({"method": ["GET", "POST"]}), ""),
        (json!({"host": ["a", "b"]}), json!({"host": "b"}), "routes[1].name"),
        (json!({"host": "b"}), json!({"host": ["a", "b"]}), ""),
        (json!({"host": "*.a"}), json!({"host": "b.a"}), ""),
        (json!({"path_regex": "a"}), json!({"path_regex": "a"}), "routes[1].name"),
        (json!({"path_regex": "a"}), json!({"path_regex": "b"}), ""),
        (json!({"path_regex": "^/v1/a"}), json!({"path": "/v1/*"}), "routes[0].name"),
        (json!({"path_regex": "^/v1/?a"}), json!({"path": "/v1/*"}), ""),
        (json!({"path_regex": "^/v1/a|b"}), json!({"path": "/v1/*"}), ""),
        (json!({"path_regex": "^/v1x"}), json!({"path": "/v1/*"}), ""),
        (json!({"path_regex": "^/v1/a"}), json!({"path": "/v1/*", "method": "GET"}), ""),
        (json!({"path_regex": "^/v1/a"}), json!({"path": "/*"}), ""),
        (json!({"headers": {"x": "1"}}), json!({"headers": {"x": "1"}}), "routes[1].name"),
        (json!({"headers": {"x": "1"}}), json!({"headers": {"x": "2"}}), ""),
        (json!({"listener": "a"}), json!({"listener": "b"}), ""),
    ] {
        assert_eq!(shadowed(first.clone(), second.clone()), want, "{first} {second}");
    }
}

#[test]
fn the_mistakes_in_a_route_are_all_named() {
    let messages = |route: Value| {
        let (table, problems) = compile(json!([route]));
        assert!(table.is_none(), "{route} was accepted");
        problems.iter().map(|Problem { code, path, .. }| format!("{} {path}", code.as_str())).collect::<Vec<_>>().join(", ")
    };
    for (route, want) in [
        (json!({"name": "x", "upstream": "app", "match": {"path": "v1"}}), "E0103 routes[0].match.path"),
        (json!({"name": "x", "upstream": "app", "match": {"path": "/", "path_regex": "/"}}), "E0204 routes[0].match.path_regex"),
        (json!({"name": "x", "upstream": "app", "match": {"method": "get"}}), "E0103 routes[0].match.method"),
        (json!({"name": "x", "upstream": "app", "match": {"method": ["GET", "TRACE"]}}), "E0103 routes[0].match.method[1]"),
        (json!({"name": "x", "upstream": "app", "match": {"headers": {"a b": "x"}}}), "E0103 routes[0].match.headers.a b"),
        (json!({"name": "x", "upstream": "app", "match": {"headers": {"Host": "x"}}}), "E0103 routes[0].match.headers.Host"),
        (json!({"name": "x"}), "E0105 routes[0]"),
        (json!({"name": "x", "upstream": "app", "respond": {}}), "E0204 routes[0].respond"),
        (json!({"name": "x", "redirect": {"to": "{hots}"}}), "E0103 routes[0].redirect.to"),
        (json!({"name": "x", "respond": {"status": 700}}), "E0103 routes[0].respond.status"),
        (json!({"name": "x", "upstream": "app", "filters": [{"ip_access": {}}]}), "E0105 routes[0].filters[0].ip_access"),
        (json!({"name": "x", "upstream": "undeclared"}), ""),
        (
            json!({"name": "x", "match": {"path": "a", "method": "B b"}, "filters": [{"headers": {}}], "respond": {"status": 1}}),
            "E0103 routes[0].match.path, E0103 routes[0].match.method, E0105 routes[0].filters[0].headers, E0103 routes[0].respond.status",
        ),
    ] {
        assert_eq!(messages(route.clone()), want, "{route}");
    }
}

#[test]
fn a_miss_is_explained_in_words() {
    let (table, _) = table(&[(
        "r",
        json!({"host": "a", "path": "/v1/*", "method": ["GET", "POST"], "headers": {"x-a": {"regex": "^1"}}, "query": {"q": "1"},
               "client_ip": "10.0.0.0/8", "listener": "edge"}),
    )]);
    let route = &table.routes()[0];
    let mut fields = HeaderMap::new();
    let mut client = client();
    let why = |head: &RequestHead<'_>, client: &Client| why_not(route, head, client).map(|miss| miss.to_string());
    let is = |said: Option<String>, want: &str| assert_eq!(said.as_deref(), Some(want));
    is(why(&head("GET", "b", "/v1"), &client), "the host is another");
    is(why(&head("GET", "a", "/"), &client), "the path is not `/v1/*`");
    is(why(&head("PUT", "a", "/v1"), &client), "the method is not GET or POST");
    is(why(&head("GET", "a", "/v1"), &client), "no header field `x-a` with a value matching `^1`");
    fields.insert("x-a", "12".parse().unwrap());
    let with_fields = RequestHead { fields: &fields, ..head("GET", "a", "/v1") };
    is(why(&with_fields, &client), "no query parameter `q` with the value `1`");
    let with_query = RequestHead { query: Some("q=1"), ..with_fields };
    is(why(&with_query, &client), "the client's address is in none of the ranges of `client_ip`");
    client.ip = "10.1.1.1".parse().unwrap();
    is(why(&with_query, &client), "the connection did not come in by listener edge");
    client.listener = "edge".parse().unwrap();
    assert_eq!(why(&with_query, &client), None);
}

/// What [`Table::find`] must agree with: every route is looked at, and the least of those that match wins.
fn reference<'t>(table: &'t Table, head: &RequestHead<'_>, client: &Client) -> Option<&'t str> {
    let host_rank = |route: &Route| {
        let patterns = route.hosts.iter().filter(|host| host.matches(head.host)).map(|host| match host {
            HostPattern::Exact(_) => (0, 0),
            HostPattern::Suffix(suffix) => (1, usize::MAX - suffix.len()),
            HostPattern::Any => (2, 0),
        });
        patterns.min().unwrap_or((2, 0))
    };
    let path_rank = |route: &Route| match &route.path {
        PathPattern::Exact(_) => (0, 0),
        PathPattern::Prefix(prefix) => (1, usize::MAX - prefix.len()),
        PathPattern::Regex(_) => (2, 0),
        PathPattern::Any => (3, 0),
    };
    table
        .routes()
        .iter()
        .filter(|route| why_not(route, head, client).is_none())
        .min_by_key(|route| (host_rank(route), path_rank(route), route.predicates.rank(route.index)))
        .map(|route| route.name.as_str())
}

const HOSTS: [&str; 7] = ["a.example", "b.a.example", "c.b.a.example", "*.a.example", "*.b.a.example", "*.example", "*"];

/// Few different words, so that routes meet and requests hit.
fn a_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&["a", "b", "ab", "v1"][..]), 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn a_match() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        3 => a_path().prop_map(|path| json!({"path": path})),
        4 => a_path().prop_map(|path| json!({"path": format!("{}/*", path.trim_end_matches('/'))})),
        1 => a_path().prop_map(|path| json!({"path": format!("{}/", path.trim_end_matches('/'))})),
        1 => select(&["a$", "^/b", "^/b/a", "v1/a", "/ab/"][..]).prop_map(|regex| json!({"path_regex": regex})),
        1 => Just(json!({})),
    ];
    let hosts = proptest::collection::vec(select(&HOSTS[..]), 0..3);
    let method = proptest::option::weighted(0.3, select(&["GET", "POST"][..]));
    let header = proptest::option::weighted(0.3, select(&["1", "2"][..]));
    let query = proptest::option::weighted(0.2, select(&["1", "2"][..]));
    let listener = proptest::option::weighted(0.1, select(&["web", "edge"][..]));
    (path, hosts, method, header, query, listener).prop_map(|(mut spec, hosts, method, header, query, listener)| {
        spec["host"] = json!(hosts);
        for (key, value) in [
            ("method", method.map(Value::from)),
            ("headers", header.map(|value| json!({"x-a": value}))),
            ("query", query.map(|value| json!({"q": value}))),
            ("listener", listener.map(Value::from)),
        ] {
            if let Some(value) = value {
                spec[key] = value;
            }
        }
        spec
    })
}

/// Host, path with maybe a slash at its end, method, header, query.
type Request = (&'static str, String, &'static str, &'static str, Option<&'static str>);

fn a_request() -> impl Strategy<Value = Request> {
    let host = select(&["a.example", "b.a.example", "c.b.a.example", "x.example", "other", "x.b.a.example"][..]);
    let path = (a_path(), any::<bool>()).prop_map(|(path, slash)| match slash && path != "/" {
        true => path + "/",
        false => path,
    });
    (
        host,
        path,
        select(&["GET", "POST", "PUT"][..]),
        select(&["1", "2", "3"][..]),
        proptest::option::of(select(&["q=1", "q=2&q=1"][..])),
    )
}

fn agree(table: &Table, requests: &[Request]) -> Result<(), TestCaseError> {
    for (host, path, method, header, query) in requests {
        let mut fields = HeaderMap::new();
        fields.insert("x-a", header.parse().unwrap());
        let head = RequestHead { method, host, path, query: *query, fields: &fields };
        prop_assert_eq!(find(table, &head), reference(table, &head, &client()), "{} {}{} {:?}", method, host, path, query);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_table_agrees_with_looking_at_every_route(
        routes in proptest::collection::vec(a_match(), 0..40),
        requests in proptest::collection::vec(a_request(), 40),
    ) {
        let names: Vec<String> = (0..routes.len()).map(|index| format!("r{index}")).collect();
        let routes: Vec<_> = names.iter().map(String::as_str).zip(routes).collect();
        agree(&table(&routes).0, &requests)?;
    }

    #[test]
    fn a_route_reported_as_shadowed_never_matches(
        routes in proptest::collection::vec(a_match(), 0..40),
        requests in proptest::collection::vec(a_request(), 40),
    ) {
        let names: Vec<String> = (0..routes.len()).map(|index| format!("r{index}")).collect();
        let routes: Vec<_> = names.iter().map(String::as_str).zip(routes).collect();
        let (table, problems) = table(&routes);
        for (host, path, method, header, query) in &requests {
            let mut fields = HeaderMap::new();
            fields.insert("x-a", header.parse().unwrap());
            let head = RequestHead { method, host, path, query: *query, fields: &fields };
            let client = client();
            if let Some(found) = table.find(&head, &client) {
                let place = format!("routes[{}].name", found.route.index);
                prop_assert!(problems.iter().all(|problem| problem.path.to_string() != place), "{place} matched");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn ten_thousand_routes_agree_too(
        routes in proptest::collection::vec(a_match(), 10_000),
        requests in proptest::collection::vec(a_request(), 50),
    ) {
        let names: Vec<String> = (0..routes.len()).map(|index| format!("r{index}")).collect();
        let routes: Vec<_> = names.iter().map(String::as_str).zip(routes).collect();
        agree(&table(&routes).0, &requests)?;
    }
}
