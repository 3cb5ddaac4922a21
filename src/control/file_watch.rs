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
    let mut known = served.into_texts();
    let mut looked = changed(&known).await;
    // It may have changed since it was read.
    let mut settling = true;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = changed(&known).await;
        if now != looked {
            (looked, settling) = (now, true);
        } else if std::mem::take(&mut settling) {
            let texts = texts(&path).await;
            if texts != known {
                log::info!("the configuration's files have changed: reading them again");
                // How it ends is logged by whoever does it.
                let _ = control.reload(Guard::default()).await;
            }
            looked = changed(&texts).await;
            known = texts;
        }
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
