//! Bounded work per connection: floods are answered by GOAWAY and counted, slow clients are timed out, and at the
//! limit of connections new ones are refused rather than old ones starved.

use h2::Reason;

use crate::{
    h1_setup::Bed,
    h2_setup::{bed_of, h2, h2_bed, raw_h2, rejected},
    support::h2_raw::{Flood, Frame, RawH2, flag, get_fields, kind},
};

const CALM: u32 = 11;

/// Checks that a flood was ended by the edge, counted under this reason, and harmed nobody else.
async fn ended(bed: &Bed, flood: Flood, reason: &str) {
    assert!(flood.ended, "{reason}: {flood:?}");
    // A reset may overtake the GOAWAY, see [`Flood`]; when there is one, it says why.
    assert!(flood.goaway.is_none_or(|code| code == CALM), "{reason}: {flood:?}");
    eventually!(rejected(&bed.edge, reason).await == 1);
    assert_eq!(h2(&bed.edge).await.get("example.com", "/").await.status, 200, "others are served");
}

#[tokio::test]
async fn cve_2023_44487_rapid_reset() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let fields = get_fields("http", "example.com", "/", &[]);
    let flood = raw
        .flood(200_000, |index| {
            let stream = (index / 2) as u32 * 2 + 1;
            if index % 2 == 0 { Frame::headers(stream, true, &fields) } else { Frame::rst(stream, 8) }
        })
        .await;
    ended(&bed, flood, "h2_reset_flood").await;
    // Far fewer reached the origin than were opened.
    assert!(bed.origin.request_count() <= 250, "{}", bed.origin.request_count());
}

#[tokio::test]
async fn cve_2024_27316_continuation() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let block = Frame::headers(1, true, &get_fields("http", "example.com", "/", &[])).payload;
    raw.send(&Frame::new(kind::HEADERS, flag::END_STREAM, 1, block)).await.expect("HEADERS");
    let more = crate::support::h2_raw::hpack(&[("x-a", "1")]);
    let flood = raw.flood(100_000, |_| Frame::new(kind::CONTINUATION, flag::NONE, 1, &more)).await;
    ended(&bed, flood, "h2_continuation_flood").await;
    assert_eq!(bed.origin.request_count(), 1, "only that of the check");
}

#[tokio::test]
async fn cve_2024_27316_a_header_block_that_is_too_long() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let more = crate::support::h2_raw::hpack(&[("x-a", &"v".repeat(8000))]);
    let flood = raw
        .flood(10_000, |index| match index {
            0 => Frame::new(kind::HEADERS, flag::END_STREAM, 1, &more),
            _ => Frame::new(kind::CONTINUATION, flag::NONE, 1, &more),
        })
        .await;
    ended(&bed, flood, "h2_header_block_too_large").await;
}

#[tokio::test]
async fn cve_2019_9512_ping_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::new(kind::PING, flag::NONE, 0, [7; 8])).await;
    ended(&bed, flood, "h2_ping_flood").await;
}

#[tokio::test]
async fn cve_2019_9515_settings_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::settings(&[(3, 100)])).await;
    ended(&bed, flood, "h2_settings_flood").await;
}

#[tokio::test]
async fn cve_2019_9513_priority_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::new(kind::PRIORITY, flag::NONE, 1, [0, 0, 0, 3, 1])).await;
    ended(&bed, flood, "h2_priority_flood").await;
}

/// A stream that stays open: a POST that has begun.
async fn posting(bed: &Bed) -> RawH2 {
    let mut raw = raw_h2(&bed.edge).await;
    let mut fields = get_fields("http", "example.com", "/", &[]);
    fields[0].1 = "POST";
    raw.send(&Frame::headers(1, false, &fields)).await.expect("HEADERS");
    raw
}

#[tokio::test]
async fn cve_2019_9518_empty_data_flood() {
    let bed = h2_bed().await;
    let flood = posting(&bed).await.flood(500_000, |_| Frame::new(kind::DATA, flag::NONE, 1, [])).await;
    ended(&bed, flood, "h2_empty_data_flood").await;
}

#[tokio::test]
async fn cve_2019_9511_window_update_flood() {
    let bed = h2_bed().await;
    let flood = posting(&bed).await.flood(500_000, |_| Frame::new(kind::WINDOW_UPDATE, flag::NONE, 1, [0, 0, 0, 1])).await;
    ended(&bed, flood, "h2_window_update_flood").await;
}

#[tokio::test]
async fn cve_2025_8671_made_you_reset() {
    // The client makes the server reset its streams: a window update of nothing.
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let fields = get_fields("http", "example.com", "/", &[]);
    let flood = raw
        .flood(200_000, |index| {
            let stream = (index / 2) as u32 * 2 + 1;
            if index % 2 == 0 {
                Frame::headers(stream, true, &fields)
            } else {
                Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, [0; 4])
            }
        })
        .await;
    assert!(flood.ended, "{flood:?}");
    assert!(bed.origin.request_count() <= 250, "{}", bed.origin.request_count());
}

#[tokio::test]
async fn unknown_frames_are_ignored_up_to_a_bound() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    for _ in 0..10 {
        raw.send(&Frame::new(0x2a, flag::NONE, 0, "grease")).await.expect("taken");
    }
    raw.send(&Frame::headers(1, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    assert!(raw.until(|frame| frame.kind == kind::DATA).await.is_some(), "RFC 9113 section 4.1: unknown frames are ignored");
    let flood = raw.flood(500_000, |_| Frame::new(0x2a, flag::NONE, 0, "grease")).await;
    ended(&bed, flood, "h2_unknown_frame_flood").await;
}

#[tokio::test]
async fn requests_that_are_none_close_the_connection_in_the_end() {
    let bed = bed_of(crate::support::origin::origin().respond(200, "ok"), "").await;
    let mut raw = raw_h2(&bed.edge).await;
    let bad = get_fields("http", "exa mple.com", "/", &[]);
    let flood = raw.flood(10_000, |index| Frame::headers(index as u32 * 2 + 1, true, &bad)).await;
    assert!(flood.ended, "{flood:?}");
    assert_eq!(bed.origin.request_count(), 0);
    let _ = Reason::ENHANCE_YOUR_CALM;
}
