//! What the process itself uses.

use std::time::Duration;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

/// CPU and memory of the process.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct Process;

impl Process {
    /// Resident memory in bytes; 0 where the system does not tell.
    pub(in crate::admin) fn memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

/// CPU time since the start.
pub(super) fn cpu() -> Duration {
    let micros = getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0, |usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert!(Process::memory() > 1024 * 1024);
        assert!(cpu() > Duration::ZERO);
    }
}
