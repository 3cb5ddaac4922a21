//! Weir: an edge proxy and load balancer on Pingora.
//!
//! This is the map. A module imports only from lower layers, which `tests/tidy.rs` checks.
//!
//! | layer | room | what it holds |
//! |---|---|---|
//! | 0 | [`types`] | words of the domain: names, addresses, quantities, causes, problems |
//! | 1 | [`observe`] | metrics, access log, process log, outcomes |
//! | 1 | [`resilience`] | how failure is lived with: circuit breaker, retries and their budget, admission |
//! | 1 | [`endpoint`] | one address, what was learned about it, requests in flight |
//! | 1 | [`pace`] | the slow side sets the pace: how much of an exchange may be in this process |
//! | 2 | [`gate`] | what a request must be before anything else looks at it |
//! | 2 | [`balance`] | strategies: which endpoint takes a request |
//! | 2 | [`health`] | active health checks |
//! | 2 | [`discovery`] | where endpoints come from |
//! | 2 | [`quic`] | UDP sockets, connections over them, their streams; over a change of process, too |
//! | 2 | [`tls`] | certificates by name, handshakes, client certificates |
//! | 2 | [`proxy_protocol`] | the PROXY protocol |
//! | 2 | [`wire`] | connections as bytes: sockets, TLS over them, dialling an endpoint |
//! | 2 | [`tunnel`] | both sides of a WebSocket that Pingora carries: neither direction waits for the other |
//! | 2 | [`cache`] | responses that are kept: what may be, under which key, for how long, and where |
//! | 2 | [`geo`] | which country an address is in |
//! | 2 | [`filter`] | what happens to requests and responses on their way |
//! | 3 | [`upstream`] | a pool of endpoints, balanced, checked, connected to; the loop over attempts, the verdict on a failure |
//! | 3 | [`acme`] | certificates that are obtained and renewed by themselves |
//! | 3 | [`route`] | from a request head to the route that serves it |
//! | 4 | [`config`] | text to Spec, with every problem placed |
//! | 5 | [`snapshot`] | Spec to what requests are served by |
//! | 6 | [`exchange`] | the program of one exchange: what becomes of a request, whichever driver carries it |
//! | 7 | [`lane`] | the direct driver: from a client, whichever version it speaks, to an HTTP/1 endpoint |
//! | 7 | [`proxy`] | the driver on Pingora: the `ProxyHttp` implementation, one file per phase |
//! | 7 | [`l4`] | connections passed on as bytes: the name in a TLS greeting, both directions, splice |
//! | 7 | [`explain`] | why a request goes where it goes |
//! | 8 | [`listener`] | accept loop, TLS, HTTP/1 and HTTP/2 connections, the gate at work, the choice of the driver |
//! | 9 | [`admin`] | the API that operators and Prometheus ask |
//! | 10 | [`control`] | the single writer: reload, runtime changes, probation |
//! | 11 | [`server`] | assembly, signals, drain |
//! | - | [`lab`], [`import`], [`cli`] | test backends; configurations of other programs as ours; the commands |

pub mod acme;
pub mod admin;
pub mod balance;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod discovery;
pub mod endpoint;
pub mod exchange;
pub mod explain;
pub mod filter;
pub mod gate;
pub mod geo;
pub mod health;
pub mod import;
pub mod l4;
pub mod lab;
pub mod lane;
pub mod listener;
pub mod observe;
pub mod pace;
pub mod proxy;
pub mod proxy_protocol;
pub mod quic;
pub mod resilience;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod tls;
pub mod tunnel;
pub mod types;
pub mod upstream;
pub mod wire;
