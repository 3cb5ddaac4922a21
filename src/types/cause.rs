//! Why an exchange ended other than by a response from upstream: one word everywhere.
//!
//! The words are the error types of RFC 9209 (`Proxy-Status`), section 2.3: the same word is in the access
//! log (`end.type`), the metric label (`proxy_errors_total{type}`), and the answer to the client.

/// An RFC 9209 error type, with the status that Weir answers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The name of an endpoint could not be resolved in time.
    DnsTimeout,
    /// The name of an endpoint could not be resolved.
    DnsError,
    /// No route serves the request.
    DestinationNotFound,
    /// No upstream endpoint may take the request now.
    DestinationUnavailable,
    /// The endpoint's address cannot be routed to.
    DestinationIpUnroutable,
    /// The endpoint refused the connection.
    ConnectionRefused,
    /// The endpoint closed the connection before the response was complete.
    ConnectionTerminated,
    /// Connecting took longer than `connect_timeout`.
    ConnectionTimeout,
    /// Reading from a connection made no progress in time.
    ConnectionReadTimeout,
    /// Writing to a connection made no progress in time.
    ConnectionWriteTimeout,
    /// A limit of Weir's own is reached: connections, concurrency, queue.
    ConnectionLimitReached,
    /// The TLS handshake with the endpoint failed.
    TlsProtocolError,
    /// The endpoint's certificate did not verify.
    TlsCertificateError,
    /// The request was malformed or over a limit.
    HttpRequestError,
    /// Policy refused the request: a filter, an address rule.
    HttpRequestDenied,
    /// The response ended before its framing said so.
    HttpResponseIncomplete,
    /// The response header did not come in time.
    HttpResponseTimeout,
    /// The upgrade was refused or failed.
    HttpUpgradeFailed,
    /// The endpoint broke HTTP.
    HttpProtocolError,
    /// A response that Weir generated as it was configured to.
    ProxyInternalResponse,
    /// A fault of Weir's own.
    ProxyInternalError,
    /// The request has been here before.
    ProxyLoopDetected,
}

impl Cause {
    /// Every cause, in order.
    pub const ALL: [Cause; Cause::ProxyLoopDetected as usize + 1] = [
        Cause::DnsTimeout,
        Cause::DnsError,
        Cause::DestinationNotFound,
        Cause::DestinationUnavailable,
        Cause::DestinationIpUnroutable,
        Cause::ConnectionRefused,
        Cause::ConnectionTerminated,
        Cause::ConnectionTimeout,
        Cause::ConnectionReadTimeout,
        Cause::ConnectionWriteTimeout,
        Cause::ConnectionLimitReached,
        Cause::TlsProtocolError,
        Cause::TlsCertificateError,
        Cause::HttpRequestError,
        Cause::HttpRequestDenied,
        Cause::HttpResponseIncomplete,
        Cause::HttpResponseTimeout,
        Cause::HttpUpgradeFailed,
        Cause::HttpProtocolError,
        Cause::ProxyInternalResponse,
        Cause::ProxyInternalError,
        Cause::ProxyLoopDetected,
    ];

    /// The RFC 9209 word.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::DnsTimeout => "dns_timeout",
            Cause::DnsError => "dns_error",
            Cause::DestinationNotFound => "destination_not_found",
            Cause::DestinationUnavailable => "destination_unavailable",
            Cause::DestinationIpUnroutable => "destination_ip_unroutable",
            Cause::ConnectionRefused => "connection_refused",
            Cause::ConnectionTerminated => "connection_terminated",
            Cause::ConnectionTimeout => "connection_timeout",
            Cause::ConnectionReadTimeout => "connection_read_timeout",
            Cause::ConnectionWriteTimeout => "connection_write_timeout",
            Cause::ConnectionLimitReached => "connection_limit_reached",
            Cause::TlsProtocolError => "tls_protocol_error",
            Cause::TlsCertificateError => "tls_certificate_error",
            Cause::HttpRequestError => "http_request_error",
            Cause::HttpRequestDenied => "http_request_denied",
            Cause::HttpResponseIncomplete => "http_response_incomplete",
            Cause::HttpResponseTimeout => "http_response_timeout",
            Cause::HttpUpgradeFailed => "http_upgrade_failed",
            Cause::HttpProtocolError => "http_protocol_error",
            Cause::ProxyInternalResponse => "proxy_internal_response",
            Cause::ProxyInternalError => "proxy_internal_error",
            Cause::ProxyLoopDetected => "proxy_loop_detected",
        }
    }

    /// The status that a client gets when nothing more specific is known: 502 for a bad or broken
    /// upstream, 503 for none available or overload, 504 for a timeout.
    pub const fn status(self) -> u16 {
        match self {
            Cause::DnsTimeout
            | Cause::ConnectionTimeout
            | Cause::ConnectionReadTimeout
            | Cause::ConnectionWriteTimeout
            | Cause::HttpResponseTimeout => 504,
            Cause::DestinationUnavailable | Cause::ConnectionLimitReached => 503,
            Cause::HttpRequestError => 400,
            Cause::HttpRequestDenied => 403,
            Cause::DestinationNotFound => 404,
            Cause::ProxyInternalResponse => 200,
            Cause::ProxyInternalError => 500,
            Cause::ProxyLoopDetected => 508,
            Cause::DnsError
            | Cause::DestinationIpUnroutable
            | Cause::ConnectionRefused
            | Cause::ConnectionTerminated
            | Cause::TlsProtocolError
            | Cause::TlsCertificateError
            | Cause::HttpResponseIncomplete
            | Cause::HttpUpgradeFailed
            | Cause::HttpProtocolError => 502,
        }
    }
}

/// Who ended the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Who {
    /// The client went away, was too slow, or sent what is not HTTP.
    Client,
    /// Weir answered by itself.
    Weir,
    /// The upstream's response was complete, or the upstream failed.
    #[default]
    Upstream,
}

impl Who {
    /// The word in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Who::Client => "client",
            Who::Weir => "weir",
            Who::Upstream => "upstream",
        }
    }
}

/// How far an attempt on an endpoint had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The connection was being opened, its TLS handshake included.
    Connecting,
    /// The request was being sent: not all of it had come from the client.
    Sending,
    /// The whole request was passed on, and the response header had not come.
    Waiting,
    /// The response header had come, and the response was not complete.
    Receiving,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 4] = [Stage::Connecting, Stage::Sending, Stage::Waiting, Stage::Receiving];

    /// The word in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Connecting => "connecting",
            Stage::Sending => "sending",
            Stage::Waiting => "waiting",
            Stage::Receiving => "receiving",
        }
    }
}

/// How far an exchange came before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Phase {
    /// The gate, ahead of routing.
    #[default]
    Admit,
    /// Finding the route.
    Route,
    /// Request filters.
    Filter,
    /// Choosing an endpoint.
    Select,
    /// Connecting to it.
    Connect,
    /// Sending the request.
    Request,
    /// Waiting for and passing on the response.
    Response,
    /// Complete.
    Done,
}

impl Phase {
    /// The word in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Admit => "admit",
            Phase::Route => "route",
            Phase::Filter => "filter",
            Phase::Select => "select",
            Phase::Connect => "connect",
            Phase::Request => "request",
            Phase::Response => "response",
            Phase::Done => "done",
        }
    }
}
