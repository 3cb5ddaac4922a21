use proptest::prelude::*;

use super::*;

fn whole(bytes: &[u8]) -> Result<Fed, Refusal> {
    ChunkValidator::new(&Limits::default()).feed(bytes)
}

#[test]
fn rfc9112_7_1_sound_bodies_end_where_they_end() {
    for (body, length) in [
        ("0\r\n\r\n", 0),
        ("5\r\nhello\r\n0\r\n\r\n", 5),
        ("05\r\nhello\r\n00\r\n\r\n", 5),
        ("A;x\r\n0123456789\r\n0;y=z\r\n\r\n", 10),
        ("1;a=\"b;\\\"\";c\r\nX\r\n0\r\n\r\n", 1),
        ("1\r\nX\r\n0\r\nx-checksum: 1\r\nb:\r\n\r\n", 1),
    ] {
        let mut validator = ChunkValidator::new(&Limits::default());
        let stream = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(validator.feed(stream.as_bytes()), Ok(Fed { used: body.len(), complete: true }), "{body:?}");
        assert_eq!(validator.body_bytes(), length);
        assert_eq!(validator.feed(b"GET"), Ok(Fed { used: 0, complete: true }));
    }
}

#[test]
fn rfc9112_7_1_malformed_framing_is_refused() {
    for (body, refusal) in [
        ("\r\n", Refusal::BadChunk),
        ("0x5\r\nhello\r\n", Refusal::BadChunk),
        ("+5\r\nhello\r\n", Refusal::BadChunk),
        ("-1\r\n", Refusal::BadChunk),
        (" 5\r\nhello\r\n", Refusal::BadChunk),
        ("5 \r\nhello\r\n", Refusal::BadChunk),
        ("5\nhello\r\n", Refusal::BadChunk),
        ("5\rhello\r\n", Refusal::BadChunk),
        ("5\r\nhello\n0\r\n\r\n", Refusal::BadChunk),
        ("5\r\nhelloX\r\n", Refusal::BadChunk),
        ("5\r\nhello0\r\n\r\n", Refusal::BadChunk),
        ("g\r\n", Refusal::BadChunk),
        ("5_0\r\n", Refusal::BadChunk),
        (";x\r\n", Refusal::BadChunk),
        ("5;\r\nhello\r\n", Refusal::BadChunk),
        ("5;=x\r\nhello\r\n", Refusal::BadChunk),
        ("5;a=\r\nhello\r\n", Refusal::BadChunk),
        ("5;a\nhello\r\n", Refusal::BadChunk),
        ("5;a=\"\n\"\r\nhello\r\n", Refusal::BadChunk),
        ("5; a\r\nhello\r\n", Refusal::BadChunk),
        ("00000000000000005\r\nhello\r\n", Refusal::BadChunk),
        ("ffffffffffffffff\r\n", Refusal::BadChunk),
        ("8000000000000000\r\n", Refusal::BadChunk),
        ("10000000000000005\r\n", Refusal::BadChunk),
        ("0\r\n\n", Refusal::BadTrailer),
        ("0\r\nx\r\n\r\n", Refusal::BadTrailer),
        ("0\r\n: x\r\n\r\n", Refusal::BadTrailer),
        ("0\r\nx : y\r\n\r\n", Refusal::BadTrailer),
        ("0\r\nx: y\r\n z\r\n\r\n", Refusal::BadTrailer),
        ("0\r\nx: y\n\r\n", Refusal::BadTrailer),
        ("0\r\nx: \0\r\n\r\n", Refusal::BadTrailer),
        ("0\r\n\rX", Refusal::BadChunk),
    ] {
        assert_eq!(whole(body.as_bytes()), Err(refusal), "{body:?}");
    }
}

#[test]
fn rfc9110_6_5_1_fields_that_change_the_message_are_no_trailers() {
    for name in
        ["Transfer-Encoding", "content-length", "Host", "AUTHORIZATION", "Cookie", "Connection", "X-Forwarded-For", "Trailer"]
    {
        assert_eq!(whole(format!("0\r\n{name}: x\r\n\r\n").as_bytes()), Err(Refusal::BadTrailer), "{name}");
    }
    assert_eq!(whole(b"0\r\nx-forwarded-anything-at-all-of-any-length-whatever: x\r\n\r\n"), Err(Refusal::BadTrailer));
    assert!(whole(b"0\r\ngrpc-status: 0\r\n\r\n").is_ok_and(|fed| fed.complete));
}

#[test]
fn trailers_are_bounded_like_fields() {
    let limits = Limits::new(256, 3);
    let feed = |body: String| ChunkValidator::new(&limits).feed(body.as_bytes());
    assert!(feed(format!("0\r\n{}\r\n", "a:b\r\n".repeat(3))).is_ok_and(|fed| fed.complete));
    assert_eq!(feed(format!("0\r\n{}\r\n", "a:b\r\n".repeat(4))), Err(Refusal::TrailersTooLarge));
    assert_eq!(feed(format!("0\r\na:{}", "b".repeat(127))), Err(Refusal::TrailersTooLarge));
    assert_eq!(feed(format!("0\r\n{}", format!("a:{}\r\n", "b".repeat(100)).repeat(3))), Err(Refusal::TrailersTooLarge));
}

#[test]
fn framing_without_content_is_bounded() {
    assert_eq!(whole(format!("1;{}", "x".repeat(20_000)).as_bytes()), Err(Refusal::ChunkOverhead));
    let padded = "0000000000000001\r\nX\r\n".repeat(4000);
    assert_eq!(whole(padded.as_bytes()), Err(Refusal::ChunkOverhead));
    let one_byte = format!("{}0\r\n\r\n", "1\r\nX\r\n".repeat(100_000));
    assert!(whole(one_byte.as_bytes()).is_ok_and(|fed| fed.complete));
}

#[test]
fn a_refused_body_stays_refused() {
    let mut validator = ChunkValidator::new(&Limits::default());
    assert_eq!(validator.feed(b"z"), Err(Refusal::BadChunk));
    assert_eq!(validator.feed(b"0\r\n\r\n"), Err(Refusal::BadChunk));
}

#[test]
fn a_length_is_counted_and_not_passed() {
    let mut counter = LengthCounter::new(5);
    assert_eq!(counter.feed(b"abc"), Fed { used: 3, complete: false });
    assert_eq!(counter.feed(b"defg"), Fed { used: 2, complete: true });
    assert_eq!(counter.feed(b"g"), Fed { used: 0, complete: true });
    assert_eq!(LengthCounter::new(0).feed(b"g"), Fed { used: 0, complete: true });
    assert_eq!(LengthCounter::new(u64::MAX).feed(b"g").used, 1);
}

/// A decoder that is obviously right, for bodies without extensions and trailers: the content, and the bytes used.
fn reference(mut stream: &[u8]) -> Option<(u64, usize)> {
    let length = stream.len();
    let mut content = 0;
    loop {
        let line = stream.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(&stream[..line]).ok()?;
        if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(text, 16).ok()?;
        stream = &stream[line + 2..];
        if size == 0 {
            return stream.strip_prefix(b"\r\n").map(|rest| (content, length - rest.len()));
        }
        content += size as u64;
        stream = stream.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Streams of the pieces that matter.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["1\r\nX\r\n", "3\r\nabc\r\n", "0a\r\n0123456789\r\n", "2\r\n\r\n\r\n"]).prop_map(str::to_owned),
        2 => Just("0\r\n\r\n".to_owned()),
        1 => "[0-9a-f\r\nX]{1,6}",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Feeds a stream in pieces of the given sizes.
fn in_pieces(stream: &[u8], sizes: &[usize]) -> (Result<Fed, Refusal>, u64) {
    let mut validator = ChunkValidator::new(&Limits::default());
    let mut total = Fed { used: 0, complete: false };
    let mut sizes = sizes.iter().cycle();
    while total.used < stream.len() && !total.complete {
        let rest = &stream[total.used..];
        let size = sizes.next().map_or(1, |&size| size.clamp(1, rest.len()));
        match validator.feed(&rest[..size]) {
            Ok(fed) => total = Fed { used: total.used + fed.used, complete: fed.complete },
            Err(refusal) => return (Err(refusal), validator.body_bytes()),
        }
    }
    (Ok(total), validator.body_bytes())
}

proptest! {
    #[test]
    fn agrees_with_the_reference_however_it_is_split(stream in streams(), sizes in prop::collection::vec(1usize..9, 1..5)) {
        let (fed, content) = in_pieces(&stream, &sizes);
        prop_assert_eq!(fed, whole(&stream));
        match reference(&stream) {
            Some(end) => prop_assert_eq!((fed, content), (Ok(Fed { used: end.1, complete: true }), end.0)),
            None => prop_assert!(!fed.is_ok_and(|fed| fed.complete)),
        }
    }

    #[test]
    fn any_bytes_are_judged_alike_however_they_are_split(
        stream in prop::collection::vec(any::<u8>(), 0..200),
        prefix in prop::sample::select(vec!["", "5\r\nhello\r\n", "0\r\n", "0\r\nx: ", "1;"]),
        sizes in prop::collection::vec(1usize..9, 1..5),
    ) {
        let stream = [prefix.as_bytes(), &stream].concat();
        prop_assert_eq!(in_pieces(&stream, &sizes).0, whole(&stream));
    }
}
