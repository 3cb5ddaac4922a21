use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::cache::Freshness;
use crate::types::Name;

const MIB: u64 = 1 << 20;

fn cache(memory: u64) -> &'static Cache {
    Cache::leak(&CacheSettings { memory, disk: None })
}

fn route() -> Name {
    "r".parse().unwrap()
}

fn key(url: &str) -> Key {
    Key { url: url.into(), route: route(), spelling: None }
}

fn head(fields: &[(&'static str, &str)], variance: Option<Variance>) -> Head {
    let now = SystemTime::now();
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    let freshness =
        Freshness { epoch: now, fresh_until: now + Duration::from_secs(60), stale_while_revalidate: 0, stale_if_error: 0 };
    Head { status: StatusCode::OK, fields: map, freshness, created: now, variance }
}

fn put(cache: &'static Cache, url: &str, body: &[u8]) -> Result<(), GaveUp> {
    let mut fill = cache.fill(key(url), head(&[], None), u64::MAX, cache.mark());
    fill.write(body);
    fill.finish()
}

fn has(cache: &Cache, url: &str) -> bool {
    cache.get(&key(url), None).is_some()
}

fn text(cache: &Cache, url: &str, variance: Option<&Variance>) -> Option<Vec<u8>> {
    let entry = cache.get(&key(url), variance)?;
    let mut bytes = Vec::new();
    while let Some(piece) = entry.body.piece(bytes.len() as u64, u64::MAX) {
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

#[test]
fn ten_gigabytes_offered_to_64_mebibytes_stay_in_64_mebibytes() {
    let cache = cache(64 * MIB);
    let body = vec![7_u8; MIB as usize];
    // The sizes of a site: many small, some large.
    let sizes = [512, 4 << 10, 40 << 10, 300 << 10, 1 << 20];
    let (mut offered, mut most) = (0_u64, 0);
    let mut number = 0_usize;
    while offered < 10_000_000_000 {
        let size = sizes[number % sizes.len()];
        // The pieces are as Pingora hands them over; a fifth of the URLs is asked for again.
        let url = format!("http://a.example/{}", if number.is_multiple_of(5) { number % 997 } else { number });
        let mut fill = cache.fill(key(&url), head(&[("content-type", "text/plain")], None), MIB, cache.mark());
        for piece in body[..size].chunks(64 << 10) {
            fill.write(piece);
            let bytes = cache.holdings().bytes;
            assert!(bytes <= 64 * MIB, "{bytes}");
            most = most.max(bytes);
        }
        fill.finish().expect("there is always room for one more");
        has(cache, &url);
        offered += size as u64;
        number += 1;
    }
    assert!(most > 60 * MIB, "it was full: {most}");
    assert!(cache.counts().evicted.load(Relaxed) > 1000);
    cache.purge_all();
    assert_eq!(
        cache.holdings(),
        Holdings { entries: 0, bytes: 0, bound: 64 * MIB, disk: None },
        "nothing is lost, nothing is left"
    );
}

#[test]
fn what_is_asked_for_often_outlives_a_crawler() {
    let cache = cache(4 * MIB);
    let body = vec![0_u8; 16 << 10];
    for number in 0..50 {
        put(cache, &format!("hot{number}"), &body).unwrap();
    }
    for round in 0..40 {
        for number in 0..50 {
            has(cache, &format!("hot{number}"));
        }
        for number in 0..100 {
            put(cache, &format!("once{round}-{number}"), &body).unwrap();
        }
    }
    let left = (0..50).filter(|number| has(cache, &format!("hot{number}"))).count();
    assert!(left >= 45, "{left} of 50 are left after 4,000 that nobody asked for twice");
}

#[test]
fn a_body_is_handed_out_as_it_came_in() {
    let cache = cache(16 * MIB);
    let body: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let mut fill = cache.fill(key("a"), head(&[], None), MIB, cache.mark());
    for piece in body.chunks(7_777) {
        fill.write(piece);
    }
    fill.finish().unwrap();
    assert_eq!(text(cache, "a", None).unwrap(), body);
    let entry = cache.get(&key("a"), None).unwrap();
    assert_eq!(entry.head.fields["content-length"], "300000");
    for (from, end) in [(0, 1), (65_535, 65_537), (299_999, 400_000), (131_072, 200_000)] {
        let mut got = Vec::new();
        while let Some(piece) = entry.body.piece(from + got.len() as u64, end) {
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, body[from as usize..(end as usize).min(300_000)], "{from} to {end}");
    }
    assert_eq!(entry.body.piece(300_000, u64::MAX), None);
    assert_eq!(entry.body.piece(5, 5), None::<Bytes>);
}

#[test]
fn a_body_of_known_length_is_kept_in_as_few_pieces_as_may_be() {
    let cache = cache(16 * MIB);
    for (length, pieces) in [(1, 1), (100 << 10, 1), (128 << 10, 1), (300_000, 3)] {
        let body = vec![3; length];
        let mut fill = cache.fill(key("a"), head(&[("content-length", &length.to_string())], None), MIB, cache.mark());
        body.chunks(4_000).for_each(|piece| fill.write(piece));
        fill.finish().unwrap();
        let entry = cache.get(&key("a"), None).unwrap();
        let mut lengths = Vec::new();
        while let Some(piece) = entry.body.piece(lengths.iter().sum::<usize>() as u64, u64::MAX) {
            lengths.push(piece.len());
        }
        assert_eq!((lengths.iter().sum::<usize>(), lengths.len()), (length, pieces));
    }
    let mut more = cache.fill(key("more"), head(&[("content-length", "3")], None), MIB, cache.mark());
    (0..2).for_each(|_| more.write(b"four"));
    assert_eq!(more.finish(), Err(GaveUp::Incomplete));
}

#[test]
fn a_fill_that_ends_early_leaves_nothing() {
    let cache = cache(4 * MIB);
    let mut fill = cache.fill(key("a"), head(&[], None), MIB, cache.mark());
    fill.write(&[0; 100_000]);
    assert!(cache.holdings().bytes >= 100_000, "what is being received counts");
    drop(fill);
    assert_eq!((cache.holdings().bytes, has(cache, "a")), (0, false));
    let mut long = cache.fill(key("a"), head(&[], None), 1000, cache.mark());
    long.write(&[0; 999]);
    long.write(&[0; 2]);
    assert_eq!(cache.holdings().bytes, 0, "over its bound it lets go at once");
    assert_eq!(long.finish(), Err(GaveUp::NoRoom));
    let mut short = cache.fill(key("a"), head(&[("content-length", "10")], None), 1000, cache.mark());
    short.write(b"nine byte");
    assert_eq!(short.finish(), Err(GaveUp::Incomplete));
    assert_eq!(put(cache, "large", &vec![0; 3 * MIB as usize]), Err(GaveUp::NoRoom), "no response takes all of it");
}

#[test]
fn readers_keep_what_they_read_and_it_counts() {
    let cache = cache(2 * MIB);
    put(cache, "a", &[1; 400_000]).unwrap();
    let held = cache.get(&key("a"), None).unwrap();
    cache.purge_url("a");
    assert!(!has(cache, "a"));
    assert_eq!(held.body.piece(0, 1).unwrap()[..], [1]);
    assert!(cache.holdings().bytes >= 400_000);
    drop(held);
    assert_eq!(cache.holdings().bytes, 0);
}

#[test]
fn variants_stand_beside_each_other() {
    let cache = cache(4 * MIB);
    let vary = |value: u8, body: &[u8]| {
        let mut fill = cache.fill(key("a"), head(&[("vary", "x")], Some([value; 16])), MIB, cache.mark());
        fill.write(body);
        fill.finish().unwrap();
    };
    (1..=3).for_each(|value| vary(value, &[value]));
    assert_eq!(text(cache, "a", Some(&[2; 16])).unwrap(), [2]);
    assert_eq!(text(cache, "a", None).unwrap(), [1], "the first tells what it varies on");
    assert_eq!(text(cache, "a", Some(&[9; 16])), None);
    vary(2, b"new");
    assert_eq!((text(cache, "a", Some(&[2; 16])).unwrap(), cache.holdings().entries), (b"new".to_vec(), 3));
    assert!(cache.get(&Key { route: "other".parse().unwrap(), ..key("a") }, None).is_none(), "another route's are others");
    (0..200).for_each(|value| vary(value, &[value]));
    assert_eq!(cache.holdings().entries, 64, "a URL has so many variants, and no more");
    put(cache, "a", b"plain").unwrap();
    assert_eq!((text(cache, "a", None).unwrap(), cache.holdings().entries), (b"plain".to_vec(), 1));
}

#[test]
fn a_new_head_goes_before_the_old_body() {
    let cache = cache(4 * MIB);
    put(cache, "a", b"body").unwrap();
    assert!(cache.renew(&key("a"), head(&[("x-new", "1")], None)));
    let entry = cache.get(&key("a"), None).unwrap();
    assert_eq!((&entry.head.fields["x-new"], cache.holdings().entries), (&"1".parse().unwrap(), 1));
    assert_eq!(text(cache, "a", None).unwrap(), b"body");
    assert!(!cache.renew(&key("b"), head(&[], None)), "gone meanwhile");
}

#[test]
fn purging() {
    let cache = cache(4 * MIB);
    for url in ["http://a/x", "http://a/x/1", "http://a/x/2?q", "http://b/x"] {
        put(cache, url, b"body").unwrap();
    }
    assert_eq!((cache.purge_url("http://a/x"), cache.purge_url("http://a/x")), (1, 0));
    assert_eq!(cache.purge_prefix("http://a/x/"), 2);
    assert_eq!((has(cache, "http://b/x"), cache.purge_all()), (true, 1));
    // What was being fetched is what it was before.
    for purge in
        [&|| cache.purge_url("http://a/x"), &|| cache.purge_prefix("http://a/"), &|| cache.purge_all()] as [&dyn Fn() -> usize; 3]
    {
        let fill = cache.fill(key("http://a/x"), head(&[], None), MIB, cache.mark());
        purge();
        assert_eq!(fill.finish(), Err(GaveUp::Purged));
    }
    put(cache, "http://a/x", b"after").unwrap();
}

#[test]
fn a_smaller_bound_holds_at_once() {
    let cache = cache(16 * MIB);
    for number in 0..200 {
        put(cache, &number.to_string(), &vec![0; 60_000]).unwrap();
    }
    assert!(cache.holdings().bytes > 10 * MIB);
    cache.configure(&CacheSettings { memory: 2 * MIB, disk: None });
    assert!(cache.holdings().bytes <= 2 * MIB);
    for number in 0..5000 {
        put(cache, "same", &[0; 100]).unwrap();
        cache.purge_url(&number.to_string());
    }
    let places = cache.turns.lock().len();
    assert!(places <= 128, "{places}: places of what is gone are forgotten");
}

#[test]
fn threads_agree_about_the_bytes() {
    let cache = cache(8 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            scope.spawn(move || {
                for number in 0..2000_usize {
                    let url = format!("{}", (number * 7 + thread) % 500);
                    let _ = put(cache, &url, &vec![1; 500 + number * 13 % 60_000]);
                    has(cache, &url);
                    if number.is_multiple_of(97) {
                        cache.purge_prefix("1");
                    }
                    assert!(cache.holdings().bytes <= 8 * MIB);
                }
            });
        }
    });
    cache.purge_all();
    assert_eq!(cache.holdings().bytes, 0);
}

#[test]
fn a_stored_head_holds_on_to_no_buffer() {
    let cache = cache(4 * MIB);
    let buffer = Bytes::from(vec![b'v'; 1 << 16]);
    let mut head = head(&[], None);
    head.fields.append("x-a", http::HeaderValue::from_maybe_shared(buffer.slice(..3)).unwrap());
    head.fields.append("x-a", http::HeaderValue::from_maybe_shared(buffer.slice(..1)).unwrap());
    head.fields.append("x-b", http::HeaderValue::from_bytes(b"\xff").unwrap());
    cache.fill(key("a"), head, MIB, cache.mark()).finish().unwrap();
    assert!(buffer.is_unique(), "nobody else has any of it");
    let entry = cache.get(&key("a"), None).unwrap();
    let values: Vec<&[u8]> = entry.head.fields.get_all("x-a").iter().map(|value| value.as_bytes()).collect();
    assert_eq!((values, entry.head.fields["x-b"].as_bytes()), (vec![&b"vvv"[..], b"v"], &b"\xff"[..]));
}

#[test]
fn odd_spellings_go_with_their_url_and_before_it() {
    let cache = cache(1 << 20);
    let spelled = |number: usize| Key { spelling: Some(format!("//{number}").into()), ..key("a") };
    let put = |key: &Key, body: &[u8]| {
        let mut fill = cache.fill(key.clone(), head(&[], None), u64::MAX, cache.mark());
        fill.write(body);
        fill.finish().unwrap();
    };
    put(&key("a"), b"plain");
    (0..100).for_each(|number| put(&spelled(number), b"odd"));
    assert_eq!(text(cache, "a", None).as_deref(), Some(&b"plain"[..]), "what everybody asks for is still there");
    assert!(cache.get(&spelled(0), None).is_none() && cache.get(&spelled(99), None).is_some());
    assert_eq!(cache.holdings().entries, 64);
    assert_eq!(cache.purge_url("a"), 64);
    assert!(cache.get(&spelled(99), None).is_none() && cache.get(&key("a"), None).is_none());
}
