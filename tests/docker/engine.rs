//! The engine, by its command line: what its users have, too.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, sync::OnceCell, time::timeout};

/// For any one command: pulling nothing and building nothing, an engine under load takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// For making the image, base images included.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// What a command printed; an error with all of it when it failed.
pub async fn output(mut command: Command, patience: Duration) -> Result<String, String> {
    let shown = format!("{:?}", command.as_std());
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(patience, running).await.map_err(|_| format!("{shown} took longer than {patience:?}"))?;
    let output = output.map_err(|error| format!("{shown}: {error}"))?;
    let out = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => Ok(out),
        false => Err(format!("{shown}: {}\n{out}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// `docker ARGUMENTS`, which must succeed.
pub async fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).await.unwrap_or_else(|error| panic!("{error}"))
}

/// `docker ARGUMENTS`.
pub async fn try_docker(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    output(command, PATIENCE).await
}

/// True when an engine answers. Otherwise it is said that there is nothing to test, and why.
pub async fn answers() -> bool {
    match try_docker(&["version", "--format", "{{.Server.Version}}"]).await {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIPPED: no Docker engine answers\n{error}");
            false
        }
    }
}

/// The image under test, made once.
pub async fn image() -> &'static str {
    static IMAGE: OnceCell<String> = OnceCell::const_new();
    IMAGE
        .get_or_init(async || match std::env::var("WEIR_IMAGE") {
            Ok(image) if !image.is_empty() => image,
            _ => {
                let mut command = Command::new("sh");
                command.args([
                    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/image"),
                    "weir:test",
                    env!("CARGO_BIN_EXE_weir"),
                ]);
                output(command, BUILD).await.unwrap_or_else(|error| panic!("{error}"))
            }
        })
        .await
}

/// Makes the images that services of this kind need, where they are not there and cannot be pulled: `observe`, `edges`.
pub async fn make_images_of(kind: &str) {
    let mut command = Command::new("sh");
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/base-images"), kind]);
    output(command, BUILD).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Asks until it is so, for longer than `eventually!`: an engine has more to do.
pub async fn until<T: std::fmt::Debug>(what: &str, mut value: impl AsyncFnMut() -> T, check: impl Fn(&T) -> bool) -> T {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = value().await;
        if check(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < give_up, "{what} did not come about within {PATIENCE:?}; last: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A container that goes with this.
pub struct Container(pub String);

impl Container {
    /// `docker run --detach ARGUMENTS`.
    pub async fn run(arguments: &[&str]) -> Self {
        Self(docker(&[&["run", "--detach"], arguments].concat()).await)
    }
    /// A field of its description, as a Go template.
    pub async fn inspect(&self, template: &str) -> String {
        docker(&["inspect", "--format", template, &self.0]).await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "--force", "--volumes", &self.0]).output();
    }
}
