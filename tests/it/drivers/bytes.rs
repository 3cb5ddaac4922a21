//! Cases as bytes.

use super::case::{Answer, Behaviour, Body, Case, Course, Ending, Fault, Request, parts};

/// Content that tells where a piece of it belongs.
pub fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

/// Is this the beginning of a body as the origin sends it? A malformed chunk may hold something that is passed on.
pub fn is_beginning(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_suffix(b"abc").unwrap_or(bytes);
    bytes == content(bytes.len())
}

/// A body as it is framed. Pieces of content are told from what is around them.
fn framed(body: &Body) -> Vec<(Vec<u8>, bool)> {
    match body {
        Body::None => vec![],
        Body::Length(length) => vec![(content(*length), true)],
        Body::Chunked { sizes, extension, trailer } => {
            let all = content(sizes.iter().sum());
            let mut pieces = vec![];
            let mut at = 0;
            for size in sizes {
                pieces.push((format!("{size:X}{extension}\r\n").into_bytes(), false));
                pieces.push((all[at..at + size].to_vec(), true));
                pieces.push((b"\r\n".to_vec(), false));
                at += size;
            }
            pieces.push((format!("0\r\n{trailer}\r\n").into_bytes(), false));
            pieces
        }
    }
}

fn framing_field(body: &Body) -> String {
    match body {
        Body::None => String::new(),
        Body::Length(length) => format!("Content-Length: {length}\r\n"),
        Body::Chunked { .. } => "Transfer-Encoding: chunked\r\n".to_owned(),
    }
}

/// Latin-1, so that fields may hold bytes that are no UTF-8.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|char| char as u8).collect()
}

/// A request as its client sends it.
pub struct Sent {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// Of a body that ends too early: how much content there is in it.
    pub content: usize,
}

/// Where the request with this number goes.
pub fn target(case: &Case, number: usize) -> String {
    format!("/{}/{number}?a=%2f&b", case.route.name())
}

pub fn request(case: &Case, number: usize) -> Sent {
    let Request { method, old, fields, body, course } = &case.requests[number];
    let mut head = format!("{method} {} HTTP/1.{}\r\n", target(case, number), u8::from(!old));
    if !old {
        head += "Host: Example.com\r\n";
    }
    for field in fields {
        head += &format!("{field}\r\n");
    }
    head += &framing_field(body);
    if case.requests[number].expects() {
        head += "Expect: 100-continue\r\n";
    }
    let mut pieces = framed(body);
    if let Course::Malformed(bytes) = course {
        pieces.pop();
        pieces.push((bytes.as_bytes().to_vec(), false));
        pieces.push((b"0\r\n\r\n".to_vec(), false));
    }
    let whole: usize = pieces.iter().map(|(bytes, _)| bytes.len()).sum();
    let length = match course {
        Course::Cut { after, .. } => whole.saturating_sub(1) * usize::from(*after) / 256,
        _ => whole,
    };
    let (mut bytes, mut content) = (vec![], 0);
    for (piece, is_content) in pieces {
        let piece = &piece[..piece.len().min(length - bytes.len())];
        bytes.extend_from_slice(piece);
        content += if is_content { piece.len() } else { 0 };
    }
    Sent { head: latin1(&(head + "\r\n")), body: bytes, content }
}

/// A request as a client of HTTP/2 sends it.
pub struct Stream {
    pub fields: Vec<(String, String)>,
    /// What each DATA frame holds, unless it is too long for one. None when the head is the end.
    pub pieces: Vec<Vec<u8>>,
    /// Behind the content.
    pub trailers: Vec<(String, String)>,
    /// Of a body that ends too early: how much content there is in it.
    pub content: usize,
}

/// The request with this number as HTTP/2 has it.
pub fn stream(case: &Case, number: usize) -> Stream {
    let request = &case.requests[number];
    let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (method, target) = (request.method, target(case, number));
    let first = [(":method", method), (":scheme", "http"), (":authority", "Example.com"), (":path", &target)];
    let mut fields: Vec<_> = first.into_iter().map(|(name, value)| owned(name, value)).collect();
    fields.extend(request.fields.iter().map(|line| parts(line)).map(|(name, value)| (name, value.to_owned())));
    if request.expects() {
        fields.push(owned("expect", "100-continue"));
    }
    let (mut pieces, mut trailers, mut length) = (vec![], vec![], None);
    match &request.body {
        Body::None => {}
        // In a frame of its own, the end would race with the response.
        Body::Length(0) => length = Some(0),
        Body::Length(whole) => {
            pieces = self::pieces(&content(*whole), &case.cuts).into_iter().map(<[u8]>::to_vec).collect();
            length = Some(*whole);
        }
        Body::Chunked { sizes, trailer, .. } => {
            let framed = framed(&request.body).into_iter();
            pieces = framed.filter_map(|(piece, is_content)| is_content.then_some(piece)).collect();
            if sizes.is_empty() {
                pieces.push(vec![]);
            }
            trailers.extend(trailer.split_once(": ").map(|(name, value)| owned(&name.to_ascii_lowercase(), value.trim())));
        }
    }
    let mut whole: usize = pieces.iter().map(Vec::len).sum();
    match request.course {
        // There are no chunks here that could be malformed.
        Course::Malformed("zz\r\n") => length = Some(whole + 1),
        Course::Malformed("3\r\nabcd") => {
            // In one frame: what was said would be a whole request by itself.
            (pieces, length) = (vec![pieces.concat()], whole.checked_sub(1).filter(|length| *length > 0));
        }
        Course::Malformed("3\nabc\r\n") => trailers = vec![owned("connection", "close")],
        Course::Malformed("0\r\nx\r\n\r\n") => trailers = vec![owned(":path", "/")],
        Course::Malformed(_) => trailers = vec![owned("content-length", "3")],
        Course::Cut { after, .. } => {
            whole = whole.saturating_sub(1) * usize::from(after) / 256;
            let mut left = whole;
            for piece in &mut pieces {
                piece.truncate(left);
                left -= piece.len();
            }
            pieces.retain(|piece| !piece.is_empty());
        }
        Course::Paced if pieces.len() == 1 && whole > 0 => {
            pieces = pieces[0].chunks(whole.div_ceil(2)).map(<[u8]>::to_vec).collect();
        }
        _ => {}
    }
    fields.extend(length.map(|length| owned("content-length", &length.to_string())));
    Stream { fields, pieces, trailers, content: whole }
}

/// A response as the origin sends it.
#[derive(Debug)]
pub struct Response {
    pub bytes: Vec<u8>,
    /// Sent when the client has the head: what is read together with it would be judged together with it by one driver, and behind it by
    /// the other.
    pub late: &'static [u8],
    /// How the connection goes on.
    pub end: Ending,
}

pub fn response(behaviour: &Behaviour, method: &str) -> Response {
    let (bytes, late, end) = written(behaviour, method);
    Response { bytes, late, end }
}

fn written(behaviour: &Behaviour, method: &str) -> (Vec<u8>, &'static [u8], Ending) {
    let Behaviour { interim, old, status, fields, body, fault, end, .. } = behaviour;
    let closes = |end: Ending| if end == Ending::Reset { Ending::Reset } else { Ending::Close };
    let mut bytes = vec![];
    for head in interim {
        bytes.extend(format!("HTTP/1.1 {head}").into_bytes());
    }
    match fault {
        Fault::Absent => return (vec![], b"", closes(*end)),
        Fault::Head(head) => {
            bytes.extend_from_slice(head.as_bytes());
            return (bytes, b"", *end);
        }
        _ => {}
    }
    let bodiless = method == "HEAD" || matches!(status, 204 | 304);
    let mut head = format!("HTTP/1.{} {status} Status\r\n", u8::from(!old));
    for field in fields {
        head += &format!("{field}\r\n");
    }
    if *end == Ending::SaysClose {
        head += "Connection: close\r\n";
    }
    // An HTTP/1.0 endpoint knows no chunks, and a 204 has no framing.
    let (body, until_close) = match body {
        Answer::Framed(Body::Chunked { sizes, .. }) if *old => (Body::Length(sizes.iter().sum()), false),
        Answer::Framed(Body::None) => (Body::Length(0), false),
        Answer::Framed(body) => (body.clone(), false),
        Answer::UntilClose(length) => (Body::Length(*length), true),
    };
    if !until_close && *status != 204 {
        head += &framing_field(&body);
    }
    let head = latin1(&(head + "\r\n"));
    if *fault == Fault::HalfHead {
        bytes.extend_from_slice(&head[..head.len() / 2]);
        return (bytes, b"", closes(*end));
    }
    bytes.extend_from_slice(&head);
    if bodiless {
        if let Fault::Extra(extra) = fault {
            bytes.extend_from_slice(extra.as_bytes());
        }
        return (bytes, b"", *end);
    }
    let mut pieces = framed(&body);
    let mut late: &[u8] = b"";
    if let (Fault::Chunk(bad), Body::Chunked { .. }) = (fault, &body) {
        pieces.pop();
        late = bad.as_bytes();
    }
    let mut framed: Vec<u8> = pieces.into_iter().flat_map(|(piece, _)| piece).collect();
    let mut end = if until_close { closes(*end) } else { *end };
    match fault {
        Fault::CutBody(after) if !framed.is_empty() => {
            framed.truncate(framed.len().saturating_sub(1) * usize::from(*after) / 256);
            end = closes(end);
        }
        Fault::Extra(extra) => framed.extend_from_slice(extra.as_bytes()),
        _ => {}
    }
    bytes.extend_from_slice(&framed);
    (bytes, late, end)
}

/// These bytes in pieces that are written one by one.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| bytes.len() * usize::from(*cut) / 65536).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}
