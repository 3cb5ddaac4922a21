//! The image by itself.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::{Container, answers, docker, image, try_docker, until};

/// What the runtime adds to its base image, at most. A debug binary is far larger, so that only a release is measured.
const MOST: u64 = 40 * 1024 * 1024;

#[tokio::test]
async fn it_says_what_it_is() {
    if !answers().await {
        return;
    }
    let text = docker(&["image", "inspect", image().await]).await;
    let facts: Value = serde_json::from_str(&text).expect("JSON");
    let config = &facts[0]["Config"];
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&config["User"], &config["StopSignal"]), (&Value::from("10001:10001"), &Value::from("SIGTERM")));
    assert_eq!(config["Entrypoint"], serde_json::json!(["weir"]), "without a shell, which would keep the signal to itself");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "weir", "health"]));
    if std::env::var_os("WEIR_IMAGE").is_some() {
        let base = docker(&["image", "inspect", "--format", "{{.Size}}", "debian:bookworm-slim"]).await;
        let added = facts[0]["Size"].as_u64().expect("a size") - base.parse::<u64>().expect("a size");
        assert!(added < MOST, "{added} bytes on top of the base image");
    }
}

#[test]
fn its_version_is_that_of_the_crate() {
    let dockerfile = include_str!("../../docker/Dockerfile");
    assert!(dockerfile.contains(concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n")));
}

#[tokio::test]
async fn it_runs_without_any_privilege_and_says_that_it_is_healthy() {
    if !answers().await {
        return;
    }
    let conf = TempDir::new().expect("a directory");
    fs::set_permissions(conf.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let text = "listeners: {web: {address: 0.0.0.0:80}}\nroutes: [{name: all, respond: {status: 200, body: hello}}]\n";
    fs::write(conf.path().join("weir.yaml"), text).expect("write");
    let mount = format!("{}:/etc/weir:ro", conf.path().display());
    let limits = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m"];
    let container =
        Container::run(&[&limits[..], &["--health-interval", "1s", "--volume", &mount, image().await]].concat()).await;
    let health = async || container.inspect("{{.State.Health.Status}}").await;
    until("health", health, |status| status == "healthy").await;
    // An answer on a port below 1024, which takes no capability in a container.
    let own = ["exec", &container.0, "weir", "health", "--address", "127.0.0.1:80", "--path", "/"];
    assert!(docker(&own).await.ends_with("200 hello"));
    docker(&["stop", "--time", "20", &container.0]).await;
    assert_eq!(container.inspect("{{.State.ExitCode}}").await, "0");
}

#[tokio::test]
async fn without_a_configuration_it_says_which_file_is_missing() {
    if !answers().await {
        return;
    }
    let error = try_docker(&["run", "--rm", image().await]).await.expect_err("a failure");
    assert!(error.contains("/etc/weir/weir.yaml"), "{error}");
}
