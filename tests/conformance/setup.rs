//! An edge in front of one origin, what every refusal must look like from all four sides, and what is asked again and again.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{
    client::RawClient,
    edge::{Edge, EdgeBuilder, edge},
    h2_client::{H2Client, H2Request, H2Response},
    h2_raw::{Frame, RawH2, kind},
    origin::{Origin, OriginBuilder, origin},
    wire::{RawRequest, RawResponse},
};

/// An edge with one route to one origin.
pub struct Bed {
    pub edge: Edge,
    pub origin: Origin,
}

/// An edge over an origin that answers 200 `ok`.
pub async fn bed() -> Bed {
    bed_with(origin().respond(200, "ok"), |edge| edge).await
}

/// An edge over this origin, with these listener keys and whatever else.
pub async fn bed_with(origin: OriginBuilder, more: impl FnOnce(EdgeBuilder) -> EdgeBuilder) -> Bed {
    let origin = origin.spawn().await;
    let edge = more(edge().upstream("app", &[origin.addr()]).route("app", "upstream: app")).start().await;
    Bed { edge, origin }
}

/// An edge that speaks HTTP/2 in cleartext as well, over this origin, with these keys of `http`.
pub async fn bed_of(origin: OriginBuilder, http: &str) -> Bed {
    let http = format!("http: {{h2c: true{}{http}}}", if http.is_empty() { "" } else { ", " });
    bed_with(origin, |edge| edge.listener(&http)).await
}

/// The same over an origin that answers 200 `ok`.
pub async fn h2_bed() -> Bed {
    bed_of(origin().respond(200, "ok"), "").await
}

impl Bed {
    /// A new cleartext connection.
    pub async fn client(&self) -> RawClient {
        self.edge.client().await
    }

    /// Where it listens in cleartext.
    pub fn address(&self) -> SocketAddr {
        self.edge.address("web")
    }

    /// The answer to these bytes on a connection of their own.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> RawResponse {
        self.client().await.exchange(bytes).await
    }

    /// Sends these bytes, expects 200, and answers what the origin got of them.
    pub async fn passes(&self, bytes: impl AsRef<[u8]>) -> RawRequest {
        let bytes = bytes.as_ref();
        let answer = self.exchange(bytes).await;
        let said = String::from_utf8_lossy(bytes);
        assert_eq!(answer.status, 200, "{said:?} was answered {}", String::from_utf8_lossy(&answer.raw));
        self.origin.next_request().await
    }

    /// Sends these bytes and expects a refusal in all its parts: the status, a close that is announced and happens,
    /// nothing at the origin, one line in the log, one count under the reason.
    pub async fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16, reason: &str) -> RawResponse {
        let (requests, connections) = (self.origin.request_count(), self.origin.connections());
        let answer = self.refuses_body(bytes, status, reason).await;
        assert_eq!((self.origin.request_count(), self.origin.connections()), (requests, connections), "{reason} at the origin");
        answer
    }

    /// The same for what is only found out in the body: the origin may have seen the head, but no whole request.
    pub async fn refuses_body(&self, bytes: impl AsRef<[u8]>, status: u16, reason: &str) -> RawResponse {
        let requests = self.origin.request_count();
        let before = self.refusals(reason).await;
        let mut client = self.client().await;
        client.send(bytes.as_ref()).await;
        let answer = self.refused(client, status, reason, before).await;
        assert_eq!(self.origin.request_count(), requests, "{reason}: the origin took it for a whole request");
        answer
    }

    /// What was refused for this reason so far: the lines of the log, the count.
    pub async fn refusals(&self, reason: &str) -> (Vec<Value>, u64) {
        let lines = self.edge.access_log_now().into_iter().filter(|line| line["end"]["reason"] == reason).collect();
        (lines, self.rejected(reason).await)
    }

    /// Reads the refusal of what was sent on this connection, which is one more than these.
    pub async fn refused(&self, mut client: RawClient, status: u16, reason: &str, before: (Vec<Value>, u64)) -> RawResponse {
        let answer = client.read_response().await;
        assert_eq!(answer.status, status, "for {reason}: {}", String::from_utf8_lossy(&answer.raw));
        assert_eq!(answer.header("connection"), Some("close"), "{reason}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{reason}");
        assert!(answer.header("date").is_some(), "{reason}");
        assert!(client.is_closed().await, "after {reason} the connection stays open");
        let (lines, count) = crate::eventually!(self.refusals(reason).await, |(lines, _)| lines.len() > before.0.len());
        assert_eq!((lines.len(), count), (before.0.len() + 1, before.1 + 1), "lines and counts of {reason}");
        let line = &lines[before.0.len()];
        assert_eq!((&line["status"], &line["end"]["who"]), (&Value::from(status), &Value::from("client")), "{line}");
        answer
    }

    /// How often requests were refused for this reason.
    pub async fn rejected(&self, reason: &str) -> u64 {
        rejected(&self.edge, reason).await
    }

    /// The access log line of the request that was given this many before it.
    pub async fn log_line(&self, index: usize) -> Value {
        self.edge.access_log_of(index + 1).await.swap_remove(index)
    }
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
