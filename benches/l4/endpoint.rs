//! What the proxies are in front of: echoes, unless it is asked for bytes in bulk.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// First byte of a request for bulk, followed by how many bytes, in eight.
pub const BULK: u8 = b'B';

pub async fn start() -> std::io::Result<SocketAddr> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener: TcpListener = socket.listen(4096)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if count == 9 && buffer[0] == BULK {
            let wanted = u64::from_be_bytes(buffer[1..9].try_into().unwrap_or_default());
            return bulk(stream, wanted).await;
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn bulk(mut stream: TcpStream, mut left: u64) -> std::io::Result<()> {
    let chunk = vec![0x5a; 256 * 1024];
    while left > 0 {
        let now = chunk.len().min(left as usize);
        stream.write_all(&chunk[..now]).await?;
        left -= now as u64;
    }
    stream.shutdown().await
}
