//! What is measured, and what it is called in the table.

use super::{
    client::Target,
    load::Exchange,
    origin::{LARGE, MIDDLE, SMALL},
    programs::{Kind, Program},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    Small,
    Logged,
    Tls,
    Close,
    Large,
    File,
    Hit,
    WebSocket,
    Http2,
    Idle,
    IdleTls,
    Latency,
    Syscalls,
    Workers,
}

impl Workload {
    pub const ALL: &'static [Self] = &[
        Workload::Small,
        Workload::Logged,
        Workload::Tls,
        Workload::Close,
        Workload::Large,
        Workload::File,
        Workload::Hit,
        Workload::WebSocket,
        Workload::Http2,
        Workload::Idle,
        Workload::IdleTls,
        Workload::Latency,
        Workload::Syscalls,
        Workload::Workers,
    ];

    /// By which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Small => "small",
            Workload::Logged => "logged",
            Workload::Tls => "tls",
            Workload::Close => "close",
            Workload::Large => "large",
            Workload::File => "file",
            Workload::Hit => "hit",
            Workload::WebSocket => "websocket",
            Workload::Http2 => "h2",
            Workload::Idle => "idle",
            Workload::IdleTls => "idle-tls",
            Workload::Latency => "latency",
            Workload::Syscalls => "syscalls",
            Workload::Workers => "workers",
        }
    }

    /// Without a name, all but HTTP/2.
    pub fn is_asked_for(self, names: &[String]) -> bool {
        match names.is_empty() {
            true => self != Workload::Http2,
            false => names.iter().any(|name| self.name().contains(name.as_str())),
        }
    }

    pub fn has(self, kind: Kind) -> bool {
        match self {
            Workload::Workers => kind == Kind::Weir,
            Workload::File | Workload::Hit => matches!(kind, Kind::Weir | Kind::Nginx),
            Workload::Latency => true,
            _ => kind != Kind::Origin,
        }
    }

    pub fn exchange(self) -> Exchange {
        match self {
            Workload::Close => Exchange::GetAndClose("/small", SMALL),
            Workload::Large => Exchange::Get("/large", LARGE),
            Workload::File => Exchange::Get("/files/small", MIDDLE),
            Workload::Hit => Exchange::Get("/kept", MIDDLE),
            Workload::WebSocket => Exchange::Echo,
            Workload::Http2 => Exchange::Http2("/small", SMALL),
            _ => Exchange::Get("/small", SMALL),
        }
    }

    pub fn target(self, program: &Program) -> Target {
        match self {
            Workload::Tls | Workload::IdleTls | Workload::Http2 => program.tls,
            _ => program.cleartext,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// In microseconds for each answer.
    Cpu(Workload),
    /// In bytes for each connection.
    Memory(Workload),
    /// In seconds.
    Median,
    P99,
    Syscalls,
    /// Answers per second.
    Rate(Workload),
    UnpinnedCpu(Workers),
    UnpinnedRate(Workers),
    /// How much faster two workers are than one.
    Speedup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workers {
    One = 1,
    Two = 2,
}

impl super::beside::Figure for Figure {
    const ALL: &'static [Self] = &[
        Figure::Cpu(Workload::Small),
        Figure::Cpu(Workload::Logged),
        Figure::Cpu(Workload::Tls),
        Figure::Cpu(Workload::Close),
        Figure::Cpu(Workload::Large),
        Figure::Cpu(Workload::File),
        Figure::Cpu(Workload::Hit),
        Figure::Cpu(Workload::WebSocket),
        Figure::Cpu(Workload::Http2),
        Figure::Syscalls,
        Figure::Memory(Workload::Idle),
        Figure::Memory(Workload::IdleTls),
        Figure::Median,
        Figure::P99,
        Figure::Rate(Workload::Small),
        Figure::Rate(Workload::Logged),
        Figure::Rate(Workload::Tls),
        Figure::Rate(Workload::Close),
        Figure::Rate(Workload::Large),
        Figure::Rate(Workload::File),
        Figure::Rate(Workload::Hit),
        Figure::Rate(Workload::WebSocket),
        Figure::Rate(Workload::Http2),
        Figure::UnpinnedCpu(Workers::One),
        Figure::UnpinnedCpu(Workers::Two),
        Figure::UnpinnedRate(Workers::One),
        Figure::UnpinnedRate(Workers::Two),
        Figure::Speedup,
    ];

    fn name(self) -> &'static str {
        match self {
            Figure::Cpu(workload) => match workload {
                Workload::Small => "CPU per request: 100 bytes, keep-alive, µs",
                Workload::Logged => "the same with an access log, µs",
                Workload::Tls => "the same over TLS, µs",
                Workload::Close => "CPU per request: 100 bytes, new connection, µs",
                Workload::Large => "CPU per request: 100 KiB, keep-alive, µs",
                Workload::File => "CPU per request: file of 1 KiB, µs",
                Workload::Hit => "CPU per request: fresh cache hit of 1 KiB, µs",
                Workload::WebSocket => "CPU per WebSocket echo of 64 bytes, µs",
                Workload::Http2 => "CPU per request: 100 bytes, HTTP/2 over TLS, µs",
                _ => "CPU per request, µs",
            },
            Figure::Rate(workload) => match workload {
                Workload::Small => "requests per second: 100 bytes, keep-alive",
                Workload::Logged => "the same with an access log",
                Workload::Tls => "the same over TLS",
                Workload::Close => "requests per second: 100 bytes, new connection",
                Workload::Large => "requests per second: 100 KiB, keep-alive",
                Workload::File => "requests per second: file of 1 KiB",
                Workload::Hit => "requests per second: fresh cache hit of 1 KiB",
                Workload::WebSocket => "WebSocket echoes per second",
                Workload::Http2 => "requests per second: 100 bytes, HTTP/2 over TLS",
                _ => "requests per second",
            },
            Figure::Memory(Workload::IdleTls) => "memory per idle connection over TLS, kB",
            Figure::Memory(_) => "memory per idle connection, kB",
            Figure::Median => "median latency at half load, ms",
            Figure::P99 => "p99 latency at half load, ms",
            Figure::Syscalls => "system calls per request: 100 bytes, keep-alive",
            Figure::UnpinnedCpu(Workers::One) => "CPU per request, not pinned, one worker, µs",
            Figure::UnpinnedCpu(Workers::Two) => "CPU per request, not pinned, two workers, µs",
            Figure::UnpinnedRate(Workers::One) => "requests per second, not pinned, one worker",
            Figure::UnpinnedRate(Workers::Two) => "requests per second, not pinned, two workers",
            Figure::Speedup => "two workers over one, as a ratio",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Figure::Rate(_) | Figure::UnpinnedRate(_) => format!("{value:.0}"),
            Figure::Cpu(_) | Figure::UnpinnedCpu(_) => format!("{value:.1}"),
            Figure::Memory(_) => format!("{:.1}", value / 1e3),
            Figure::Median | Figure::P99 => format!("{:.3}", value * 1e3),
            Figure::Syscalls | Figure::Speedup => format!("{value:.2}"),
        }
    }
}
