//! HAProxy: connections to the endpoints are shared by all clients. It writes no files, so its log goes to its output, a line at
//! a time.

use super::Place;

pub(super) fn config(place: &Place) -> String {
    let Place { setup, cleartext, tls, endpoints: [first, second], .. } = place;
    let (to, log) = match setup.access_log {
        true => (" log stdout format raw local0\n", " log global\n option httplog\n"),
        false => ("", ""),
    };
    format!(
        "global\n nbthread {}\n maxconn 5000\n{to}\
         defaults\n mode http\n{log} timeout connect 5s\n timeout client 1h\n timeout server 1h\n timeout tunnel 1h\n \
         http-reuse always\n option forwardfor\n\
         frontend f\n bind 127.0.0.1:{cleartext}\n bind 127.0.0.1:{tls} ssl crt {} alpn h2,http/1.1\n \
         http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n default_backend origin\n\
         backend origin\n balance leastconn\n server a {first}\n server b {second}\n",
        setup.workers,
        place.certificate_and_key().display(),
    )
}
