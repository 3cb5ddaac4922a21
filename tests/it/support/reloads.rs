//! Configurations for reloads that change something.

use std::net::SocketAddr;

/// The configuration of a reload: every other one changes upstreams and listeners beside those that the clients use.
pub fn variation(base: &str, number: usize, spare: SocketAddr) -> String {
    let mut yaml = base.to_owned();
    if number % 2 == 1 {
        let strategy = ["random", "least_connections", "peak_ewma"][number % 3];
        yaml = yaml.replace("listeners:\n", &format!("listeners:\n  extra{}: {{address: '127.0.0.1:0'}}\n", number % 5));
        let upstream = format!("upstreams:\n  spare{}: {{strategy: {strategy}, endpoints: ['{spare}']}}\n", number % 4);
        yaml = yaml.replace("upstreams:\n", &upstream);
        let route = format!("routes:\n  - {{name: spare, match: {{path: /spare/*}}, upstream: spare{}}}\n", number % 4);
        yaml = yaml.replace("routes:\n", &route);
        // And the one they use, with the same endpoint.
        yaml = yaml.replace("    slow_start: 1s", &format!("    slow_start: {}s\n    strategy: {strategy}", number % 7 + 1));
    }
    yaml
}
