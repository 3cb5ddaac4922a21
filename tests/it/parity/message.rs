//! What one side of an exchange says, in terms of HTTP. A driver writes it in the way of its version.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::support::h2_raw::Frame;
pub use crate::support::hpack::Fields;

/// How the other side is told where the content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Not at all.
    None,
    /// By Content-Length.
    Length(usize),
    /// Chunks on HTTP/1, DATA frames without a length on HTTP/2.
    Open,
    /// By the end of the connection on HTTP/1; like `Open` on HTTP/2.
    Close,
}

/// The first lines of a message.
#[derive(Debug, Clone)]
pub struct Head {
    pub method: &'static str,
    /// What follows the row's own path.
    pub path: String,
    pub status: u16,
    pub fields: Fields,
    pub framing: Framing,
    /// HTTP/1.0, where the version is HTTP/1.
    pub old: bool,
}

/// How a side ends an exchange before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// RST_STREAM with this code on HTTP/2, a reset of the connection on HTTP/1.
    Reset(u32),
    /// The connection is closed in order, of TCP at least.
    Close,
    /// The connection is reset.
    Cut,
    /// GOAWAY that says that this stream has not been processed, and a close; on HTTP/1 a close.
    GoAway,
    /// Nothing more is said, and nothing closed.
    Silence,
}

/// What a side waits for of the other's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Head,
    Interim,
    Bytes(usize),
    End,
}

/// One thing that a side does.
#[derive(Debug, Clone)]
pub enum Step {
    /// An informational response.
    Interim(u16, Fields),
    /// The head; `last` when nothing follows it.
    Head {
        last: bool,
    },
    /// A piece of the content; `last` when nothing follows it. HTTP/1 has no padding, and no empty pieces.
    Data {
        bytes: Vec<u8>,
        last: bool,
        padding: Option<u8>,
    },
    /// The trailers, which are the end.
    Trailers(Fields),
    /// The end alone: the last chunk on HTTP/1, an empty DATA frame with END_STREAM on HTTP/2.
    End,
    /// What is no message.
    Raw {
        h1: Vec<u8>,
        h2: Vec<Frame>,
    },
    /// Tells the other side of the edge that it has come this far.
    Cue(&'static str),
    /// Waits until the other side of the edge has come that far.
    Await(&'static str),
    /// Waits for this of the message of the other side.
    Heard(Until),
    Break(Break),
}

/// A message and the pace at which it is said.
#[derive(Debug, Clone)]
pub struct Script {
    pub head: Head,
    pub steps: Vec<Step>,
}

/// Fields from pairs.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A request.
pub fn send(method: &'static str, framing: Framing) -> Script {
    let head = Head { method, path: String::new(), status: 0, fields: Fields::new(), framing, old: false };
    Script { head, steps: vec![Step::Head { last: framing == Framing::None }] }
}

/// A GET without content.
pub fn get() -> Script {
    send("GET", Framing::None)
}

/// A POST.
pub fn post(framing: Framing) -> Script {
    send("POST", framing)
}

/// A POST of this, whose length is known.
pub fn form(text: &str) -> Script {
    post(Framing::Length(text.len())).last(text)
}

/// A response, once the request is complete.
pub fn respond(status: u16, framing: Framing) -> Script {
    let head = Head { method: "", path: String::new(), status, fields: Fields::new(), framing, old: false };
    Script { head, steps: vec![Step::Heard(Until::End), Step::Head { last: framing == Framing::None }] }
}

/// A 200 with this, whose length is known.
pub fn ok(text: &str) -> Script {
    respond(200, Framing::Length(text.len())).last(text)
}

/// No response.
pub fn nothing() -> Script {
    let Script { head, .. } = respond(0, Framing::None);
    Script { head, steps: vec![Step::Heard(Until::End)] }
}

impl Script {
    fn with(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
    /// A field of the head.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.head.fields.push((name.to_owned(), value.to_owned()));
        self
    }
    /// With this behind the row's own path.
    pub fn target(mut self, more: &str) -> Self {
        more.clone_into(&mut self.head.path);
        self
    }
    /// In HTTP/1.0, where the version is HTTP/1.
    pub fn old(mut self) -> Self {
        self.head.old = true;
        self
    }
    /// Only a head, whatever it says of content.
    pub fn head_only(mut self) -> Self {
        self.steps.retain(|step| !matches!(step, Step::Head { .. }));
        self.with(Step::Head { last: true })
    }
    /// Does not wait for the end of the request.
    pub fn early(mut self) -> Self {
        self.steps.remove(0);
        self
    }
    /// Does this before the head is sent.
    pub fn before(mut self, step: Step) -> Self {
        let head = self.steps.iter().position(|step| matches!(step, Step::Head { .. })).unwrap_or(self.steps.len());
        self.steps.insert(head, step);
        self
    }
    /// Waits for this of the request before the head is sent.
    pub fn before_head(self, until: Until) -> Self {
        self.before(Step::Heard(until))
    }
    /// Before everything else, waits for this of the request and tells the client.
    pub fn hearing(mut self, until: Until, word: &'static str) -> Self {
        self.steps.splice(0..0, [Step::Heard(until), Step::Cue(word)]);
        self
    }
    /// Then the connection closes.
    pub fn head_closes(self) -> Self {
        self.breaks(Break::Close)
    }
    /// The head is not the end, though there is no content.
    pub fn head_later(mut self) -> Self {
        self.steps.retain(|step| !matches!(step, Step::Head { .. }));
        self.with(Step::Head { last: false })
    }
    /// An informational response before the head.
    pub fn informed(self, status: u16, pairs: &[(&str, &str)]) -> Self {
        self.before(Step::Interim(status, fields(pairs)))
    }
    /// A piece of the content.
    pub fn piece(self, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Step::Data { bytes: bytes.as_ref().to_vec(), last: false, padding: None })
    }
    /// The last piece of the content.
    pub fn last(self, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Step::Data { bytes: bytes.as_ref().to_vec(), last: true, padding: None })
    }
    /// A piece with padding.
    pub fn padded(self, bytes: impl AsRef<[u8]>, padding: u8, last: bool) -> Self {
        self.with(Step::Data { bytes: bytes.as_ref().to_vec(), last, padding: Some(padding) })
    }
    /// The end by itself.
    pub fn end(self) -> Self {
        self.with(Step::End)
    }
    /// Trailers, as the end.
    pub fn trailers(self, pairs: &[(&str, &str)]) -> Self {
        self.with(Step::Trailers(fields(pairs)))
    }
    /// What is no message. The frames' stream is that of the exchange, but for those of the connection.
    pub fn raw(self, h1: impl AsRef<[u8]>, h2: &[Frame]) -> Self {
        self.with(Step::Raw { h1: h1.as_ref().to_vec(), h2: h2.to_vec() })
    }
    /// Tells the other side of the edge that it has come this far.
    pub fn cue(self, word: &'static str) -> Self {
        self.with(Step::Cue(word))
    }
    /// Waits until the other side of the edge has come that far.
    pub fn wait(self, word: &'static str) -> Self {
        self.with(Step::Await(word))
    }
    /// Waits for this of the message of the other side.
    pub fn until(self, until: Until) -> Self {
        self.with(Step::Heard(until))
    }
    /// Ends the exchange before its time.
    pub fn breaks(self, how: Break) -> Self {
        self.with(Step::Break(how))
    }
    /// Everything that is content.
    pub fn content(&self) -> Vec<u8> {
        let piece = |step: &Step| if let Step::Data { bytes, .. } = step { bytes.clone() } else { Vec::new() };
        self.steps.iter().flat_map(piece).collect()
    }
    /// The trailers.
    pub fn trailing(&self) -> Fields {
        let trailers = |step: &Step| if let Step::Trailers(fields) = step { Some(fields.clone()) } else { None };
        self.steps.iter().find_map(trailers).unwrap_or_default()
    }
    /// Does it say what is no message?
    pub fn has_raw(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Raw { .. }))
    }
    /// Is the message broken off?
    pub fn is_broken(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Break(_)))
    }
}

/// Says a message in one version of HTTP.
#[async_trait]
pub trait Voice: Send {
    async fn interim(&mut self, status: u16, fields: &Fields) -> io::Result<()>;
    async fn head(&mut self, head: &Head, last: bool) -> io::Result<()>;
    async fn data(&mut self, bytes: &[u8], last: bool, padding: Option<u8>) -> io::Result<()>;
    async fn trailers(&mut self, fields: &Fields) -> io::Result<()>;
    async fn end(&mut self) -> io::Result<()>;
    async fn raw(&mut self, h1: &[u8], h2: &[Frame]) -> io::Result<()>;
    async fn break_off(&mut self, how: Break) -> io::Result<()>;
}

/// How a script came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Performed {
    /// All was said.
    Whole,
    /// As the script wanted it.
    Broken(Break),
    /// Nobody was there to hear the rest.
    Unheard(String),
}

/// Does what the script says.
pub async fn perform(voice: &mut dyn Voice, script: &Script, ear: &Ear, cues: &Cues) -> Performed {
    for step in &script.steps {
        let done = match step {
            Step::Interim(status, fields) => voice.interim(*status, fields).await,
            Step::Head { last } => voice.head(&script.head, *last).await,
            Step::Data { bytes, last, padding } => voice.data(bytes, *last, *padding).await,
            Step::Trailers(fields) => voice.trailers(fields).await,
            Step::End => voice.end().await,
            Step::Raw { h1, h2 } => voice.raw(h1, h2).await,
            Step::Cue(word) => {
                cues.give(word);
                Ok(())
            }
            Step::Await(word) => {
                cues.wait(word).await;
                Ok(())
            }
            Step::Heard(until) => {
                // A message that ended otherwise is no reason to wait on: the script goes on and the judge sees it.
                ear.wait(|heard| heard.end.is_some() || heard.is_at(*until)).await;
                Ok(())
            }
            Step::Break(how) => {
                return match voice.break_off(*how).await {
                    Ok(()) => Performed::Broken(*how),
                    Err(error) => Performed::Unheard(error.to_string()),
                };
            }
        };
        if let Err(error) = done {
            return Performed::Unheard(error.to_string());
        }
    }
    Performed::Whole
}

/// How far the two sides of a row have come.
#[derive(Debug, Default, Clone)]
pub struct Cues(Arc<watch::Sender<Vec<&'static str>>>);

impl Cues {
    pub fn give(&self, word: &'static str) {
        self.0.send_modify(|given| given.push(word));
    }
    pub async fn wait(&self, word: &'static str) {
        let _ = self.0.subscribe().wait_for(|given| given.contains(&word)).await;
    }
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With all that its framing promised.
    Whole,
    /// Before.
    Cut(String),
}

/// A message as it arrived.
#[derive(Clone, Default)]
pub struct Heard {
    pub interim: Vec<(u16, Fields)>,
    /// 0 in a request, and before the head is there.
    pub status: u16,
    /// Empty in a response.
    pub method: String,
    pub target: String,
    pub fields: Fields,
    /// Once the head is there.
    pub framing: Option<Framing>,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub end: Option<End>,
    /// The code of a RST_STREAM, also of one that came after the end.
    pub reset: Option<u32>,
    /// A response to HEAD, whose length is that of another response. Said by whoever has asked.
    pub to_head: bool,
    /// The other side went before it had its answer.
    pub gone: bool,
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interim, status, method, target, fields, framing, body, trailers, end, reset, to_head: _, gone } = self;
        let body = String::from_utf8_lossy(&body[..body.len().min(200)]);
        write!(f, "{method}{target}{status} {body:?} {framing:?} end {end:?} reset {reset:?} gone {gone} ")?;
        write!(f, "interim {interim:?} trailers {trailers:?} fields {fields:?}")
    }
}

impl Heard {
    /// Has it come so far?
    pub fn is_at(&self, until: Until) -> bool {
        match until {
            Until::Head => self.framing.is_some(),
            Until::Interim => !self.interim.is_empty(),
            Until::Bytes(count) => self.body.len() >= count,
            Until::End => self.end.is_some(),
        }
    }
    /// Was its end where it should be?
    pub fn is_whole(&self) -> bool {
        self.end == Some(End::Whole)
    }
    /// The values of all fields with this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }
}

/// Where a message is heard, by the driver that reads it and whoever waits for it.
#[derive(Debug, Default, Clone)]
pub struct Ear(Arc<watch::Sender<Heard>>);

impl Ear {
    pub fn hear(&self, change: impl FnOnce(&mut Heard)) {
        self.0.send_modify(change);
    }
    /// The end, unless it came before.
    pub fn end(&self, end: End) {
        self.hear(|heard| {
            heard.end.get_or_insert(end);
        });
    }
    pub fn now(&self) -> Heard {
        self.0.borrow().clone()
    }
    pub async fn wait(&self, wanted: impl FnMut(&Heard) -> bool) {
        let _ = self.0.subscribe().wait_for(wanted).await;
    }
}
