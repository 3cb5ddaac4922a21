//! Hostile requests, each with the refusal it must get. The groups are the sections of the RFCs they break.

use proptest::prelude::*;

use super::*;
use crate::gate::head::{Limits, parse, scan};

fn admit_bytes(bytes: &[u8]) -> Result<Admitted, Refusal> {
    let limits = Limits::default();
    let end = scan(bytes, &limits, &mut 0)?.ok_or(Refusal::IncompleteHead)?;
    admit_h1(&parse(&bytes[..end], &limits)?, false)
}

fn admit(text: &str) -> Result<Admitted, Refusal> {
    admit_bytes(text.as_bytes())
}

/// A GET with these lines after Host.
fn with(lines: &str) -> Result<Admitted, Refusal> {
    admit(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

/// A request with this target.
fn target(target: &str) -> Result<Admitted, Refusal> {
    admit(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

#[test]
fn rfc9112_6_framing_has_one_reading() {
    use Refusal::*;
    for (lines, refusal) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", TeAndCl),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", TeAndCl),
        ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", TeAndCl),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: chunked, gzip\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: identity\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: xchunked\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: chunked;x=y\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: ,chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked,\r\n", BadTransferEncoding),
        ("Transfer-Encoding:\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chun ked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", BadFieldValue),
        ("Content-Length: 5, 5\r\n", BadContentLength),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", DuplicateContentLength),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", DuplicateContentLength),
        ("Content-Length:\r\n", BadContentLength),
        ("Content-Length: +5\r\n", BadContentLength),
        ("Content-Length: -5\r\n", BadContentLength),
        ("Content-Length: 0x5\r\n", BadContentLength),
        ("Content-Length: 5 5\r\n", BadContentLength),
        ("Content-Length: 5.0\r\n", BadContentLength),
        ("Content-Length: 9223372036854775808\r\n", BadContentLength),
        ("Content-Length: 99999999999999999999\r\n", BadContentLength),
        ("Content-Length: \u{0665}\r\n", BadContentLength),
    ] {
        assert_eq!(with(lines), Err(refusal), "{lines:?}");
    }
    assert_eq!(admit("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(TeOnHttp10));
    assert_eq!(with("Transfer-Encoding: Chunked\r\n").map(|sound| sound.body), Ok(BodyFraming::Chunked));
    assert_eq!(with("Content-Length: 0\r\n").map(|sound| sound.body), Ok(BodyFraming::Length(0)));
    assert_eq!(with("Content-Length: 9223372036854775807\r\n").map(|sound| sound.body), Ok(BodyFraming::Length((1 << 63) - 1)));
    assert_eq!(with("").map(|sound| sound.body), Ok(BodyFraming::None));
}

#[test]
fn rfc9112_3_2_host_is_one_and_valid() {
    use Refusal::*;
    for (lines, refusal) in [
        ("", MissingHost),
        ("Host: a\r\nHost: a\r\n", DuplicateHost),
        ("Host: a\r\nhost: b\r\n", DuplicateHost),
        ("Host:\r\n", BadHost),
        ("Host: u@a\r\n", BadHost),
        ("Host: a, b\r\n", BadHost),
        ("Host: a b\r\n", BadHost),
        ("Host: a/b\r\n", BadHost),
        ("Host: a:b\r\n", BadHost),
        ("Host: a:99999\r\n", BadHost),
        ("Host: a:80:80\r\n", BadHost),
        ("Host: :80\r\n", BadHost),
        ("Host: [::1\r\n", BadHost),
        ("Host: a\u{e9}\r\n", BadHost),
        ("Host : a\r\n", SpaceBeforeColon),
    ] {
        assert_eq!(admit(&format!("GET / HTTP/1.1\r\n{lines}\r\n")), Err(refusal), "{lines:?}");
    }
    let sound = admit("GET / HTTP/1.1\r\nhOST:  WWW.Example.com:8080 \r\n\r\n").unwrap();
    assert_eq!((sound.host.as_str(), sound.port), ("www.example.com", Some(8080)));
}

#[test]
fn rfc9112_3_2_targets_have_one_reading() {
    use Refusal::*;
    for (text, refusal) in [
        ("/a b", BadTarget),
        ("/a\tb", BadTarget),
        ("/a\x01b", BadTarget),
        ("/\u{e9}", BadTarget),
        ("/a#b", Fragment),
        ("/a?b#c", Fragment),
        ("/a\\b", Backslash),
        ("/%5c..%5c", AmbiguousPath),
        ("/a?b=\u{e9}", BadTarget),
        ("/a?b\x01c", BadTarget),
        ("/%00", NulInTarget),
        ("/a?b=%00", NulInTarget),
        ("/%", BadEscape),
        ("/%zz", BadEscape),
        ("/../etc/passwd", PathAboveRoot),
        ("/%2e%2e/etc/passwd", PathAboveRoot),
        ("/a/%2E./..//b", PathAboveRoot),
        ("/..;/admin", AmbiguousPath),
        ("*", BadTarget),
        ("a", BadTarget),
        ("a:80", BadTarget),
        ("?a", BadTarget),
        ("//\\a", Backslash),
        ("http:/a", BadTarget),
        ("ftp://a/", BadTarget),
        ("http://", BadTarget),
        ("http://u@a/", BadTarget),
        ("http://b/", HostMismatch),
        ("http://a:81/", HostMismatch),
        ("https://a/", Misdirected),
        ("http://a/#b", Fragment),
        ("http://a#b", Fragment),
        ("http://a\\b/", BadTarget),
    ] {
        assert_eq!(target(text), Err(refusal), "{text:?}");
    }
    assert_eq!(admit_bytes(b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(NulByte));
    assert_eq!(admit("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(BadTarget));
}

#[test]
fn rfc9112_3_2_forms_that_are_sound() {
    let form = |text: &str, method: &str| {
        let sound = admit(&format!("{method} {text} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        (sound.path, sound.query.map(String::from), sound.origin_form)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(form("/a/../b?c=%5C&d=50%", "GET"), ("/b".into(), some("c=%5C&d=50%"), None));
    assert_eq!(form("/?", "GET"), ("/".into(), some(""), None));
    // What no URI may hold goes on as browsers send it, where the `http` crate cannot hold it.
    assert_eq!(form("/?q=a\\b{|}^`'[]", "GET"), ("/".into(), some("q=a\\b{|}^`'[]"), None));
    assert_eq!(form("/a%5cb\"", "GET"), ("/a%5Cb\"".into(), None, None));
    assert_eq!(form("/<a>?q=\"<b>\"", "GET"), ("/%3Ca%3E".into(), some("q=%22%3Cb%3E%22"), some("/%3Ca%3E?q=%22%3Cb%3E%22")));
    assert_eq!(form("http://a/`?\"", "GET"), ("/%60".into(), some("%22"), some("/%60?%22")));
    assert_eq!(form("*", "OPTIONS"), ("*".into(), None, None));
    assert_eq!(form("http://A:80/x/../y?z", "GET"), ("/y".into(), some("z"), some("/x/../y?z")));
    assert_eq!(form("HTTP://a", "GET"), ("/".into(), None, some("/")));
    assert_eq!(form("http://a?z", "GET"), ("/".into(), some("z"), some("/?z")));
    assert_eq!(form("http://a", "OPTIONS"), ("*".into(), None, some("*")));
}

#[test]
fn rfc1945_5_http_1_0_may_name_no_host() {
    let host = |line: &str, lines: &str| {
        admit(&format!("{line} HTTP/1.0\r\n{lines}\r\n")).map(|sound| (sound.host, sound.port, sound.origin_form))
    };
    assert_eq!(host("GET /", ""), Ok(("".into(), None, None)));
    assert_eq!(host("OPTIONS *", ""), Ok(("".into(), None, None)));
    assert_eq!(host("GET http://A:81/x", ""), Ok(("a".into(), Some(81), Some("/x".into()))));
    assert_eq!(host("GET /", "Host: b\r\n"), Ok(("b".into(), None, None)));
    assert_eq!(host("GET http://a/", "Host: b\r\n"), Err(Refusal::HostMismatch));
    assert_eq!(host("GET /", "Host:\r\n"), Err(Refusal::BadHost));
    assert_eq!(host("GET /", "Host: a\r\nHost: a\r\n"), Err(Refusal::DuplicateHost));
    assert_eq!(admit("GET / HTTP/1.2\r\n\r\n"), Err(Refusal::MissingHost));
    assert_eq!(admit("GET http://a/ HTTP/1.1\r\n\r\n"), Err(Refusal::MissingHost));
}

#[test]
fn rfc9112_5_fields_are_lines_of_name_and_value() {
    use Refusal::*;
    for (lines, refusal) in [
        ("no colon\r\n", BadFieldName),
        ("nocolon\r\n", BadFieldName),
        (": x\r\n", BadFieldName),
        ("a b: x\r\n", SpaceBeforeColon),
        ("a : x\r\n", SpaceBeforeColon),
        ("a\t: x\r\n", SpaceBeforeColon),
        ("a(b): x\r\n", BadFieldName),
        ("\u{e9}: x\r\n", BadFieldName),
        ("X: a\r\n b\r\n", ObsFold),
        ("X: a\r\n\tb\r\n", ObsFold),
        ("X: a\rb\r\n", BareCr),
        ("X: a\r\r\n", BareCr),
        ("X: a\nY: b\r\n", BareLf),
        ("X: a\x7f\r\n", BadFieldValue),
        ("X: a\x01\r\n", BadFieldValue),
    ] {
        assert_eq!(with(lines), Err(refusal), "{lines:?}");
    }
    assert_eq!(admit_bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"), Err(NulByte));
    assert_eq!(admit("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), Err(ObsFold));
    assert!(with("X: a\tb \u{e9}\r\nY:\r\n").is_ok());
    assert!(with("x_y: 1\r\n").unwrap().underscores && !with("x-y: 1\r\n").unwrap().underscores);
    assert!(with("X.Forwarded.For: 1\r\n").unwrap().underscores && !with("x.y: 1\r\n").unwrap().underscores);
}

#[test]
fn rfc9112_2_and_3_request_lines() {
    use Refusal::*;
    for (text, refusal) in [
        ("GET / HTTP/1.1\nHost: a\n\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LeadingGarbage),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", LeadingGarbage),
        ("\x16\x03\x01\x02", TlsOnCleartext),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2Preface),
        ("GET /\r\n\r\n", Http09),
        ("GET\r\n\r\n", BadRequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", BadVersion),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", BadVersion),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET / HTTP/1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", BadMethod),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", MethodNotAllowed),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", MethodNotAllowed),
        ("GET / HTTP/1.1\r\nHost: a\r\n", IncompleteHead),
    ] {
        assert_eq!(admit(text), Err(refusal), "{text:?}");
    }
    assert_eq!(admit(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "G".repeat(33))), Err(MethodTooLong));
    assert!(admit("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    assert!(admit("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    assert_eq!(admit("GET / HTTP/1.2\r\nHost: a\r\n\r\n").unwrap().http, Version::Http11);
    assert_eq!(admit("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap().http, Version::Http10);
}

#[test]
fn limits_have_their_own_status() {
    use Refusal::*;
    let line = |bytes: usize| format!("X: {}\r\n", "x".repeat(bytes));
    assert_eq!(with(&line(17_000)), Err(FieldTooLarge));
    assert_eq!(with(&line(16_000).repeat(3)), Err(HeaderTooLarge));
    assert_eq!(with(&"a: b\r\n".repeat(100)), Err(TooManyHeaders));
    assert!(with(&"a: b\r\n".repeat(99)).is_ok());
    assert_eq!(target(&format!("/{}", "a".repeat(8192))), Err(UriTooLong));
    assert!(target(&format!("/{}", "a".repeat(8191))).is_ok());
    let endless = format!("GET /{}", "a".repeat(9000));
    assert_eq!(scan(endless.as_bytes(), &Limits::default(), &mut 0), Err(UriTooLong), "before the line ends");
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(33_000));
    assert_eq!(scan(endless.as_bytes(), &Limits::default(), &mut 0), Err(HeaderTooLarge), "before the head ends");
}

#[test]
fn rfc9110_10_1_1_only_one_expectation() {
    let post = |version: &str, lines: &str| admit(&format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
    assert_eq!(post("1.1", "Expect: bogus\r\n"), Err(Refusal::BadExpectation));
    assert_eq!(post("1.1", "Expect: 100-continue, bogus\r\n"), Err(Refusal::BadExpectation));
    assert_eq!(post("1.1", "Expect: 100-continue\r\nExpect: bogus\r\n"), Err(Refusal::BadExpectation));
    let waits = |version, lines| post(version, lines).map(|sound| sound.expect_continue);
    assert_eq!(waits("1.1", "Expect: 100-Continue\r\nContent-Length: 5\r\n"), Ok(true));
    assert_eq!(waits("1.1", "Expect: 100-continue\r\n"), Ok(false), "there is no body to wait for");
    assert_eq!(waits("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n"), Ok(false), "HTTP/1.0 knows no 100");
    assert_eq!(waits("1.0", "Expect: bogus\r\n"), Ok(false));
}

#[test]
fn rfc9110_7_8_only_websocket_is_upgraded_to() {
    let upgrade = |lines: &str| with(lines).map(|sound| sound.upgrade);
    let honoured = Ok(Some(Upgrade::Websocket));
    assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"), honoured);
    assert_eq!(upgrade("Connection: keep-alive, UPGRADE\r\nUpgrade: foo, WebSocket\r\nContent-Length: 0\r\n"), honoured);
    assert_eq!(upgrade("Upgrade: websocket\r\n"), Ok(None));
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: foo\r\n"), Ok(None));
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), Ok(None));
    let asks = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(upgrade(&format!("{asks}Content-Length: 5\r\n")), Err(Refusal::UpgradeWithBody));
    assert_eq!(upgrade(&format!("{asks}Transfer-Encoding: chunked\r\n")), Err(Refusal::UpgradeWithBody));
    assert_eq!(admit(&format!("POST / HTTP/1.1\r\nHost: a\r\n{asks}\r\n")).unwrap().upgrade, None);
    assert_eq!(admit(&format!("GET / HTTP/1.0\r\nHost: a\r\n{asks}\r\n")).unwrap().upgrade, None);
}

#[test]
fn rfc9112_9_3_connections_persist() {
    let keeps =
        |version: &str, lines: &str| admit(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).unwrap().keep_alive;
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.1", "Connection: Close\r\n"));
    assert!(!keeps("1.1", "Connection: x\r\nConnection: keep-alive, close\r\n"));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn rfc9110_7_6_2_max_forwards_is_for_options() {
    let forwards = |method: &str, value: &str| {
        admit(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n")).map(|sound| sound.max_forwards)
    };
    assert_eq!(forwards("OPTIONS", "0"), Ok(Some(0)));
    assert_eq!(forwards("OPTIONS", "300"), Ok(Some(255)));
    assert_eq!(forwards("OPTIONS", "-1"), Err(Refusal::BadMaxForwards));
    assert_eq!(forwards("GET", "x"), Ok(None));
}

/// What an HTTP/1 head takes, the same in HTTP/2 takes, however its cookies are cut.
#[test]
fn rfc9113_8_2_3_a_limit_means_the_same_in_both_versions() {
    let check = |limits: &Limits, path: &str, fields: &[(&str, String)]| {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let one =
            scan(text.as_bytes(), limits, &mut 0).and_then(|end| parse(&text.as_bytes()[..end.unwrap()], limits).map(|_| ()));
        let mut request = http::Request::builder().uri(format!("https://a.example{path}"));
        for (name, value) in fields {
            for piece in if *name == "cookie" { value.split("; ").collect() } else { vec![value.as_str()] } {
                request = request.header(*name, piece);
            }
        }
        let two = limits.check(&request.body(()).unwrap().into_parts().0);
        assert_eq!(two, one, "{path:.20} {} fields", fields.len());
        one
    };
    let limits = Limits::new(4096, 10);
    let field = |length: usize| ("x", "v".repeat(length));
    let cookies = |count: usize| ("cookie", vec!["a=b"; count].join("; "));
    let many = |count: usize| vec![field(1); count];
    let fill = |length: usize| vec![field(1000), field(1000), field(1000), field(length)];
    // `GET / HTTP/1.1`, the Host and the empty line take 16, 17 and 2 bytes, and each field five and its value.
    let left = 4096 - 35 - 3 * 1005 - 5;
    for (path, fields, want) in [
        ("/", many(9), Ok(())),
        ("/", many(10), Err(Refusal::TooManyHeaders)),
        ("/", [many(8), vec![cookies(50)]].concat(), Ok(())),
        ("/", [many(9), vec![cookies(2)]].concat(), Err(Refusal::TooManyHeaders)),
        ("/", vec![field(2045)], Ok(())),
        ("/", vec![field(2046)], Err(Refusal::FieldTooLarge)),
        ("/", vec![cookies(408)], Ok(())),
        ("/", vec![cookies(409)], Err(Refusal::FieldTooLarge)),
        ("/", fill(left), Ok(())),
        ("/", fill(left + 1), Err(Refusal::HeaderTooLarge)),
        (&format!("/{}", "p".repeat(1023)), vec![], Ok(())),
        (&format!("/{}", "p".repeat(1024)), vec![], Err(Refusal::UriTooLong)),
    ] {
        assert_eq!(check(&limits, path, &fields), want, "{path:.20} {} fields", fields.len());
    }
    // The library counts 32 bytes on top of each field, and each cookie by itself: as many as browsers keep for a site, and more.
    let cookies_of_a_site = 600;
    assert!(Limits::default().list_bytes() >= 32 * 1024 + (100 + cookies_of_a_site) * 32);
}

/// An HTTP/2 request as a library hands it over.
fn h2(method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<Admitted, Refusal> {
    let mut request = http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    admit_stream(&request.body(()).unwrap().into_parts().0, Version::Http2)
}

#[test]
fn rfc9113_8_requests_are_held_to_the_same() {
    use Refusal::*;
    let uri = "https://a/";
    for (method, uri, lines, refusal) in [
        ("GET", "/", &[][..], MissingHost),
        ("GET", uri, &[("host", "b")], HostMismatch),
        ("GET", uri, &[("host", "a:80")], HostMismatch),
        ("GET", uri, &[("host", "a"), ("host", "a")], DuplicateHost),
        ("GET", uri, &[("host", "u@a")], BadHost),
        ("GET", "https://u@a/", &[], BadHost),
        ("GET", uri, &[("connection", "close")], ConnectionField),
        ("GET", uri, &[("keep-alive", "1")], ConnectionField),
        ("GET", uri, &[("proxy-connection", "close")], ConnectionField),
        ("GET", uri, &[("transfer-encoding", "chunked")], ConnectionField),
        ("GET", uri, &[("upgrade", "websocket")], ConnectionField),
        ("GET", uri, &[("te", "gzip")], ConnectionField),
        ("GET", uri, &[("content-length", "1"), ("content-length", "1")], DuplicateContentLength),
        ("GET", uri, &[("content-length", "+1")], BadContentLength),
        ("GET", uri, &[("expect", "bogus")], BadExpectation),
        ("TRACE", uri, &[], MethodNotAllowed),
        ("CONNECT", "a:443", &[], MethodNotAllowed),
        ("GET", "https://a/%2e%2e/b", &[], PathAboveRoot),
        ("GET", "https://a/%00", &[], NulInTarget),
        ("GET", "https://a/?%00", &[], NulInTarget),
        ("GET", "https://a/a\\b", &[], Backslash),
        ("GET", "*", &[("host", "a")], BadTarget),
        ("OPTIONS", uri, &[("max-forwards", "x")], BadMaxForwards),
    ] {
        assert_eq!(h2(method, uri, lines), Err(refusal), "{method} {uri} {lines:?}");
    }
    let sound = h2("POST", "https://A:8443/x//y?z", &[("host", "a:8443"), ("te", "trailers"), ("x_y", "1")]).unwrap();
    assert_eq!((sound.host.as_str(), sound.port, sound.path.as_str()), ("a", Some(8443), "/x/y"));
    assert_eq!((sound.query.as_deref(), sound.body, sound.http), (Some("z"), BodyFraming::Stream, Version::Http2));
    assert!(sound.underscores && sound.keep_alive);
    assert_eq!(h2("OPTIONS", "*", &[("host", "a")]).unwrap().path, "*");
}

/// Heads of the pieces that matter, so that most runs come past the first byte.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "Host: a\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "X: y\r\n",
            "X:\r\n", "\r\n", "\n", "\r", " ", "\t", ":", "a: b", "Expect: 100-continue\r\n", "x_y:z\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let line = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "\r\nPOST /a?b HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "GET /",
        "",
    ]);
    (line, prop::collection::vec(piece, 0..8), any::<bool>()).prop_map(|(line, pieces, ends)| {
        [line.as_bytes(), &pieces.concat(), if ends { b"\r\n\r\n".as_slice() } else { b"" }].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn scan_answers_alike_however_the_head_comes(
        bytes in heads(),
        small in any::<bool>(),
        sizes in prop::collection::vec(1usize..9, 1..5),
    ) {
        let limits = if small { Limits::new(64, 3) } else { Limits::default() };
        let whole = scan(&bytes, &limits, &mut 0);
        let (mut here, mut scanned, mut found) = (0, 0, Ok(None));
        for size in sizes.iter().cycle() {
            if here == bytes.len() || found != Ok(None) {
                break;
            }
            here = bytes.len().min(here + size);
            found = scan(&bytes[..here], &limits, &mut scanned);
            prop_assert!(scanned <= here);
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn what_is_accepted_reads_the_same_elsewhere(bytes in heads()) {
        let limits = Limits::default();
        if let Ok(Some(end)) = scan(&bytes, &limits, &mut 0)
            && let Ok(head) = parse(&bytes[..end], &limits)
        {
            let mut slots = [httparse::EMPTY_HEADER; 100];
            let mut other = httparse::Request::new(&mut slots);
            prop_assert_eq!(other.parse(&bytes), Ok(httparse::Status::Complete(end)));
            prop_assert_eq!((other.method, other.path), (Some(head.method), Some(head.target)));
            let ours: Vec<_> = head.fields().iter().map(|field| (field.name, field.value)).collect();
            let theirs: Vec<_> = other.headers.iter().map(|field| (field.name, field.value)).collect();
            prop_assert_eq!(ours, theirs);
            let _ = admit_h1(&head, false);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = Limits::default();
        let _ = scan(&bytes, &limits, &mut 0);
        if let Ok(head) = parse(&bytes, &limits) {
            let _ = admit_h1(&head, true);
        }
    }
}
