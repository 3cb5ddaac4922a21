//! `weir run`: the edge.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use crate::{
    config::{self, Loaded, Spec},
    control::{self, Signals},
    observe::process_log,
    server::{RunningServer, available_threads},
    snapshot,
    types::Address,
};

/// Arguments of `weir run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.yaml", env = "WEIR_CONFIG")]
    config: PathBuf,
}

pub(super) fn run(args: RunArgs) -> ExitCode {
    let loaded = snapshot::check(config::load(&args.config, &|name| std::env::var(name).ok()));
    let Some(spec) = usable(&loaded) else { return ExitCode::from(1) };
    done(serve(spec, |server| log::info!("{}", summary(server))))
}

/// The configuration, when it has no errors. What is wrong goes to standard error.
pub(super) fn usable(loaded: &Loaded) -> Option<Spec> {
    let colour = std::io::stderr().is_terminal();
    eprint!("{}", config::render::human(loaded.document.sources(), &loaded.diagnostics, colour));
    loaded.spec.clone().filter(|_| loaded.is_ok())
}

/// Turns the end of a command into an exit code, with the reason on standard error.
pub(super) fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an edge until a signal ends it.
pub(super) fn serve(spec: Spec, started: impl FnOnce(&RunningServer)) -> anyhow::Result<()> {
    process_log::init(&spec.observability.log);
    raise_descriptor_limit();
    log_panics();
    let threads = spec.server.threads.0.map_or_else(available_threads, |threads| threads.get());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let (user, pid_file) = (spec.server.user.clone(), spec.server.pid_file.clone());
    runtime.block_on(async {
        let mut signals = Signals::new().context("cannot take over signals")?;
        let server = RunningServer::start(spec).await?;
        let _pid_file = pid_file.map(|path| PidFile::write(&path)).transpose()?;
        if let Some(user) = user {
            become_user(&user)?;
        }
        started(&server);
        control::run(server, &mut signals).await;
        Ok(())
    })
}

/// Where the edge can be reached, in one line.
fn summary(server: &RunningServer) -> String {
    let listeners = server.addresses().iter().map(|(name, addresses)| {
        let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
        format!("{name} on {}", addresses.join(" and "))
    });
    let mut text = format!("weir {} is ready: {}", env!("CARGO_PKG_VERSION"), listeners.collect::<Vec<_>>().join(", "));
    if let Some(address) = server.admin_address() {
        text += &format!(", admin on http://{address}");
    }
    text
}

/// The file that holds our process id, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &std::path::Path) -> anyhow::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id())).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Gives up privileges that only binding needed. glibc carries the change to every thread.
fn become_user(name: &str) -> anyhow::Result<()> {
    let user = nix::unistd::User::from_name(name)?.with_context(|| format!("server.user: there is no user `{name}`"))?;
    let name = std::ffi::CString::new(name)?;
    nix::unistd::initgroups(&name, user.gid).context("server.user: cannot set the groups")?;
    nix::unistd::setgid(user.gid).context("server.user: cannot change the group")?;
    nix::unistd::setuid(user.uid).context("server.user: cannot change the user")?;
    Ok(())
}

/// Takes the descriptors that the system allows: the soft limit of a shell is far below an edge's needs.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("the limit of open files stays at {soft}: {error}");
    }
}

/// A panic costs one request, not the process; it must be seen.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error!("panic: {panic}")));
}
