//! Rule 4: what a header block is made of (RFC 9112 sections 2.2 and 5).

use crate::setup::bed;

fn with(line: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: example.com\r\n{line}\r\n\r\n")
}

#[tokio::test]
async fn rfc9112_5_2_folded_lines_are_refused() {
    let bed = bed().await;
    for line in ["x: a\r\n b", "x: a\r\n\tb", "x: a\r\n : b", "x:\r\n a", "transfer-encoding:\r\n chunked"] {
        bed.refuses(with(line), 400, "obs_fold").await;
    }
    let first = "GET / HTTP/1.1\r\n host: example.com\r\n\r\n";
    bed.refuses(first, 400, "obs_fold").await;
}

#[tokio::test]
async fn rfc9112_2_2_lines_end_in_crlf() {
    let bed = bed().await;
    bed.refuses("GET / HTTP/1.1\nhost: example.com\n\n", 400, "bare_lf").await;
    bed.refuses("GET / HTTP/1.1\r\nhost: example.com\n\r\n", 400, "bare_lf").await;
    bed.refuses("GET / HTTP/1.1\r\nhost: example.com\r\n\n", 400, "bare_lf").await;
    bed.refuses(with("x: a\nb: c"), 400, "bare_lf").await;
    bed.refuses(with("x: a\n\ncontent-length: 5"), 400, "bare_lf").await;
    bed.refuses(with("x: a\rb"), 400, "bare_cr").await;
    bed.refuses(with("x: a\rcontent-length: 5"), 400, "bare_cr").await;
    bed.refuses("GET /\r HTTP/1.1\r\nhost: example.com\r\n\r\n", 400, "bad_target").await;
}

#[tokio::test]
async fn rfc9112_2_2_one_empty_line_may_come_first() {
    let bed = bed().await;
    let received = bed.passes(format!("\r\n{}", with("x: y"))).await;
    assert_eq!((received.method.as_str(), received.header("x")), ("GET", Some("y")));
    bed.refuses(format!("\r\n\r\n{}", with("x: y")), 400, "leading_garbage").await;
    bed.refuses(format!("\n{}", with("x: y")), 400, "bare_lf").await;
}

#[tokio::test]
async fn rfc9110_5_5_values_hold_no_control_characters() {
    let bed = bed().await;
    bed.refuses(with("x: a\0b"), 400, "nul_byte").await;
    for control in ["\u{1}", "\u{8}", "\u{b}", "\u{1b}", "\u{7f}"] {
        bed.refuses(with(&format!("x: a{control}b")), 400, "bad_field_value").await;
    }
    // Tabs inside and bytes above ASCII are allowed, and arrive as they were.
    let mut request = with("x: a\tb \u{e9}").into_bytes();
    let received = bed.passes(&request).await;
    assert!(received.raw.windows(6).any(|window| window == "b \u{e9}\r\n".as_bytes()));
    let at = request.iter().position(|byte| *byte == 0xc3).unwrap();
    request[at] = 0xff;
    assert!(bed.passes(&request).await.raw.contains(&0xff));
}

#[tokio::test]
async fn rfc9112_5_1_no_space_before_the_colon() {
    let bed = bed().await;
    for line in ["content-length : 5", "transfer-encoding\t: chunked", "x : y"] {
        bed.refuses(with(line), 400, "space_before_colon").await;
    }
    bed.refuses("GET / HTTP/1.1\r\nhost : example.com\r\n\r\n", 400, "space_before_colon").await;
}

#[tokio::test]
async fn rfc9110_5_1_names_are_tokens() {
    let bed = bed().await;
    for line in [": a", "no colon", "a\"b: c", "a(b): c", "a/b: c", "a@b: c", "\u{e9}: c", "a;b: c", "a=b", "{a}: b", "a\u{1}: b"]
    {
        bed.refuses(with(line), 400, "bad_field_name").await;
    }
    let received = bed.passes(with("!#$%&'*+-.^`|~09az: v")).await;
    assert_eq!(received.header("!#$%&'*+-.^`|~09az"), Some("v"));
}

#[tokio::test]
async fn rfc9110_5_1_names_with_an_underscore_are_dropped() {
    let bed = bed().await;
    let received =
        bed.passes(with("x_user: admin\r\nX_Forwarded_For: 1.2.3.4\r\ncontent_length: 7\r\n_: 1\r\nx-kept: yes")).await;
    assert!(!received.headers.names().iter().any(|name| name.contains('_')), "{:?}", received.headers);
    assert_eq!(received.header("x-kept"), Some("yes"));
}

#[tokio::test]
async fn rfc9110_5_1_names_that_pass_for_those_of_a_proxy_are_dropped() {
    let bed = bed().await;
    let forged = "X.Forwarded.For: 1.2.3.4\r\nx-forwarded~proto: https\r\nX.Real-IP: 1.2.3.4\r\nclient.cert: x\r\n";
    let received = bed.passes(with(&format!("{forged}x.kept: yes\r\nfor.warded: yes"))).await;
    let odd: Vec<&str> = received.headers.names().into_iter().filter(|name| name.contains(['.', '~'])).collect();
    assert_eq!(odd.len(), 2, "x.kept and for.warded: {odd:?}");
}

#[tokio::test]
async fn rfc9110_5_3_repeated_fields_keep_their_order_and_their_values() {
    let bed = bed().await;
    let received = bed.passes(with("x-a: 1\r\nx-b:2\r\nX-A:  3  \r\nx-empty:\r\ncookie: a=b\r\ncookie: c=d")).await;
    assert_eq!(received.headers.all("x-a"), ["1", "3"]);
    assert_eq!((received.header("x-b"), received.header("x-empty")), (Some("2"), Some("")));
    assert_eq!(received.headers.all("cookie"), ["a=b", "c=d"]);
}
