//! Redis: many commands on their way before the first answer is read, and large values.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    programs,
    support::{edge::edge_from, tcp::TcpClient, within},
};

/// On a unix socket, so that it needs no port.
async fn redis() -> Option<(Child, PathBuf, TempDir)> {
    let program = programs::find("redis-server", &[])?;
    let directory = TempDir::new().expect("a directory");
    let socket = directory.path().join("redis.sock");
    let mut command = Command::new(program);
    command.current_dir(directory.path()).args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    let server = programs::start(&mut command);
    eventually!(UnixStream::connect(&socket).await.is_ok());
    Some((server, socket, directory))
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[tokio::test]
async fn ten_thousand_commands_in_one_go() {
    let Some((_server, socket, _directory)) = redis().await else { return };
    let edge = edge_from(&format!(
        "listeners: {{redis: {{address: 127.0.0.1:0, tcp: {{upstream: redis}}}}}}\nadmin: off\n\
         observability: {{access_log: {{path: access.log}}}}\nupstreams: {{redis: {{endpoints: ['unix:{}']}}}}\n",
        socket.display()
    ))
    .await;
    let mut client = TcpClient::connect(edge.address("redis")).await;
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for number in 0..5_000 {
        let (key, value) = (format!("key:{number}"), format!("value of {number}"));
        sent.extend(command(&[b"SET", key.as_bytes(), value.as_bytes()]));
        sent.extend(command(&[b"GET", key.as_bytes()]));
        expected.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).bytes());
    }
    let (mut read, mut write) = client.stream.split();
    let sending = tokio::io::AsyncWriteExt::write_all(&mut write, &sent);
    let mut answers = vec![0; expected.len()];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut read, &mut answers);
    let (wrote, got) = within("all answers", async { tokio::join!(sending, reading) }).await;
    wrote.expect("sent");
    got.expect("answers");
    assert!(answers == expected, "an answer is not what was asked for");

    let large = vec![b'v'; 32 << 20];
    client.send(command(&[b"SET", b"large", &large])).await;
    assert_eq!(client.text(5).await, "+OK\r\n");
    client.send(command(&[b"GET", b"large"])).await;
    let answer = client.read(format!("${}\r\n", large.len()).len() + large.len() + 2).await;
    assert!(answer.ends_with(&[&large[..], b"\r\n"].concat()), "the value has changed");
    client.send(command(&[b"QUIT"])).await;
    assert_eq!(client.rest().await, b"+OK\r\n");
    client.finish().await;
    let end = &edge.access_log().await[0]["end"];
    assert_eq!((end["who"].as_str(), end["type"].as_str()), (Some("upstream"), None));
}
