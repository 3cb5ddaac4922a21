//! How stored responses are used, validated and invalidated (RFC 9111 sections 4 and 5, RFC 5861, RFC 9211).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{
    cache_setup::{ask, counting, counting_with, site, status},
    support::origin::{Answer, origin},
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];
/// Stale when it comes: older than it may be.
const STALE: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("age", "100"), ("etag", "\"one\"")];

#[tokio::test]
async fn rfc9211_2_the_cache_says_what_it_did() {
    let site = site(counting(&[("cache-control", "max-age=60"), ("cache-status", "inner; hit")]), "").await;
    let first = site.get("/").await;
    assert_eq!(first.headers.all("cache-status"), ["inner; hit", "weir; fwd=uri-miss; stored"]);
    let second = site.get("/").await;
    assert_eq!(second.headers.all("cache-status")[0], "inner; hit");
    let ttl: u64 = second.headers.all("cache-status")[1].strip_prefix("weir; hit; ttl=").expect("a hit").parse().unwrap();
    assert!((58..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn rfc9111_5_1_age_counts_what_was_spent_elsewhere() {
    let site = site(counting(&[("cache-control", "max-age=60"), ("age", "10")]), "").await;
    site.get("/").await;
    let hit = site.get("/").await;
    let age: u64 = hit.header("age").expect("an age").parse().unwrap();
    assert!((10..=12).contains(&age), "{age}");
    let ttl: u64 = status(&hit).strip_prefix("weir; hit; ttl=").unwrap().parse().unwrap();
    assert!((47..=50).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn rfc9111_1_2_2_and_5_1_ages_that_are_odd() {
    for (age, hit) in [
        ("59", true),
        ("60", false),
        ("4294967296", false),
        ("99999999999999999999999", false),
        ("100, 5", false),
        ("5, 100", true),
        ("-1", true),
        ("old", true),
    ] {
        let fields = [("cache-control", "max-age=60"), ("age", age)];
        let site = site(origin().respond_headers(200, &fields, "body"), "").await;
        site.get("/").await;
        let second = site.get("/").await;
        assert_eq!(status(&second).starts_with("weir; hit"), hit, "{age}: {}", status(&second));
    }
}

/// Nobody could use it, so nobody waits for it.
#[tokio::test]
async fn rfc9111_3_what_is_stale_when_it_comes_and_cannot_be_validated_is_not_stored() {
    for (fields, options, stored) in [
        (&[("cache-control", "max-age=60"), ("age", "60")][..], "", false),
        (&[("cache-control", "max-age=60"), ("date", "Tue, 01 Oct 2024 12:00:00 GMT")], "", false),
        (&[("cache-control", "max-age=60"), ("age", "70")], "stale_while_revalidate: 5s", false),
        (&[("cache-control", "max-age=60"), ("age", "70")], "stale_while_revalidate: 1m", true),
        (&[("cache-control", "max-age=60"), ("age", "70")], "stale_if_error: 1m", true),
        (STALE, "", true),
    ] {
        let site = site(counting(fields), options).await;
        let first = site.get("/").await;
        let want = if stored { "weir; fwd=uri-miss; stored" } else { "weir; fwd=uri-miss; detail=no_freshness" };
        assert_eq!(status(&first), want, "{fields:?} {options}");
    }
}

#[tokio::test]
async fn rfc9111_4_3_2_conditions_are_answered_from_the_store() {
    let fields: &[_] =
        &[("cache-control", "max-age=60"), ("etag", "\"one\""), ("last-modified", "Thu, 01 Jan 2015 00:00:00 GMT")];
    let site = site(counting(fields), "").await;
    for condition in
        [("if-none-match", "\"two\", W/\"one\""), ("if-none-match", "*"), ("if-modified-since", "Thu, 01 Jan 2015 00:00:00 GMT")]
    {
        let answer = site.ask("GET", "/", &[condition]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition:?}");
        assert_eq!(answer.header("etag"), Some("\"one\""));
    }
    let other =
        site.ask("GET", "/", &[("if-none-match", "\"two\""), ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT")]).await;
    assert_eq!((other.status, other.text().as_str()), (200, "answer 1"));
    assert_eq!(site.origin.request_count(), 1);
    assert!(site.origin.next_request().await.header("if-none-match").is_none(), "what is stored is the whole");
    // RFC 9110 section 13.2.1: these are for the origin.
    let answer = site.ask("GET", "/", &[("if-match", "\"one\"")]).await;
    assert_eq!((answer.text().as_str(), status(&answer)), ("answer 2", "weir; fwd=bypass; detail=precondition"));
}

#[tokio::test]
async fn rfc9111_4_3_3_what_is_stale_is_validated_and_renewed() {
    let origin = origin().respond_with(|request| match request.header("if-none-match") {
        Some(_) => Answer::raw(
            "HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\nx-new: 1\r\netag: \"one\"\r\ncontent-length: 99\r\n\r\n",
        ),
        None => Answer::with_headers(200, STALE, "first"),
    });
    let site = site(origin, "").await;
    assert_eq!(status(&site.get("/").await), "weir; fwd=uri-miss; stored");
    let renewed = site.get("/").await;
    assert_eq!((renewed.status, renewed.text().as_str()), (200, "first"));
    assert_eq!(status(&renewed), "weir; fwd=stale; fwd-status=304; stored");
    assert_eq!(site.origin.requests()[1].header("if-none-match"), Some("\"one\""));
    // Section 3.2: the fields of the 304 are those of what is stored from now on.
    let hit = site.get("/").await;
    assert!(status(&hit).starts_with("weir; hit; ttl="), "{}", status(&hit));
    assert_eq!((hit.header("x-new"), hit.header("content-length"), hit.text().as_str()), (Some("1"), Some("5"), "first"));
    assert_eq!(hit.headers.all("cache-control"), ["max-age=60"]);
    let age: u64 = hit.header("age").expect("an age").parse().unwrap();
    assert!(age < 5, "{age}: the age of before was that of before");
}

#[tokio::test]
async fn rfc9111_4_3_4_what_is_said_of_another_response_changes_nothing() {
    for (tag, same) in [("\"two\"", false), ("W/\"two\"", false), ("W/\"one\"", true)] {
        let origin = origin().respond_with(move |request| match request.header("if-none-match") {
            Some(_) => Answer::with_headers(304, &[("cache-control", "max-age=60"), ("etag", tag), ("x-new", "1")], ""),
            None => Answer::with_headers(200, STALE, "first"),
        });
        let site = site(origin, "").await;
        site.get("/").await;
        let second = site.get("/").await;
        assert_eq!((second.status, second.text().as_str(), second.header("x-new").is_some()), (200, "first", same), "{tag}");
        assert_eq!(second.header("etag"), Some(if same { tag } else { "\"one\"" }));
        let third = site.get("/").await;
        assert_eq!(status(&third).starts_with("weir; hit"), same, "{tag}: {}", status(&third));
    }
}

#[tokio::test]
async fn rfc9111_4_3_3_a_new_response_takes_the_place_of_the_stale_one() {
    let site = site(counting(STALE), "").await;
    site.get("/").await;
    let second = site.get("/").await;
    assert_eq!((second.text().as_str(), status(&second)), ("answer 2", "weir; fwd=stale; fwd-status=200; stored"));
}

#[tokio::test]
async fn rfc9111_5_2_2_4_no_cache_is_stored_and_asked_about_each_time() {
    let origin = origin().respond_with(|request| match request.header("if-none-match") {
        Some(_) => Answer::with_headers(304, &[("cache-control", "no-cache"), ("etag", "\"one\"")], ""),
        None => Answer::with_headers(200, &[("cache-control", "no-cache"), ("etag", "\"one\"")], "body"),
    });
    let site = site(origin, "stale_while_revalidate: 1h, stale_if_error: 1h").await;
    for _ in 0..3 {
        assert_eq!(site.get("/").await.text(), "body");
    }
    assert_eq!(site.origin.request_count(), 3);
}

#[tokio::test]
async fn rfc9111_4_head_is_answered_from_a_stored_get_and_stores_nothing() {
    let site = site(counting(FRESH), "").await;
    let head = site.ask("HEAD", "/", &[]).await;
    assert_eq!((head.status, status(&head)), (200, "weir; fwd=uri-miss"));
    assert_eq!(site.origin.next_request().await.method, "HEAD");
    assert_eq!(site.get("/").await.text(), "answer 2");
    let head = site.ask("HEAD", "/", &[]).await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("8"), 0));
    assert!(status(&head).starts_with("weir; hit"));
    assert_eq!(site.origin.request_count(), 2);
}

#[tokio::test]
async fn rfc9110_14_parts_of_what_is_stored() {
    let fields: &[_] = &[("cache-control", "max-age=60"), ("etag", "\"one\""), ("content-type", "text/plain")];
    let site = site(origin().respond_headers(200, fields, "0123456789"), "").await;
    // A part that is not there is fetched as a part, and not stored.
    let missed = site.ask("GET", "/", &[("range", "bytes=0-1")]).await;
    assert_eq!(status(&missed), "weir; fwd=uri-miss");
    assert_eq!(site.origin.next_request().await.header("range"), Some("bytes=0-1"));
    site.get("/").await;
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
        ("bytes=-3", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=8-", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=5-100", 206, Some("bytes 5-9/10"), "56789"),
        ("bytes=10-", 416, Some("bytes */10"), ""),
        ("lines=1-2", 200, None, "0123456789"),
    ] {
        let answer = site.ask("GET", "/", &[("range", range)]).await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.text().as_str()),
            (status, content_range, body),
            "{range}"
        );
    }
    let several = site.ask("GET", "/", &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!(several.status, 206);
    assert!(several.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    let text = several.text();
    assert!(text.contains("bytes 0-1/10\r\n\r\n01\r\n") && text.contains("bytes 5-6/10\r\n\r\n56\r\n"), "{text}");
    let changed = site.ask("GET", "/", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.text().as_str()), (200, "0123456789"));
    let same = site.ask("GET", "/", &[("range", "bytes=0-1"), ("if-range", "\"one\"")]).await;
    assert_eq!((same.status, same.text().as_str()), (206, "01"));
    assert_eq!(site.origin.request_count(), 2);
}

/// What Pingora would answer with a part of nothing, of what is not there, or of something else; or, for the empty one, with a panic.
#[tokio::test]
async fn rfc9110_14_1_ranges_that_are_odd() {
    let site = site(
        origin()
            .respond_with(|request| Answer::with_headers(200, FRESH, if request.target == "/empty" { "" } else { "0123456789" })),
        "",
    )
    .await;
    site.get("/").await;
    site.get("/empty").await;
    for (path, range, status, content_range, body) in [
        ("/", "bytes=-0", 416, Some("bytes */10"), ""),
        ("/", "bytes=-99999999999999999999999", 206, Some("bytes 0-9/10"), "0123456789"),
        ("/", "bytes=99999999999999999999999-5", 200, None, "0123456789"),
        ("/", "bytes=5-1", 200, None, "0123456789"),
        ("/", "bytes=1-2,", 206, Some("bytes 1-2/10"), "12"),
        ("/", "bytes=", 200, None, "0123456789"),
        ("/", "bytes=0-,0-,0-", 200, None, "0123456789"),
        ("/empty", "bytes=-5", 200, None, ""),
        ("/empty", "bytes=0-", 416, Some("bytes */0"), ""),
    ] {
        let answer = site.ask("GET", path, &[("range", range)]).await;
        let told = (answer.status, answer.header("content-range"), answer.text());
        assert_eq!(told, (status, content_range, body.to_owned()), "{range} of {path}");
    }
    let head = site.ask("HEAD", "/", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "only GET knows ranges");
    assert_eq!(site.origin.request_count(), 2);
}

#[tokio::test]
async fn rfc9110_13_1_5_only_a_strong_validator_tells_that_a_part_fits() {
    const MODIFIED: &str = "Tue, 01 Oct 2024 12:00:00 GMT";
    for (tag, date, sent, status) in [
        ("\"a\"", MODIFIED, "\"a\"", 206),
        ("W/\"a\"", MODIFIED, "W/\"a\"", 200),
        ("W/\"a\"", MODIFIED, "\"a\"", 200),
        ("\"a\"", "Tue, 01 Oct 2024 12:00:01 GMT", MODIFIED, 206),
        ("\"a\"", MODIFIED, MODIFIED, 200),
        ("\"a\"", MODIFIED, "yesterday", 200),
    ] {
        let fields = [("cache-control", "max-age=99999999"), ("etag", tag), ("last-modified", MODIFIED), ("date", date)];
        let site = site(origin().respond_headers(200, &fields, "0123456789"), "client_directives: true").await;
        // However old it is: the date is what this is about.
        let fresh = ("cache-control", "max-stale");
        site.ask("GET", "/", &[fresh]).await;
        let answer = site.ask("GET", "/", &[fresh, ("range", "bytes=0-1"), ("if-range", sent)]).await;
        assert_eq!((answer.status, site.origin.request_count()), (status, 1), "{sent} of {tag} made at {date}");
    }
}

#[tokio::test]
async fn rfc9111_4_4_unsafe_methods_invalidate() {
    let fields: &[_] =
        &[("cache-control", "max-age=60"), ("location", "/there"), ("content-location", "http://example.com/here")];
    for method in ["POST", "PUT", "DELETE", "PATCH", "SURPRISE"] {
        let site = site(counting(fields), "").await;
        for path in ["/", "/there", "/here", "/other"] {
            site.get(path).await;
        }
        let changed = site.ask(method, "/", &[("content-length", "0")]).await;
        assert_eq!(status(&changed), "weir; fwd=method", "{method}");
        for (path, stored) in [("/", false), ("/there", false), ("/here", false), ("/other", true)] {
            assert_eq!(status(&site.get(path).await).starts_with("weir; hit"), stored, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn rfc9111_4_4_a_failed_change_and_other_origins_invalidate_nothing() {
    let say = |request: &crate::support::wire::RawRequest| match request.method.as_str() {
        "GET" => (200, FRESH.to_vec()),
        "POST" => (500, vec![]),
        _ => (200, vec![("location", "http://other.example/"), ("content-location", "//other.example/")]),
    };
    let site = site(counting_with(say), "").await;
    site.get("/").await;
    site.ask("GET", "/", &[("host", "other.example")]).await;
    site.ask("POST", "/", &[("content-length", "0")]).await;
    assert_eq!(site.get("/").await.text(), "answer 1");
    site.ask("PUT", "/x", &[("content-length", "0")]).await;
    assert_eq!(site.ask("GET", "/", &[("host", "other.example")]).await.text(), "answer 2");
}

#[tokio::test]
async fn rfc9111_5_2_1_7_only_if_cached() {
    let site = site(counting(FRESH), "").await;
    let only = &[("cache-control", "only-if-cached")][..];
    let missing = site.ask("GET", "/", only).await;
    assert_eq!(missing.status, 504);
    assert_eq!(site.origin.request_count(), 0);
    site.get("/").await;
    assert_eq!(site.ask("GET", "/", only).await.text(), "answer 1");
}

#[tokio::test]
async fn rfc9111_5_2_1_5_a_request_that_wants_nothing_stored() {
    let site = site(counting(FRESH), "").await;
    let texts = site.gets(&[("/", &[("cache-control", "no-store")]), ("/", &[]), ("/", &[("cache-control", "no-store")])]).await;
    assert_eq!(texts, ["answer 1", "answer 2", "answer 2"], "what others had stored may be sent");
}

#[tokio::test]
async fn rfc9111_5_2_1_clients_that_ask_for_more_are_heard_only_where_that_is_wanted() {
    for (directive, deaf, heard) in [
        ("no-cache", "answer 1", "answer 2"),
        ("max-age=5", "answer 1", "answer 2"),
        ("max-age=15", "answer 1", "answer 1"),
        ("min-fresh=55", "answer 1", "answer 2"),
        ("min-fresh=45", "answer 1", "answer 1"),
    ] {
        for (options, expected) in [("", deaf), ("client_directives: true", heard)] {
            let site = site(counting(&[("cache-control", "max-age=60"), ("age", "10")]), options).await;
            site.get("/").await;
            let answer = site.ask("GET", "/", &[("cache-control", directive)]).await;
            assert_eq!(answer.text(), expected, "{directive} {options}");
        }
    }
    let pragma = site(counting(FRESH), "client_directives: true").await;
    pragma.get("/").await;
    assert_eq!(pragma.ask("GET", "/", &[("pragma", "no-cache")]).await.text(), "answer 2");
}

#[tokio::test]
async fn rfc9111_5_2_1_2_max_stale() {
    for (fields, request, expected) in [
        (STALE, "max-stale=100", "answer 1"),
        (STALE, "max-stale", "answer 1"),
        (STALE, "max-stale=10", "answer 2"),
        (&[("cache-control", "max-age=60, must-revalidate"), ("age", "100"), ("etag", "\"one\"")], "max-stale", "answer 2"),
    ] {
        let site = site(counting(fields), "client_directives: true").await;
        site.get("/").await;
        assert_eq!(site.ask("GET", "/", &[("cache-control", request)]).await.text(), expected, "{fields:?} {request}");
    }
}

#[tokio::test]
async fn rfc5861_3_stale_while_a_new_one_is_fetched() {
    let said: &[_] = &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "100")];
    for (fields, options) in [(said, ""), (STALE, "stale_while_revalidate: 10m")] {
        let site = site(counting(fields), options).await;
        site.get("/").await;
        let stale = site.ask("GET", "/", &[("x-filtered", "1")]).await;
        assert_eq!(stale.text(), "answer 1");
        assert!(status(&stale).starts_with("weir; hit; ttl=-4"), "{}", status(&stale));
        assert!(status(&stale).ends_with("; detail=updating"), "{}", status(&stale));
        // The new one is there without anybody having waited for it.
        crate::eventually!(site.get("/").await.text(), |text: &String| text != "answer 1");
        let behind = &site.origin.requests()[1];
        assert_eq!((behind.header("host"), behind.header("x-filtered")), (Some("example.com"), Some("1")));
        assert!(behind.header("x-forwarded-for").is_some());
    }
}

#[tokio::test]
async fn rfc5861_4_stale_when_no_new_one_can_be_had() {
    let said: &[_] = &[("cache-control", "max-age=60, stale-if-error=600"), ("age", "100")];
    for (fields, options) in [(said, ""), (STALE, "stale_if_error: 10m")] {
        for failure in [Answer::new(503, "sorry"), Answer::nothing().reset(), Answer::raw("nonsense\r\n\r\n").close()] {
            let broken = Arc::new(AtomicBool::new(false));
            let seen = broken.clone();
            let origin = origin().respond_with(move |_| match seen.load(SeqCst) {
                true => failure.clone(),
                false => Answer::with_headers(200, fields, "good"),
            });
            let site = site(origin, options).await;
            site.get("/").await;
            broken.store(true, SeqCst);
            let stale = site.get("/").await;
            assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
            assert!(status(&stale).starts_with("weir; fwd=stale"), "{}", status(&stale));
            assert!(status(&stale).ends_with("; detail=stale_if_error"), "{}", status(&stale));
            assert!(stale.header("age").is_some());
        }
    }
}

#[tokio::test]
async fn rfc9111_4_2_4_what_must_be_validated_is_never_sent_stale() {
    for fields in [
        &[("cache-control", "max-age=60, must-revalidate"), ("age", "100"), ("etag", "\"one\"")][..],
        &[("cache-control", "max-age=60, proxy-revalidate, stale-if-error=600"), ("age", "100"), ("etag", "\"one\"")],
        &[("cache-control", "s-maxage=60"), ("age", "100"), ("etag", "\"one\"")],
    ] {
        let broken = Arc::new(AtomicBool::new(false));
        let seen = broken.clone();
        let origin = origin().respond_with(move |_| match seen.load(SeqCst) {
            true => Answer::new(503, "sorry"),
            false => Answer::with_headers(200, fields, "good"),
        });
        let site = site(origin, "stale_if_error: 10m, stale_while_revalidate: 10m").await;
        site.get("/").await;
        broken.store(true, SeqCst);
        assert_eq!(site.get("/").await.status, 503, "{fields:?}");
    }
}

/// Two lengths for one body are what responses are smuggled with.
#[tokio::test]
async fn rfc9112_6_2_what_came_in_chunks_has_one_length_when_it_is_stored() {
    let chunked = Answer::raw(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    );
    let site = site(origin().answer(chunked), "").await;
    let first = site.get("/").await;
    assert_eq!((first.header("transfer-encoding"), first.text().as_str()), (Some("chunked"), "0123456789"));
    for (method, range, status, length, body) in
        [("GET", None, 200, "10", "0123456789"), ("HEAD", None, 200, "10", ""), ("GET", Some("bytes=2-4"), 206, "3", "234")]
    {
        let fields: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        let hit = site.ask(method, "/", &fields).await;
        assert_eq!(
            (hit.header("transfer-encoding"), hit.headers.all("content-length")),
            (None, vec![length]),
            "{method} {range:?}"
        );
        assert_eq!((hit.status, hit.text().as_str()), (status, body), "{method} {range:?}");
    }
    assert_eq!(site.origin.request_count(), 1);
}

#[tokio::test]
async fn rfc9112_6_a_stored_response_to_an_old_client() {
    let site = site(origin().answer(Answer::chunked(200, &["ab", "cd"], &[])), "ttl: 60s").await;
    site.get("/").await;
    let mut old = site.edge.client().await;
    old.send("GET / HTTP/1.0\r\nhost: example.com\r\n\r\n").await;
    let (bytes, _) = old.read_to_end().await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("\r\n\r\nabcd") && !text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    let mut client = site.edge.client().await;
    let hit = ask(&mut client, "GET", "/", &[]).await;
    assert_eq!((hit.header("content-length"), hit.text().as_str()), (Some("4"), "abcd"), "the length is known by now");
    assert_eq!(site.origin.request_count(), 1);
}
