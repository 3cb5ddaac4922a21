//! What is read of an engine's answers, and what is kept of it.

use std::{collections::BTreeMap, net::IpAddr};

use nix::sys::signal::Signal;
use serde::Deserialize;

/// Labels that are kept: ours, and the two by which Compose tells whose container it is.
const OURS: &str = "weir.";
const PROJECT: &str = "com.docker.compose.project";

/// How a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs, and its health check passes if it has one.
    Ready,
    /// Its health check has not passed yet.
    Starting,
    /// Its health check fails.
    Unhealthy,
    /// It is frozen.
    Paused,
    /// It was asked to stop: what it began may finish.
    Leaving,
    /// It does not run.
    Down,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// When it was created, in a form that sorts.
    pub created: String,
    /// When it was started last: tells one run from the next.
    pub(super) started: String,
    /// How it stands.
    pub phase: Phase,
    /// Its labels that begin with `weir.`.
    pub labels: BTreeMap<String, String>,
    /// The project of Compose that it belongs to.
    pub(super) project: Option<String>,
    /// The TCP ports that it exposes.
    pub(super) ports: Vec<u16>,
    /// Its address in each of its networks: in `host`, none.
    pub(super) networks: BTreeMap<String, Option<IpAddr>>,
    /// The signal that asks it to stop.
    pub(super) stop_signal: i32,
}

/// The answer about one container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    paused: bool,
    restarting: bool,
    started_at: String,
    health: Option<Health>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    // A number in Podman's answers, so looked at before it is believed.
    stop_signal: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    #[serde(rename = "IPAddress")]
    v4: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    v6: Option<String>,
}

impl From<Inspected> for Container {
    fn from(answer: Inspected) -> Self {
        let Inspected { id, name, created, state, config, network_settings } = answer;
        let mut labels = config.labels.unwrap_or_default();
        let project = labels.remove(PROJECT);
        labels.retain(|label, _| label.starts_with(OURS));
        let exposed = config.exposed_ports.unwrap_or_default();
        let mut ports: Vec<u16> = exposed.keys().filter_map(|port| tcp_port(port)).collect();
        ports.sort_unstable();
        let networks = network_settings.networks.unwrap_or_default();
        let address = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        let networks = networks.into_iter().map(|(name, network)| (name, address(&network.v4).or(address(&network.v6))));
        Self {
            name: name.trim_start_matches('/').to_owned(),
            id,
            created,
            phase: state.phase(),
            started: state.started_at,
            labels,
            project,
            ports,
            networks: networks.collect(),
            stop_signal: config.stop_signal.as_ref().and_then(signal).unwrap_or(Signal::SIGTERM as i32),
        }
    }
}

impl State {
    fn phase(&self) -> Phase {
        if !self.running || self.restarting {
            return Phase::Down;
        }
        if self.paused {
            return Phase::Paused;
        }
        match self.health.as_ref().map(|health| health.status.as_str()) {
            Some("starting") => Phase::Starting,
            Some("unhealthy") => Phase::Unhealthy,
            _ => Phase::Ready,
        }
    }
}

/// `8080/tcp`; nothing for other protocols.
fn tcp_port(text: &str) -> Option<u16> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse().ok().filter(|port| protocol == "tcp" && *port != 0)
}

/// `SIGQUIT`, `QUIT`, `3` and 3 are the same. The engine counts real-time signals (`SIGRTMIN+3`) from 34.
fn signal(value: &serde_json::Value) -> Option<i32> {
    let text = match value {
        serde_json::Value::Number(number) => return number.as_i64().and_then(|number| i32::try_from(number).ok()),
        serde_json::Value::String(text) => text.trim(),
        _ => return None,
    };
    text.parse().ok().or_else(|| {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        match name.strip_prefix("SIGRTMIN") {
            Some(offset) => offset.strip_prefix('+').unwrap_or("0").parse::<u8>().ok().map(|offset| 34 + i32::from(offset)),
            None => name.parse::<Signal>().ok().map(|signal| signal as i32),
        }
    })
}

/// Something happened.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    /// `container` or `network`.
    #[serde(default)]
    pub(super) r#type: String,
    /// `start`, `health_status: healthy`, ...
    #[serde(default)]
    pub(super) action: String,
    #[serde(default)]
    actor: Actor,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl Event {
    /// The container that it happened to.
    pub(super) fn container(&self) -> Option<&str> {
        match &*self.r#type {
            "container" => Some(&self.actor.id),
            "network" => self.attribute("container"),
            _ => None,
        }
    }
    /// What is said about it: of a container its labels are among these.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.actor.attributes.get(name).map(String::as_str)
    }
    /// The number of the signal that was sent.
    pub(super) fn signal(&self) -> Option<i32> {
        self.attribute("signal")?.parse().ok()
    }
}

/// Named by this process' mounts: the engine mounts files from a directory that bears the container's id.
pub(super) fn own_id(mountinfo: &str) -> Option<&str> {
    let hexadecimal = |id: &&str| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let names =
        |line: &'_ str| ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&line.split(' ').nth(4).unwrap_or(""));
    let mut lines = mountinfo.lines().filter(|line| names(line));
    lines.find_map(|line| line.split(' ').nth(3)?.split('/').find(hexadecimal))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A container as an engine tells of it.
    pub(crate) fn answer(id: &str, labels: &[(&str, &str)], networks: &[(&str, &str)]) -> Value {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let networks: BTreeMap<_, _> = networks.iter().map(|(name, v4)| (*name, json!({"IPAddress": v4}))).collect();
        json!({
            "Id": id,
            "Name": format!("/{id}"),
            "Created": "2026-01-01T00:00:00Z",
            "State": {"Running": true, "Paused": false, "StartedAt": "2026-01-01T00:00:01Z"},
            "Config": {"Labels": labels, "ExposedPorts": null, "StopSignal": null},
            "NetworkSettings": {"Networks": networks},
        })
    }

    pub(crate) fn read(answer: Value) -> Container {
        serde_json::from_value::<Inspected>(answer).unwrap().into()
    }

    #[test]
    fn an_answer_becomes_a_container() {
        let mut json =
            answer("app-1", &[("weir.port", "80"), ("other", "x"), (PROJECT, "shop")], &[("a", "10.0.0.2"), ("b", "")]);
        json["NetworkSettings"]["Networks"]["b"]["GlobalIPv6Address"] = "fd00::2".into();
        json["Config"]["ExposedPorts"] = json!({"443/tcp": {}, "53/udp": {}, "80/tcp": {}});
        let container = read(json);
        assert_eq!(container.name, "app-1");
        assert_eq!(container.labels, BTreeMap::from([("weir.port".into(), "80".into())]), "only ours are kept");
        assert_eq!(container.project.as_deref(), Some("shop"));
        assert_eq!(container.ports, [80, 443]);
        let networks: Vec<_> = container.networks.values().map(|address| address.unwrap().to_string()).collect();
        assert_eq!(networks, ["10.0.0.2", "fd00::2"]);
        assert_eq!((container.phase, container.stop_signal), (Phase::Ready, 15));
        assert_eq!(read(json!({"Id": "x"})).phase, Phase::Down, "what is not said is not there");
    }

    #[test]
    fn how_it_stands() {
        for (state, phase) in [
            (json!({"Running": true}), Phase::Ready),
            (json!({"Running": true, "Health": null}), Phase::Ready),
            (json!({"Running": true, "Health": {"Status": "none"}}), Phase::Ready),
            (json!({"Running": true, "Health": {"Status": "healthy"}}), Phase::Ready),
            (json!({"Running": true, "Health": {"Status": "starting"}}), Phase::Starting),
            (json!({"Running": true, "Health": {"Status": "unhealthy"}}), Phase::Unhealthy),
            (json!({"Running": true, "Paused": true, "Health": {"Status": "healthy"}}), Phase::Paused),
            (json!({"Running": true, "Restarting": true}), Phase::Down),
            (json!({"Running": false}), Phase::Down),
        ] {
            assert_eq!(serde_json::from_value::<State>(state.clone()).unwrap().phase(), phase, "{state}");
        }
    }

    #[test]
    fn signals_in_every_form() {
        for (written, number) in [
            (json!("SIGQUIT"), Some(3)),
            (json!("quit"), Some(3)),
            (json!("3"), Some(3)),
            (json!(3), Some(3)),
            (json!("SIGRTMIN+3"), Some(37)),
            (json!("RTMIN"), Some(34)),
            (json!("nonsense"), None),
            (json!({}), None),
        ] {
            assert_eq!(signal(&written), number, "{written}");
        }
    }

    #[test]
    fn the_mounts_of_a_container_name_it() {
        let id = "0123456789abcdef".repeat(4);
        let line =
            format!("1 2 254:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw");
        assert_eq!(own_id(&format!("22 27 0:21 / /proc rw - proc proc rw\n{line}\n")), Some(&*id));
        assert_eq!(
            own_id("1 2 254:1 / / rw - ext4 /dev/vda1 rw\n1 2 254:1 /run/resolv.conf /etc/resolv.conf rw - tmpfs t rw"),
            None
        );
        // The engine's own directory, mounted into a container of another engine.
        assert_eq!(own_id(&line.replace(" /etc/resolv.conf", " /data")), None);
    }
}
