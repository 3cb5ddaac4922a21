//! `weir run`: the edge.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use log::Level;
use serde_json::{Map, json};

use crate::{
    config::{self, Bundle, Diagnostic, Loaded},
    control::{self, Descriptors, Inherited, Origin},
    observe::{
        LogSpec,
        process_log::{self, Facts},
    },
    server::{self, Prepared, RunningServer, Signals, available_threads},
    snapshot,
    types::Address,
};

/// Arguments of `weir run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.yaml", env = "WEIR_CONFIG")]
    config: PathBuf,
    /// The same without `--config`, over which it wins
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Reload by itself when the file, or a file that it includes, has changed
    #[arg(short, long)]
    watch: bool,
    /// Start with the configuration that served last, kept in this directory (`server.state_dir`), instead of the file
    #[arg(long, value_name = "DIRECTORY")]
    last_good: Option<PathBuf>,
}

pub(super) fn run(mut args: RunArgs) -> ExitCode {
    if let Some(file) = args.file.take() {
        args.config = file;
    }
    begin_log();
    let variables = |name: &str| std::env::var(name).ok();
    let loaded = match &args.last_good {
        None => config::load(&args.config, &variables),
        Some(directory) => match control::load_last_good(directory, &variables) {
            Ok(loaded) => loaded,
            Err(error) => return served(Err(error.into())),
        },
    };
    let loaded = checked(loaded);
    if !accepted(&loaded) {
        return ExitCode::from(1);
    }
    let watched = args.watch.then(|| (args.config.clone(), Bundle::of(&loaded)));
    served(serve(loaded, Origin::File(args.config), watched, announce))
}

/// Panics and everything else that is logged goes to the process log, in its default format until a configuration is read.
pub(super) fn begin_log() {
    process_log::init(&LogSpec::default());
    // A panic costs one request, not the process; it must be seen.
    std::panic::set_hook(Box::new(|panic| log::error!("panic: {panic}")));
}

/// Compiles a configuration that was just read. What this logs has the format that the configuration asks for.
pub(super) fn checked(loaded: Loaded) -> Loaded {
    if let Some(spec) = &loaded.spec {
        process_log::update(&spec.observability.log);
    }
    snapshot::check(loaded)
}

/// Has the configuration no errors? What is wrong is a line of the process log for each finding; a person at a terminal is
/// shown the lines of the file.
pub(super) fn accepted(loaded: &Loaded) -> bool {
    if std::io::stderr().is_terminal() {
        return usable(loaded);
    }
    loaded.diagnostics.iter().for_each(Diagnostic::log);
    loaded.is_ok()
}

/// Has the configuration no errors? What is wrong goes to standard error.
pub(super) fn usable(loaded: &Loaded) -> bool {
    let colour = std::io::stderr().is_terminal();
    let text = config::render::human(loaded.document.sources(), &loaded.diagnostics, colour);
    // Nobody may be listening, which is no reason to panic.
    let _ = std::io::stderr().write_all(text.as_bytes());
    loaded.is_ok()
}

/// Turns the end of a command into an exit code, with the reason on standard error.
pub(super) fn done(result: anyhow::Result<()>) -> ExitCode {
    exit(result, |error| drop(writeln!(std::io::stderr(), "weir: {error:#}")))
}

/// The same for a command that has a process log.
pub(super) fn served(result: anyhow::Result<()>) -> ExitCode {
    exit(result, |error| log::error!("weir cannot start: {error:#}"))
}

fn exit(result: anyhow::Result<()>, tell: impl FnOnce(anyhow::Error)) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(error);
            ExitCode::FAILURE
        }
    }
}

/// Runs an edge until a signal ends it.
pub(super) fn serve(
    loaded: Loaded,
    origin: Origin,
    watched: Option<(PathBuf, Bundle)>,
    started: impl FnOnce(&RunningServer),
) -> anyhow::Result<()> {
    let spec = loaded.spec.as_ref().context("the configuration has errors")?;
    raise_descriptor_limit();
    let descriptors = Descriptors::claim().context("what another process handed over cannot be used")?;
    let threads = spec.server.threads.0.map_or_else(available_threads, |threads| threads.get());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name("weir-worker").enable_all().build()?;
    let (user, pid_file) = (spec.server.user.clone(), spec.server.pid_file.clone());
    let result = runtime.block_on(async {
        let mut signals = Signals::new().context("cannot take over signals")?;
        let inherited = Inherited::adopt(descriptors).context("what another process handed over cannot be used")?;
        let prepared = Prepared::inheriting(loaded, origin, inherited).await?;
        // After binding: where another edge runs already, its file stays.
        let _pid_file = pid_file.map(|path| PidFile::write(&path)).transpose()?;
        if let Some(user) = user {
            become_user(&user, prepared.directory().as_deref())?;
        }
        let server = prepared.serve().await;
        started(&server);
        if let Some((path, served)) = watched {
            tokio::spawn(control::watch(server.control().clone(), path, served));
        }
        server::run(server, &mut signals).await;
        Ok(())
    });
    // Whatever still runs on a thread of its own (a name being resolved) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Says where the edge can be reached, and the token that was made, once.
fn announce(server: &RunningServer) {
    let (words, facts) = places(server);
    process_log::event(Level::Info, module_path!(), &format!("weir {} is ready: {words}", env!("CARGO_PKG_VERSION")), &facts);
    if let Some(token) = server.made_token() {
        log::warn!("admin.token is not set, so one was made for this run: {}", token.expose());
    }
}

/// Where the edge can be reached, in words and for machines.
fn places(server: &RunningServer) -> (String, Facts) {
    let (mut words, mut listeners) = (Vec::new(), Map::new());
    for (name, addresses) in server.addresses().iter() {
        let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
        words.push(format!("{name} on {}", addresses.join(" and ")));
        listeners.insert(name.to_string(), addresses.into());
    }
    let admin = server.admin_address().map(|address| address.to_string());
    words.extend(admin.iter().map(|address| format!("admin on http://{address}")));
    let facts = [("listeners".to_owned(), listeners.into()), ("admin".to_owned(), json!(admin))];
    (words.join(", "), facts.into_iter().collect())
}

/// The file that holds our process id, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> anyhow::Result<Self> {
        std::fs::write(path, Self::content()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    fn content() -> String {
        format!("{}\n", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor that started while we drained has written its own.
        if std::fs::read_to_string(&self.0).is_ok_and(|found| found == Self::content()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// Gives up privileges that only binding needed. glibc carries the change to every thread. What is kept in `directory` becomes the user's.
fn become_user(name: &str, directory: Option<&Path>) -> anyhow::Result<()> {
    let user = nix::unistd::User::from_name(name)?.with_context(|| format!("server.user: there is no user `{name}`"))?;
    if let Some(directory) = directory {
        give(directory, &user).with_context(|| format!("server.user: {} cannot become `{name}`'s", directory.display()))?;
    }
    let name = std::ffi::CString::new(name)?;
    nix::unistd::initgroups(&name, user.gid).context("server.user: cannot set the groups")?;
    nix::unistd::setgid(user.gid).context("server.user: cannot change the group")?;
    nix::unistd::setuid(user.uid).context("server.user: cannot change the user")?;
    Ok(())
}

/// A directory with shelves of files becomes a user's. Links are not followed.
fn give(directory: &Path, user: &nix::unistd::User) -> std::io::Result<()> {
    use std::os::unix::fs::lchown;
    let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    lchown(directory, uid, gid)?;
    for shelf in std::fs::read_dir(directory)? {
        let shelf = shelf?;
        lchown(shelf.path(), uid, gid)?;
        if shelf.file_type()?.is_dir() {
            for file in std::fs::read_dir(shelf.path())? {
                lchown(file?.path(), uid, gid)?;
            }
        }
    }
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
