//! Files of a directory: what is sent, in which parts, on which conditions, and what is never sent.

use std::{
    os::unix::fs::symlink,
    time::{Duration, Instant, SystemTime},
};

use crate::support::{
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request, sip},
    origin::{Origin, origin},
};

/// Longer than one piece, and no two of its pieces alike.
fn long() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_be_bytes).collect()
}

/// 1 October 2024, noon.
const MODIFIED: &str = "Tue, 01 Oct 2024 12:00:00 GMT";

/// An edge that serves the directory `public`, and for what is none of its files an origin.
async fn serving(options: &str) -> (Edge, Origin) {
    let origin = origin().respond(404, "origin").spawn().await;
    let builder = edge().upstream("app", &[origin.addr()]).tls();
    let builder = builder.route("all", &format!("upstream: app\nfilters: [{{static_files: {{root: public{options}}}}}]"));
    fill(&builder);
    (builder.start().await, origin)
}

fn fill(builder: &EdgeBuilder) {
    let root = builder.file("public");
    std::fs::create_dir_all(root.join("docs/empty")).unwrap();
    std::fs::create_dir(root.join(".git")).unwrap();
    for (name, content) in [
        ("index.html", &b"<h1>home</h1>"[..]),
        ("docs/index.html", b"<h1>docs</h1>"),
        ("about.html", b"about"),
        ("a b\u{fc}.txt", b"0123456789"),
        ("empty.css", b""),
        ("app.js", b"plain"),
        ("app.js.br", b"brotli"),
        ("app.js.gz", b"gzip"),
        ("long.bin", &long()),
        (".env", b"secret"),
        (".git/config", b"secret"),
        ("../outside.txt", b"secret"),
    ] {
        let path = root.join(name);
        std::fs::write(&path, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_727_784_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    symlink("../outside.txt", root.join("out.txt")).unwrap();
    symlink("about.html", root.join("inside.html")).unwrap();
}

async fn h2(edge: &Edge) -> H2Client {
    H2Client::connect_tls(edge.address("edge"), &edge.trust()).await
}

#[tokio::test]
async fn files_are_sent_with_their_type_and_all_else_goes_on() {
    let (edge, origin) = serving("").await;
    let mut client = edge.client().await;
    let mut h2 = h2(&edge).await;
    for (path, kind, body) in [
        ("/", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/index.html?v=1", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/docs/", "text/html; charset=utf-8", "<h1>docs</h1>"),
        ("/a%20b%C3%BC.txt", "text/plain; charset=utf-8", "0123456789"),
        ("/empty.css", "text/css; charset=utf-8", ""),
        ("/inside.html", "text/html; charset=utf-8", "about"),
        ("/app.js", "text/javascript; charset=utf-8", "plain"),
    ] {
        let answer = client.get("x", path).await;
        assert_eq!((answer.status, answer.header("content-type"), answer.text().as_str()), (200, Some(kind), body), "{path}");
        assert_eq!((answer.header("last-modified"), answer.header("accept-ranges")), (Some(MODIFIED), Some("bytes")));
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
        let over_h2 = h2.get("localhost", path).await;
        assert_eq!((over_h2.text().as_str(), over_h2.header("etag")), (body, answer.header("etag")), "{path}");
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let head = client.read_head_response().await;
        let length = body.len().to_string();
        assert_eq!(
            (head.status, head.header("content-length"), head.header("etag")),
            (200, Some(length.as_str()), answer.header("etag"))
        );
    }
    assert_eq!(origin.request_count(), 0);
    for path in ["/none", "/docs/empty/", "/docs/empty", "/about", "/index.html/", "/docs/index.html/x"] {
        assert_eq!(client.get("x", path).await.text(), "origin", "{path}");
    }
    let post = client.exchange("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(post.text(), "origin", "other methods go on");
    assert_eq!(origin.request_count(), 7);
}

#[tokio::test]
async fn what_is_not_beneath_the_directory_is_never_sent() {
    let (edge, origin) = serving("").await;
    let paths = [
        "/../outside.txt",
        "/docs/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/docs/..%2f..%2foutside.txt",
        "/out.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/..%5c..%5coutside.txt",
        "//etc/passwd",
        "/%00",
        "/etc/passwd",
    ];
    for path in paths {
        let answer = RawClient::connect(edge.address("web")).await.get("x", path).await;
        assert!(answer.status >= 400 && !answer.text().contains("secret"), "{path}: {} {}", answer.status, answer.text());
        if let Ok(answer) = h2(&edge).await.send(&H2Request::get("localhost", path)).await {
            assert!(answer.status.as_u16() >= 400 && !answer.text().contains("secret"), "{path}");
        }
    }
    assert!(origin.request_count() > 0);
    let (edge, _origin) = serving(", hidden: true").await;
    assert_eq!(edge.get("/.env").await.text(), "secret", "unless told");
    assert_eq!(edge.get("/out.txt").await.text(), "origin");
}

#[tokio::test]
async fn a_directory_is_redirected_to_its_slash_with_the_clients_own_path() {
    let builder = edge().route(
        "all",
        "match: {path: /site/*}\nrespond: {status: 404}\nfilters:\n  - rewrite: {strip_prefix: /site}\n  - static_files: {root: public}",
    );
    fill(&builder);
    let edge = builder.start().await;
    let answer = edge.get("/site/docs?a=b").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("/site/docs/?a=b")));
    assert_eq!(edge.get("/site/docs/").await.text(), "<h1>docs</h1>");
    assert_eq!(edge.get("/site/none").await.status, 404);
}

#[tokio::test]
async fn long_files_stream_whole_and_in_parts() {
    let (edge, _origin) = serving("").await;
    let (long, mut client, mut h2) = (long(), edge.client().await, h2(&edge).await);
    assert!(client.get("x", "/long.bin").await.body == long);
    assert!(h2.get("localhost", "/long.bin").await.body == long);
    for (range, want) in [
        ("bytes=0-0", Some((0, 0))),
        ("bytes=65536-131071", Some((65_536, 131_071))),
        ("bytes=65535-400000", Some((65_535, 400_000))),
        ("bytes=-70000", Some((1_130_000, 1_199_999))),
        ("bytes=1199999-", Some((1_199_999, 1_199_999))),
        ("bytes=0-1,3-4", None),
    ] {
        let answer = client.exchange(format!("GET /long.bin HTTP/1.1\r\nhost: x\r\nrange: {range}\r\n\r\n")).await;
        let over_h2 = h2.send(&H2Request::get("localhost", "/long.bin").header("range", range)).await.expect("a response");
        let (status, part, about) = match want {
            Some((first, last)) => (206, &long[first..=last], Some(format!("bytes {first}-{last}/{}", long.len()))),
            None => (200, &long[..], None),
        };
        assert_eq!((answer.status, answer.header("content-range")), (status, about.as_deref()), "{range}");
        assert!(answer.body == part && over_h2.body == part, "{range}");
    }
    let beyond = client.exchange("GET /long.bin HTTP/1.1\r\nhost: x\r\nrange: bytes=1200000-\r\n\r\n").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1200000")));
    client.send("HEAD /long.bin HTTP/1.1\r\nhost: x\r\nrange: bytes=0-1\r\n\r\n").await;
    let head = client.read_head_response().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1200000")), "ranges are for GET");
}

#[tokio::test]
async fn conditions_hold() {
    let (edge, _origin) = serving(", cache_control: 'public, max-age=60'").await;
    let mut client = edge.client().await;
    let first = client.get("x", "/app.js").await;
    let etag = first.header("etag").expect("an etag").to_owned();
    assert_eq!(first.headers.all("cache-control"), ["public, max-age=60"]);
    for (fields, status) in [
        (format!("if-none-match: {etag}"), 304),
        (format!("if-none-match: W/{etag}, \"x\""), 304),
        ("if-none-match: \"x\"".into(), 200),
        (format!("if-modified-since: {MODIFIED}"), 304),
        ("if-modified-since: Tue, 01 Oct 2024 11:59:59 GMT".into(), 200),
        (format!("if-match: {etag}"), 200),
        ("if-match: \"x\"".into(), 412),
        ("if-unmodified-since: Tue, 01 Oct 2024 11:59:59 GMT".into(), 412),
        (format!("range: bytes=1-2\r\nif-range: {etag}"), 206),
        ("range: bytes=1-2\r\nif-range: \"x\"".into(), 200),
        (format!("range: bytes=1-2\r\nif-range: {MODIFIED}"), 206),
    ] {
        let answer = client.exchange(format!("GET /app.js HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{fields}");
        if status == 304 {
            assert_eq!(
                (answer.header("etag"), answer.header("cache-control")),
                (Some(etag.as_str()), Some("public, max-age=60"))
            );
            assert_eq!((answer.header("content-length"), answer.header("content-type")), (None, None));
        }
    }
    let request = H2Request::get("localhost", "/app.js").header("if-none-match", &etag);
    assert_eq!(h2(&edge).await.send(&request).await.expect("a response").status, 304);
    std::fs::write(edge.file("public/app.js"), "other").unwrap();
    let changed = client.exchange(format!("GET /app.js HTTP/1.1\r\nhost: x\r\nif-none-match: {etag}\r\n\r\n")).await;
    assert_eq!((changed.status, changed.text().as_str()), (200, "other"), "the same length, another time");
}

#[tokio::test]
async fn no_file_was_changed_after_it_is_sent() {
    let (edge, _origin) = serving("").await;
    let time = SystemTime::now() + Duration::from_secs(400 * 24 * 3600);
    std::fs::File::options().write(true).open(edge.file("public/app.js")).unwrap().set_modified(time).unwrap();
    let mut client = edge.client().await;
    let first = client.get("x", "/app.js").await;
    let date = |name: &str| httpdate::parse_http_date(first.header(name).expect(name)).unwrap();
    // RFC 9110 section 8.8.2.1.
    assert!(date("last-modified") <= date("date"), "{:?}", first.headers);
    let fields = format!("range: bytes=1-2\r\nif-range: {}", first.header("last-modified").unwrap());
    let answer = client.exchange(format!("GET /app.js HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "plain"), "it may have changed since");
}

#[tokio::test]
async fn codings_that_lie_beside_a_file_are_sent_to_those_who_take_them() {
    let (edge, _origin) = serving(", precompressed: [zstd, br, gzip]").await;
    let mut client = edge.client().await;
    let mut etags = std::collections::BTreeSet::new();
    for (accept, coding, body) in [
        ("", None, "plain"),
        ("accept-encoding: gzip, br, zstd\r\n", Some("br"), "brotli"),
        ("accept-encoding: gzip\r\n", Some("gzip"), "gzip"),
    ] {
        let answer = client.exchange(format!("GET /app.js HTTP/1.1\r\nhost: x\r\n{accept}\r\n")).await;
        assert_eq!((answer.header("content-encoding"), answer.text().as_str()), (coding, body), "{accept}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        etags.insert(answer.header("etag").expect("an etag").to_owned());
    }
    assert_eq!(etags.len(), 3, "each representation has its own");
    let bare = client.exchange("GET /about.html HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\n\r\n").await;
    assert_eq!((bare.header("content-encoding"), bare.text().as_str()), (None, "about"));
}

#[tokio::test]
async fn endings_and_a_fallback_are_tried() {
    let (edge, _origin) = serving(", extensions: [txt, html], fallback: index.html").await;
    for (path, body) in [
        ("/about", "about"),
        ("/profile/settings", "<h1>home</h1>"),
        ("/profile/", "<h1>home</h1>"),
        ("/docs/empty/", "<h1>home</h1>"),
        ("/missing.js", "origin"),
        ("/.env", "origin"),
    ] {
        assert_eq!(edge.get(path).await.text(), body, "{path}");
    }
}

#[tokio::test]
async fn a_link_to_the_directory_may_be_moved_and_a_missing_one_is_our_error() {
    let builder = edge().route("all", "respond: {status: 404}\nfilters: [{static_files: {root: current}}]");
    for release in ["one", "two"] {
        std::fs::create_dir(builder.file(release)).unwrap();
        std::fs::write(builder.file(release).join("a.txt"), release).unwrap();
    }
    symlink("one", builder.file("current")).unwrap();
    let edge = builder.start().await;
    assert_eq!(edge.get("/a.txt").await.text(), "one");
    symlink("two", edge.file("next")).unwrap();
    std::fs::rename(edge.file("next"), edge.file("current")).unwrap();
    assert_eq!(edge.get("/a.txt").await.text(), "two");
    std::fs::remove_file(edge.file("current")).unwrap();
    assert_eq!(edge.get("/a.txt").await.status, 500);
    let log = edge.access_log_of(3).await;
    assert_eq!(log[2]["end"]["reason"], "file_unreadable");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_cut_visibly() {
    let builder = edge().route("all", "respond: {status: 404}\nfilters: [{static_files: {root: public}}]");
    fill(&builder);
    let huge = builder.file("public/huge.bin");
    std::fs::File::create(&huge).unwrap().set_len(64 << 20).unwrap();
    let edge = builder.start().await;
    let mut client = edge.client().await;
    client.send("GET /huge.bin HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.read_head().await.headers.get("content-length"), Some("67108864"));
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 20).unwrap();
    let (body, _) = client.read_to_end().await;
    assert!(body.len() < 64 << 20, "{}", body.len());
}

#[tokio::test]
async fn a_body_that_its_client_does_not_take_is_cut_visibly() {
    let builder = edge().listener("http: {body_idle_timeout: 300ms}");
    let builder = builder.route("all", "respond: {status: 404}\nfilters: [{compress: {}}, {static_files: {root: public}}]");
    fill(&builder);
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            state ^= if left { state << by } else { state >> by };
        }
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(1_500_000).flatten().collect();
    std::fs::write(builder.file("public/huge.txt"), noise).unwrap();
    let edge = builder.start().await;
    let mut client = edge.client().await;
    client.small_receive_buffer(16 * 1024);
    client.send("GET /huge.txt HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let log = edge.access_log().await;
    assert_eq!((&log[0]["end"]["who"], &log[0]["end"]["reason"]), (&"client".into(), &"client_not_reading".into()));
    assert_eq!(client.read_head().await.headers.get("transfer-encoding"), Some("chunked"));
    let (body, _) = client.read_to_end().await;
    assert!(!body.ends_with(b"0\r\n\r\n"), "it looks whole");
    assert!(!body.windows(9).any(|window| window == b"HTTP/1.1 "), "the next answer is in it");
}

#[tokio::test]
async fn who_takes_a_file_slowly_gets_all_of_it_over_http_2() {
    let builder = edge().listener("http: {h2c: true, body_idle_timeout: 1500ms}");
    let builder = builder.route("all", "respond: {status: 404}\nfilters: [{static_files: {root: public}}]");
    fill(&builder);
    std::fs::write(builder.file("public/huge.bin"), vec![7; 8 << 20]).unwrap();
    let edge = builder.start().await;
    let mut client = H2Client::connect(edge.address("web")).await;
    let began = Instant::now();
    let response = client.start(&H2Request::get("x", "/huge.bin")).await.unwrap().head().await.unwrap();
    assert_eq!(sip(&mut response.into_body()).await.unwrap(), 8 << 20);
    assert!(began.elapsed() > Duration::from_millis(1500), "it took longer than a pause may");
}
