//! Envoy: a static configuration. A failed connect is tried once more, as in Weir.

use serde_json::{Value, json};

use super::Place;

/// Where `tools/envoy` puts the program.
pub(super) const FROM_PYPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/envoy/envoy/_bin/envoy");

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const DOWNSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

pub(super) fn config(place: &Place) -> String {
    let endpoints = place.endpoints.map(|endpoint| {
        json!({"endpoint": {"address": {"socket_address": {"address": endpoint.ip().to_string(), "port_value": endpoint.port()}}}})
    });
    let tls = json!({"name": "envoy.transport_sockets.tls", "typed_config": {"@type": DOWNSTREAM_TLS, "common_tls_context": {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [{
            "certificate_chain": {"filename": place.certificate()},
            "private_key": {"filename": place.key()},
        }],
    }}});
    let config = json!({"static_resources": {
        "listeners": [listener(place, "cleartext", place.cleartext, None), listener(place, "tls", place.tls, Some(tls))],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]},
        }],
    }});
    // JSON is YAML.
    config.to_string()
}

fn listener(place: &Place, name: &str, port: u16, tls: Option<Value>) -> Value {
    let log = json!({"name": "envoy.access_loggers.file", "typed_config": {"@type": FILE_LOG, "path": place.access_log()}});
    let route = json!({"match": {"prefix": "/"}, "route": {
        "cluster": "origin",
        "timeout": "0s",
        "retry_policy": {"retry_on": "connect-failure", "num_retries": 1},
    }, "request_headers_to_add": [{
        "header": {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }]});
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": name,
        "use_remote_address": true,
        "generate_request_id": false,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": if place.setup.access_log { vec![log] } else { vec![] },
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    let mut chain = json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    })
}
