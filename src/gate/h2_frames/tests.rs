use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// How many of these frames pass before the flood.
fn passes(frame: &[u8]) -> (usize, Option<Flood>) {
    let now = Instant::now();
    let mut observer = FrameObserver::new(FrameLimits::default());
    for count in 0..20_000 {
        if let Err(flood) = observer.feed(frame, now) {
            assert_eq!(observer.feed(b"", now), Err(flood), "a flood stays one");
            return (count, Some(flood));
        }
    }
    (20_000, None)
}

#[test]
fn every_kind_of_flood_is_seen() {
    let small = 1023u32.to_be_bytes();
    for (frame, limit, flood) in [
        (frame(kind::RST_STREAM, 0, &[0; 4]), 200, Flood::Resets),
        (frame(kind::WINDOW_UPDATE, 0, &[0; 4]), 200, Flood::Resets),
        (frame(kind::PING, 0, &[0; 8]), 1000, Flood::Pings),
        (frame(kind::SETTINGS, 0, &[]), 20, Flood::Settings),
        (frame(kind::PRIORITY, 0, &[0; 5]), 1000, Flood::Priorities),
        (frame(kind::DATA, 0, &[]), 100, Flood::EmptyData),
        (frame(kind::DATA, PADDED, &[2, 0, 0]), 100, Flood::EmptyData),
        (frame(kind::WINDOW_UPDATE, 0, &small), 10_000, Flood::WindowUpdates),
        (frame(0x42, 0, &[1]), 100, Flood::Unknown),
        (frame(kind::WINDOW_UPDATE, 0, &[0; 3]), 100, Flood::Unknown),
        (frame(kind::CONTINUATION, 0, &[]), 5, Flood::Continuations),
        (frame(kind::CONTINUATION, 0, &[0; 16_384]), 2, Flood::HeaderBlock),
    ] {
        assert_eq!(passes(&frame), (limit, Some(flood)), "{flood}");
    }
}

#[test]
fn what_carries_something_is_no_flood() {
    for frame in [
        frame(kind::HEADERS, 4, &[0; 100]),
        frame(kind::DATA, 0, b"x"),
        frame(kind::DATA, END_STREAM, &[]),
        frame(kind::DATA, PADDED, &[2, b'x', 0, 0]),
        frame(kind::WINDOW_UPDATE, 0, &SMALL_UPDATE.to_be_bytes()),
    ] {
        assert_eq!(passes(&frame), (20_000, None), "{frame:?}");
    }
}

#[test]
fn cve_2024_27316_a_header_block_that_never_ends() {
    let now = Instant::now();
    let mut observer = FrameObserver::new(FrameLimits::default());
    observer.feed(&frame(kind::HEADERS, 0, &[0; 10]), now).unwrap();
    let flood = (0..100).find_map(|_| observer.feed(&frame(kind::CONTINUATION, 0, &[0; 10]), now).err());
    assert_eq!(flood, Some(Flood::Continuations));
}

/// A download to a client that reads more slowly than it is sent to, and gives back each frame by itself.
#[test]
fn who_gives_back_what_was_sent_in_crumbs_is_no_flood_and_who_wants_crumbs_is() {
    let passes = |sent: usize| {
        let (now, mut observer) = (Instant::now(), FrameObserver::new(FrameLimits::default()));
        let update = frame(kind::WINDOW_UPDATE, 0, &[0, 0, 0, 100]);
        (0..100_000)
            .take_while(|_| {
                observer.sent(sent);
                observer.feed(&update, now).is_ok()
            })
            .count()
    };
    assert_eq!(passes(256), 100_000);
    // CVE-2019-9511: a byte at a time, in a frame of ten.
    assert!((10_000..11_000).contains(&passes(10)), "{}", passes(10));
}

#[test]
fn the_next_window_counts_anew() {
    let mut now = Instant::now();
    let mut observer = FrameObserver::new(FrameLimits::default());
    for _ in 0..5 {
        for _ in 0..200 {
            observer.feed(&frame(kind::RST_STREAM, 0, &[0; 4]), now).unwrap();
        }
        now += WINDOW;
    }
}

#[test]
fn the_preface_is_no_frame() {
    let now = Instant::now();
    let mut observer = FrameObserver::from_preface(FrameLimits::default());
    observer.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).unwrap();
    let resets = frame(kind::RST_STREAM, 0, &[0; 4]).repeat(201);
    assert_eq!(observer.feed(&resets, now), Err(Flood::Resets));
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_split(
        kinds in prop::collection::vec((0u8..18, any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)), 0..60),
        size in 1usize..30,
    ) {
        let limits = FrameLimits { resets: 3, pings: 3, empty_data: 3, settings: 3, unknown: 20, ..FrameLimits::default() };
        let stream: Vec<u8> = kinds.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let now = Instant::now();
        let whole = FrameObserver::new(limits).feed(&stream, now);
        let mut observer = FrameObserver::new(limits);
        let pieces = stream.chunks(size).try_for_each(|piece| observer.feed(piece, now));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = FrameObserver::new(FrameLimits::default()).feed(&bytes, Instant::now());
    }
}
