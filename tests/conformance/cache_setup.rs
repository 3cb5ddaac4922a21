//! A site behind a cache, and what is asked of it.

use std::fmt::Write;

use crate::support::{
    client::RawClient,
    edge::{Edge, edge},
    origin::{Answer, Origin, OriginBuilder, origin},
    wire::{RawRequest, RawResponse},
};

/// An edge with one origin behind the filter `cache`.
pub struct Site {
    pub edge: Edge,
    pub origin: Origin,
}

/// The filter with these options.
pub async fn site(origin: OriginBuilder, options: &str) -> Site {
    let origin = origin.spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", &format!("upstream: app\nfilters: [{{cache: {{{options}}}}}]"))
        .start()
        .await;
    Site { edge, origin }
}

/// The origin counts its answers: each has its number for a body, and these fields.
pub fn counting(fields: &'static [(&'static str, &'static str)]) -> OriginBuilder {
    counting_with(move |_| (200, fields.to_vec()))
}

/// The origin counts its answers, whose status and fields depend on the request.
pub fn counting_with(
    say: impl Fn(&RawRequest) -> (u16, Vec<(&'static str, &'static str)>) + Send + Sync + 'static,
) -> OriginBuilder {
    let count = std::sync::atomic::AtomicUsize::new(0);
    origin().respond_with(move |request| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let (status, fields) = say(request);
        Answer::with_headers(status, &fields, format!("answer {number}"))
    })
}

impl Site {
    /// A request on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> RawResponse {
        ask(&mut self.edge.client().await, method, path, fields).await
    }

    /// A GET on a connection of its own.
    pub async fn get(&self, path: &str) -> RawResponse {
        self.ask("GET", path, &[]).await
    }

    /// What the bodies of these GETs are, one after the other.
    pub async fn gets(&self, asked: &[(&str, &[(&str, &str)])]) -> Vec<String> {
        let mut texts = Vec::new();
        for (path, fields) in asked {
            texts.push(self.ask("GET", path, fields).await.text());
        }
        texts
    }
}

/// A request for example.com.
pub async fn ask(client: &mut RawClient, method: &str, path: &str, fields: &[(&str, &str)]) -> RawResponse {
    let host = fields.iter().find(|(name, _)| *name == "host").map_or("example.com", |(_, host)| host);
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| *name != "host") {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    client.send(request + "\r\n").await;
    if method == "HEAD" { client.read_head_response().await } else { client.read_response().await }
}

/// What `Cache-Status` says, as far as it is ours.
pub fn status(response: &RawResponse) -> &str {
    response.header("cache-status").expect("a cache says what it did")
}
