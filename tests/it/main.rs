//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod access;
mod access_log;
mod admin_api;
mod auth;
mod breaker;
mod cache;
mod compress;
mod discovery;
mod docker_discovery;
mod docker_engine;
mod explain;
mod faults;
mod filters;
mod fixtures;
mod forward_auth;
mod gateway;
mod grpc_health;
mod headers;
mod health;
mod jwt;
mod l4;
mod l4_tls;
mod lab;
mod limits;
mod listeners;
mod locality;
mod metrics;
mod mirror;
mod observe;
mod pages;
mod rate_limits;
mod rate_limits_shared;
mod reload;
mod reload_load;
mod routing;
mod static_files;
mod sticky;
mod tls;
mod tracing;
mod tunnels;
mod upstreams;
mod websockets;
