//! Envoy: a static configuration. A failed connect is tried once more, as in Weir. Routes under one host are a tree of prefixes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Place;
use crate::{client::HOST, origin::Protocol};

/// Where `tools/envoy` puts the program.
pub(super) const FROM_PYPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/envoy/envoy/_bin/envoy");

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.Route";
const FIELD: &str = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
const DOWNSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const UPSTREAM: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Of the circuit breaker, which is 1024 otherwise.
const NO_LIMIT: u32 = 1_000_000;

pub(super) fn config(place: &Place) -> String {
    let endpoints: Vec<Value> = place.endpoints.iter().map(|endpoint| {
        json!({"endpoint": {"address": {"socket_address": {"address": endpoint.ip().to_string(), "port_value": endpoint.port()}}}})
    }).collect();
    let tls = json!({"name": "envoy.transport_sockets.tls", "typed_config": {"@type": DOWNSTREAM_TLS, "common_tls_context": {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [{
            "certificate_chain": {"filename": place.certificate()},
            "private_key": {"filename": place.key()},
        }],
    }}});
    let mut cluster = json!({
        "name": "origin",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT, "max_requests": NO_LIMIT, "max_retries": NO_LIMIT,
        }]},
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if place.setup.protocol == Protocol::Grpc {
        cluster["typed_extension_protocol_options"] = json!({UPSTREAM: {
            "@type": format!("type.googleapis.com/{UPSTREAM}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    let config = json!({"static_resources": {
        "listeners": [
            listener(place, "cleartext", place.cleartext, None),
            listener(place, "tls", place.tls, Some(tls)),
            quic(place),
        ],
        "clusters": [cluster],
    }});
    // JSON is YAML.
    config.to_string()
}

/// HTTP/3, on UDP at the port of TLS.
fn quic(place: &Place) -> Value {
    let tls = json!({"name": "envoy.transport_sockets.quic", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
        "downstream_tls_context": {"common_tls_context": {"tls_certificates": [{
            "certificate_chain": {"filename": place.certificate()},
            "private_key": {"filename": place.key()},
        }]}},
    }});
    let mut listener = listener(place, "quic", place.tls, Some(tls));
    listener["address"]["socket_address"]["protocol"] = "UDP".into();
    listener["udp_listener_config"] = json!({"quic_options": {}, "downstream_socket_config": {"prefer_gro": true}});
    listener["filter_chains"][0]["filters"][0]["typed_config"]["codec_type"] = "HTTP3".into();
    listener["filter_chains"][0]["filters"][0]["typed_config"]["http3_protocol_options"] = json!({});
    // WebSocket is nothing that is measured over it.
    if let Some(manager) = listener["filter_chains"][0]["filters"][0]["typed_config"].as_object_mut() {
        manager.remove("upgrade_configs");
    }
    listener
}

fn listener(place: &Place, name: &str, port: u16, tls: Option<Value>) -> Value {
    let log = json!({"name": "envoy.access_loggers.file", "typed_config": {"@type": FILE_LOG, "path": place.access_log()}});
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": name,
        "use_remote_address": true,
        "generate_request_id": false,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": if place.setup.access_log { vec![log] } else { vec![] },
        "route_config": {"virtual_hosts": hosts(place)},
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

/// One for all hosts, or one for each of those that routes name.
fn hosts(place: &Place) -> Vec<Value> {
    let Some(routes) = place.setup.routes else {
        return vec![json!({"name": "all", "domains": ["*"], "routes": [route("/")]})];
    };
    let mut hosts = BTreeMap::from([(HOST.to_owned(), Map::new())]);
    for (host, path) in place.routes(routes) {
        hosts.entry(host).or_default().insert(path.clone(), action(&path));
    }
    let host = |(host, prefixes)| {
        let path = json!({"name": "path", "typed_config": {"@type": FIELD, "header_name": ":path"}});
        json!({"name": host, "domains": [host], "matcher": {
            "matcher_tree": {"input": path, "prefix_match_map": {"map": prefixes}},
            "on_no_match": action("/"),
        }})
    };
    hosts.into_iter().filter(|(_, prefixes)| !prefixes.is_empty()).map(host).collect()
}

fn action(prefix: &str) -> Value {
    let mut route = route(prefix);
    route["@type"] = ROUTE.into();
    json!({"action": {"name": "route", "typed_config": route}})
}

fn route(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {
        "cluster": "origin",
        "timeout": "0s",
        "retry_policy": {"retry_on": "connect-failure", "num_retries": 1},
    }, "request_headers_to_add": [{
        "header": {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }]})
}
