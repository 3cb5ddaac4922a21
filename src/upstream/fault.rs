//! What went wrong, and what follows from it: the one place that says so.
//!
//! It names nothing of a driver's, each of which translates its errors to a [`Fault`]; [`Fault::judge`] says for each fault, at each
//! stage of an attempt, what the client gets, whom the log names, whether there is another try, and whether the endpoint is
//! charged with it. The table in `docs/operating.md` is checked against it.

use crate::{
    gate::Refusal,
    resilience::Failure,
    types::{Cause, Stage, Who},
};

/// What ended an attempt, or an exchange, before its response was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client closed or reset its connection or its stream.
    ClientLeft,
    /// The task of the request was cancelled, as happens when the connection of an HTTP/2 client ends.
    Cancelled,
    /// The client took nothing of the response for `body_idle_timeout`.
    ClientNotReading,
    /// The request body broke a rule of the gate: silent, too slow, malformed.
    RequestBody(Refusal),
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// The endpoint refused the connection.
    Refused,
    /// There is no way to the endpoint's address.
    Unroutable,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The endpoint's certificate did not verify.
    Certificate,
    /// The endpoint closed or reset the connection or the stream.
    Closed,
    /// The endpoint had closed a pooled connection in the meantime, and the request may be sent twice.
    Stale,
    /// The endpoint has said that it has not processed the request (RFC 9113, sections 6.8 and 8.7).
    NotProcessed,
    /// The endpoint sent nothing for as long as it may be silent.
    Silent,
    /// The endpoint took nothing of the request for as long.
    NotReading,
    /// The endpoint broke HTTP.
    NotHttp,
    /// The route's `timeout` is over. Most of it was the endpoint's, or not: waiting for the client, for a place in the queue, for
    /// filters and for earlier tries is no time of the endpoint.
    Timeout {
        /// It was.
        endpoints: bool,
    },
    /// The response has begun, the request is not complete, and neither side sent anything for `body_idle_timeout`.
    BothSilent,
    /// A drain had no time left.
    Drained,
    /// A fault of Weir's own.
    Internal,
}

/// What follows from a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The answer, where nothing was sent yet; `None` when there is nobody to answer.
    pub status: Option<u16>,
    /// Who ended the exchange.
    pub who: Who,
    /// The error word.
    pub cause: Cause,
    /// What the error word does not tell.
    pub reason: Option<&'static str>,
    /// Is the request sent again?
    pub again: Again,
    /// Does it count as a failure of the endpoint: for its circuit breaker, its errors in `/stats`, adaptive limits?
    pub counts: bool,
}

/// Whether a request is sent again. Never once the client has seen something of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is not.
    Never,
    /// Where the route's `retry` lists it, out of the upstream's budget unless it is free.
    Listed {
        /// Under this name.
        failure: Failure,
        /// It costs nothing.
        free: bool,
    },
    /// Once in a request, whatever the route says, without cost, on a new connection.
    Once,
    /// A few times in a request, whatever the route and the method are, without cost.
    Unprocessed,
}

impl Fault {
    /// A connection that did not come about for this cause.
    pub const fn of_connecting(cause: Cause) -> Self {
        match cause {
            Cause::ConnectionTimeout => Fault::ConnectTimeout,
            Cause::DestinationIpUnroutable => Fault::Unroutable,
            Cause::ConnectionTerminated => Fault::Closed,
            Cause::TlsProtocolError => Fault::TlsHandshake,
            Cause::TlsCertificateError => Fault::Certificate,
            _ => Fault::Refused,
        }
    }

    /// The verdict on this fault at this stage of the attempt.
    pub const fn judge(self, stage: Stage) -> Verdict {
        use Fault::*;
        use Stage::*;
        match (self, stage) {
            (ClientLeft, _) => client(None, Cause::ConnectionTerminated, "client_gone"),
            (Cancelled, _) => client(None, Cause::ConnectionTerminated, "cancelled"),
            (ClientNotReading, _) => client(None, Cause::ConnectionWriteTimeout, "client_not_reading"),
            (RequestBody(refusal), _) => client(Some(refusal.status()), refusal.cause(), refusal.reason()),

            (ConnectTimeout, _) => endpoint(Cause::ConnectionTimeout, paid(Failure::Unconnected)),
            (Refused, _) => endpoint(Cause::ConnectionRefused, free(Failure::Unconnected)),
            (Unroutable, _) => endpoint(Cause::DestinationIpUnroutable, free(Failure::Unconnected)),
            (TlsHandshake, _) => endpoint(Cause::TlsProtocolError, paid(Failure::Unconnected)),
            (Certificate, _) => endpoint(Cause::TlsCertificateError, paid(Failure::Unconnected)),

            (Closed, Connecting) => endpoint(Cause::ConnectionTerminated, paid(Failure::Unconnected)),
            (Closed, Sending | Waiting) => endpoint(Cause::ConnectionTerminated, paid(Failure::Reset)),
            (Closed, Receiving) => cut_short(Cause::HttpResponseIncomplete),
            (Stale, _) => forgiven(Again::Once),
            (NotProcessed, _) => forgiven(Again::Unprocessed),

            (Silent, Connecting | Waiting) => endpoint(Cause::HttpResponseTimeout, paid(Failure::Timeout)),
            // While the request is not whole an endpoint owes no answer (RFC 9110 section 15.5.9): it is the client's silence.
            (Silent, Sending) => RequestBody(Refusal::BodyTimeout).judge(stage),
            (Silent, Receiving) => cut_short(Cause::ConnectionReadTimeout),
            (NotReading, Connecting | Sending | Waiting) => endpoint(Cause::ConnectionWriteTimeout, paid(Failure::Timeout)),
            (NotReading, Receiving) => cut_short(Cause::ConnectionWriteTimeout),
            (NotHttp, Connecting | Sending | Waiting) => endpoint(Cause::HttpProtocolError, paid(Failure::Malformed)),
            (NotHttp, Receiving) => cut_short(Cause::HttpProtocolError),

            (Timeout { endpoints }, Connecting) => {
                Verdict { counts: endpoints, ..weir(Some(504), Cause::ConnectionTimeout, Some("timeout")) }
            }
            (Timeout { endpoints }, Waiting) => {
                Verdict { counts: endpoints, ..weir(Some(504), Cause::HttpResponseTimeout, Some("timeout")) }
            }
            (Timeout { .. }, Sending | Receiving) => weir(Some(504), Cause::HttpResponseTimeout, Some("timeout")),
            (BothSilent, _) => weir(Some(504), Cause::ConnectionReadTimeout, Some("idle")),
            (Drained, _) => weir(None, Cause::ConnectionTerminated, Some("shutdown_grace")),
            (Internal, _) => weir(Some(500), Cause::ProxyInternalError, None),
        }
    }
}

/// What a client does is never counted against an endpoint.
const fn client(status: Option<u16>, cause: Cause, reason: &'static str) -> Verdict {
    Verdict { status, who: Who::Client, cause, reason: Some(reason), again: Again::Never, counts: false }
}

const fn endpoint(cause: Cause, again: Again) -> Verdict {
    Verdict { status: Some(cause.status()), who: Who::Upstream, cause, reason: None, again, counts: true }
}

/// The response header has come, and was counted when it did.
const fn cut_short(cause: Cause) -> Verdict {
    Verdict { counts: false, ..endpoint(cause, Again::Never) }
}

const fn forgiven(again: Again) -> Verdict {
    Verdict { counts: false, ..endpoint(Cause::ConnectionTerminated, again) }
}

const fn weir(status: Option<u16>, cause: Cause, reason: Option<&'static str>) -> Verdict {
    Verdict { status, who: Who::Weir, cause, reason, again: Again::Never, counts: false }
}

const fn paid(failure: Failure) -> Again {
    Again::Listed { failure, free: false }
}

/// A connection that was refused at once has loaded nobody, so going elsewhere adds nothing to the load of the upstream: half of
/// the endpoints may be gone, and clients do not notice. One that timed out, or failed in its handshake, has.
const fn free(failure: Failure) -> Again {
    Again::Listed { failure, free: true }
}

#[cfg(test)]
mod tests {
    use Fault::*;
    use Stage::*;

    use super::*;

    const ALL: [Fault; 22] = [
        ClientLeft,
        Cancelled,
        ClientNotReading,
        RequestBody(Refusal::BodyTimeout),
        RequestBody(Refusal::BodyTooSlow),
        RequestBody(Refusal::BadChunk),
        ConnectTimeout,
        Refused,
        Unroutable,
        TlsHandshake,
        Certificate,
        Stale,
        NotProcessed,
        Closed,
        NotReading,
        Silent,
        NotHttp,
        Timeout { endpoints: true },
        Timeout { endpoints: false },
        BothSilent,
        Drained,
        Internal,
    ];

    /// What the documentation says of a fault, and the stages at which it can happen.
    fn described(fault: Fault) -> (&'static str, &'static [Stage]) {
        let any = &Stage::ALL[..];
        match fault {
            ClientLeft => ("the client closes its connection or resets its stream", any),
            Cancelled => ("the connection of an HTTP/2 client ends", any),
            ClientNotReading => ("the client takes nothing of the response for `body_idle_timeout`", &[Receiving]),
            RequestBody(Refusal::BodyTimeout) => ("the client sends nothing of its body for `body_idle_timeout`", &[Sending]),
            RequestBody(Refusal::BodyTooSlow) => ("the client sends its body slower than `min_body_rate`", &[Sending]),
            RequestBody(_) => ("the client sends a malformed chunk", &[Sending]),
            ConnectTimeout => ("the endpoint does not accept the connection within `connect_timeout`", &[Connecting]),
            Refused => ("the endpoint refuses the connection", &[Connecting]),
            Unroutable => ("there is no way to the endpoint's address", &[Connecting]),
            TlsHandshake => ("the TLS handshake with the endpoint fails", &[Connecting]),
            Certificate => ("the endpoint's certificate does not verify", &[Connecting]),
            Stale => ("the endpoint had closed the pooled connection, and the method is idempotent", &[Sending, Waiting]),
            NotProcessed => ("the endpoint says that it has not processed the request (HTTP/2)", &[Sending, Waiting]),
            Closed => ("the endpoint closes or resets the connection", any),
            NotReading => ("the endpoint takes nothing of the request for `response_timeout`", &[Sending, Waiting]),
            Silent => {
                ("the endpoint sends nothing for `response_timeout`, or `body_idle_timeout` in the body", &[Waiting, Receiving])
            }
            NotHttp => ("the endpoint sends what is not HTTP", &[Sending, Waiting, Receiving]),
            Timeout { endpoints: true } => ("the route's `timeout`, half of it spent on the endpoint", &[Connecting, Waiting]),
            Timeout { endpoints: false } => ("the route's `timeout`", any),
            BothSilent => ("the request is not complete, and neither side sends anything for `body_idle_timeout`", &[Receiving]),
            Drained => ("a drain has no time left", any),
            Internal => ("a fault of Weir's own", any),
        }
    }

    fn retried(again: Again) -> String {
        match again {
            Again::Never => "no".to_owned(),
            Again::Listed { failure, free } => {
                let listed = match failure {
                    Failure::Unconnected => "`connect`",
                    Failure::Reset => "`reset`",
                    Failure::Timeout => "`504`",
                    Failure::Malformed => "`502`",
                    Failure::Status(_) => unreachable!("no fault"),
                };
                format!("{listed}{}", if free { ", free" } else { "" })
            }
            Again::Once => "once, free".to_owned(),
            Again::Unprocessed => "any method, free".to_owned(),
        }
    }

    /// The rows of the table, one for each fault and the stages at which it has the same verdict.
    fn table() -> String {
        let mut rows = String::new();
        for fault in ALL {
            let (what, stages) = described(fault);
            for group in stages.chunk_by(|one, other| fault.judge(*one) == fault.judge(*other)) {
                let Verdict { status, who, cause, reason, again, counts } = fault.judge(group[0]);
                let stages = match group.len() {
                    4 => "any".to_owned(),
                    _ => group.iter().map(|stage| format!("`{}`", stage.word())).collect::<Vec<_>>().join(", "),
                };
                let status = match status {
                    Some(_) if group == [Receiving] => "a cut".to_owned(),
                    Some(status) if group.contains(&Receiving) => format!("{status}, or a cut"),
                    Some(status) => status.to_string(),
                    None => "none".to_owned(),
                };
                let reason = reason.map(|reason| format!(", `{reason}`")).unwrap_or_default();
                let counts = if counts { "yes" } else { "no" };
                let (who, cause, again) = (who.word(), cause.word(), retried(again));
                rows += &format!("| {what} | {stages} | {status} | `{who}` | `{cause}`{reason} | {again} | {counts} |\n");
            }
        }
        rows
    }

    #[test]
    fn the_table_of_the_documentation_is_the_match() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).unwrap();
        let table = table();
        assert!(page.contains(&table), "docs/operating.md should hold:\n{table}");
    }

    #[test]
    fn every_reason_is_in_the_page_on_troubleshooting() {
        let page = include_str!("../../docs/troubleshooting.md");
        for reason in ALL.iter().flat_map(|fault| Stage::ALL.map(|stage| fault.judge(stage).reason)).flatten() {
            assert!(page.contains(&format!("`{reason}`")), "{reason}");
        }
    }

    #[test]
    fn nothing_that_a_client_does_counts_or_is_tried_again() {
        for (fault, stage) in ALL.iter().flat_map(|fault| Stage::ALL.map(|stage| (*fault, stage))) {
            let verdict = fault.judge(stage);
            if verdict.who == Who::Client {
                assert_eq!((verdict.counts, verdict.again), (false, Again::Never), "{fault:?} {stage:?}");
            }
            if stage == Sending {
                assert!(!matches!(verdict.cause, Cause::HttpResponseTimeout) || !verdict.counts, "no answer is owed: {fault:?}");
            }
            if stage == Receiving && !matches!(verdict.again, Again::Never) {
                assert!(!described(fault).1.contains(&Receiving), "{fault:?} is tried again behind a response");
            }
        }
    }
}
