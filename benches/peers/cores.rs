//! Which processor runs what: the measured program has one for itself, and the load and the origin have the others.

use std::{
    fs, io,
    process::{Child, Command},
};

use anyhow::ensure;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The processors of this run.
pub struct Cores {
    all: CpuSet,
    program: CpuSet,
    load: CpuSet,
}

impl Cores {
    /// Of those that this process may use, the last is for the program. From here on, this thread and the threads that it starts
    /// stay on the others.
    pub fn split() -> anyhow::Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let mut numbers: Vec<usize> = (0..CpuSet::count()).filter(|number| all.is_set(*number).unwrap_or(false)).collect();
        ensure!(numbers.len() > 1, "this needs two processors: one for the program, one for the load and the origin");
        let program = set(&numbers.split_off(numbers.len() - 1))?;
        let cores = Self { all, program, load: set(&numbers)? };
        cores.pin()?;
        Ok(cores)
    }

    /// Starts a program on the processor that is for it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.spawn_on(&self.program, command)
    }

    /// Starts a program on any processor.
    pub fn spawn_anywhere(&self, command: &mut Command) -> io::Result<Child> {
        self.spawn_on(&self.all, command)
    }

    /// A child inherits the processors of the thread that starts it.
    fn spawn_on(&self, cores: &CpuSet, command: &mut Command) -> io::Result<Child> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread)?;
        sched_setaffinity(this_thread, cores)?;
        let child = command.spawn();
        sched_setaffinity(this_thread, &before)?;
        child
    }

    /// All threads of this process go to the processors of the load.
    pub fn pin(&self) -> io::Result<()> {
        threads_to(&self.load)
    }

    /// All threads of this process may run anywhere.
    pub fn unpin(&self) -> io::Result<()> {
        threads_to(&self.all)
    }
}

fn set(numbers: &[usize]) -> nix::Result<CpuSet> {
    let mut cores = CpuSet::new();
    numbers.iter().try_for_each(|number| cores.set(*number))?;
    Ok(cores)
}

fn threads_to(cores: &CpuSet) -> io::Result<()> {
    for thread in fs::read_dir("/proc/self/task")? {
        if let Some(id) = thread?.file_name().to_str().and_then(|name| name.parse().ok()) {
            sched_setaffinity(Pid::from_raw(id), cores)?;
        }
    }
    Ok(())
}
