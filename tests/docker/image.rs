//! The image by itself.

use std::{fs, os::unix::fs::PermissionsExt};

use serde::Deserialize;
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
    let (conf, _) = configuration("routes: [{name: all, respond: {status: 200, body: hello}}]\n");
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

/// The container `reload` of docs/deploy/kubernetes.yaml, beside an edge whose processes it sees.
#[tokio::test]
async fn the_reload_container_of_the_manifest_has_a_changed_file_read() {
    if !answers().await {
        return;
    }
    let script = serde_yaml::Deserializer::from_str(include_str!("../../docs/deploy/kubernetes.yaml"))
        .map(|document| serde_json::Value::deserialize(document).expect("YAML"))
        .find(|manifest| manifest["kind"] == "Deployment")
        .and_then(|manifest| manifest["spec"]["template"]["spec"]["containers"][1]["command"][2].as_str().map(str::to_owned))
        .expect("the script");
    let (conf, file) = configuration("routes: [{name: all, respond: {status: 200, body: one}}]\n");
    let mount = format!("{}:/etc/weir:ro", conf.path().display());
    let limits = ["--read-only", "--cap-drop", "ALL", "--no-healthcheck", "--volume", &mount];
    let edge = Container::run(&[&limits[..], &[image().await]].concat()).await;
    let page = ["exec", &edge.0, "weir", "health", "--address", "127.0.0.1:80", "--path", "/"];
    let says = async || try_docker(&page).await.unwrap_or_default();
    until("the first answer", says, |answer| answer.ends_with("one")).await;
    let processes = format!("container:{}", edge.0);
    let beside = ["--pid", &processes, "--entrypoint", "sh", image().await, "-c", &script];
    let reload = Container::run(&[&limits[..], &beside].concat()).await;
    // It has looked at the file once before it sleeps.
    until("its first look", async || docker(&["top", &reload.0]).await, |processes| processes.contains("sleep 2")).await;
    fs::write(&file, fs::read_to_string(&file).expect("the file").replace("one", "two")).expect("write");
    until("the second answer", says, |answer| answer.ends_with("two")).await;
}

/// A directory that the image's user can read, with a configuration in it that listens on port 80.
fn configuration(rest: &str) -> (TempDir, std::path::PathBuf) {
    let conf = TempDir::new().expect("a directory");
    fs::set_permissions(conf.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let file = conf.path().join("weir.yaml");
    fs::write(&file, format!("listeners: {{web: {{address: 0.0.0.0:80}}}}\n{rest}")).expect("write");
    (conf, file)
}
