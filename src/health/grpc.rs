//! The gRPC probe: `grpc.health.v1.Health/Check`, the protocol of
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.
//!
//! Both messages have one field, so they are written and read here rather than by a protobuf library:
//! the request is `string service = 1`, the response `ServingStatus status = 1`.

use ::http::{HeaderMap, Request, header};
use bytes::Bytes;
use h2::client::SendRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    connect::{Dial, connect},
    http::USER_AGENT,
    http2::{self, reason},
};
use crate::types::{Address, At, Code};

/// A service name above this is none; it also keeps its length below 2^14, two bytes of a varint.
const MAX_SERVICE: usize = 1024;
/// The answer is two bytes and five of framing. Whatever else comes with them is skipped, up to here.
const MAX_ANSWER: usize = 1024;

/// `grpc.health.v1.Health/Check`, which must say SERVING.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcProbeSpec {
    /// The service to ask for; the server as a whole when left out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
}

impl GrpcProbeSpec {
    /// The compiled form. It needs connections on which HTTP/2 is spoken, which `http2` tells.
    pub(super) fn compile(&self, http2: bool, at: &At) -> Option<GrpcProbe> {
        let mut fine = true;
        if self.service.len() > MAX_SERVICE || !self.service.bytes().all(|b| b.is_ascii_graphic()) {
            at.key("service")
                .problem(Code::BadValue, format!("`{}` is not the name of a service", self.service.escape_default()));
            fine = false;
        }
        if !http2 {
            at.problem(Code::Conflict, "gRPC is HTTP/2, and this upstream is spoken to in HTTP/1.1")
                .hint("add `connections: {protocol: h2c}`, or `h2` with `tls`");
            fine = false;
        }
        fine.then(|| GrpcProbe { message: request(&self.service) })
    }
}

/// The gRPC probe, ready to ask.
#[derive(Debug)]
pub(super) struct GrpcProbe {
    message: Bytes,
}

impl GrpcProbe {
    /// Asks once. The caller sets the time.
    pub(super) async fn probe(&self, address: &Address, dial: &Dial) -> Result<(), String> {
        let (stream, speaks_http2) = connect(address, dial).await?;
        if !speaks_http2 {
            return Err("the endpoint did not agree to HTTP/2, which gRPC needs".into());
        }
        let authority = match address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".into(),
        };
        let scheme = if dial.tls.is_some() { "https" } else { "http" };
        let request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, USER_AGENT)
            .body(())
            .map_err(|error| error.to_string())?;
        http2::on(stream, async |sender| self.exchange(sender, request).await).await
    }

    async fn exchange(&self, mut sender: SendRequest<Bytes>, request: Request<()>) -> Result<(), String> {
        let (response, mut body) = sender.send_request(request, false).map_err(reason)?;
        body.send_data(self.message.clone(), true).map_err(reason)?;
        let mut response = response.await.map_err(reason)?;
        if response.status() != 200 {
            return Err(format!("status {}, which is not gRPC", response.status().as_u16()));
        }
        // An error may come without a message, with its status among the headers.
        grpc_status(response.headers())?;
        let mut answer = Vec::new();
        while let Some(piece) = response.body_mut().data().await {
            let piece = piece.map_err(reason)?;
            if answer.len() + piece.len() > MAX_ANSWER {
                return Err("the answer is over 1 KiB".into());
            }
            answer.extend_from_slice(&piece);
            // Fails only for a stream that is gone, which the next read tells.
            let _ = response.body_mut().flow_control().release_capacity(piece.len());
        }
        if let Some(trailers) = response.body_mut().trailers().await.map_err(reason)? {
            grpc_status(&trailers)?;
        }
        judge(&answer)
    }
}

/// The call failed? Then why, in words that help.
fn grpc_status(fields: &HeaderMap) -> Result<(), String> {
    let Some(status) = fields.get("grpc-status") else { return Ok(()) };
    match status.as_bytes() {
        b"0" => Ok(()),
        b"5" => Err("NOT_FOUND: the endpoint does not know this service".into()),
        b"7" => Err("PERMISSION_DENIED: the endpoint lets nobody ask".into()),
        b"12" => {
            Err("UNIMPLEMENTED: the endpoint does not serve grpc.health.v1; add the health service to it, or use `tcp: {}`"
                .into())
        }
        b"14" => Err("UNAVAILABLE".into()),
        b"16" => Err("UNAUTHENTICATED: the endpoint lets nobody ask".into()),
        other => Err(format!(
            "grpc-status {}",
            other.iter().take(8).map(|byte| char::from(*byte).escape_default().to_string()).collect::<String>()
        )),
    }
}

/// The length-prefixed request.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    // As protobuf has it, an empty string is a field left out.
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed.into()
}

fn varint(mut value: usize, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Is this answer SERVING?
fn judge(answer: &[u8]) -> Result<(), String> {
    let malformed = || "the answer is not a HealthCheckResponse".to_owned();
    let (prefix, message) = answer.split_first_chunk::<5>().ok_or("the answer has no message")?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || message.len() != u32::from_be_bytes(length) as usize {
        return Err(malformed());
    }
    match status(message).ok_or_else(malformed)? {
        0 => Err("UNKNOWN".into()),
        1 => Ok(()),
        2 => Err("NOT_SERVING".into()),
        3 => Err("SERVICE_UNKNOWN".into()),
        other => Err(format!("serving status {other}")),
    }
}

/// Field 1 of a message, 0 when it is left out, as protobuf has it; other fields are passed over. `None`
/// for what is no message.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = read_varint(&mut message)?;
        let skip = match tag & 7 {
            0 => {
                let value = read_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(read_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skip..)?;
    }
    Some(status)
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_protobuf_says() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn only_serving_passes() {
        let answer = |message: &[u8]| [&[0, 0, 0, 0, message.len() as u8], message].concat();
        assert_eq!(judge(&answer(&[8, 1])), Ok(()));
        assert_eq!(judge(&answer(&[0x12, 2, b'h', b'i', 8, 1])), Ok(()), "a field of a later version");
        for (message, why) in [
            (&[][..], "UNKNOWN"),
            (&[8, 0], "UNKNOWN"),
            (&[8, 2], "NOT_SERVING"),
            (&[8, 3], "SERVICE_UNKNOWN"),
            (&[8, 0x80, 1], "serving status 128"),
            (&[8], "the answer is not a HealthCheckResponse"),
            (&[0x12, 200, b'x'], "the answer is not a HealthCheckResponse"),
            (&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], "the answer is not a HealthCheckResponse"),
        ] {
            assert_eq!(judge(&answer(message)), Err(why.to_owned()), "{message:?}");
        }
        assert!(judge(&[]).is_err() && judge(&[1, 0, 0, 0, 2, 8, 1]).is_err() && judge(&[0, 0, 0, 0, 9, 8, 1]).is_err());
    }
}
