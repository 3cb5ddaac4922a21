//! What is generated: requests, and how the origin behaves.

use proptest::{prelude::*, sample::subsequence};

/// One connection of a client, and what its requests meet.
#[derive(Debug, Clone)]
pub struct Case {
    /// Which upstream they go to.
    pub route: Route,
    /// Over HTTP/1, sent at once when there are two.
    pub requests: Vec<Request>,
    /// How the origin answers the first attempt of each. All others are answered well.
    pub behaviours: Vec<Behaviour>,
    /// Where what the client sends is cut, in parts of 65536.
    pub cuts: Vec<u16>,
    /// Over HTTP/2: both streams are open at a time, and not one after the other.
    pub together: bool,
    /// Over HTTP/2: how much of a response the client allows to be sent before it has read it.
    pub window: Option<u32>,
}

/// A route and its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// No `retry`, and a connection that waits.
    Plain,
    /// No `retry`, and no connection that waits at the beginning.
    Fresh,
    /// `retry: {}` and two endpoints, each with a connection that waits.
    Retry,
    /// The same without connections.
    RetryFresh,
}

impl Route {
    pub const ALL: [Route; 4] = [Route::Plain, Route::Fresh, Route::Retry, Route::RetryFresh];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fresh => "fresh",
            Self::Retry => "retry",
            Self::RetryFresh => "retryfresh",
        }
    }
    pub fn retries(self) -> bool {
        matches!(self, Self::Retry | Self::RetryFresh)
    }
    /// The same without connections that wait.
    fn fresh(self) -> Self {
        if self.retries() { Self::RetryFresh } else { Self::Fresh }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub old: bool,
    /// Lines, without their ends.
    pub fields: Vec<&'static str>,
    pub body: Body,
    pub course: Course,
}

/// The body of a message, and its framing.
#[derive(Debug, Clone)]
pub enum Body {
    None,
    Length(usize),
    Chunked { sizes: Vec<usize>, extension: &'static str, trailer: &'static str },
}

/// How a client goes about its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It sends all of it at once.
    AtOnce,
    /// It says that it expects to be told to go on, and goes on.
    Expects,
    /// It waits until it was told, and sends no body after a final response.
    Waits,
    /// It sends half of the body, and the rest when it has a response.
    Paced,
    /// It ends the connection after so much of the body, in parts of 256: by a close of its side, or a reset.
    Cut { after: u8, reset: bool },
    /// A piece of its body is not as it should be.
    Malformed(&'static str),
}

/// How the origin answers.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Before it has read the request's body.
    pub early: bool,
    pub interim: Vec<&'static str>,
    pub old: bool,
    pub status: u16,
    pub fields: Vec<&'static str>,
    pub body: Answer,
    pub fault: Fault,
    pub end: Ending,
    pub cuts: Vec<u16>,
}

/// The response's body, and its framing.
#[derive(Debug, Clone)]
pub enum Answer {
    Framed(Body),
    /// Until the connection ends.
    UntilClose(usize),
}

/// What is wrong with the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// There is none.
    Absent,
    /// It ends within its head.
    HalfHead,
    /// This head comes instead.
    Head(&'static str),
    /// It ends after so much of its body as it is framed, in parts of 256.
    CutBody(u8),
    /// This follows the content in the place of the end of the chunks.
    Chunk(&'static str),
    /// These bytes follow.
    Extra(&'static str),
}

/// How the connection goes on after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    KeepAlive,
    /// The response says that it closes, and it does.
    SaysClose,
    Close,
    Reset,
}

/// The name of a field, in lower case, and its value.
pub fn parts(line: &'static str) -> (String, &'static str) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_ascii_lowercase(), value.trim())
}

/// A response to which nobody objects.
pub fn good() -> Behaviour {
    Behaviour {
        early: false,
        interim: vec![],
        old: false,
        status: 200,
        fields: vec!["X-Served: well"],
        body: Answer::Framed(Body::Length(4)),
        fault: Fault::Nothing,
        end: Ending::KeepAlive,
        cuts: vec![],
    }
}

/// A request to which nobody objects.
pub fn get() -> Request {
    Request { method: "GET", old: false, fields: vec![], body: Body::None, course: Course::AtOnce }
}

/// A request with a body.
pub fn post(body: Body) -> Request {
    Request { method: "POST", body, ..get() }
}

pub fn chunked(sizes: &[usize]) -> Body {
    Body::Chunked { sizes: sizes.to_vec(), extension: "", trailer: "" }
}

impl Case {
    pub fn of(route: Route, request: Request, behaviour: Behaviour) -> Self {
        Self { route, requests: vec![request], behaviours: vec![behaviour], cuts: vec![], together: false, window: None }
    }
    /// The same case as a client of HTTP/2 can play it.
    pub fn over_h2(mut self) -> Self {
        const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "upgrade"];
        for request in &mut self.requests {
            request.old = false;
            request.fields.retain(|line| !HOP_BY_HOP.contains(&parts(line).0.as_str()));
        }
        self.together &= self.requests.len() > 1;
        if self.together {
            // Which of them gets a connection that waits is left to chance.
            self.route = self.route.fresh();
            for behaviour in &mut self.behaviours {
                if behaviour.end == Ending::KeepAlive && !matches!(behaviour.fault, Fault::Head(_)) {
                    behaviour.end = Ending::SaysClose;
                }
            }
        }
        self
    }
    /// The same case without what cannot be compared.
    fn sensible(mut self) -> Self {
        for request in &mut self.requests {
            request.settle();
        }
        if self.requests[0].course != Course::AtOnce {
            self.requests.truncate(1);
        }
        for request in self.requests.iter_mut().skip(1) {
            request.course = Course::AtOnce;
        }
        let follows = self.requests.len() > 1;
        if follows && matches!(self.behaviours[0].fault, Fault::Absent | Fault::HalfHead) {
            // What Pingora opens in the place of a closed connection serves one request, so that the second would find another state.
            self.route = self.route.fresh();
        }
        for (request, behaviour) in self.requests.iter().zip(&mut self.behaviours) {
            // Whether the next request finds the connection ended is left to chance, as is what belongs to no response where it
            // comes by itself.
            if follows && matches!(behaviour.end, Ending::Close | Ending::Reset) {
                behaviour.end = Ending::SaysClose;
            }
            if follows && matches!(behaviour.fault, Fault::Head(_)) {
                behaviour.end = Ending::KeepAlive;
            }
            if matches!(behaviour.fault, Fault::Extra(_)) {
                behaviour.cuts.clear();
            }
            // A client that sends all at once, to an endpoint that answers meanwhile: what came first is left to chance.
            behaviour.early &= matches!(request.course, Course::Waits | Course::Paced);
            // One of HTTP/1.0 may have to wait for the end of the connection, and the edge for that of the request: five seconds.
            behaviour.early &= !request.old;
            // And so is how much of a request is taken by an endpoint that does not read it.
            if behaviour.early {
                behaviour.interim.retain(|interim| !interim.starts_with("100"));
                behaviour.end = Ending::KeepAlive;
                if matches!(behaviour.fault, Fault::Absent | Fault::HalfHead | Fault::CutBody(_)) {
                    behaviour.fault = Fault::Nothing;
                }
                if let Answer::UntilClose(length) = behaviour.body {
                    behaviour.body = Answer::Framed(Body::Length(length));
                }
            }
        }
        self
    }
}

impl Request {
    fn settle(&mut self) {
        if self.old && matches!(self.body, Body::Chunked { .. }) {
            self.body = Body::Length(7);
        }
        let has_body = !matches!(self.body, Body::None | Body::Length(0));
        let chunked = matches!(self.body, Body::Chunked { .. });
        self.course = match self.course {
            Course::AtOnce | Course::Expects => self.course,
            Course::Malformed(_) if !chunked => Course::AtOnce,
            Course::Waits if self.old => Course::AtOnce,
            _ if !has_body => Course::AtOnce,
            course => course,
        };
    }
    /// Does it say that it expects to be told to go on?
    pub fn expects(&self) -> bool {
        matches!(self.course, Course::Expects | Course::Waits)
    }
}

fn body() -> impl Strategy<Value = Body> {
    let length = || prop_oneof![1 => Just(0_usize), 6 => 1..100_usize, 1 => 1000..20_000_usize, 1 => 60_000..80_000_usize];
    let sizes = proptest::collection::vec(prop_oneof![8 => 1..60_usize, 1 => 1000..40_000_usize], 0..4);
    let extension = prop_oneof![4 => Just(""), 1 => Just(";a=b"), 1 => Just(";q=\"x;y\"")];
    let trailer = prop_oneof![4 => Just(""), 1 => Just("X-Sum: 1\r\n")];
    prop_oneof![
        3 => Just(Body::None),
        3 => length().prop_map(Body::Length),
        3 => (sizes, extension, trailer).prop_map(|(sizes, extension, trailer)| Body::Chunked { sizes, extension, trailer }),
    ]
}

const REQUEST_FIELDS: &[&str] = &[
    "X-One: a",
    "x-oNe: b",
    "Cookie: a=1",
    "cookie: b=2",
    "Connection: keep-alive",
    "Connection: close",
    "connection: X-One, keep-alive",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: x-sum",
    "Accept: application/json",
    "Accept-Encoding: gzip",
    "X-Empty:",
    "User-Agent: Test/1",
    "X-Forwarded-For: 192.0.2.1",
    "Forwarded: for=192.0.2.1",
    "Via: 1.0 a",
    "Max-Forwards: 5",
    "Range: bytes=0-1",
    "X-Text: caf\u{e9}",
    "Upgrade: h2c",
];

const RESPONSE_FIELDS: &[&str] = &[
    "X-Odd-cAsE: 1",
    "x-odd-case: 2",
    "Set-Cookie: a=1",
    "set-cookie: b=2",
    "Connection: keep-alive",
    "Connection: X-Odd-Case",
    "Keep-Alive: timeout=3",
    "Trailer: x-sum",
    "Date: Thu, 01 Jan 1970 00:00:00 GMT",
    "Server: x",
    "ETag: \"a\"",
    "Via: 1.0 b",
    "Upgrade: h2c",
    "Content-Type: text/plain",
    "X-Fold: a\r\n b",
    "X-Text: caf\u{e9}",
    "X-Empty:",
];

fn request() -> impl Strategy<Value = Request> {
    let method = prop_oneof![3 => Just("GET"), 1 => Just("HEAD"), 3 => Just("POST"), 2 => Just("PUT"), 1 => Just("OPTIONS")];
    let malformed = prop_oneof![
        Just("zz\r\n"),
        Just("3\nabc\r\n"),
        Just("3\r\nabcd"),
        Just("0\r\nContent-Length: 3\r\n\r\n"),
        Just("0\r\nx\r\n\r\n")
    ];
    let course = prop_oneof![
        6 => Just(Course::AtOnce),
        1 => Just(Course::Expects),
        1 => Just(Course::Waits),
        1 => Just(Course::Paced),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(after, reset)| Course::Cut { after, reset }),
        1 => malformed.prop_map(Course::Malformed),
    ];
    (method, proptest::bool::weighted(0.2), subsequence(REQUEST_FIELDS, 0..5), body(), course)
        .prop_map(|(method, old, fields, body, course)| Request { method, old, fields, body, course })
}

fn fault() -> impl Strategy<Value = Fault> {
    let head = prop_oneof![
        Just("HTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 099 What\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nno field\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nx-a: \0\r\ncontent-length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\na"),
        Just("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na"),
        Just("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na"),
        Just("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Just("HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\n"),
        Just("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
        Just("HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na"),
        Just("HTTP/1.1 200 \r\ncontent-length: 1\r\n\r\na"),
        Just("HTTP/1.1 299 Some Words\r\ncontent-length: 1\r\n\r\na"),
        Just("HTTP/1.1 200 OK\ncontent-length: 1\n\na"),
        Just("\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"),
        Just("<html>nothing of HTTP</html>\r\n\r\n"),
    ];
    let chunk = prop_oneof![
        Just("zz\r\n"),
        Just("-1\r\n"),
        Just("3\nabc\r\n0\r\n\r\n"),
        Just("3\r\nabcd\r\n0\r\n\r\n"),
        Just("3;\0\r\nabc\r\n0\r\n\r\n"),
        Just("0\r\ncontent-length: 3\r\n\r\n"),
        Just("0\r\nno field\r\n\r\n"),
        Just("fffffffffffffffff\r\n"),
    ];
    let extra = prop_oneof![Just("x"), Just("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"), Just("\r\n")];
    prop_oneof![
        8 => Just(Fault::Nothing),
        1 => Just(Fault::Absent),
        1 => Just(Fault::HalfHead),
        3 => head.prop_map(Fault::Head),
        2 => any::<u8>().prop_map(Fault::CutBody),
        2 => chunk.prop_map(Fault::Chunk),
        1 => extra.prop_map(Fault::Extra),
    ]
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let status = prop_oneof![5 => Just(200_u16), 1 => Just(204), 1 => Just(304), 1 => Just(404), 1 => Just(500), 2 => Just(503)];
    let interim = prop_oneof![
        6 => Just(vec![]),
        1 => Just(vec!["100 Continue\r\n\r\n"]),
        1 => Just(vec!["103 Early Hints\r\nLink: </a>\r\n\r\n"]),
        1 => Just(vec!["102 Processing\r\n\r\n", "103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\nX-odD: 1\r\n\r\n"]),
    ];
    let answer = prop_oneof![5 => body().prop_map(Answer::Framed), 1 => (0..300_usize).prop_map(Answer::UntilClose)];
    let end = prop_oneof![5 => Just(Ending::KeepAlive), 1 => Just(Ending::SaysClose), 2 => Just(Ending::Close), 1 => Just(Ending::Reset)];
    let cuts = proptest::collection::vec(any::<u16>(), 0..4);
    let flags = (proptest::bool::weighted(0.3), proptest::bool::weighted(0.15));
    (flags, interim, status, subsequence(RESPONSE_FIELDS, 0..5), answer, fault(), end, cuts).prop_map(
        |((early, old), interim, status, fields, body, fault, end, cuts)| Behaviour {
            early,
            interim,
            old,
            status,
            fields,
            body,
            fault,
            end,
            cuts,
        },
    )
}

/// Any case.
pub fn cases() -> impl Strategy<Value = Case> {
    let cuts = proptest::collection::vec(any::<u16>(), 0..5);
    let both = prop_oneof![3 => proptest::collection::vec((request(), behaviour()), 1), 1 => proptest::collection::vec((request(), behaviour()), 2)];
    let window = prop_oneof![6 => Just(None), 1 => Just(Some(1000)), 1 => Just(Some(20_000))];
    (proptest::sample::select(&Route::ALL[..]), both, cuts, any::<bool>(), window).prop_map(
        |(route, both, cuts, together, window)| {
            let (requests, behaviours) = both.into_iter().unzip();
            Case { route, requests, behaviours, cuts, together, window }.sensible()
        },
    )
}
