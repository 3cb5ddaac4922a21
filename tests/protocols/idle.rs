//! Sessions that are silent for long, as those of SSH are.

use std::time::Duration;

use crate::support::{edge::edge, tcp::TcpOrigin};

#[tokio::test]
async fn a_session_may_be_silent_for_long() {
    let origin = TcpOrigin::bind().await;
    // The idle timeout is far away, and the timeouts of HTTP mean nothing here.
    let edge = edge().upstream_with("app", &[origin.addr], "connections: {idle_timeout: 100ms, response_timeout: 100ms}");
    let edge = edge.tcp("ssh", "upstream: app\nidle_timeout: 2h").tcp("forever", "upstream: app\nidle_timeout: 0s").start().await;
    let mut sessions = Vec::new();
    for listener in ["ssh", "forever"] {
        let mut client = edge.tcp(listener).await;
        let mut server = origin.accept().await;
        server.send("SSH-2.0-Server\r\n").await;
        assert_eq!(client.text(16).await, "SSH-2.0-Server\r\n");
        client.send("SSH-2.0-Client\r\n").await;
        assert_eq!(server.text(16).await, "SSH-2.0-Client\r\n");
        sessions.push((client, server));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (client, server) in &mut sessions {
        server.send("a window change").await;
        assert_eq!(client.text(15).await, "a window change");
        client.send("x").await;
        assert_eq!(server.text(1).await, "x");
    }
    assert_eq!(edge.metric("weir_tcp_connections", &[]).await, Some(2.0));
}
