//! The configuration's files, watched for those who want a reload without asking for one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Control, writer::variable};
use crate::{
    admin::{Commands, Guard},
    config::{self, Bundle, Source},
};

/// How often the files are looked at. By polling: editors and tools replace files, directories and symbolic links in every
/// order (a Kubernetes ConfigMap is a link to a link), and a look at a few files costs nothing.
const EVERY: Duration = Duration::from_secs(1);

/// The texts of a configuration, by the paths of its files.
type Texts = BTreeMap<PathBuf, String>;
/// When files and directories were last changed.
type Changed = BTreeMap<PathBuf, Option<SystemTime>>;

/// Reloads when the text of the configuration in `path` and its includes has changed and then stayed the same for a moment,
/// so that a file that is still being written is not read. `served` is what is in service now. Runs until the future is dropped.
pub async fn watch(control: Arc<Control>, path: PathBuf, served: Bundle) {
    let mut watched = Watched::new(path, served.into_texts()).await;
    loop {
        tokio::time::sleep(EVERY).await;
        if watched.is_new().await {
            log::info!("the configuration's files have changed: reading them again");
            // How it ends is logged by whoever does it.
            let _ = control.reload(Guard::default()).await;
        }
    }
}

/// What is known of the files.
struct Watched {
    path: PathBuf,
    known: Texts,
    looked: Changed,
    /// Something may be other than it is known, and is read once it has stayed the same between two looks.
    settling: bool,
}

impl Watched {
    /// The files of what was read before: they may have changed since.
    async fn new(path: PathBuf, known: Texts) -> Self {
        let looked = changed(&known).await;
        Self { path, known, looked, settling: true }
    }

    /// Takes a look. True when there is a text that was not known, once.
    async fn is_new(&mut self) -> bool {
        let now = changed(&self.known).await;
        if now != self.looked {
            (self.looked, self.settling) = (now, true);
            return false;
        }
        if !std::mem::take(&mut self.settling) {
            return false;
        }
        self.takes(texts(&self.path).await).await
    }

    /// Takes what was read just now. True when it was not known.
    async fn takes(&mut self, texts: Texts) -> bool {
        if texts == self.known {
            return false;
        }
        // Other files may be included now, and what changed between reading them and this look is found by reading them again.
        (self.looked, self.settling) = (changed(&texts).await, true);
        self.known = texts;
        true
    }
}

async fn texts(path: &Path) -> Texts {
    let path = path.to_owned();
    let read = move || {
        let mut texts: Texts = config::load(&path, &variable).document.sources().iter().map(Source::file).collect();
        // Also when it cannot be read at the moment.
        texts.entry(path).or_default();
        texts
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// Directories too: a pattern of includes may match a file that comes.
async fn changed(texts: &Texts) -> Changed {
    let directories = texts.keys().filter_map(|path| path.parent()).map(Path::to_owned);
    let paths: Vec<PathBuf> = texts.keys().cloned().chain(directories).collect();
    let look = move || {
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|found| found.modified()).ok();
        paths.into_iter().map(|path| (path.clone(), modified(&path))).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// Writes this to a file, at this second: looks of a test follow each other faster than the clock of a file system ticks.
    fn write(path: &Path, text: &str, second: u64) {
        fs::write(path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    /// Looks a few times, as often as it takes for a change to settle.
    async fn is_new(watched: &mut Watched) -> bool {
        for _ in 0..4 {
            if watched.is_new().await {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_change_while_the_one_before_is_taken_is_not_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.yaml");
        write(&path, "one: 1", 1);
        let mut watched = Watched::new(path.clone(), texts(&path).await).await;
        assert!(!is_new(&mut watched).await);
        for (text, second) in [("two: 2", 2), ("three: 3", 3), ("four: 4", 4)] {
            // As soon as the one before was found: as if its reload were still under way.
            write(&path, text, second);
            assert!(is_new(&mut watched).await, "{text}");
        }
        write(&path, "five: 5", 5);
        let read = texts(&path).await;
        write(&path, "six: 6", 6);
        assert!(watched.takes(read).await && is_new(&mut watched).await, "between being read and the look after it");
        write(&path, "six: 6", 7);
        assert!(!is_new(&mut watched).await, "touched, and the same");
        let fresh = directory.path().join("fresh.yaml");
        write(&fresh, "seven: 7", 8);
        fs::rename(&fresh, &path).unwrap();
        assert!(is_new(&mut watched).await, "replaced");
        assert!(!is_new(&mut watched).await);
    }
}
