use super::*;

fn policy() -> Policy {
    Policy {
        ttl: Some(Duration::from_secs(60)),
        max_ttl: None,
        max_object: 1000,
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(6),
        query: QueryRule::All,
        authorized: false,
        set_cookie: false,
        client_directives: true,
        lock_timeout: Duration::from_secs(5),
    }
}

fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn now() -> SystemTime {
    httpdate::parse_http_date("Thu, 01 Jan 2026 12:00:00 GMT").unwrap()
}

/// Seconds that it is fresh from now on, rounded up, and those after that; or why it is not stored.
fn stored(policy: &Policy, list: &[(&'static str, &str)]) -> Result<(i64, u32, u32), Refusal> {
    let freshness = policy.store(&Asked::default(), StatusCode::OK, &fields(list), now())?;
    let left = match (freshness.fresh_until + Duration::from_nanos(1)).duration_since(now()) {
        Ok(left) => left.as_secs() as i64,
        Err(over) => -(over.duration().as_secs() as i64),
    };
    Ok((left, freshness.stale_while_revalidate, freshness.stale_if_error))
}

#[test]
fn freshness_is_what_is_said_first_then_what_is_configured() {
    for (list, expected) in [
        (&[][..], Ok((60, 5, 6))),
        (&[("cache-control", "max-age=10")], Ok((10, 5, 6))),
        (&[("cache-control", "max-age=10, s-maxage=20")], Ok((20, 0, 0))),
        (&[("cache-control", "s-maxage=20, stale-while-revalidate=7")], Ok((20, 7, 0))),
        (&[("cache-control", "max-age=10, must-revalidate, stale-if-error=9")], Ok((10, 0, 0))),
        (&[("expires", "Thu, 01 Jan 2026 12:00:30 GMT")], Ok((30, 5, 6))),
        (&[("expires", "Thu, 01 Jan 2026 12:00:30 GMT"), ("date", "Thu, 01 Jan 2026 11:59:50 GMT")], Ok((30, 5, 6))),
        (&[("expires", "Thu, 01 Jan 2026 12:00:30 GMT"), ("expires", "Thu, 01 Jan 2026 13:00:00 GMT")], Ok((0, 5, 6))),
        (&[("cache-control", "max-age=10"), ("expires", "0")], Ok((10, 5, 6))),
        (&[("cache-control", "max-age=10"), ("age", "4")], Ok((6, 5, 6))),
        (&[("cache-control", "max-age=10"), ("age", "nonsense")], Ok((10, 5, 6))),
        (&[("cache-control", "max-age=100"), ("date", "Thu, 01 Jan 2026 11:59:00 GMT")], Ok((40, 5, 6))),
        (&[("cache-control", "max-age=10"), ("age", "15")], Ok((-5, 5, 6))),
        (&[("cache-control", "max-age=10"), ("age", "16")], Err(Refusal::NoFreshness)),
        (&[("cache-control", "max-age=10"), ("age", "16"), ("etag", "\"1\"")], Ok((-6, 5, 6))),
        (&[("cache-control", "no-cache")], Err(Refusal::NoFreshness)),
        (&[("cache-control", "no-cache"), ("etag", "\"1\"")], Ok((0, 0, 0))),
        (&[("content-length", "1001")], Err(Refusal::TooLarge)),
    ] {
        assert_eq!(stored(&policy(), list), expected, "{list:?}");
    }
    let short = Policy { max_ttl: Some(Duration::from_secs(3)), ..policy() };
    assert_eq!(stored(&short, &[("cache-control", "max-age=31536000")]), Ok((3, 5, 6)));
    let strict = Policy { ttl: None, ..policy() };
    assert_eq!(stored(&strict, &[]), Err(Refusal::NoFreshness));
}

#[test]
fn only_what_says_something_about_others_is_remembered() {
    let lasting =
        [Refusal::NoStore, Refusal::Private, Refusal::SetCookie, Refusal::VaryAll, Refusal::NoFreshness, Refusal::TooLarge];
    let passing =
        [Refusal::Method, Refusal::Body, Refusal::Precondition, Refusal::RequestNoStore, Refusal::Authorization, Refusal::Status];
    assert!(lasting.iter().all(|refusal| refusal.lasts()) && !passing.iter().any(|refusal| refusal.lasts()));
    let words: std::collections::BTreeSet<_> = lasting.iter().chain(&passing).map(|refusal| refusal.word()).collect();
    assert_eq!(words.len(), 12);
}

#[test]
fn parameters_that_do_not_count_leave_no_trace() {
    let rule = QueryRule::Without(vec!["utm_*".into(), "ref".into()]);
    for (query, left) in [
        ("a=1", "?a=1"),
        ("utm_x=1&a=1&ref=2&b", "?a=1&b"),
        ("ref", ""),
        ("ref=", ""),
        ("refs=1", "?refs=1"),
        ("", "?"),
        ("a&utm_x=1;a=2&ref;b", "?a&utm_x=1;a=2&ref;b"),
    ] {
        let mut url = String::new();
        rule.append(&mut url, query);
        assert_eq!(url, left, "{query}");
    }
    let mut url = String::new();
    QueryRule::Without(vec!["*".into()]).append(&mut url, "a&b=1;c");
    assert_eq!(url, "");
}
