//! nginx: connections to the endpoints are kept, the usual fields are set, lines of the log are written in blocks, bodies of requests
//! are passed on as they come.

use super::{MAX_CONNECTIONS, Place};
use crate::{client::HOST, origin::Protocol};

pub(super) fn config(place: &Place) -> String {
    let Place { setup, cleartext, tls, endpoints, .. } = place;
    let directory = place.directory.display();
    let log = match setup.access_log {
        true => format!("{} combined buffer=64k flush=1s", place.access_log().display()),
        false => "off".to_owned(),
    };
    let (certificate, key) = (place.certificate(), place.key());
    // Where a location sets one, it inherits none.
    let fields = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
                  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;";
    let pass = match setup.protocol {
        Protocol::Http1 => format!("proxy_pass http://origin; {fields} proxy_set_header Connection '';"),
        Protocol::Grpc => format!("grpc_pass grpc://origin; {}", fields.replace("proxy_set", "grpc_set")),
    };
    let servers: String = endpoints.iter().map(|endpoint| format!(" server {endpoint};")).collect();
    let (own, others): (Vec<_>, Vec<_>) = place.routes(setup.routes.unwrap_or(0)).partition(|(host, _)| host == HOST);
    let location = |path: &str| format!("location {path} {{ {pass} }}\n");
    let own: String = own.iter().map(|(_, path)| location(path)).collect();
    let others: String = others
        .iter()
        .map(|(host, path)| format!("server {{ listen 127.0.0.1:{cleartext}; server_name {host}; {} }}\n", location(path)))
        .collect();
    format!(
        "worker_processes {};\ndaemon off;\nerror_log stderr crit;\nevents {{ worker_connections {MAX_CONNECTIONS}; }}\n\
         http {{ access_log {log}; sendfile on; keepalive_requests 1000000000; server_names_hash_max_size 65536;\n\
         client_max_body_size 0; proxy_request_buffering off;\n\
         client_body_temp_path {directory}/b; proxy_temp_path {directory}/t; fastcgi_temp_path {directory}/f;\n\
         uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n\
         proxy_cache_path {directory}/c levels=1:2 keys_zone=z:8m max_size=64m inactive=1h use_temp_path=off;\n\
         open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;\n\
         upstream origin {{ least_conn;{servers} keepalive 1024; keepalive_requests 1000000000; }}\n\
         proxy_http_version 1.1; proxy_max_temp_file_size 0;\n\
         server {{ listen 127.0.0.1:{cleartext}; listen 127.0.0.1:{tls} ssl http2; server_name {HOST};\n\
         ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         {} {own}\
         location /websocket {{ proxy_pass http://origin; {fields} proxy_read_timeout 1h;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}\n\
         location /kept {{ proxy_pass http://origin; {fields} proxy_set_header Connection ''; proxy_cache z; proxy_cache_lock on; }}\n\
         location /files/ {{ root {directory}; }} }}\n{others} }}\n",
        setup.workers,
        certificate.display(),
        key.display(),
        location("/"),
    )
}
