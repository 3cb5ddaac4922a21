use std::time::{Duration, Instant};

use http::HeaderMap;

use super::*;
use crate::cache::{CacheSettings, Freshness};

const MIB: u64 = 1 << 20;

fn settings(path: &Path, max: u64) -> CacheSettings {
    CacheSettings { memory: 8 * MIB, disk: Some(DiskSettings { path: path.to_owned(), max }) }
}

fn key(url: &str) -> Key {
    Key { url: url.into(), route: "r".parse().unwrap(), spelling: None }
}

fn head(variance: Option<Variance>) -> Head {
    let now = std::time::SystemTime::now();
    let mut fields = HeaderMap::new();
    fields.insert("x-odd", http::HeaderValue::from_bytes(b"\xff\x80 odd").unwrap());
    let freshness =
        Freshness { epoch: now, fresh_until: now + Duration::from_secs(60), stale_while_revalidate: 1, stale_if_error: 2 };
    Head { status: http::StatusCode::OK, fields, freshness, created: now, variance }
}

fn put(cache: &'static Cache, url: &str, body: &[u8]) {
    let mut fill = cache.fill(key(url), head(None), u64::MAX, cache.mark());
    fill.write(body);
    fill.finish().unwrap();
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn on_disk(cache: &Cache) -> OnDisk {
    cache.holdings().disk.expect("a disk")
}

fn read(cache: &'static Cache, url: &str) -> Option<(Head, Vec<u8>)> {
    let entry = cache.load(&key(url), None)?;
    let mut bytes = Vec::new();
    while let Some(piece) = entry.body.piece(bytes.len() as u64, u64::MAX) {
        bytes.extend_from_slice(&piece);
    }
    Some((entry.head.clone(), bytes))
}

fn files(root: &Path) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir());
    directories.flat_map(|directory| std::fs::read_dir(directory.path()).unwrap().flatten().map(|file| file.path())).collect()
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let before = Cache::leak(&settings(directory.path(), 64 * MIB));
    put(before, "a", &body);
    put(before, "b", b"");
    eventually("both are written", || on_disk(before).entries == 2);
    let after = Cache::leak(&settings(directory.path(), 64 * MIB));
    eventually("both are found", || on_disk(after).entries == 2);
    assert!(after.get(&key("a"), None).is_none(), "not in memory yet");
    let (head, bytes) = read(after, "a").unwrap();
    assert_eq!(bytes, body);
    assert_eq!((head.fields["x-odd"].as_bytes(), head.freshness.stale_if_error), (&b"\xff\x80 odd"[..], 2));
    assert!(after.get(&key("a"), None).is_some(), "in memory from now on");
    assert_eq!(read(after, "b").unwrap().1, b"");
    assert!(read(after, "c").is_none());
}

#[test]
fn what_is_stored_is_written_before_a_flush_ends() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::leak(&settings(directory.path(), 64 * MIB));
    for number in 0..100 {
        put(cache, &format!("{number}"), &[3; 50_000]);
    }
    cache.flush(Duration::from_secs(20));
    assert_eq!((files(directory.path()).len(), on_disk(cache).skipped), (100, 0));
    cache.purge_all();
    cache.flush(Duration::from_secs(20));
    assert_eq!(files(directory.path()).len(), 0);
}

#[test]
fn the_bound_holds_and_what_was_asked_for_stays() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::leak(&settings(directory.path(), 2 * MIB));
    put(cache, "wanted", &[1; 50_000]);
    eventually("it is written", || on_disk(cache).entries == 1);
    for number in 0..200 {
        put(cache, &format!("{number}"), &[2; 50_000]);
        let name = name(&key(&number.to_string()), None);
        eventually("it is written", || directory.path().join(&name[..2]).join(&*name).exists());
        assert!(on_disk(cache).bytes <= 2 * MIB);
        cache.disk().unwrap().find(&key("wanted"), None).expect("it is asked for again and again");
    }
    eventually("the files are what the index says", || {
        let bytes: u64 =
            files(directory.path()).iter().filter_map(|path| std::fs::metadata(path).ok()).map(|found| found.len()).sum();
        bytes == on_disk(cache).bytes
    });
    cache.configure(&settings(directory.path(), MIB));
    eventually("a smaller bound holds soon", || on_disk(cache).bytes <= MIB);
}

#[test]
fn purging_removes_files() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::leak(&settings(directory.path(), 64 * MIB));
    for url in ["http://a/1", "http://a/2", "http://b/1"] {
        put(cache, url, b"body");
    }
    eventually("all are written", || on_disk(cache).entries == 3);
    assert_eq!(cache.purge_url("http://a/1"), 1, "what is in both places counts once");
    assert!(read(cache, "http://a/1").is_none());
    assert_eq!(cache.purge_prefix("http://a/"), 1);
    assert_eq!(on_disk(cache).entries, 1);
    eventually("the files are gone", || files(directory.path()).len() == 1);
    cache.purge_all();
    eventually("the last one, too", || files(directory.path()).is_empty());
}

#[test]
fn broken_and_strange_files_harm_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let before = Cache::leak(&settings(directory.path(), 64 * MIB));
    for url in ["cut", "changed", "whole", "renamed"] {
        put(before, url, &[7; 100_000]);
    }
    eventually("all are written", || on_disk(before).entries == 4);
    let root = directory.path();
    let path = |url: &str| {
        let name = name(&key(url), None);
        root.join(&name[..2]).join(&*name)
    };
    std::fs::OpenOptions::new().write(true).open(path("cut")).unwrap().set_len(50_000).unwrap();
    let mut bytes = std::fs::read(path("changed")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path("changed"), bytes).unwrap();
    std::fs::rename(path("renamed"), path("whole").with_file_name(format!("{}{ENDING}", "0".repeat(32)))).unwrap();
    let unfinished = path("whole").with_extension("unfinished");
    std::fs::write(&unfinished, b"half").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&unfinished).unwrap().set_modified(long_ago).unwrap();
    std::fs::write(path("whole").with_file_name("README"), b"mine").unwrap();
    std::fs::write(root.join("notes"), b"mine").unwrap();
    let after = Cache::leak(&settings(root, 64 * MIB));
    eventually("they are looked through", || on_disk(after).entries == 2);
    assert!(read(after, "cut").is_none() && read(after, "changed").is_none() && read(after, "renamed").is_none());
    assert_eq!(read(after, "whole").unwrap().1, [7; 100_000]);
    eventually("what is broken goes, what is not ours stays", || {
        let left: Vec<PathBuf> = files(root);
        left.len() == 2 && left.iter().any(|path| path.ends_with("README")) && root.join("notes").exists()
    });
}

#[test]
fn a_disk_that_cannot_be_written_to_leaves_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"in the way").unwrap();
    let cache = Cache::leak(&settings(&file.join("below"), 64 * MIB));
    eventually("it is found out", || !on_disk(cache).works);
    put(cache, "a", b"body");
    assert!(cache.get(&key("a"), None).is_some());
    assert_eq!((on_disk(cache).entries, on_disk(cache).skipped), (0, 1));
}

fn put_varying(cache: &'static Cache, vary: &str, variance: Option<Variance>, body: &[u8]) {
    let mut head = head(variance);
    head.fields.insert("vary", vary.parse().unwrap());
    let mut fill = cache.fill(key("a"), head, u64::MAX, cache.mark());
    fill.write(body);
    fill.finish().unwrap();
}

#[test]
fn what_began_to_vary_is_not_answered_by_what_did_not_after_a_restart_either() {
    let directory = tempfile::tempdir().unwrap();
    let before = Cache::leak(&settings(directory.path(), 64 * MIB));
    put(before, "a", b"for all");
    put_varying(before, "accept-language", Some([1; 16]), b"for some");
    put_varying(before, "Accept-Language", Some([2; 16]), b"for others");
    eventually("the first one is gone", || files(directory.path()).len() == 2 && on_disk(before).entries == 2);
    // As a Weir that was stopped in between has left it.
    let left = tempfile::tempdir().unwrap();
    let stopped = Cache::leak(&settings(left.path(), 64 * MIB));
    put(stopped, "a", b"for all");
    eventually("it is written", || on_disk(stopped).entries == 1);
    for file in files(directory.path()) {
        let place = left.path().join(file.strip_prefix(directory.path()).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(&file, place).unwrap();
    }
    for path in [directory.path(), left.path()] {
        let newest = if path == left.path() { &b"for all"[..] } else { b"for some" };
        let after = Cache::leak(&settings(path, 64 * MIB));
        eventually("all is looked at", || on_disk(after).entries > 0 && files(path).len() == on_disk(after).entries);
        assert_eq!(read(after, "a").unwrap().1, newest);
    }
}

#[test]
fn answers_to_one_url_are_bounded_on_the_disk_too() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::leak(&settings(directory.path(), 64 * MIB));
    for number in 0..200_u8 {
        put_varying(cache, "user-agent", Some([number; 16]), b"page");
    }
    put(cache, "other", b"last");
    eventually("all is written", || cache.is_on_disk(&key("other"), None));
    assert_eq!(on_disk(cache).entries, 65);
    assert!(cache.is_on_disk(&key("a"), Some(&[199; 16])) && !cache.is_on_disk(&key("a"), Some(&[0; 16])));
}
