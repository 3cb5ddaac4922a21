//! What a process and its workers took, as the kernel says.

use std::{fs, path::Path, process::Child, time::Duration};

/// A program that runs, until it is dropped.
pub struct Process(pub Child);

impl Process {
    /// It and its workers.
    pub fn all(&self) -> Vec<u32> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// Processor time that it took so far.
    pub fn cpu(&self) -> Duration {
        let of_thread = |path: &Path| -> Option<u64> {
            fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
        };
        let of_process = |pid: u32| -> u64 {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            threads.filter_map(|thread| of_thread(&thread.path())).sum()
        };
        Duration::from_nanos(self.all().into_iter().map(of_process).sum())
    }

    /// Memory of its own and its share of what is shared, in bytes.
    pub fn memory(&self) -> u64 {
        let of_process = |pid: u32| -> Option<u64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        self.all().into_iter().filter_map(of_process).sum::<u64>() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(200));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
