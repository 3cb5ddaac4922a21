//! Endpoints from a file: a list in YAML or JSON, watched.
//!
//! Watching is a look at the file's metadata twice a second, off the runtime's threads. Unlike inotify that
//! sees changes on network file systems and through the links that Kubernetes swaps for a mounted
//! `ConfigMap`, and takes neither a thread nor one of the user's limited watches.

use std::{
    collections::HashSet,
    fmt, fs, io,
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndpointSpec, MAX_FOUND, MAX_WEIGHT, run::Asked};
use crate::types::{Address, ConfigPath};

/// Between two looks: soon enough for a person who waits for it, and no load.
const LOOK: Duration = Duration::from_millis(500);
/// A hundred bytes for each of [`MAX_FOUND`] endpoints.
const MAX_BYTES: u64 = 1 << 20;

/// A file that lists endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// A list in YAML or JSON, its items as in `endpoints`.
    pub path: ConfigPath,
}

impl FileSpec {
    pub(super) fn compile(&self) -> File {
        File { path: self.path.clone(), seen: None, read: None, failed: None }
    }
}

/// The file, and how far it was read.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: ConfigPath,
    seen: Option<Version>,
    read: Option<Version>,
    failed: Option<String>,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.path)
    }
}

/// What tells one content of the file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl Version {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { file: (metadata.dev(), metadata.ino()), length: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl File {
    pub(super) async fn ask(&mut self) -> Asked {
        let mut file = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let found = file.look();
            (file, found)
        });
        let found = match looked.await {
            Ok((file, found)) => {
                *self = file;
                found
            }
            Err(_) => Err("reading it was cut short".to_owned()),
        };
        Asked { found, again: LOOK }
    }

    /// Reads the file if it is another than the one read last.
    ///
    /// A file that was replaced is complete. One that is written in place is read when it has not changed
    /// since the look before, so that half a list is not taken for the whole.
    fn look(&mut self) -> Result<Option<Vec<EndpointSpec>>, String> {
        let now = Version::of(&self.path).map_err(|error| {
            self.read = None;
            error.kind().to_string()
        })?;
        let before = self.seen.replace(now);
        if self.read == Some(now) {
            // A file that cannot be used stays so, until it changes.
            return self.failed.clone().map_or(Ok(None), Err);
        }
        let written_in_place = self.read.is_some_and(|read| read.file == now.file);
        if written_in_place && before != Some(now) {
            return self.failed.clone().map_or(Ok(None), Err);
        }
        self.read = Some(now);
        let found = read(&self.path).and_then(|text| parse(&text));
        self.failed = found.as_ref().err().cloned();
        found.map(Some)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let open = || {
        let file = fs::File::open(path)?;
        // A pipe or a device would never end.
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    match open() {
        Ok(text) if text.len() as u64 > MAX_BYTES => Err("it is over 1 MiB".into()),
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::Other => Err(error.to_string()),
        Err(error) => Err(error.kind().to_string()),
    }
}

/// JSON is YAML, so one parser reads both. Its errors say where.
fn parse(text: &str) -> Result<Vec<EndpointSpec>, String> {
    let listed: Option<Vec<EndpointSpec>> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    // An empty file is one that is about to be written, far more often than a wish to have no endpoints.
    let listed = listed.ok_or("it is empty; `[]` says that there are no endpoints")?;
    if listed.len() > MAX_FOUND {
        return Err(format!("{} endpoints, {MAX_FOUND} at most are taken", listed.len()));
    }
    let mut seen = HashSet::new();
    for (index, endpoint) in listed.iter().enumerate() {
        let address = &endpoint.address;
        let problem = if address.tcp().is_some_and(|address| address.port() == 0) {
            "an endpoint cannot have port 0"
        } else if endpoint.weight.get() > MAX_WEIGHT {
            "a weight goes from 1 to 65535"
        } else if !seen.insert(address) {
            "it is there twice"
        } else if matches!(address, Address::Unix(_)) && super::socket_address(address).is_none() {
            "its path is too long for a socket"
        } else {
            continue;
        };
        return Err(format!("[{index}] {address}: {problem}"));
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(found: Result<Option<Vec<EndpointSpec>>, String>) -> Vec<String> {
        let found = found.unwrap().expect("a list");
        found.iter().map(|endpoint| format!("{}*{}", endpoint.address, endpoint.weight)).collect()
    }

    #[test]
    fn both_languages_are_read_and_errors_say_where() {
        let yaml = "- 127.0.0.1:1\n- {address: 'unix:/run/a.sock', weight: 3}\n";
        assert_eq!(addresses(parse(yaml).map(Some)), ["127.0.0.1:1*1", "unix:/run/a.sock*3"]);
        assert_eq!(addresses(parse(r#"["127.0.0.1:1", {"address": "[::1]:2"}]"#).map(Some)), ["127.0.0.1:1*1", "[::1]:2*1"]);
        assert_eq!(addresses(parse("[]").map(Some)), Vec::<String>::new());
        for (text, part) in [
            ("", "it is empty"),
            ("# nothing yet\n", "it is empty"),
            ("a: 1", "expected a sequence"),
            ("- 127.0.0.1:1\n- 127.0.0.1\n", "line 2"),
            ("- {address: '127.0.0.1:1', wait: 3}", "unknown field `wait`"),
            ("- 127.0.0.1:0", "port 0"),
            ("- 127.0.0.1:1\n- 127.0.0.1:1", "[1] 127.0.0.1:1: it is there twice"),
            ("- {address: '127.0.0.1:1', weight: 70000}", "a weight goes"),
            ("- [", "line"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_when_it_has_changed_and_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints.yaml");
        let mut file = FileSpec { path: path.clone().into() }.compile();
        assert!(file.look().unwrap_err().contains("not found"));
        fs::write(&path, "- 127.0.0.1:1").unwrap();
        assert_eq!(addresses(file.look()), ["127.0.0.1:1*1"]);
        assert!(matches!(file.look(), Ok(None)));

        fs::write(&path, "- 127.0.0.1:1\n- 127.0.0.1:2").unwrap();
        assert!(matches!(file.look(), Ok(None)), "written in place: it may not be all");
        assert_eq!(addresses(file.look()), ["127.0.0.1:1*1", "127.0.0.1:2*1"]);

        let replace = |text: &str| {
            fs::write(directory.path().join("new"), text).unwrap();
            fs::rename(directory.path().join("new"), &path).unwrap();
        };
        replace("- 127.0.0.1:3");
        assert_eq!(addresses(file.look()), ["127.0.0.1:3*1"]);
        replace("- nonsense and more of it");
        assert!(file.look().is_err());
        assert!(file.look().is_err(), "it is still bad");
        replace("- 127.0.0.1:4");
        assert_eq!(addresses(file.look()), ["127.0.0.1:4*1"]);

        fs::remove_file(&path).unwrap();
        assert!(file.look().is_err());
        fs::create_dir(&path).unwrap();
        assert!(file.look().unwrap_err().contains("not a file"));
    }
}
