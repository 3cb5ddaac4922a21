//! Rule 6: the limits of a head mean the same over HTTP/1 and HTTP/2 (RFC 9113 sections 8.2.3 and 8.3).

use crate::{
    setup::{bed_of, h2},
    support::{h2_client::H2Request, origin::origin},
};

/// A request without its version.
struct Case {
    what: &'static str,
    path: String,
    fields: Vec<(&'static str, String)>,
    status: u16,
}

fn case(what: &'static str, status: u16, fields: Vec<(&'static str, String)>) -> Case {
    Case { what, path: "/".to_owned(), fields, status }
}

fn to_path(what: &'static str, status: u16, length: usize) -> Case {
    Case { path: format!("/{}", "p".repeat(length - 1)), ..case(what, status, Vec::new()) }
}

#[tokio::test]
async fn rfc9113_8_2_3_a_message_has_one_size_in_both_versions() {
    let bed = bed_of(origin().respond(200, "ok"), "max_header_bytes: 4KiB, max_header_count: 10").await;
    let field = |length: usize| ("x", "v".repeat(length));
    let cookies = |count: usize| ("cookie", vec!["name12=value123456"; count].join("; "));
    let many = |count: usize| vec![field(1); count];
    let fill = |length: usize| vec![field(1000), field(1000), field(1000), field(length)];
    // The request line, the Host and the empty line take 16, 19 and 2 bytes; each field its value, its name and four.
    let left = 4096 - 37 - 3 * 1005 - 5;
    let cases = [
        case("as many fields as may be", 200, many(9)),
        case("one field more", 431, many(10)),
        case("cookies are one field", 200, [many(8), vec![cookies(90)]].concat()),
        case("cookies are one field too many", 431, [many(9), vec![cookies(2)]].concat()),
        case("the longest field", 200, vec![field(2045)]),
        case("a longer field", 431, vec![field(2046)]),
        case("the longest cookies", 200, vec![cookies(102)]),
        case("longer cookies", 431, vec![cookies(103)]),
        case("the largest head", 200, fill(left)),
        case("a larger head", 431, fill(left + 1)),
        to_path("the longest target", 200, 1024),
        to_path("a longer target", 414, 1025),
    ];
    let mut two = h2(&bed.edge).await;
    for Case { what, path, fields, status } in &cases {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let by_one = bed.exchange(format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n")).await;
        let mut request = H2Request::get("example.com", path);
        for (name, value) in fields {
            // As browsers do: each cookie in a field of its own, so that the table of the compression serves them.
            let pieces: Vec<&str> = if *name == "cookie" { value.split("; ").collect() } else { vec![value] };
            for piece in pieces {
                request.headers.append(*name, piece.parse().expect("a value"));
            }
        }
        let by_two = two.send(&request).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((by_one.status, by_two.status.as_u16()), (*status, *status), "{what}");
        if *status == 200 {
            let received = [bed.origin.next_request().await, bed.origin.next_request().await];
            for (name, value) in fields.iter().filter(|(name, _)| *name == "cookie") {
                assert!(received.iter().all(|received| received.headers.all(name) == [value]), "{what}");
            }
        }
    }
    let log = bed.edge.access_log_of(cases.len() * 2).await;
    let ends = |http: &str| -> Vec<String> {
        let lines = log.iter().filter(|line| line["http"] == http && line["status"] != 200);
        lines.map(|line| line["end"]["reason"].to_string()).collect()
    };
    assert_eq!(ends("1.1"), ends("2"));
    assert_eq!(ends("2").len(), 6);
}
