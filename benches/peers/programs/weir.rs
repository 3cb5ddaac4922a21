//! Weir as it would be run: metrics, circuit breaker and retries are on, two endpoints, and many routes.

use super::Place;
use crate::client::HOST;

/// Routes in all.
const ROUTES: usize = 1000;

pub(super) fn config(place: &Place) -> String {
    let Place { setup, cleartext, tls, endpoints: [first, second], .. } = place;
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
    let others = (served.len()..ROUTES).map(|number| {
        // Half of them under the same host.
        let host = if number % 2 == 0 { HOST.to_owned() } else { format!("h{number}.example") };
        format!("- {{name: r{number}, match: {{host: {host}, path: /service{number}/*}}, retry: {{}}, upstream: origin}}\n")
    });
    format!(
        "server: {{threads: {}}}\nadmin: {{address: '127.0.0.1:0'}}\nobservability: {{access_log: {{path: '{log}'}}}}\n\
         cache: {{memory: 64MiB}}\nlisteners:\n  cleartext: {{address: '127.0.0.1:{cleartext}', {http}}}\n  \
         tls: {{address: '127.0.0.1:{tls}', tls: {{certificates: [{{cert: '{}', key: '{}'}}]}}, {http}}}\n\
         upstreams: {{origin: {{strategy: least_connections, endpoints: ['{first}', '{second}']}}}}\nroutes:\n{}",
        setup.workers,
        certificate.display(),
        key.display(),
        others.chain(served).collect::<String>(),
    )
}
