//! What is compressed and what is left alone.

use http::HeaderMap;

use crate::filter::{
    Chain,
    tests_support::{Exchange, compile, refused},
};

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const LONG: (&str, &str) = ("content-length", "5000");

/// The head of a response as a client that sent these fields gets it.
fn sent(chain: &Chain, request: &[(&'static str, &str)], status: u16, response: &[(&'static str, &str)]) -> HeaderMap {
    let mut exchange = Exchange::default();
    request.iter().for_each(|(name, value)| exchange.set(name, value));
    exchange.request(chain).unwrap();
    exchange.response_with(chain, status, response)
}

fn get<'h>(head: &'h HeaderMap, name: &str) -> &'h str {
    head.get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_fields_speak_of_what_is_sent() {
    let chain = compile(r#"[{"compress": {}}]"#);
    let own = [HTML, LONG, ("etag", "\"a\""), ("accept-ranges", "bytes"), ("repr-digest", "x"), ("vary", "origin")];
    let head = sent(&chain, &[("accept-encoding", "gzip, br")], 200, &own);
    assert_eq!((get(&head, "content-encoding"), get(&head, "etag")), ("br", "W/\"a\""));
    let varies: Vec<_> = head.get_all("vary").iter().collect();
    assert_eq!(varies, ["origin", "accept-encoding"]);
    for gone in ["content-length", "accept-ranges", "repr-digest"] {
        assert!(!head.contains_key(gone), "{gone}");
    }
    let head = sent(&chain, &[], 200, &own);
    assert_eq!((get(&head, "content-encoding"), get(&head, "etag"), get(&head, "content-length")), ("", "\"a\"", "5000"));
    assert_eq!(head.get_all("vary").iter().count(), 2, "it could have been");
    for known in ["*", "cookie, Accept-Encoding"] {
        let head = sent(&chain, &[], 200, &[HTML, ("vary", known)]);
        assert_eq!(head.get_all("vary").iter().count(), 1, "{known}");
    }
}

#[test]
fn what_is_left_alone() {
    let chain = compile(r#"[{"compress": {}}]"#);
    let takes = [("accept-encoding", "zstd")];
    for (status, head, varies) in [
        (200, &[HTML, ("content-length", "1023")][..], true),
        (200, &[HTML, ("content-length", "0")], true),
        (206, &[HTML, LONG, ("content-range", "bytes 0-4999/9000")], true),
        (204, &[HTML], false),
        (200, &[LONG], false),
        (200, &[LONG, ("content-type", "image/png")], false),
        (200, &[LONG, ("content-type", "Text/Event-Stream; charset=utf-8")], false),
        (200, &[LONG, ("content-type", "application/grpc+json")], false),
        (200, &[HTML, LONG, ("content-encoding", "br")], false),
        (200, &[HTML, LONG, ("cache-control", "public, No-Transform")], false),
        (200, &[HTML, ("trailer", "x-sum")], false),
    ] {
        let sent = sent(&chain, &takes, status, head);
        let own = head.iter().find(|(name, _)| *name == "content-encoding").map_or("", |(_, value)| value);
        assert_eq!((get(&sent, "content-encoding"), sent.contains_key("vary")), (own, varies), "{status} {head:?}");
    }
    for head in [&[HTML, LONG][..], &[HTML], &[HTML, ("content-length", "1024")]] {
        assert_eq!(get(&sent(&chain, &takes, 200, head), "content-encoding"), "zstd", "{head:?}");
        assert_eq!(get(&sent(&chain, &takes, 404, head), "content-encoding"), "zstd", "errors, too: {head:?}");
    }
    let told = [takes[0], ("cache-control", "no-transform")];
    assert_eq!(get(&sent(&chain, &told, 200, &[HTML]), "content-encoding"), "");
    let short = [HTML, ("content-length", "3")];
    let must = [("accept-encoding", "identity;q=0, gzip")];
    assert_eq!(get(&sent(&chain, &must, 200, &short), "content-encoding"), "gzip", "plain bytes are refused");
}

#[test]
fn what_has_not_changed_has_the_tag_that_was_told() {
    let chain = compile(r#"[{"compress": {}}]"#);
    let head = sent(&chain, &[("accept-encoding", "br")], 304, &[("etag", "\"a\"")]);
    assert_eq!((get(&head, "etag"), get(&head, "vary"), get(&head, "content-encoding")), ("W/\"a\"", "accept-encoding", ""));
    let head = sent(&chain, &[], 304, &[("etag", "\"a\"")]);
    assert_eq!(get(&head, "etag"), "\"a\"");
}

#[test]
fn parts_of_what_may_be_encoded_are_not_asked_for() {
    let chain = compile(r#"[{"compress": {}}]"#);
    for (tag, stays) in
        [(None, true), (Some("\"strong\""), true), (Some("W/\"weak\""), false), (Some("Tue, 01 Oct 2024 12:00:00 GMT"), false)]
    {
        let mut exchange = Exchange::default();
        exchange.set("range", "bytes=5-");
        tag.into_iter().for_each(|tag| exchange.set("if-range", tag));
        exchange.request(&chain).unwrap();
        assert_eq!((exchange.get("range").is_some(), exchange.get("if-range").is_some()), (stays, stays && tag.is_some()));
    }
}

#[test]
fn a_list_of_ones_own_counts() {
    let chain = compile(r#"[{"compress": {"algorithms": ["gzip", "br"], "types": "image/bmp", "min_size": "10B"}}]"#);
    let takes = [("accept-encoding", "zstd, br, gzip")];
    let head = sent(&chain, &takes, 200, &[("content-type", "image/bmp"), ("content-length", "10")]);
    assert_eq!(get(&head, "content-encoding"), "gzip");
    assert_eq!(get(&sent(&chain, &takes, 200, &[HTML]), "content-encoding"), "");
}

#[test]
fn mistakes_are_named() {
    for (options, word) in [
        (r#"{"algorithms": []}"#, "no algorithm"),
        (r#"{"algorithms": ["br", "gzip", "br"]}"#, "`br` is in the list already"),
        (r#"{"types": []}"#, "no media type"),
        (r#"{"level": {"zstd": 7}}"#, "7 is no level of `zstd`"),
        (r#"{"level": {"gzip": 0}}"#, "0 is no level of `gzip`"),
        (r#"{"algorithms": "gzip", "level": {"br": 4}}"#, "`br` is none of the algorithms"),
    ] {
        let problems = refused(&format!(r#"[{{"compress": {options}}}]"#));
        assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
    }
}
