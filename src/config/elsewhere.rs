//! Words of nginx, HAProxy, Traefik and Caddy, and what to write here instead.

/// What a mapping is, by a key that it alone has.
const PLACES: [(&str, Place); 10] = [
    ("upstreams", Place::File),
    ("shutdown_grace", Place::Server),
    ("websocket", Place::Route),
    ("path_regex", Place::Match),
    ("redirect_to_https", Place::Listener),
    ("client_certificates", Place::ListenerTls),
    ("max_header_bytes", Place::ListenerHttp),
    ("panic_threshold", Place::Upstream),
    ("priority", Place::Endpoint),
    ("unhealthy_after", Place::HealthCheck),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Server,
    Route,
    Match,
    Listener,
    ListenerTls,
    ListenerHttp,
    Upstream,
    Endpoint,
    HealthCheck,
}

/// Words that are keys elsewhere, and what to write here.
const KEYS: &[(Place, &[&str], &str)] = &[
    (
        Place::File,
        &["entryPoints", "entrypoints", "frontends", "frontend", "listen", "binds"],
        "where to accept connections is said under `listeners`",
    ),
    (Place::File, &["backends", "backend", "services", "clusters", "pools"], "what requests go to is declared under `upstreams`"),
    (
        Place::File,
        &["http", "routers", "location", "locations", "sites", "virtual_hosts"],
        "what is done with requests is said under `routes`",
    ),
    (
        Place::File,
        &["middlewares", "filters", "plugins"],
        "filters are listed in a route (`filters: [...]`), or in `filter_chains` for several routes",
    ),
    (
        Place::File,
        &["worker_processes", "nbthread", "workers", "threads"],
        "write `server: {threads: ...}`; it is the number of processors when left out",
    ),
    (Place::File, &["user", "pid", "pidfile"], "write it in `server`: `server: {user: ..., pid_file: ...}`"),
    (
        Place::File,
        &["log", "logs", "logging", "access_log", "accessLog", "metrics", "tracing", "error_log"],
        "logs, metrics and traces are set under `observability`",
    ),
    (
        Place::File,
        &["tls", "ssl", "certificates", "certificatesResolvers"],
        "certificates belong to a listener: `listeners: {web: {tls: {certificates: [...]}}}`",
    ),
    (Place::File, &["api", "dashboard", "stats"], "the dashboard and the API are set under `admin`"),
    (
        Place::Server,
        &["listen", "server_name", "location", "root", "ssl_certificate", "address", "port"],
        "`server` is about the process; where to accept connections is said under `listeners`, and what to do with requests under `routes`",
    ),
    (Place::Listener, &["h3", "http3", "quic", "alt_svc"], "HTTP/3 belongs to TLS: `tls: {h3: true}`"),
    (Place::ListenerHttp, &["h3", "http3", "quic", "alt_svc"], "HTTP/3 belongs to the listener's TLS: `tls: {h3: true}`"),
    (
        Place::ListenerTls,
        &["http3", "quic", "alt_svc"],
        "HTTP/3 is `h3: true`, or `h3: {port: ..., max_age: ...}` for what clients are told",
    ),
    (
        Place::Route,
        &["proxy_pass", "reverse_proxy", "service", "backend", "use_backend", "target", "url", "to"],
        "name the upstream in `upstream`, and declare its endpoints under `upstreams`",
    ),
    (
        Place::Route,
        &["rule", "host", "hosts", "path", "paths", "prefix", "location", "server_name", "methods", "method"],
        "conditions are in `match`: `match: {host: example.com, path: /api/*}`",
    ),
    (
        Place::Route,
        &["middlewares", "middleware", "plugins", "use"],
        "write the filters in `filters`: `filters: [rate_limit: {...}]`",
    ),
    (
        Place::Route,
        &[
            "headers",
            "proxy_set_header",
            "add_header",
            "rewrite",
            "strip_prefix",
            "stripPrefix",
            "basic_auth",
            "auth_basic",
            "rate_limit",
            "cors",
            "cache",
            "compress",
            "gzip",
        ],
        "this is a filter: it goes into the list `filters` of the route",
    ),
    (
        Place::Route,
        &["root", "file_server", "alias", "try_files", "static"],
        "files are served by the filter `static_files`: `filters: [static_files: {root: /var/www}]`",
    ),
    (
        Place::Route,
        &["return", "rewrite_to"],
        "write `redirect: {to: ...}` for another URL, or `respond: {status: ...}` for an answer",
    ),
    (Place::Route, &["retries", "proxy_next_upstream"], "write `retry: {attempts: 3}`"),
    (
        Place::Route,
        &["proxy_read_timeout", "timeouts"],
        "write `timeout` for the whole; silence is limited by `connections.response_timeout` of the upstream",
    ),
    (Place::Match, &["hostname", "server_name", "domain", "domains"], "write `host`"),
    (
        Place::Match,
        &["prefix", "path_prefix", "pathPrefix", "location", "uri"],
        "write `path`, with `/*` at its end for all that is below: `path: /api/*`",
    ),
    (Place::Listener, &["listen", "bind", "port"], "write `address`: `address: 0.0.0.0:8080`"),
    (
        Place::Listener,
        &["certificates", "certificate", "cert", "ssl", "ssl_certificate"],
        "write `tls: {certificates: [{cert: ..., key: ...}]}`",
    ),
    (
        Place::Listener,
        &["routes", "server_name", "locations"],
        "routes are a list of their own at the top; one is limited to listeners by `match: {listener: ...}`",
    ),
    (
        Place::ListenerTls,
        &["cert", "key", "certificate", "ssl_certificate", "certFile", "keyFile"],
        "write a list: `certificates: [{cert: ..., key: ...}]`",
    ),
    (
        Place::ListenerTls,
        &["email", "auto", "letsencrypt", "certResolver"],
        "write `acme: auto`; `contact` and more go into `acme` at the top of the file",
    ),
    (Place::ListenerTls, &["protocols", "ssl_protocols", "minVersion"], "write `min_version`"),
    (
        Place::Upstream,
        &["servers", "server", "targets", "nodes", "hosts", "loadBalancer", "urls"],
        "write `endpoints`: `endpoints: [\"10.0.0.1:8080\"]`",
    ),
    (Place::Upstream, &["balance", "lb_policy", "load_balancing", "algorithm", "method"], "write `strategy`"),
    (
        Place::Upstream,
        &["keepalive", "timeout", "connect_timeout", "proxy_connect_timeout", "response_timeout"],
        "connections are set in `connections`: `connections: {connect_timeout: 2s}`",
    ),
    (Place::Upstream, &["check", "option httpchk", "httpchk", "health"], "write `health_check: {http: {path: /health}}`"),
    (Place::Endpoint, &["url", "server", "host", "target", "ip"], "write `address`"),
    (Place::Endpoint, &["port"], "the port is part of `address`: `address: \"10.0.0.1:8080\"`"),
    (
        Place::Endpoint,
        &["down", "backup", "enabled"],
        "write `disabled: true`, or a higher `priority` for one that stands in for others",
    ),
    (
        Place::HealthCheck,
        &["path", "uri", "url", "status", "method", "host", "expect"],
        "say how to ask: `http: {path: /health}`",
    ),
    (
        Place::HealthCheck,
        &["rise", "fall", "passes", "fails", "threshold", "retries"],
        "write `healthy_after` and `unhealthy_after`",
    ),
];

/// Filters and strategies that have other names elsewhere.
const KINDS: &[(&str, &[&str], &str)] = &[
    ("FilterSpec", &["client_max_body_size", "buffering", "request_body", "max_body_size"], "write `body_limit: {max: 10MiB}`"),
    (
        "FilterSpec",
        &["proxy_set_header", "add_header", "request_header", "header", "customrequestheaders", "set-header"],
        "write `headers: {request: {set: {...}}, response: {set: {...}}}`",
    ),
    (
        "FilterSpec",
        &["proxy_redirect", "proxy_cookie_path", "proxy_cookie_domain", "ProxyPassReverse"],
        "a `rewrite` by prefix is undone in answers; write further rules as `map_back: {location: [{from: ..., to: ...}]}`",
    ),
    ("FilterSpec", &["gzip", "encode", "compression", "brotli"], "write `compress: {}`"),
    ("FilterSpec", &["limit_req", "ratelimit", "rate-limit", "rateLimit"], "write `rate_limit: {rate: 100/s}`"),
    ("FilterSpec", &["limit_conn", "inflightreq", "inFlightReq"], "write `concurrency: {max: ...}`"),
    (
        "FilterSpec",
        &["allow", "deny", "ipallowlist", "ipAllowList", "ipwhitelist", "remote_ip"],
        "write `ip_access: {allow: [...]}`",
    ),
    ("FilterSpec", &["auth_basic", "basicauth", "basicAuth"], "write `basic_auth: {users: ...}`"),
    ("FilterSpec", &["auth_request", "forwardauth", "forwardAuth"], "write `forward_auth: {...}`"),
    (
        "FilterSpec",
        &["strip_prefix", "stripprefix", "stripPrefix", "add_prefix", "addPrefix", "replacePath", "handle_path", "uri"],
        "write `rewrite: {strip_prefix: /api}`",
    ),
    (
        "FilterSpec",
        &["redirect", "redirectScheme", "redirectRegex", "return"],
        "a redirect is a route of its own: `redirect: {to: ...}`; a listener sends all to TLS by `redirect_to_https`",
    ),
    ("FilterSpec", &["root", "file_server", "try_files"], "write `static_files: {root: /var/www}`"),
    ("FilterSpec", &["hsts", "secure_headers", "secureHeaders"], "write `security_headers: {}`"),
    (
        "FilterSpec",
        &["retry", "circuitBreaker", "circuit_breaker"],
        "`retry` is a key of the route, `circuit_breaker` one of the upstream",
    ),
    ("StrategySpec", &["least_conn", "leastconn", "least_request", "wlc"], "write `least_connections`"),
    ("StrategySpec", &["rr", "wrr", "first", "static-rr"], "write `round_robin`, which honours weights"),
    ("StrategySpec", &["source", "iphash", "client_ip_hash"], "write `ip_hash`"),
    ("StrategySpec", &["hash", "uri", "uri_hash", "header", "cookie", "ring_hash"], "write `consistent_hash`, and say by what"),
    ("StrategySpec", &["p2c", "random_choose", "random_two"], "write `power_of_two`"),
    ("StrategySpec", &["least_time", "ewma"], "write `least_response_time` or `peak_ewma`"),
];

/// What to write instead of this key, in a mapping that has these.
pub(super) fn key(word: &str, known: &[&str]) -> Option<&'static str> {
    let (_, place) = PLACES.iter().find(|(own, _)| known.contains(own))?;
    KEYS.iter().find(|(of, words, _)| of == place && words.contains(&word)).map(|(.., hint)| *hint)
}

/// What to write instead of this kind of filter or strategy.
pub(super) fn kind(word: &str, of: &str) -> Option<&'static str> {
    KINDS.iter().find(|(own, words, _)| *own == of && words.contains(&word)).map(|(.., hint)| *hint)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The keys of every mapping in the schema of the configuration.
    fn mappings(schema: &Value, found: &mut Vec<Vec<String>>) {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            found.push(properties.keys().cloned().collect());
        }
        match schema {
            Value::Object(members) => members.values().for_each(|member| mappings(member, found)),
            Value::Array(items) => items.iter().for_each(|item| mappings(item, found)),
            _ => {}
        }
    }

    #[test]
    fn a_place_is_known_by_one_key_and_no_word_is_a_key_there() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::config::Spec)).unwrap();
        let mut found = Vec::new();
        mappings(&schema, &mut found);
        for (own, place) in PLACES {
            let there: Vec<_> = found.iter().filter(|keys| keys.iter().any(|key| key == own)).collect();
            assert_eq!(there.len(), 1, "`{own}` is in these mappings: {there:?}");
            for word in KEYS.iter().filter(|(of, ..)| *of == place).flat_map(|(_, words, _)| *words) {
                assert!(!there[0].iter().any(|key| key == word), "`{word}` is a key of {place:?}");
            }
        }
    }
}
