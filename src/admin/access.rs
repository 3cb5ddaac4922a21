//! Who may do what, decided before any page runs:
//!
//! 0. `/healthz` and `/readyz` are read by anybody who reaches the address: a container's or a load balancer's probe
//!    can keep no secret and names the address as it likes, and the two disclose nothing but what they are for.
//! 1. The Host field must name this listener, so that a web page whose name is made to resolve to this address
//!    (DNS rebinding) gets nothing: 421.
//! 2. Reading on loopback is free unless a token is configured; so are the parts of the dashboard everywhere, which
//!    hold nothing but what ships with Weir and ask for the token themselves. Everything else needs the bearer token: 401.
//! 3. What changes something is refused from forms, the one kind of body another site can post: 415.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{AdminState, answer::Refusal, dashboard};
use crate::types::{Address, parse_authority};

/// What anybody may read.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// The address of our end of the connection; `None` on a unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local(pub(super) Option<SocketAddr>);

/// The middleware.
pub(super) async fn check(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    match verdict(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn verdict(state: &AdminState, request: &Request) -> Result<(), Refusal> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && PROBES.contains(&request.uri().path()) {
        return Ok(());
    }
    let local = request.extensions().get::<Local>().and_then(|local| local.0);
    if !names_us(request, local, &state.address) {
        return Err(Refusal::Host);
    }
    let page = reads && dashboard::has(request.uri().path()) && state.shows_dashboard();
    let free = page || reads && state.address.is_local() && state.token.load().made().is_some();
    if !free && !shows_token(request.headers(), state) {
        return Err(Refusal::Unauthorized);
    }
    if !reads && is_form(request.headers()) {
        return Err(Refusal::FormBody);
    }
    Ok(())
}

fn shows_token(headers: &HeaderMap, state: &AdminState) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let Some((scheme, token)) = value.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && state.token.load().is(token)
}

/// The types that a form of another site can send without asking first (Fetch, "CORS-safelisted request-header").
fn is_form(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_TYPE).iter().any(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let forms: [&[u8]; 3] = [b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"];
        forms.iter().any(|form| kind.eq_ignore_ascii_case(form))
    })
}

/// Exactly one Host, and it (and the authority of an absolute-form target) names this listener.
fn names_us(request: &Request, local: Option<SocketAddr>, address: &Address) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let target = request.uri().authority().is_none_or(|authority| is_ours(authority.as_str(), local, address));
    target && is_ours(host, local, address)
}

/// `localhost`, a loopback address, the configured address, or the one the client connected to, with the port. An IP
/// literal needs no name service, so there is nothing to rebind. A browser cannot reach a unix socket at all.
fn is_ours(host: &str, local: Option<SocketAddr>, address: &Address) -> bool {
    let Some(bound) = address.tcp() else { return true };
    let port = local.map_or(bound.port(), |local| local.port());
    let Some((name, given)) = parse_authority(host) else { return false };
    if given.unwrap_or(80) != port {
        return false;
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let ip: Option<IpAddr> = match literal {
        Some(literal) => literal.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    match ip.map(|ip| ip.to_canonical()) {
        Some(ip) => {
            [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into(), bound.ip().to_canonical()].contains(&ip)
                || local.is_some_and(|local| local.ip().to_canonical() == ip)
        }
        None => name == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str, bound: &str, local: &str) -> bool {
        is_ours(host, local.parse().ok(), &bound.parse().unwrap())
    }

    #[test]
    fn hosts_on_loopback() {
        for host in ["localhost:9900", "LocalHost:9900", "127.0.0.1:9900", "[::1]:9900"] {
            assert!(ours(host, "127.0.0.1:9900", "127.0.0.1:9900"), "{host}");
        }
        for host in [
            "",
            ":9900",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:9901",
            "127.0.0.1:",
            "127.0.0.1:+9900",
            "evil.example:9900",
            "localhost.evil.example:9900",
            "127.0.0.1.evil.example:9900",
            "192.0.2.1:9900",
            "::1:9900",
            "[127.0.0.1]:9900",
            "[::1:9900",
            "user@localhost:9900",
        ] {
            assert!(!ours(host, "127.0.0.1:9900", "127.0.0.1:9900"), "{host}");
        }
        assert!(ours("localhost", "127.0.0.1:80", "127.0.0.1:80"), "80 is what no port means");
    }

    #[test]
    fn hosts_elsewhere() {
        assert!(ours("192.0.2.1:9900", "0.0.0.0:9900", "192.0.2.1:9900"));
        assert!(ours("[2001:db8::1]:9900", "[::]:9900", "[2001:db8::1]:9900"));
        assert!(ours("192.0.2.1:9900", "[::]:9900", "[::ffff:192.0.2.1]:9900"));
        assert!(!ours("192.0.2.2:9900", "0.0.0.0:9900", "192.0.2.1:9900"));
        assert!(!ours("admin.example:9900", "0.0.0.0:9900", "192.0.2.1:9900"));
        assert!(ours("anything", "unix:/run/weir.sock", ""));
    }
}
