//! Tools of others that tests hold Weir against.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// A program that `make test` installs, where it may: `goaccess`, `promtool`. Without it, says so past the harness, which hides
/// what passing tests print.
pub fn tool(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = [own, "/usr/sbin".into()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test} needs {name}, which is not here; `make test` installs it");
    }
    found
}

/// Runs it, and answers its exit code and everything it said.
pub async fn output(program: &Path, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::new(program);
    let piped = std::process::Stdio::piped;
    let mut child =
        command.args(arguments).stdin(piped()).stdout(piped()).stderr(piped()).kill_on_drop(true).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = super::within("a tool to end", child.wait_with_output()).await.expect("a child");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
