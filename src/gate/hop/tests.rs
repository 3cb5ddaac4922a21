use super::*;

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields
}

fn names(fields: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn rfc9110_7_6_1_the_connections_own_fields_end_here() {
    let mut request = fields(&[
        ("host", "a"),
        ("connection", "keep-alive, X-Hop, x-absent, bad name"),
        ("connection", "x-second"),
        ("x-hop", "1"),
        ("x-second", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("proxy", "evil:80"),
        ("te", "gzip"),
        ("trailer", "x-sum"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAA"),
        ("accept", "*/*"),
    ]);
    strip_request(&mut request, Onward::default());
    assert_eq!(names(&request), ["accept", "host"]);
}

#[test]
fn rfc9110_7_6_1_connection_takes_nothing_that_is_for_everyone() {
    let protected = [
        "host",
        "authorization",
        "cookie",
        "content-length",
        "transfer-encoding",
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
        "x-client-cert",
        "cache-control",
        "content-type",
        "via",
        "max-forwards",
        "expect",
        "if-match",
        "range",
        "origin",
        "x-request-id",
    ];
    let mut request = HeaderMap::new();
    request.insert("connection", HeaderValue::from_str(&protected.join(", ")).unwrap());
    for name in protected {
        request.insert(name, HeaderValue::from_static("1"));
    }
    strip_request(&mut request, Onward::default());
    for name in protected {
        assert!(request.contains_key(name), "{name}");
    }
    assert!(!request.contains_key("connection"));
}

#[test]
fn rfc9110_10_1_4_te_goes_on_as_trailers_only() {
    for (te, onward) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false), ("trailers;q=0.5", false)] {
        let mut request = HeaderMap::new();
        request.insert(TE, HeaderValue::from_static(te));
        strip_request(&mut request, Onward::default());
        assert_eq!(request.get(TE).map(HeaderValue::as_bytes), onward.then_some(&b"trailers"[..]), "{te}");
    }
}

#[test]
fn rfc9110_6_6_2_trailer_announces_only_what_comes() {
    let mut response = fields(&[("trailer", "grpc-status")]);
    strip_response(&mut response, Onward { trailers: true, ..Onward::default() });
    assert!(response.contains_key("trailer"));
    strip_response(&mut response, Onward::default());
    assert!(response.is_empty());
}

#[test]
fn rfc9110_7_8_an_upgrade_is_asked_for_by_us() {
    let mut request = fields(&[
        ("connection", "keep-alive, Upgrade, sec-websocket-key"),
        ("upgrade", "foo, websocket"),
        ("sec-websocket-key", "x"),
    ]);
    strip_request(&mut request, Onward { upgrade: Some(Upgrade::Websocket), trailers: false });
    assert_eq!(request["connection"], "upgrade");
    assert_eq!(request["upgrade"], "websocket");
    assert!(request.contains_key("sec-websocket-key"));
}

#[test]
fn responses_keep_no_challenge_of_a_proxy() {
    let mut response =
        fields(&[("proxy-authenticate", "Basic"), ("connection", "close, set-cookie"), ("set-cookie", "a=b"), ("age", "1")]);
    strip_response(&mut response, Onward::default());
    assert_eq!(names(&response), ["age", "set-cookie"]);
}

/// Clients read a name as what it is.
#[test]
fn rfc9110_7_6_1_responses_lose_the_fields_of_their_connection_alone() {
    let mut response = fields(&[
        ("x_und", "1"),
        ("x.forwarded.for", "1"),
        ("x_forwarded_for", "1"),
        ("x-forwarded-for", "1"),
        ("x-hop", "1"),
        ("connection", "x-hop"),
        ("keep-alive", "timeout=5"),
    ]);
    strip_response(&mut response, Onward::default());
    assert_eq!(names(&response), ["x-forwarded-for", "x.forwarded.for", "x_forwarded_for", "x_und"]);
}

#[test]
fn rfc9110_7_6_2_max_forwards_counts_down() {
    assert_eq!(max_forwards(None), MaxForwards::Unbounded);
    assert_eq!(max_forwards(Some(0)), MaxForwards::Answer);
    assert_eq!(max_forwards(Some(7)), MaxForwards::Forward(6));
}

#[test]
fn rfc9113_8_2_3_cookies_become_one_line() {
    let mut request = fields(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
    join_cookies(&mut request).unwrap();
    assert_eq!(request.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    let mut none = HeaderMap::new();
    join_cookies(&mut none).unwrap();
    assert!(none.is_empty());
}
