//! Servers as child processes.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

/// Where a program is: among those of the path, or in a place of its own.
pub fn find(name: &str, places: &[&Path]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(places.iter().map(PathBuf::from))
        .map(|place| place.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: `{name}` is not installed; `make test` installs it where it may");
    }
    found
}

/// The same for a program that `make test` is known to install wherever there is `apt-get`: there it must be.
pub fn installed(name: &str, places: &[&Path]) -> Option<PathBuf> {
    let found = find(name, places);
    let debian = Path::new("/usr/bin/apt-get").is_file();
    assert!(found.is_some() || !debian, "`{name}` is not installed: run `make test-tools`");
    found
}

/// Starts a server that ends with the test.
pub fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("a server")
}
