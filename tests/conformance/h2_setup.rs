//! What the tests of HTTP/2 and of semantics stand on, beside [`crate::h1_setup`].

use serde_json::Value;

use crate::{
    h1_setup::{Bed, bed_with},
    support::{
        edge::Edge,
        h2_client::{H2Client, H2Request, H2Response},
        h2_raw::{Frame, RawH2, kind},
        origin::{OriginBuilder, origin},
    },
};

/// An edge that speaks HTTP/2 in cleartext as well, over this origin, with these keys of `http`.
pub async fn bed_of(origin: OriginBuilder, http: &str) -> Bed {
    let http = format!("http: {{h2c: true{}{http}}}", if http.is_empty() { "" } else { ", " });
    bed_with(origin, |edge| edge.listener(&http)).await
}

/// The same over an origin that answers 200 `ok`.
pub async fn h2_bed() -> Bed {
    bed_of(origin().respond(200, "ok"), "").await
}

/// An HTTP/2 client of the cleartext listener.
pub async fn h2(edge: &Edge) -> H2Client {
    H2Client::connect(edge.address("web")).await
}

/// A connection to the cleartext listener for frames, after the exchange of SETTINGS.
pub async fn raw_h2(edge: &Edge) -> RawH2 {
    let mut raw = RawH2::connect(edge.address("web")).await;
    raw.handshake().await;
    raw
}

/// A request on a connection of its own.
pub async fn send_h2(edge: &Edge, request: &H2Request) -> H2Response {
    h2(edge).await.send(request).await.unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// The frames that answer a request which is one HEADERS frame of these fields, up to the end of the stream.
pub async fn frames_for(edge: &Edge, fields: &[(&str, &str)]) -> Vec<Frame> {
    let mut raw = raw_h2(edge).await;
    raw.send(&Frame::headers(1, true, fields)).await.expect("HEADERS");
    let mut frames = Vec::new();
    while let Some(frame) = raw.next().await {
        let ended = frame.kind == kind::GOAWAY
            || frame.stream == 1 && (frame.kind == kind::RST_STREAM || frame.flags & 1 != 0 && frame.kind <= kind::HEADERS);
        frames.push(frame);
        if ended {
            break;
        }
    }
    frames
}

/// The one line of the access log that is expected, once it is written.
pub async fn log_line(edge: &Edge) -> Value {
    let mut log = edge.access_log().await;
    assert_eq!(log.len(), 1, "{log:?}");
    log.remove(0)
}

/// A line of the access log: how the exchange ended.
pub fn end(line: &Value) -> (&str, &str) {
    (line["end"]["who"].as_str().unwrap_or_default(), line["end"]["type"].as_str().unwrap_or_default())
}

/// The value of a sample on the metrics page; 0 while there is none.
pub async fn sample(edge: &Edge, name: &str) -> u64 {
    let page = edge.admin_get("/metrics").await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
    line.map_or(0, |value| value.trim().parse::<f64>().expect("a number") as u64)
}

/// How many requests ended with this RFC 9209 type.
pub async fn proxy_errors(edge: &Edge, word: &str) -> u64 {
    sample(edge, &format!("weir_proxy_errors_total{{type=\"{word}\"}}")).await
}

/// How much was rejected for this reason.
pub async fn rejected(edge: &Edge, reason: &str) -> u64 {
    sample(edge, &format!("weir_rejected_requests_total{{reason=\"{reason}\"}}")).await
}

/// A GET in HTTP/1.1.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n\r\n")
}
