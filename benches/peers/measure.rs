//! How each workload is measured.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::time::sleep;

use super::{
    Options,
    beside::Process,
    client::{Client, Target, request},
    cores::Cores,
    load::Load,
    open_loop::{self, OpenLoop},
    origin::{Origin, SMALL},
    programs::{Kind, Program, Setup},
    workloads::{Figure, Workers, Workload},
};

type Values = Vec<(Figure, f64)>;

/// Until connections are open and everything is warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// The tracepoint at which every system call passes.
const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";

/// What every measurement needs.
pub struct Bench {
    pub options: Options,
    pub cores: Cores,
    pub origin: Origin,
    pub client: Client,
    /// Of requests in the open loop.
    pub per_second: f64,
}

/// Between two moments.
struct Busy {
    cpu: Duration,
    answers: u64,
    took: Duration,
}

impl Busy {
    /// In microseconds.
    fn cpu_of_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers as f64
    }

    fn rate(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }
}

impl Bench {
    pub async fn run(&self, workload: Workload, kind: Kind) -> anyhow::Result<Values> {
        match workload {
            Workload::Idle | Workload::IdleTls => self.memory(workload, kind).await,
            Workload::Latency => self.latency(kind).await,
            Workload::Syscalls => self.system_calls(kind).await,
            Workload::Workers => self.workers(kind).await,
            Workload::Logged => self.logged(kind).await,
            _ => self.cpu(workload, kind).await,
        }
    }

    async fn start(&self, kind: Kind) -> anyhow::Result<Program> {
        self.start_as(kind, Setup { workers: 1, access_log: false, pinned: true }).await
    }

    async fn start_as(&self, kind: Kind, setup: Setup) -> anyhow::Result<Program> {
        Program::start(kind, setup, self.origin.endpoints, &self.cores).await
    }

    fn load(&self, target: Target, workload: Workload) -> Load {
        Load::start(&self.client, target, workload.exchange(), self.options.connections)
    }

    /// What the process takes for the answers within so many seconds, while load goes on before and after.
    async fn busy(&self, process: &Process, load: &Load) -> anyhow::Result<Busy> {
        sleep(WARM_UP).await;
        let (cpu, answers, started) = (process.cpu(), load.answers(), Instant::now());
        sleep(Duration::from_secs(self.options.seconds)).await;
        let took = started.elapsed();
        // A thread that ended meanwhile takes its time with it.
        let busy = Busy { cpu: process.cpu().saturating_sub(cpu), answers: load.answers() - answers, took };
        ensure!(busy.answers > 0, "no answers");
        Ok(busy)
    }

    async fn cpu(&self, workload: Workload, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind).await?;
        let asked = self.origin.asked();
        let load = self.load(workload.target(&program), workload);
        let busy = self.busy(&program.process, &load).await;
        load.stop().await?;
        let busy = busy?;
        let asked = self.origin.asked() - asked;
        match workload {
            // All connections may ask before the first answer is stored.
            Workload::Hit => ensure!(asked <= self.options.connections as u64, "{asked} hits went to the origin"),
            Workload::File => ensure!(asked == 0, "{asked} files came from the origin"),
            _ => {}
        }
        Ok(vec![(Figure::Cpu(workload), busy.cpu_of_each()), (Figure::Rate(workload), busy.rate())])
    }

    async fn logged(&self, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start_as(kind, Setup { workers: 1, access_log: true, pinned: true }).await?;
        let load = self.load(program.cleartext, Workload::Logged);
        let busy = self.busy(&program.process, &load).await;
        let answers = load.stop().await?;
        let busy = busy?;
        // Envoy writes its lines after ten seconds at the latest.
        let patience = Instant::now() + Duration::from_secs(12);
        while program.logged()? < answers && Instant::now() < patience {
            sleep(Duration::from_millis(250)).await;
        }
        let lines = program.logged()?;
        if lines < answers {
            eprintln!("  the access log has {lines} lines of {answers} requests: what is not written costs nothing");
        }
        Ok(vec![(Figure::Cpu(Workload::Logged), busy.cpu_of_each()), (Figure::Rate(Workload::Logged), busy.rate())])
    }

    async fn memory(&self, workload: Workload, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind).await?;
        let (target, request) = (workload.target(&program), request("/small", ""));
        // What only the first connection takes is not counted.
        self.client.open(target).await?.ask(&request, SMALL).await?;
        sleep(Duration::from_millis(500)).await;
        let before = program.process.memory();
        let mut connections = Vec::new();
        for _ in 0..self.options.open {
            let mut connection = self.client.open(target).await?;
            connection.ask(&request, SMALL).await?;
            connections.push(connection);
        }
        sleep(Duration::from_millis(1500)).await;
        let more = program.process.memory().saturating_sub(before);
        for connection in &mut connections {
            connection.ask(&request, SMALL).await.context("a connection is not open any more")?;
        }
        Ok(vec![(Figure::Memory(workload), more as f64 / connections.len().max(1) as f64)])
    }

    async fn latency(&self, kind: Kind) -> anyhow::Result<Values> {
        let program = match kind {
            Kind::Origin => None,
            _ => Some(self.start(kind).await?),
        };
        let origin = Target { address: self.origin.endpoints[0], tls: false };
        let load = OpenLoop {
            path: "/small",
            length: SMALL,
            per_second: self.per_second,
            connections: self.options.connections,
            duration: Duration::from_secs(self.options.seconds),
        };
        let latencies = open_loop::run(&self.client, program.as_ref().map_or(origin, |program| program.cleartext), load).await?;
        let quantile = |share| latencies.value_at_quantile(share) as f64 / 1e9;
        Ok(vec![(Figure::Median, quantile(0.5)), (Figure::P99, quantile(0.99))])
    }

    /// Half of what this program answers per second in a closed loop.
    pub async fn half_load(&self, kind: Kind) -> anyhow::Result<f64> {
        let program = self.start(kind).await?;
        let load = self.load(program.cleartext, Workload::Small);
        let busy = self.busy(&program.process, &load).await;
        load.stop().await?;
        Ok(busy?.rate() / 2.0)
    }

    /// Counted from before the first connection until after the last answer.
    async fn system_calls(&self, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind).await?;
        let processes: Vec<String> = program.process.all().iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", SYSTEM_CALLS, "-p", &processes.join(",")]);
        let perf = perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // It does not say when it has begun.
        sleep(Duration::from_secs(1)).await;
        let load = self.load(program.cleartext, Workload::Syscalls);
        sleep(Duration::from_secs(self.options.seconds)).await;
        let answers = load.stop().await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(perf.id() as i32), nix::sys::signal::Signal::SIGINT)?;
        let said = perf.wait_with_output()?.stderr;
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find(|line| line.contains(SYSTEM_CALLS)).context("perf said nothing of system calls")?;
        let count: f64 = line.split(',').next().unwrap_or_default().parse().with_context(|| format!("perf said {line:?}"))?;
        Ok(vec![(Figure::Syscalls, count / answers?.max(1) as f64)])
    }

    /// With one worker and with two, where nothing has a processor for itself.
    async fn workers(&self, kind: Kind) -> anyhow::Result<Values> {
        self.cores.unpin()?;
        let both = async { anyhow::Ok((self.unpinned(kind, Workers::One).await?, self.unpinned(kind, Workers::Two).await?)) };
        let both = both.await;
        self.cores.pin()?;
        let (one, two) = both?;
        let mut values = Values::new();
        for (workers, busy) in [(Workers::One, &one), (Workers::Two, &two)] {
            values.extend([(Figure::UnpinnedCpu(workers), busy.cpu_of_each()), (Figure::UnpinnedRate(workers), busy.rate())]);
        }
        values.push((Figure::Speedup, two.rate() / one.rate()));
        Ok(values)
    }

    async fn unpinned(&self, kind: Kind, workers: Workers) -> anyhow::Result<Busy> {
        let program = self.start_as(kind, Setup { workers: workers as usize, access_log: false, pinned: false }).await?;
        let load = self.load(program.cleartext, Workload::Workers);
        let busy = self.busy(&program.process, &load).await;
        load.stop().await?;
        busy
    }
}

/// Whether `perf` may count here. An error says why not.
pub fn counts_system_calls() -> anyhow::Result<()> {
    let tried =
        Command::new("perf").args(["stat", "-x", ",", "-e", SYSTEM_CALLS, "true"]).output().context("cannot start perf")?;
    if !tried.status.success() {
        bail!("perf cannot count here: {}", String::from_utf8_lossy(&tried.stderr).lines().next().unwrap_or_default());
    }
    Ok(())
}
