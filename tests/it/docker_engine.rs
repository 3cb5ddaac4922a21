//! Containers of a real engine, where one answers: what the scripted one of `docker_discovery` cannot promise.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{process::Command, sync::OnceCell};

use weir::admin::Commands;

use crate::support::edge::{Edge, edge};

/// Busybox and a page, with nothing pulled from anywhere.
const IMAGE: &str = "weir-test-httpd";
const BUSYBOX: &str = "/bin/busybox";
/// What the tests promise for "at once".
const SECOND: Duration = Duration::from_secs(1);

/// How long the engine may take for what it is told: it is not what is tested, and others may be using it.
const ENGINE: Duration = Duration::from_secs(60);

async fn docker(arguments: &[&str]) -> Result<String, String> {
    let command = Command::new("docker").args(arguments).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(ENGINE, command).await.map_err(|_| format!("docker {arguments:?}: {ENGINE:?} have passed"))?;
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The image, or why there is none.
async fn image() -> Result<(), String> {
    static IMPORTED: OnceCell<Result<(), String>> = OnceCell::const_new();
    let import = async || {
        docker(&["version", "--format", "{{.Server.Version}}"])
            .await
            .map_err(|error| format!("no Docker engine answers: {error}"))?;
        let root = tempfile::tempdir().expect("a directory");
        let at = |path: &str| root.path().join(path);
        for directory in ["bin", "www", "tmp"] {
            std::fs::create_dir(at(directory)).expect("a directory");
        }
        if !is_static(Path::new(BUSYBOX)) {
            return Err(format!("{BUSYBOX} is not there or not static: install busybox-static"));
        }
        std::fs::copy(BUSYBOX, at("bin/busybox")).expect("a copy");
        std::os::unix::fs::symlink("busybox", at("bin/sh")).expect("a link");
        std::fs::write(at("www/index.html"), "from a container").expect("a page");
        let (tar, path) = (at("image.tar"), root.path().display().to_string());
        let tar = tar.to_str().expect("a path");
        let packed = Command::new("tar").args(["-C", &path, "-cf", tar, "bin", "www", "tmp"]).status().await;
        assert!(packed.expect("tar").success());
        docker(&["import", "--change", "EXPOSE 8080", tar, IMAGE]).await.map(|_| ())
    };
    IMPORTED.get_or_init(import).await.clone()
}

/// An interpreter in the header means that it would look for a C library, which the image has not.
fn is_static(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|binary| memchr::memmem::find(&binary, b"/ld-linux").is_none())
}

/// Containers of one test, which are gone when it ends.
struct Containers {
    upstream: String,
    label: String,
}

impl Containers {
    /// Says why when there is no engine.
    async fn new(name: &str) -> Option<Self> {
        if let Err(reason) = image().await {
            println!("skipped: {reason}");
            return None;
        }
        let upstream = format!("weir-test-{name}-{}", std::process::id());
        Some(Self { label: format!("weir.upstream={upstream}"), upstream })
    }

    async fn edge(&self, options: &str) -> Edge {
        let discover = format!("discover: {{docker: {{{options}}}}}");
        let edge = edge()
            .upstream_with(&self.upstream, &[], &discover)
            .route("app", &format!("upstream: {}", self.upstream))
            .start()
            .await;
        let line = format!(r#"weir_upstream_discovery_failing{{upstream="{}"}} 0"#, self.upstream);
        eventually!(edge.has_metric(&line).await);
        edge
    }

    async fn run(&self, name: &str, options: &[&str]) -> String {
        let name = format!("{}-{name}", self.upstream);
        let run = ["run", "-d", "--name", &name, "--label", &self.label];
        let httpd = [IMAGE, BUSYBOX, "httpd", "-f", "-p", "8080", "-h", "/www"];
        docker(&[&run, options, &httpd].concat()).await.expect("a container");
        name
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let filter = format!("label={}", self.label);
        let ids = std::process::Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output();
        let ids = String::from_utf8(ids.map(|ids| ids.stdout).unwrap_or_default()).unwrap_or_default();
        let _ = std::process::Command::new("docker").args(["rm", "-f"]).args(ids.split_whitespace()).output();
    }
}

/// The state of each endpoint by its address.
async fn states(edge: &Edge) -> BTreeMap<String, String> {
    let stats = edge.admin_get("/stats").await.json();
    let endpoints = stats["upstreams"][0]["endpoints"].as_array().expect("endpoints").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    endpoints.iter().map(|endpoint| (text(&endpoint["endpoint"]), text(&endpoint["state"]))).collect()
}

/// Runs `what`, and says how long it then takes until `holds`.
async fn takes<T>(what: impl Future<Output = T>, mut holds: impl AsyncFnMut() -> bool) -> (T, Duration) {
    let done = what.await;
    let began = Instant::now();
    eventually!(holds().await);
    (done, began.elapsed())
}

#[tokio::test]
async fn a_container_serves_within_a_second_and_scaling_down_fails_no_request() {
    let Some(containers) = Containers::new("scale").await else { return };
    let edge = Arc::new(containers.edge("").await);
    let (first, until_served) = takes(containers.run("1", &[]), async || edge.get("/").await.status == 200).await;
    println!("from docker run to the first request served: {until_served:?}");
    assert!(until_served < SECOND, "{until_served:?}");

    // Up to five, under load.
    let (stop, failed, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (edge, stop, failed, served) = (edge.clone(), stop.clone(), failed.clone(), served.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                match edge.get("/").await.status {
                    200 => served.fetch_add(1, Ordering::Relaxed),
                    _ => failed.fetch_add(1, Ordering::Relaxed),
                };
            }
        }
    });
    for number in 2..=4 {
        containers.run(&number.to_string(), &[]).await;
    }
    let (_, until_five) = takes(containers.run("5", &[]), async || states(&edge).await.len() == 5).await;
    assert!(until_five < SECOND, "{until_five:?}");

    // Down again: it is told to stop, is given two seconds, and its requests are not lost.
    let stopping = tokio::spawn(async move { docker(&["stop", "-t", "2", &first]).await });
    eventually!(states(&edge).await.values().filter(|state| *state == "draining").count() == 1);
    let (_, until_gone) =
        takes(async { stopping.await.expect("stopped").expect("stopped") }, async || states(&edge).await.len() == 4).await;
    assert!(until_gone < SECOND, "{until_gone:?}");
    let rest: Vec<String> = (2..=4).map(|number| format!("{}-{number}", containers.upstream)).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    docker(&[&["stop", "-t", "1"], &rest[..]].concat()).await.expect("stopped");
    eventually!(states(&edge).await.len() == 1);
    stop.store(true, Ordering::Relaxed);
    load.await.expect("load");
    println!("{} requests served meanwhile", served.load(Ordering::Relaxed));
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(served.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn health_pauses_signals_and_networks_are_followed() {
    let Some(containers) = Containers::new("life").await else { return };
    let edge = containers.edge("").await;
    let check = ["--health-cmd", "busybox test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "1"];
    let name = containers.run("1", &check).await;
    let health = async || docker(&["inspect", "-f", "{{.State.Health.Status}}", &name]).await.expect("a container");
    eventually!(health().await == "unhealthy");
    assert!(states(&edge).await.is_empty(), "it is not healthy yet");
    docker(&["exec", &name, "busybox", "touch", "/tmp/well"]).await.expect("done");
    eventually!(edge.get("/").await.status == 200);

    let count = async |wanted: usize| states(&edge).await.len() == wanted;
    let (_, time) = takes(docker(&["pause", &name]), async || count(0).await).await;
    assert!(time < SECOND, "{time:?}");
    docker(&["unpause", &name]).await.expect("done");
    eventually!(count(1).await);
    docker(&["kill", "-s", "HUP", &name]).await.expect("done");
    assert_eq!(edge.get("/").await.status, 200, "that is not the end of it");
    // The first process of a container lives through this one.
    let leaves = async || states(&edge).await.values().eq(["draining"]);
    let (_, time) = takes(docker(&["kill", "-s", "TERM", &name]), leaves).await;
    assert!(time < SECOND, "{time:?}");
    docker(&["restart", "-t", "0", &name]).await.expect("done");
    eventually!(edge.get("/").await.status == 200);
    docker(&["exec", &name, "busybox", "rm", "/tmp/well"]).await.expect("done");
    eventually!(count(0).await);
    docker(&["exec", &name, "busybox", "touch", "/tmp/well"]).await.expect("done");
    eventually!(count(1).await);

    let (_, time) = takes(docker(&["network", "disconnect", "bridge", &name]), async || count(0).await).await;
    assert!(time < SECOND, "{time:?}");
    let (_, time) = takes(docker(&["network", "connect", "bridge", &name]), async || edge.get("/").await.status == 200).await;
    assert!(time < SECOND, "{time:?}");
    let (_, time) = takes(docker(&["kill", "-s", "KILL", &name]), async || count(0).await).await;
    assert!(time < SECOND, "{time:?}");
    docker(&["start", &name]).await.expect("done");
    eventually!(edge.get("/").await.status == 200);
}

#[tokio::test]
async fn a_container_brings_its_route() {
    let Some(containers) = Containers::new("route").await else { return };
    let edge = containers.edge("routes: {hosts: '*.apps.test'}").await;
    let wiki = async || edge.client().await.get("wiki.apps.test", "/index.html").await.status;
    let labels = ["--label", "weir.route.wiki.host=wiki.apps.test", "--label", "weir.route.wiki.timeout=5s"];
    let (_, time) = takes(containers.run("1", &labels), async || {
        let routes = edge.admin_get("/metrics").await;
        routes.status == 200 && wiki().await == 200 && edge.access_log_now().iter().any(|line| line["route"] == "wiki")
    })
    .await;
    assert!(time < SECOND, "{time:?}");
    containers.run("bad", &["--label", "weir.port=http", "--label", "weir.route.bank.host=bank.test"]).await;
    let diagnostics = || edge.server.control().container_diagnostics().iter().map(ToString::to_string).collect::<Vec<_>>();
    let about_bad =
        |texts: &Vec<String>| texts.iter().filter(|text| text.contains(&format!("{}-bad", containers.upstream))).count() == 2;
    eventually!(diagnostics(), about_bad);
    assert_eq!(wiki().await, 200);
}
