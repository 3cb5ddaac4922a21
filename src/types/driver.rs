//! Who carries the bytes of an exchange.

/// What moves the bytes of a request and its response. What is decided about them is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// Weir's own, from socket to socket.
    Lane,
    /// Pingora.
    Pingora,
}

impl Driver {
    /// All of them.
    pub const ALL: [Driver; 2] = [Driver::Lane, Driver::Pingora];

    /// The word in the log and in the metric label.
    pub const fn word(self) -> &'static str {
        match self {
            Driver::Lane => "lane",
            Driver::Pingora => "pingora",
        }
    }
}
