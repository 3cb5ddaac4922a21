//! HAProxy: connections to the endpoints are shared by all clients. It writes no files, so its log goes to its output, a line at
//! a time. Routes are a map of hosts and prefixes, which it searches as a tree.

use super::{MAX_CONNECTIONS, Place};
use crate::origin::Protocol;

pub(super) fn config(place: &Place) -> String {
    let Place { setup, cleartext, tls, endpoints, .. } = place;
    let (to, log) = match setup.access_log {
        true => (" log stdout format raw local0\n", " log global\n option httplog\n"),
        false => ("", ""),
    };
    let route = match setup.routes {
        Some(_) => format!(" use_backend %[base,map_beg({},origin)]\n", place.map().display()),
        None => String::new(),
    };
    let protocol = match setup.protocol {
        Protocol::Http1 => "",
        Protocol::Grpc => " proto h2",
    };
    let servers = endpoints.iter().enumerate();
    let servers: String = servers.map(|(number, endpoint)| format!(" server s{number} {endpoint}{protocol}\n")).collect();
    // Each connection might need a second one, for which there are not enough files; idle ones do not.
    format!(
        "global\n nbthread {}\n maxconn {MAX_CONNECTIONS}\n no strict-limits\n{to}\
         defaults\n mode http\n{log} timeout connect 5s\n timeout client 1h\n timeout server 1h\n timeout tunnel 1h\n \
         http-reuse always\n option forwardfor\n\
         frontend f\n bind 127.0.0.1:{cleartext}\n bind 127.0.0.1:{tls} ssl crt {} alpn h2,http/1.1\n \
         http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n{route} default_backend origin\n\
         backend origin\n balance leastconn\n{servers}",
        setup.workers,
        place.certificate_and_key().display(),
    )
}

/// The backend of each host and prefix.
pub(super) fn map(place: &Place) -> String {
    place.routes(place.setup.routes.unwrap_or(0)).map(|(host, path)| format!("{host}{path} origin\n")).collect()
}
