//! TLS to the server that is tried out.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{SendError, Transport};
use crate::{tls, types::bare_host};

/// Which servers are believed to be who they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate of an authority that the system trusts.
    System,
    /// Those with a certificate of an authority in this PEM file.
    File(PathBuf),
    /// All. For trying things out only.
    Anyone,
}

pub(super) async fn connect(stream: TcpStream, host: &str, transport: &Transport) -> Result<TlsStream<TcpStream>, SendError> {
    let fail = |source| SendError::Tls { name: host.to_owned(), source };
    let config = config(transport)?;
    let bare = bare_host(host).to_owned();
    let name = ServerName::try_from(bare).map_err(|error| fail(io::Error::other(error)))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(fail)
}

fn config(transport: &Transport) -> Result<ClientConfig, SendError> {
    let trust = match &transport.trust {
        Trust::System => tls::Trust::System,
        Trust::File(path) => tls::Trust::File(path),
        Trust::Anyone => tls::Trust::Anyone,
    };
    let mut config = tls::client_config(trust, None).map_err(|error| SendError::Trust(error.to_string()))?;
    config.alpn_protocols = match transport.http2_only {
        true => vec![b"h2".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}
