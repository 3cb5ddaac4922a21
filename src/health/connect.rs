//! Opening the connection that a probe speaks on.

use std::io;

use crate::{
    types::Address,
    wire::{ClientTls, Stream, dial},
};

/// How to reach endpoints: as requests do.
#[derive(Debug, Clone, Default)]
pub struct Dial {
    /// Over TLS; whether HTTP/2 is spoken is then agreed with ALPN.
    pub tls: Option<ClientTls>,
    /// Without TLS: HTTP/2, with prior knowledge.
    pub h2c: bool,
}

impl Dial {
    /// May HTTP/2 be spoken? Over TLS that is what ALPN offers.
    pub(super) fn http2(&self) -> bool {
        self.tls.as_ref().map_or(self.h2c, |tls| tls.config.alpn_protocols.iter().any(|protocol| protocol == b"h2"))
    }
}

/// Connects; true for a connection on which HTTP/2 is spoken. The caller sets the time.
pub(super) async fn connect(address: &Address, way: &Dial) -> Result<(Stream, bool), String> {
    let stream = dial(address, way.tls.as_ref(), None).await.map_err(|unconnected| unconnected.to_string())?;
    let http2 = if way.tls.is_some() { stream.alpn() == Some(b"h2") } else { way.h2c };
    Ok((stream, http2))
}

/// An I/O error in a few words, without an errno.
pub(super) fn reason(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::UnexpectedEof => "the connection was closed early".into(),
        // `invalid peer certificate: ...` and the like, which rustls words itself.
        io::ErrorKind::InvalidData => error.to_string(),
        kind => kind.to_string(),
    }
}
