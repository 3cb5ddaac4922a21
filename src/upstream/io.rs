//! What Pingora asks of a connection to an endpoint beside reading and writing.

/// Implements it for a type; `$stream` of its `$this` is the [`Stream`](crate::wire::Stream) that it reads and writes, or none.
///
/// The pool tells connections apart by their descriptors, and asks the system for the address of each, so that they must be true. What
/// is known of a connection is not in Pingora's digests: nobody reads them.
macro_rules! pingora_io {
    ($type:ty, $this:ident => $stream:expr) => {
        #[async_trait::async_trait]
        impl pingora_core::protocols::Shutdown for $type {
            async fn shutdown(&mut self) {
                let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
            }
        }
        impl pingora_core::protocols::UniqueID for $type {
            fn id(&self) -> pingora_core::protocols::UniqueIDType {
                use std::os::fd::{AsFd, AsRawFd};
                let $this = self;
                let stream: Option<&crate::wire::Stream> = $stream;
                stream.map_or(-1, |stream| stream.as_fd().as_raw_fd())
            }
        }
        impl pingora_core::protocols::Ssl for $type {}
        impl pingora_core::protocols::GetTimingDigest for $type {
            fn get_timing_digest(&self) -> Vec<Option<pingora_core::protocols::TimingDigest>> {
                Vec::new()
            }
        }
        impl pingora_core::protocols::GetProxyDigest for $type {
            fn get_proxy_digest(&self) -> Option<std::sync::Arc<pingora_core::protocols::raw_connect::ProxyDigest>> {
                None
            }
        }
        impl pingora_core::protocols::GetSocketDigest for $type {
            fn get_socket_digest(&self) -> Option<std::sync::Arc<pingora_core::protocols::SocketDigest>> {
                None
            }
        }
        impl pingora_core::protocols::Peek for $type {}
    };
}
pub(super) use pingora_io;
