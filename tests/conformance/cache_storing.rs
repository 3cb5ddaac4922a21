//! What a shared cache stores, and under which key (RFC 9111 sections 2, 3 and 4.1).

use crate::{
    cache_setup::{counting, counting_with, site, status},
    support::origin::{Answer, origin},
};

/// Asks twice; the number of requests that the origin got.
async fn asked(fields: &'static [(&'static str, &'static str)], options: &str, request: &[(&str, &str)]) -> usize {
    let site = site(counting(fields), options).await;
    site.gets(&[("/", request), ("/", request)]).await;
    site.origin.request_count()
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn rfc9111_3_what_says_that_it_is_fresh_is_stored() {
    for fields in [
        FRESH,
        &[("cache-control", "s-maxage=60")],
        &[("cache-control", "public, max-age=60")],
        &[("expires", "Thu, 01 Jan 2099 00:00:00 GMT")],
        &[("cache-control", "s-maxage=60, max-age=0")],
    ] {
        assert_eq!(asked(fields, "", &[]).await, 1, "{fields:?}");
    }
    assert_eq!(asked(&[], "ttl: 60s", &[]).await, 1);
}

#[tokio::test]
async fn rfc9111_3_what_forbids_it_or_says_nothing_is_not() {
    for fields in [
        &[][..],
        &[("cache-control", "no-store, max-age=60")],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "max-age=60, max-age=0")],
        &[("cache-control", "max-age=nonsense")],
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        &[("cache-control", "max-age=60"), ("vary", "accept, *")],
        &[("cache-control", "no-cache")],
        &[("expires", "0")],
        &[("expires", "Thu, 01 Jan 2015 00:00:00 GMT")],
    ] {
        assert_eq!(asked(fields, "", &[]).await, 2, "{fields:?}");
    }
    for fields in [&[("cache-control", "no-store")][..], &[("cache-control", "private")], &[("set-cookie", "a=b")]] {
        assert_eq!(asked(fields, "ttl: 60s", &[]).await, 2, "{fields:?} with a ttl");
    }
}

#[tokio::test]
async fn rfc9111_3_a_cookie_is_shared_only_when_that_is_wanted() {
    let fields: &[_] = &[("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    assert_eq!(asked(fields, "set_cookie: true", &[]).await, 1);
    let excluded: &[_] = &[("cache-control", "max-age=60, private=\"set-cookie\""), ("set-cookie", "a=b")];
    let site = site(counting(excluded), "").await;
    assert_eq!(site.get("/").await.header("set-cookie"), Some("a=b"), "for whom it was made");
    let second = site.get("/").await;
    assert_eq!((second.header("set-cookie"), second.text()), (None, "answer 1".to_owned()));
}

#[tokio::test]
async fn rfc9111_3_statuses() {
    for (status, ttl, stated) in [
        (200, 1, 1),
        (203, 1, 1),
        (301, 1, 1),
        (404, 1, 1),
        (410, 1, 1),
        (302, 2, 1),
        (403, 2, 1),
        (400, 2, 1),
        (500, 2, 2),
        (503, 2, 2),
        (206, 2, 2),
    ] {
        let with_ttl = site(counting_with(move |_| (status, vec![])), "ttl: 60s").await;
        with_ttl.gets(&[("/", &[]), ("/", &[])]).await;
        let without = site(counting_with(move |_| (status, FRESH.to_vec())), "").await;
        without.gets(&[("/", &[]), ("/", &[])]).await;
        assert_eq!((with_ttl.origin.request_count(), without.origin.request_count()), (ttl, stated), "{status}");
    }
}

#[tokio::test]
async fn rfc9111_3_1_fields_of_the_connection_and_excluded_ones_are_not_stored() {
    let raw = "HTTP/1.1 200 OK\r\ncache-control: max-age=60, no-cache=\"x-secret\"\r\nconnection: x-hop\r\nx-hop: 1\r\nx-secret: 1\r\nx-kept: 1\r\ncontent-length: 1\r\n\r\na";
    let site = site(origin().respond_raw(raw), "").await;
    site.get("/").await;
    let hit = site.get("/").await;
    assert!(status(&hit).starts_with("weir; hit"), "{hit:?}");
    assert_eq!((hit.header("x-hop"), hit.header("x-secret"), hit.header("x-kept")), (None, None, Some("1")));
    assert!(hit.header("date").is_some(), "a stored response has a date");
}

#[tokio::test]
async fn rfc9111_3_3_what_is_cut_is_not_stored() {
    let cut = Answer::raw("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf").close();
    let chunked =
        Answer::raw("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").close();
    for first in [cut, chunked] {
        let site = site(origin().answer(first).respond_headers(200, FRESH, "whole"), "").await;
        let mut client = site.edge.client().await;
        client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        assert!(client.try_read_response().await.is_err(), "cut, visibly");
        assert_eq!(site.get("/").await.text(), "whole");
        assert_eq!(site.get("/").await.text(), "whole");
        assert_eq!(site.origin.request_count(), 2);
    }
}

#[tokio::test]
async fn rfc9111_3_5_answers_to_who_identified_himself() {
    let authorization = &[("authorization", "Bearer secret")][..];
    assert_eq!(asked(FRESH, "", authorization).await, 2);
    for said in [
        &[("cache-control", "public, max-age=60")][..],
        &[("cache-control", "s-maxage=60")],
        &[("cache-control", "must-revalidate, max-age=60")],
    ] {
        assert_eq!(asked(said, "", authorization).await, 1, "{said:?}");
    }
    assert_eq!(asked(FRESH, "authorized: true", authorization).await, 1);
    // What strangers were sent is not for those who have a name, and the other way round.
    let site = site(counting(FRESH), "").await;
    let texts = site.gets(&[("/", &[]), ("/", authorization), ("/", authorization), ("/", &[])]).await;
    assert_eq!(texts, ["answer 1", "answer 2", "answer 3", "answer 1"]);
}

#[tokio::test]
async fn rfc9111_2_the_key_is_the_whole_url() {
    // RUSTSEC-2026-0035: a key without the host.
    let site = site(counting(FRESH), "").await;
    let texts = site
        .gets(&[
            ("/a", &[]),
            ("/a", &[("host", "other.example")]),
            ("/a", &[("host", "example.com:8080")]),
            ("/a?x", &[]),
            ("/a?", &[]),
            ("/b", &[]),
            ("/a", &[]),
        ])
        .await;
    let numbers: Vec<&str> = texts.iter().map(|text| &text["answer ".len()..]).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "1"]);
}

/// What is forwarded is the client's own spelling, and many a service knows only one. Its answer to another is nobody else's, or a
/// client could put a 404 in the place of every page.
#[tokio::test]
async fn rfc9111_2_what_is_spelled_in_another_way_is_answered_apart() {
    const SPELLINGS: [(&str, &str); 7] = [
        ("//a", "example.com"),
        ("/x/../a", "example.com"),
        ("/%61", "example.com"),
        ("/a", "EXAMPLE.com"),
        ("/a", "example.com."),
        ("/a", "example.com:80"),
        ("/a", "example.com:"),
    ];
    let known = |request: &crate::support::wire::RawRequest| {
        let found = request.target == "/a" && request.header("host") == Some("example.com");
        (if found { 200 } else { 404 }, FRESH.to_vec())
    };
    let site = site(counting_with(known), "").await;
    for (path, host) in SPELLINGS {
        assert_eq!(site.ask("GET", path, &[("host", host)]).await.status, 404, "{path} of {host}");
    }
    assert_eq!(site.get("/a").await.status, 200);
    for (path, host) in SPELLINGS {
        let again = site.ask("GET", path, &[("host", host)]).await;
        assert!(again.status == 404 && status(&again).starts_with("weir; hit"), "{path} of {host}");
    }
    assert_eq!(site.origin.request_count(), SPELLINGS.len() + 1);
    // They are answers to one URL all the same, and go together.
    assert_eq!(site.ask("POST", "/a", &[]).await.status, 200);
    for (path, host) in SPELLINGS {
        let after = site.ask("GET", path, &[("host", host)]).await;
        assert!(status(&after).starts_with("weir; fwd=uri-miss"), "{path} of {host}: {}", status(&after));
    }
}

#[tokio::test]
async fn rfc9111_2_what_a_rewrite_makes_of_a_spelling_is_one_answer() {
    let origin = counting(FRESH).spawn().await;
    let filters =
        "upstream: app\nfilters: [{rewrite: {add_prefix: /v1}}, {headers: {request: {set: {host: inside}}}}, {cache: {}}]";
    let edge = crate::support::edge::edge().upstream("app", &[origin.addr()]).route("all", filters).start().await;
    let mut client = edge.client().await;
    for (path, host) in [("/a", "example.com"), ("//a", "EXAMPLE.com"), ("/%61", "example.com.")] {
        let response = crate::cache_setup::ask(&mut client, "GET", path, &[("host", host)]).await;
        assert_eq!(response.text(), "answer 1", "{path} of {host}");
    }
    assert_eq!(origin.next_request().await.target, "/v1/a");
}

#[tokio::test]
async fn rfc9111_2_parameters_that_do_not_count() {
    let site = site(counting(FRESH), "ignore_query: [utm_*, ref]").await;
    let texts = site.gets(&[("/?a=1&utm_source=x", &[]), ("/?ref=y&a=1", &[]), ("/?a=2", &[]), ("/?refs=1&a=1", &[])]).await;
    assert_eq!(texts, ["answer 1", "answer 1", "answer 2", "answer 3"]);
    let first = site.origin.next_request().await;
    assert_eq!(first.target, "/?a=1&utm_source=x", "what is forwarded is what was asked for");
    // A service that ends parameters at `;` reads `a=2` here, which must not become the answer to `a=1`.
    let hidden = site.gets(&[("/?a=1&utm_source=x;a=2", &[]), ("/?a=1&ref;a=2", &[]), ("/?a=1", &[])]).await;
    assert_eq!(hidden, ["answer 4", "answer 5", "answer 1"]);
}

#[tokio::test]
async fn rfc9111_4_1_what_varies_is_told_apart() {
    let vary: &[_] = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
    let site = site(counting(vary), "").await;
    let (de, en) = (&[("accept-language", "de")][..], &[("accept-language", "en")][..]);
    let texts = site.gets(&[("/", de), ("/", en), ("/", &[]), ("/", de), ("/", en), ("/", &[])]).await;
    assert_eq!(texts, ["answer 1", "answer 2", "answer 3", "answer 1", "answer 2", "answer 3"]);
    let fourth = site.ask("GET", "/", &[("accept-language", "fr")]).await;
    assert_eq!(status(&fourth), "weir; fwd=vary-miss; stored");
    let excluded: &[_] = &[("cache-control", "max-age=60, no-cache=\"vary\""), ("vary", "accept-language")];
    let site = crate::cache_setup::site(counting(excluded), "").await;
    assert_eq!(site.gets(&[("/", de), ("/", en)]).await, ["answer 1", "answer 2"], "that field cannot be left out");
}

#[tokio::test]
async fn rfc9111_4_1_a_url_that_begins_to_vary_is_not_answered_by_what_did_not() {
    let say = |request: &crate::support::wire::RawRequest| {
        let varies = request.header("accept-language").is_some();
        (
            200,
            if varies {
                vec![("cache-control", "max-age=60"), ("vary", "accept-language")]
            } else {
                vec![("cache-control", "max-age=60"), ("age", "100"), ("etag", "\"1\"")]
            },
        )
    };
    let site = site(counting_with(say), "").await;
    let de = &[("accept-language", "de")][..];
    let en = &[("accept-language", "en")][..];
    assert_eq!(site.gets(&[("/", &[]), ("/", de), ("/", de), ("/", en)]).await, ["answer 1", "answer 2", "answer 2", "answer 3"]);
}

#[tokio::test]
async fn rfc9111_3_other_methods_and_bodies_go_past() {
    let site = site(counting(FRESH), "").await;
    assert_eq!(site.get("/").await.text(), "answer 1");
    let options = site.ask("OPTIONS", "/", &[]).await;
    assert_eq!((options.text().as_str(), status(&options)), ("answer 2", "weir; fwd=method; detail=method"));
    // CVE-2025-4366: a body that stayed unread on a hit was taken for the next request.
    let mut client = site.edge.client().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: example.com\r\n\r\n";
    client.send(format!("GET / HTTP/1.1\r\nhost: example.com\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len())).await;
    let answer = client.read_response().await;
    assert_eq!((answer.text().as_str(), status(&answer)), ("answer 3", "weir; fwd=bypass; detail=request_body"));
    assert_eq!(client.get("example.com", "/").await.text(), "answer 1");
    assert!(site.origin.requests().iter().all(|request| request.target != "/smuggled"));
}
