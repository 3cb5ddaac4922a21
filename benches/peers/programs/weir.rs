//! Weir as it would be run: metrics, circuit breaker and retries are on, two endpoints, and many routes.

use super::{MAX_CONNECTIONS, Place};
use crate::{client::HOST, origin::Protocol};

/// Routes in all, if the workload does not say it.
const ROUTES: usize = 1000;

pub(super) fn config(place: &Place, driver: &str) -> String {
    let Place { setup, cleartext, tls, endpoints, .. } = place;
    let directory = place.directory.display();
    let log = if setup.access_log { place.access_log().display().to_string() } else { "off".to_owned() };
    let (certificate, key) = (place.certificate(), place.key());
    let http = "http: {max_requests_per_connection: 1000000000}";
    let served = [
        ("served", "", "websocket: true, "),
        ("files", ", path: /files/*", &format!("filters: [{{static_files: {{root: '{directory}'}}}}], ")),
        ("kept", ", path: /kept/*", "filters: [{cache: {}}], "),
    ];
    let served = served.map(|(name, path, more)| {
        format!("- {{name: {name}, match: {{host: {HOST}{path}}}, {more}retry: {{}}, upstream: origin}}\n")
    });
    let others = place.routes(setup.routes.unwrap_or(ROUTES)).enumerate().map(|(number, (host, path))| {
        format!("- {{name: r{number}, match: {{host: {host}, path: {path}*}}, retry: {{}}, upstream: origin}}\n")
    });
    let protocol = match setup.protocol {
        Protocol::Http1 => "h1",
        Protocol::Grpc => "h2c",
    };
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
    format!(
        "server: {{driver: {driver}, threads: {}, max_connections: {MAX_CONNECTIONS}}}\nadmin: {{address: '127.0.0.1:0'}}\n\
         observability: {{access_log: {{path: '{log}'}}}}\n\
         cache: {{memory: 64MiB}}\nlisteners:\n  cleartext: {{address: '127.0.0.1:{cleartext}', {http}}}\n  \
         tls: {{address: '127.0.0.1:{tls}', tls: {{certificates: [{{cert: '{}', key: '{}'}}], h3: true}}, {http}}}\n\
         upstreams: {{origin: {{strategy: least_connections, connections: {{protocol: {protocol}}}, endpoints: [{}]}}}}\n\
         routes:\n{}",
        setup.workers,
        certificate.display(),
        key.display(),
        endpoints.join(", "),
        others.chain(served).collect::<String>(),
    )
}
