//! Room for many connections, in this process and in those that it starts.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets so many files be open at a time, and says how many may be: fewer if the system does not allow it.
pub fn raise(wanted: u64) -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft >= wanted {
        return soft;
    }
    // The programs inherit it; root may go beyond the hard limit.
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return wanted;
    }
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    eprintln!("only {hard} files may be open at a time; ask for fewer connections with --open, or raise `ulimit -Hn`");
    hard
}
