//! The Redis that the configuration names: its client, and what it is called in logs.

use redis::{Client, ConnectionAddr, IntoConnectionInfo};

use crate::types::Secret;

/// The client for this address, to which nothing is connected yet, and host and port for the log: the address may have a password in it. The
/// error says what is wrong without repeating the address.
pub fn redis_client(address: &Secret) -> Result<(Client, String), String> {
    // The library's own words may repeat the address.
    let unusable = |error: redis::RedisError| error.category().to_owned();
    let info = address.expose().into_connection_info().map_err(unusable)?;
    let name = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "redis".to_owned(),
    };
    Ok((Client::open(info).map_err(unusable)?, name))
}
