//! What Pingora asks of a stream beside reading and writing.

/// Implements what Pingora asks of a stream beside reading and writing, for a type around a [`Transport`](crate::wire::Transport).
///
/// Connection facts travel with the request (see `proxy::arrival`), not in Pingora's digests.
macro_rules! pingora_stream {
    ($type:ty) => {
        #[async_trait]
        impl Shutdown for $type {
            async fn shutdown(&mut self) {
                let _ = AsyncWriteExt::shutdown(self).await;
            }
        }
        impl UniqueID for $type {
            fn id(&self) -> UniqueIDType {
                0
            }
        }
        impl Ssl for $type {}
        impl GetTimingDigest for $type {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                Vec::new()
            }
        }
        impl GetProxyDigest for $type {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                None
            }
        }
        impl GetSocketDigest for $type {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                None
            }
        }
        impl Peek for $type {}
    };
}
pub(super) use pingora_stream;
