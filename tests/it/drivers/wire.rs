//! HTTP/1 messages as they came, whole or not: whoever reads them here must not stumble over what a test provokes.

/// Fields, or trailers: names in lower case.
pub type Fields = Vec<(String, String)>;

/// What is known of the end of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More of it is to come.
    Open,
    /// It goes on until the connection ends.
    UntilClose,
    /// It is complete.
    Whole,
    /// It is not HTTP from here on.
    Broken,
}

/// The message at the beginning of some bytes.
#[derive(Debug, Clone)]
pub struct Message {
    pub start: String,
    pub fields: Fields,
    pub content: Vec<u8>,
    pub trailers: Fields,
    pub end: End,
    /// How many of the bytes are its own.
    pub used: usize,
}

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response { to_head: bool },
}

impl Message {
    /// The status of a response; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
    /// A word of its first line.
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }
    /// The value of the first field with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
    /// Is it a 1xx?
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status())
    }
}

/// Where the empty line ends that ends a head.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn fields(block: &str) -> Fields {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, "(no field)"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    block.split("\r\n").filter(|line| !line.is_empty()).map(field).collect()
}

/// The message that these bytes begin with; `None` while its head is not complete.
pub fn read(bytes: &[u8], kind: Kind) -> Option<Message> {
    let used = head_end(bytes)?;
    let head = bytes[..used].iter().map(|byte| char::from(*byte)).collect::<String>();
    let (start, block) = head.split_once("\r\n")?;
    let mut message = Message {
        start: start.to_owned(),
        fields: fields(block),
        content: Vec::new(),
        trailers: Vec::new(),
        end: End::Whole,
        used,
    };
    let chunked = message.field("transfer-encoding").is_some();
    let length = message.field("content-length").map(|value| value.parse::<usize>().unwrap_or(usize::MAX));
    let bodiless = match kind {
        Kind::Request => length.is_none() && !chunked,
        Kind::Response { to_head } => to_head || message.is_interim() || matches!(message.status(), 204 | 304),
    };
    match (bodiless, chunked, length) {
        (true, ..) => {}
        (false, true, _) => chunks(bytes, &mut message),
        (false, false, Some(length)) => {
            let there = length.min(bytes.len() - used);
            message.content = bytes[used..used + there].to_vec();
            message.used += there;
            message.end = if there == length { End::Whole } else { End::Open };
        }
        (false, false, None) => {
            message.content = bytes[used..].to_vec();
            (message.used, message.end) = (bytes.len(), End::UntilClose);
        }
    }
    Some(message)
}

fn chunks(bytes: &[u8], message: &mut Message) {
    message.end = End::Open;
    let line = |at: usize| bytes[at..].windows(2).position(|window| window == b"\r\n").map(|end| at + end);
    loop {
        let Some(end) = line(message.used) else { return };
        let text = String::from_utf8_lossy(&bytes[message.used..end]).into_owned();
        let Ok(size) = usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16) else {
            message.end = End::Broken;
            return;
        };
        let begin = end + 2;
        if size == 0 {
            let Some(after) = line(begin) else { return };
            let end = if after == begin { begin + 2 } else { begin + head_end(&bytes[begin..]).unwrap_or(usize::MAX / 2) };
            if end <= bytes.len() {
                message.trailers = fields(&String::from_utf8_lossy(&bytes[begin..end]));
                (message.used, message.end) = (end, End::Whole);
            }
            return;
        }
        let there = size.min(bytes.len() - begin);
        message.content.extend_from_slice(&bytes[begin..begin + there]);
        match bytes.get(begin + size..begin + size + 2) {
            Some(b"\r\n") => message.used = begin + size + 2,
            Some(_) => {
                message.end = End::Broken;
                return;
            }
            None => return,
        }
    }
}

/// A chunked body that is complete up to a partial chunk counts that part too, so what is read again begins where it is `used`.
pub fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=200 => String::from_utf8_lossy(bytes).into_owned(),
        length => format!("{}... ({length} bytes, sum {})", String::from_utf8_lossy(&bytes[..40]), sum(bytes)),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum * 31 + u64::from(*byte)) % 1_000_000_007)
}
