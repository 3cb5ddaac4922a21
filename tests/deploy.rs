//! What docs/deploy.md and docker/ tell people to use is valid: configurations, manifests, the unit, alerts, the dashboard.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[macro_use]
#[path = "it/support/mod.rs"]
mod support;

use support::tools;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with everything that `weir check` says of a configuration.
#[track_caller]
fn accepted(name: &str, text: &str) {
    accepted_with(name, text, &[("WEIR_ADMIN_TOKEN", "a token")]);
}

/// The same with other variables.
#[track_caller]
fn accepted_with(name: &str, text: &str, variables: &[(&str, &str)]) {
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let loaded = weir::snapshot::check(weir::config::parse_str(name, text, Path::new("/nonexistent"), &value));
    let said = weir::config::render::human(loaded.document.sources(), &loaded.diagnostics, false);
    assert!(loaded.is_ok() && loaded.diagnostics.is_empty(), "{said}");
}

/// With another text in the place of a path that is there only where the configuration is used.
fn replaced(text: &str, path: &str, with: &str) -> String {
    assert!(text.contains(path), "{path} is not in it");
    text.replace(path, with)
}

#[test]
fn the_configuration_of_the_demo_is_accepted() {
    let text = replaced(&read("docker/conf/weir.yaml"), "${file:/run/secrets/admin_token}", "a token");
    accepted("docker/conf/weir.yaml", &text);
    accepted_with("docker/conf/weir.yaml", &text, &[("WEIR_REDIS", "redis://redis:6379")]);
    let labels = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/labels/*.yaml");
    accepted("docker/conf/weir.yaml with labels", &replaced(&text, "/etc/weir.d/*.yaml", labels));
}

/// The manifests, and the kind of each.
fn manifests() -> Vec<(String, Value)> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(&read("docs/deploy/kubernetes.yaml"))
        .map(|document| {
            let value = Value::deserialize(document).expect("YAML");
            (value["kind"].as_str().expect("a kind").to_owned(), value)
        })
        .collect()
}

/// Reads it by the schema of Kubernetes, and writes it again: what the schema does not know is lost on the way.
fn strictly<T: DeserializeOwned + Serialize>(kind: &str, manifest: &Value) {
    let read: T = serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
    let written = serde_json::to_value(read).expect("JSON");
    let mut lost = Vec::new();
    find_lost(manifest, &written, kind, &mut lost);
    assert!(lost.is_empty(), "not in the schema of Kubernetes: {lost:?}");
}

fn find_lost(given: &Value, kept: &Value, place: &str, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                find_lost(value, kept.get(key).unwrap_or(&Value::Null), &format!("{place}.{key}"), lost);
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                find_lost(given, kept, &format!("{place}[{index}]"), lost);
            }
        }
        _ if given == kept => {}
        _ => lost.push(place.to_owned()),
    }
}

#[test]
fn the_manifests_are_what_kubernetes_knows() {
    let mut kinds = BTreeSet::new();
    for (kind, manifest) in manifests() {
        match kind.as_str() {
            "ConfigMap" => strictly::<ConfigMap>(&kind, &manifest),
            "Deployment" => strictly::<Deployment>(&kind, &manifest),
            "PodDisruptionBudget" => strictly::<PodDisruptionBudget>(&kind, &manifest),
            "Service" => strictly::<Service>(&kind, &manifest),
            "NetworkPolicy" => strictly::<NetworkPolicy>(&kind, &manifest),
            other => panic!("{other} is not checked"),
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

#[test]
fn what_a_schema_does_not_know_is_found() {
    let given = serde_json::json!({"spec": {"replicas": 2, "replikas": 2, "list": [{"a": 1}]}});
    let kept = serde_json::json!({"spec": {"replicas": 2, "list": [{"a": 2}]}, "more": 1});
    let mut lost = Vec::new();
    find_lost(&given, &kept, "X", &mut lost);
    lost.sort();
    assert_eq!(lost, ["X.spec.list[0].a", "X.spec.replikas"]);
}

/// The parts of the manifests agree with each other and with the configuration in them.
#[test]
fn the_manifests_fit_together() {
    let manifests = manifests();
    let of = |kind: &str| &manifests.iter().find(|(found, _)| found == kind).expect("this kind").1;
    let (pod, labels) = (&of("Deployment")["spec"]["template"], &of("Deployment")["spec"]["selector"]["matchLabels"]);
    for selector in [
        &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
        &pod["metadata"]["labels"],
    ] {
        assert_eq!(selector, labels);
    }
    let text = of("ConfigMap")["data"]["weir.yaml"].as_str().expect("the configuration");
    let port_of = |name: &str| {
        let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("ports");
        ports.iter().find(|port| port["name"] == name).expect("this port")["containerPort"].to_string()
    };
    for name in ["http", "https", "admin"] {
        assert!(text.contains(&format!("0.0.0.0:{}", port_of(name))), "{name}");
    }
    let spec: weir::config::Spec = {
        let directory = tempfile::tempdir().expect("a directory");
        let identity = rcgen::generate_simple_self_signed(["example.com".to_owned()]).expect("a certificate");
        fs::write(directory.path().join("tls.crt"), identity.cert.pem()).expect("write");
        fs::write(directory.path().join("tls.key"), identity.signing_key.serialize_pem()).expect("write");
        let text = replaced(text, "/etc/weir-tls", directory.path().to_str().expect("UTF-8"));
        accepted("kubernetes.yaml: weir.yaml", &text);
        weir::config::parse_str("weir.yaml", &text, directory.path(), &|_| Some("a token".into())).spec.expect("a configuration")
    };
    let pause: u64 =
        pod["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1].as_str().unwrap().parse().unwrap();
    let patience = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(patience > pause + spec.server.shutdown_grace.get().as_secs(), "the kill comes before the end of the drain");
}

#[test]
fn the_unit_is_what_systemd_knows() {
    let unit = read("docs/deploy/weir.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("a timeout").trim_end_matches('s');
    let grace = weir::config::ServerSpec::default().shutdown_grace.get().as_secs();
    assert!(stop.parse::<u64>().expect("seconds") > grace, "the kill comes before the end of the drain");
    let Some(program) = tools::tool("systemd-analyze") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("weir.service");
    // It looks for the program, too, and for the page.
    let binary = env!("CARGO_BIN_EXE_weir");
    fs::write(&file, replaced(&unit, "/usr/local/bin/weir", binary)).expect("write");
    let verified =
        std::process::Command::new(program).args(["verify", "--man=no"]).arg(&file).output().expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("weir.service")).collect();
    assert!(verified.status.success() && about_it.is_empty(), "{said}");
}

/// The metrics that operating.md explains.
fn explained() -> BTreeSet<String> {
    let page = read("docs/operating.md");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    page.lines().filter_map(row).filter(|name| name.starts_with("weir_")).collect()
}

/// The metrics of Weir that a text asks for, without what Prometheus appends to the names of histograms.
fn asked_for(text: &str) -> BTreeSet<String> {
    let is_name = |character: char| character == '_' || character.is_ascii_alphanumeric();
    let names = text.split(|character| !is_name(character)).filter(|word| word.starts_with("weir_"));
    let metric = |name: &str| {
        let endings = ["_bucket", "_sum", "_count"];
        endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name).to_owned()
    };
    names.map(metric).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let known = explained();
    for (file, at_least) in [("docker/grafana/dashboards/weir.json", 12), ("docker/alerts.yml", 4)] {
        let asked = asked_for(&read(file));
        assert!(asked.len() >= at_least, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} asks for what does not exist: {unknown:?}");
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_something_and_says_what() {
    let dashboard: Value = serde_json::from_str(&read("docker/grafana/dashboards/weir.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "panels need ids of their own");
    let source: Value = serde_yaml::from_str(&read("docker/grafana/provisioning/datasources/prometheus.yaml")).expect("YAML");
    for panel in panels {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], source["datasources"][0]["uid"], "{panel}");
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}

/// Each query by the parser of Prometheus, which promtool has in a file of rules.
#[test]
fn prometheus_understands_its_configuration_and_every_query() {
    let Some(promtool) = tools::tool("promtool") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let put = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).expect("write");
        file
    };
    put("alerts.yml", &read("docker/alerts.yml"));
    put("token", "demo");
    let config = put("prometheus.yml", &replaced(&read("docker/prometheus.yml"), "/run/secrets/admin_token", "token"));
    let dashboard: Value = serde_json::from_str(&read("docker/grafana/dashboards/weir.json")).expect("JSON");
    let queries =
        dashboard["panels"].as_array().into_iter().flatten().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let rules: Vec<Value> = (0..)
        .zip(queries)
        // Grafana puts a range in the place of this.
        .map(|(number, target)| {
            let expression = target["expr"].as_str().expect("a query").replace("$__rate_interval", "1m");
            serde_json::json!({"record": format!("panel:{number}"), "expr": expression})
        })
        .collect();
    assert!(rules.len() > 12);
    let rules = put("panels.yml", &serde_json::json!({"groups": [{"name": "panels", "rules": rules}]}).to_string());
    for (what, file) in [("config", config), ("rules", rules)] {
        let checked = std::process::Command::new(&promtool).args(["check", what]).arg(file).output().expect("promtool runs");
        let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        assert!(checked.status.success(), "{said}");
    }
}
