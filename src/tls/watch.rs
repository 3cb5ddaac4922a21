//! Certificates that are renewed while running.

use std::{path::PathBuf, sync::Arc, time::Duration, time::SystemTime};

use futures_util::future::select_all;

use super::ServerTls;

/// Keeps what a listener serves current: looks at its files again and again, and reads them when one has changed; takes what sources
/// that change by themselves have. Never returns.
///
/// By polling: renewals come days apart, tools replace files, directories and symbolic links in every order, and a
/// look at a few files costs nothing. A file that cannot be used changes nothing, is told once, and is tried again when it
/// changes again. `renewed` is called when other certificates are being served.
pub async fn watch(tls: Arc<ServerTls>, every: Duration, renewed: impl Fn(&ServerTls)) {
    tokio::join!(watch_files(&tls, every, &renewed), watch_changes(&tls, &renewed));
}

async fn watch_changes(tls: &Arc<ServerTls>, renewed: &impl Fn(&ServerTls)) {
    let mut changes = tls.changes();
    if changes.is_empty() {
        return std::future::pending().await;
    }
    loop {
        // From the beginning: what has changed before counts, too.
        tls.refresh();
        renewed(tls);
        let any = changes.iter_mut().map(|change| Box::pin(change.changed()));
        if let (Err(_), ..) = select_all(any).await {
            return std::future::pending().await;
        }
    }
}

async fn watch_files(tls: &Arc<ServerTls>, every: Duration, renewed: &impl Fn(&ServerTls)) {
    let files = tls.files();
    if files.is_empty() {
        return std::future::pending().await;
    }
    let mut known = changed_at(files.clone()).await;
    loop {
        tokio::time::sleep(every).await;
        let now = changed_at(files.clone()).await;
        if now == known {
            continue;
        }
        known = now;
        let reading = tls.clone();
        match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(Ok(())) => {
                log::info!("certificates were read again: {}", names(tls));
                renewed(tls);
            }
            Ok(Err(error)) => {
                log::warn!("certificates changed and cannot be used, those before are still served: {}", error.0.join("; "))
            }
            Err(error) => log::error!("reading certificates failed: {error}"),
        }
    }
}

fn names(tls: &ServerTls) -> String {
    tls.certificates().iter().map(|certificate| certificate.name.clone()).collect::<Vec<_>>().join(", ")
}

/// When each file was last changed; `None` for one that is not there.
async fn changed_at(files: Vec<PathBuf>) -> Vec<Option<SystemTime>> {
    let look = move || files.iter().map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok()).collect();
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
