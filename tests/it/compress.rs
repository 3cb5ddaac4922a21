//! Compressed responses as clients decode them: whole, as a stream, over HTTP/1.1 and HTTP/2, and what is left alone.

use std::io::{self, Read, Write};

use http::Method;

use crate::support::{
    Gate,
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request},
    h2_origin::{H2Answer, h2_origin},
    origin::{Answer, Origin, origin},
    within,
};

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

/// Longer than the pieces it is read in.
fn page() -> String {
    (0..20_000).map(|line| format!("<p>line {line}</p>\n")).collect()
}

fn with(origin: &Origin, options: &str) -> EdgeBuilder {
    edge().upstream("app", &[origin.addr()]).route("all", &format!("upstream: app\nfilters: [{{compress: {options}}}]")).tls()
}

async fn h2(edge: &Edge) -> H2Client {
    H2Client::connect_tls(edge.address("edge"), &edge.trust()).await
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{fields}\r\n")
}

/// What a client reads that knows the coding.
fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut out = Vec::new();
    let read = match coding {
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut out)),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        other => panic!("no coding: {other}"),
    };
    read.unwrap_or_else(|error| panic!("{coding} of {} bytes: {error}", bytes.len()));
    String::from_utf8(out).expect("text")
}

/// Decodes what has come so far, as it comes.
enum Decoder {
    Br(Box<brotli::DecompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzDecoder<Vec<u8>>),
}

impl Decoder {
    fn new(coding: &str) -> Self {
        match coding {
            "br" => Decoder::Br(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096))),
            "zstd" => Decoder::Zstd(zstd::stream::write::Decoder::new(Vec::new()).unwrap()),
            _ => Decoder::Gzip(flate2::write::GzDecoder::new(Vec::new())),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Decoder::Br(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Decoder::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Decoder::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        }
    }

    fn text(&self) -> String {
        let out = match self {
            Decoder::Br(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
            Decoder::Gzip(decoder) => decoder.get_ref(),
        };
        String::from_utf8_lossy(out).into_owned()
    }
}

/// On several threads, as a server has them: long pieces are encoded beside the workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_decode_what_the_origin_said() {
    let page = page();
    let measured = [HTML, ("etag", "\"v1\""), ("accept-ranges", "bytes")];
    let origin = origin().respond_headers(200, &measured, &page).spawn().await;
    let edge = with(&origin, "{}").start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for (accepts, coding) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, br;q=0.9", "gzip"),
        ("identity;q=0, *;q=0.1, zstd;q=0", "br"),
    ] {
        let answer = client.exchange(get("/", &format!("accept-encoding: {accepts}\r\n"))).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)), "{accepts}");
        assert_eq!((answer.header("vary"), answer.header("etag")), (Some("accept-encoding"), Some("W/\"v1\"")));
        assert_eq!((answer.header("content-length"), answer.header("accept-ranges")), (None, None));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert!(answer.body.len() < page.len() / 3, "{coding}: {} bytes", answer.body.len());
        assert!(decoded(coding, &answer.body) == page, "{coding}");
        let answer = h2.send(&H2Request::get("localhost", "/").header("accept-encoding", accepts)).await.unwrap();
        assert_eq!((answer.header("content-encoding"), answer.header("content-length")), (Some(coding), None));
        assert!(decoded(coding, &answer.body) == page, "{coding} over HTTP/2");
    }
    for refuses in ["", "accept-encoding: identity\r\n", "accept-encoding: gzip;q=0, deflate\r\n"] {
        let answer = client.exchange(get("/", refuses)).await;
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, Some("accept-encoding")), "{refuses}");
        assert_eq!(answer.header("etag"), Some("\"v1\""));
        assert!(answer.text() == page);
    }
    let mut old = edge.client().await;
    old.send("GET / HTTP/1.0\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n").await;
    assert!(old.read_head().await.start.contains("200"));
    assert!(decoded("gzip", &old.read_to_close().await) == page, "the end of the connection ends the body");
}

#[tokio::test]
async fn a_stream_can_be_read_before_the_origin_goes_on() {
    for coding in ["zstd", "br", "gzip"] {
        let gate = Gate::new();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = Answer::raw(head).bytes("6\r\nfirst\n\r\n").wait(&gate).bytes("7\r\nsecond\n\r\n0\r\n\r\n");
        let origin = origin().answer(answer).spawn().await;
        let edge = with(&origin, "{}").start().await;

        let mut client = edge.client().await;
        client.send(get("/", &format!("accept-encoding: {coding}\r\n"))).await;
        client.read_head().await;
        let (mut wire, mut text) = (Vec::new(), String::new());
        while !text.contains("first\n") {
            let more = client.read_some().await;
            assert!(!more.is_empty(), "{coding}: the connection ended");
            wire.extend_from_slice(&more);
            let mut decoder = Decoder::new(coding);
            whole_chunks(&wire).iter().for_each(|chunk| decoder.feed(chunk).unwrap());
            text = decoder.text();
        }
        assert_eq!(text, "first\n", "{coding}");

        let mut h2 = h2(&edge).await;
        let exchange = h2.start(&H2Request::get("localhost", "/").header("accept-encoding", coding)).await.unwrap();
        let (_sending, response) = exchange.split();
        let mut body = within("a response", response).await.unwrap().into_body();
        let mut decoder = Decoder::new(coding);
        while decoder.text() != "first\n" {
            let piece = within("a piece", body.data()).await.expect("not the end").unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            decoder.feed(&piece).unwrap();
        }
        gate.open();
        while let Some(piece) = within("a piece", body.data()).await {
            decoder.feed(&piece.unwrap()).unwrap();
        }
        assert_eq!(decoder.text(), "first\nsecond\n", "{coding} over HTTP/2");
        while !wire.ends_with(b"\r\n0\r\n\r\n") {
            let more = client.read_some().await;
            assert!(!more.is_empty(), "{coding}: the connection ended");
            wire.extend_from_slice(&more);
        }
        assert_eq!(decoded(coding, &whole_chunks(&wire).concat()), "first\nsecond\n", "{coding}");
    }
}

/// The chunks that are there to their end.
fn whole_chunks(wire: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut chunks) = (wire, Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).expect("the size of a chunk");
        let Some(chunk) = rest.get(line + 2..line + 2 + size).filter(|_| size > 0) else { break };
        chunks.push(chunk.to_vec());
        rest = rest.get(line + 2 + size + 2..).unwrap_or_default();
    }
    chunks
}

#[tokio::test]
async fn what_is_not_for_compression_passes_as_it_is() {
    let long = "x".repeat(5000);
    let origin = origin().respond_with({
        let long = long.clone();
        move |request| match request.target.as_str() {
            "/png" => Answer::with_headers(200, &[("content-type", "image/png")], &long),
            "/encoded" => Answer::with_headers(200, &[HTML, ("content-encoding", "br")], &long),
            "/kept" => Answer::with_headers(200, &[HTML, ("cache-control", "no-transform")], &long),
            "/part" => Answer::with_headers(206, &[HTML, ("content-range", "bytes 0-4999/9000")], &long),
            "/short" => Answer::with_headers(200, &[HTML], "short"),
            "/events" => Answer::with_headers(200, &[("content-type", "text/event-stream")], "data: 1\n\n".repeat(500)),
            _ => Answer::with_headers(200, &[HTML], ""),
        }
    });
    let origin = origin.spawn().await;
    let edge = with(&origin, "{}").start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for path in ["/png", "/encoded", "/kept", "/part", "/short", "/events", "/empty"] {
        let answer = client.exchange(get(path, "accept-encoding: gzip\r\n")).await;
        let own = (path == "/encoded").then_some("br");
        assert_eq!((answer.header("content-encoding"), answer.header("content-length").is_some()), (own, true), "{path}");
        let over_h2 = h2.send(&H2Request::get("localhost", path).header("accept-encoding", "gzip")).await.unwrap();
        assert_eq!((over_h2.header("content-encoding"), &over_h2.body[..]), (own, &answer.body[..]), "{path}");
        assert!(path != "/png" || answer.text() == long);
    }
    let ranges = "accept-encoding: gzip\r\nrange: bytes=0-4999\r\n";
    client.exchange(get("/part", ranges)).await;
    client.exchange(get("/part", &format!("{ranges}if-range: Tue, 01 Oct 2024 12:00:00 GMT\r\n"))).await;
    client.exchange(get("/part", &format!("{ranges}if-range: \"v1\"\r\n"))).await;
    let asked: Vec<_> = origin.requests().iter().rev().take(3).map(|request| request.header("range").is_some()).collect();
    assert_eq!(asked, [true, false, true], "no part by a date that all codings have in common");
}

#[tokio::test]
async fn heads_and_what_has_not_changed_have_the_fields_and_no_body() {
    let origin = origin().respond_with(|request| match request.header("if-none-match") {
        Some(_) => Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n"),
        None => Answer::with_headers(200, &[HTML, ("etag", "\"v1\"")], "x".repeat(5000)),
    });
    let origin = origin.spawn().await;
    let edge = with(&origin, "{}").start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\n\r\n").await;
        let head = client.read_head_response().await;
        assert_eq!((head.status, head.header("content-encoding"), head.header("etag")), (200, Some("br"), Some("W/\"v1\"")));
        assert_eq!((head.header("content-length"), head.header("vary")), (None, Some("accept-encoding")));
        let unchanged = client.exchange(get("/", "accept-encoding: br\r\nif-none-match: W/\"v1\"\r\n")).await;
        assert_eq!((unchanged.status, unchanged.header("etag"), unchanged.body.len()), (304, Some("W/\"v1\""), 0));
        assert_eq!((unchanged.header("vary"), unchanged.header("content-encoding")), (Some("accept-encoding"), None));
    }
    let request = H2Request::get("localhost", "/").header("accept-encoding", "br");
    let head = h2.send(&H2Request { method: Method::HEAD, ..request.clone() }).await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("content-encoding"), head.body.len()), (200, Some("br"), 0));
    let unchanged = h2.send(&request.header("if-none-match", "W/\"v1\"")).await.unwrap();
    assert_eq!((unchanged.status.as_u16(), unchanged.header("etag"), unchanged.body.len()), (304, Some("W/\"v1\""), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_weir_says_itself_is_compressed_as_well() {
    let builder = edge().tls().listener("filters:\n  - compress: {min_size: 20B}");
    let builder = builder.route("said", "match: {path: /said}\nrespond: {status: 200, body: said said said said said}");
    let builder =
        builder.route("files", "match: {path: /files/*}\nfilters: [{static_files: {root: public}}]\nrespond: {status: 404}");
    let (root, page) = (builder.file("public/files"), page());
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("page.html"), &page).unwrap();
    let edge = builder.start().await;
    let (mut client, mut h2) = (edge.client().await, h2(&edge).await);
    let answer = client.exchange(get("/said", "accept-encoding: gzip\r\n")).await;
    assert_eq!(decoded("gzip", &answer.body), "said said said said said");
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "its length is known");
    let error = client.exchange(get("/none", "accept-encoding: zstd\r\n")).await;
    assert_eq!((error.status, error.header("vary")), (404, Some("accept-encoding")));
    assert!(decoded("zstd", &error.body).starts_with("404 Not Found"));
    let error = h2.send(&H2Request::get("localhost", "/none").header("accept-encoding", "br")).await.unwrap();
    assert!(decoded("br", &error.body).starts_with("404 Not Found"));
    let file = client.exchange(get("/files/page.html", "accept-encoding: br\r\n")).await;
    assert!(decoded("br", &file.body) == page, "a file that is streamed");
    let part = client.exchange(get("/files/page.html", "accept-encoding: br\r\nrange: bytes=0-9\r\n")).await;
    assert_eq!((part.status, part.header("content-encoding"), part.text().as_str()), (206, None, &page[..10]));
    client.send("HEAD /files/page.html HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.header("content-encoding"), Some("br"));
    assert_eq!(client.get("x", "/said").await.text(), "said said said said said");
}

#[tokio::test]
async fn trailers_and_grpc_go_through() {
    let origin = h2_origin().respond_with(|request| match request.head.uri.path() {
        "/grpc" => H2Answer::grpc("message", 0),
        _ => {
            let answer = H2Answer::new(200, "x".repeat(5000)).header("content-type", "text/plain").header("trailer", "x-sum");
            answer.trailers(&[("x-sum", "7")])
        }
    });
    let origin = origin.spawn().await;
    let keys = "connections: {protocol: h2c}";
    let builder = edge().upstream_with("app", &[origin.addr()], keys).tls();
    let edge = builder.route("all", "upstream: app\nfilters: [{compress: {}}]").start().await;
    let mut h2 = h2(&edge).await;
    let answer = h2.send(&H2Request::get("localhost", "/").header("accept-encoding", "gzip")).await.unwrap();
    assert_eq!((answer.header("content-encoding"), answer.trailer("x-sum")), (None, Some("7")));
    let call = H2Request::post("localhost", "/grpc", "call").header("content-type", "application/grpc").header("te", "trailers");
    let answer = h2.send(&call.header("accept-encoding", "gzip")).await.unwrap();
    assert_eq!((answer.header("content-encoding"), answer.text().as_str()), (None, "message"));
    assert_eq!(answer.trailer("grpc-status"), Some("0"));
}

#[tokio::test]
async fn what_breaks_off_does_not_look_complete() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9000\r\n\r\n";
    let origin = origin().answer(Answer::raw(head).bytes("x".repeat(4000)).close()).spawn().await;
    let edge = with(&origin, "{}").start().await;
    let mut client = RawClient::connect(edge.address("web")).await;
    client.send(get("/", "accept-encoding: gzip\r\n")).await;
    let (bytes, _) = client.read_to_end().await;
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "the last chunk is missing");
    let mut h2 = h2(&edge).await;
    let answer = h2.send(&H2Request::get("localhost", "/").header("accept-encoding", "gzip")).await;
    assert!(answer.is_err(), "{answer:?}");
}
