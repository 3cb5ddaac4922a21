//! The `static_files` filter: answers with files of a directory.
//!
//! What is no file there is left to the filters behind and to the route's action: an upstream, a redirect, a 404.
//! A worker asks the kernel for what it has in memory (`RESOLVE_CACHED`, `RWF_NOWAIT`), which a disk cannot delay; for the rest
//! there are threads made for waiting. Files are read in pieces of a bounded size, and the next one is read when the client has
//! taken the one before.

mod beneath;
mod conditions;

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind, IoSliceMut},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use self::{
    beneath::Found,
    conditions::{Answer, Conditions, Validators},
};
use super::{
    Filter, FilterRequest, Slot, Verdict,
    coding::{Accepted, Coding},
};
use crate::types::{At, BodyStream, Code, ConfigPath, OneOrMany, Reply, unreadable};

/// A piece of a file that is sent: what one request holds at most. A shorter file is read where it is opened, which
/// saves a change of threads.
const PIECE: usize = 64 << 10;

/// Whether a disk may be waited for. Where it may not, what is not in memory fails with [`ErrorKind::WouldBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Avoided,
    Waited,
}

/// Answers GET and HEAD with the files of a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticFilesSpec {
    /// The directory. A link to one is followed anew for each request.
    pub root: ConfigPath,
    /// The file that stands for its directory, the first of these that is there.
    #[serde(default = "StaticFilesSpec::default_index")]
    pub index: OneOrMany<String>,
    /// Endings to try where there is no such file: `html` makes `/about` find `about.html`.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub extensions: OneOrMany<String>,
    /// The file, below the directory, for paths that lead to none and whose last segment has no dot, as pages that
    /// route in the browser need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Codings that files may lie beside theirs in (`app.js.br`), in the order of preference.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub precompressed: OneOrMany<Coding>,
    /// The value of `cache-control`. Left out: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// Serve names that begin with a dot, too. `.well-known` always is.
    #[serde(default)]
    pub hidden: bool,
}

impl StaticFilesSpec {
    fn default_index() -> OneOrMany<String> {
        OneOrMany(vec!["index.html".into()])
    }

    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let mut refuse = |at: At, code, message: String, hint: &str| {
            at.problem(code, message).hint(hint);
            sound = false;
        };
        match std::fs::metadata(&*self.root) {
            Err(error) => {
                let message = format!("cannot read `{}`: {}", self.root, unreadable(&error));
                refuse(at.key("root"), Code::UnreadableFile, message, "name a directory that Weir can read");
            }
            Ok(found) if !found.is_dir() => {
                let message = format!("`{}` is not a directory", self.root);
                refuse(at.key("root"), Code::UnreadableFile, message, "name the directory that the files are in");
            }
            Ok(_) => {}
        }
        for (key, list) in [("index", &self.index), ("extensions", &self.extensions)] {
            for (index, name) in list.iter().enumerate().filter(|(_, name)| !is_name(name)) {
                let at = if list.len() == 1 { at.key(key) } else { at.key(key).index(index) };
                refuse(
                    at,
                    Code::BadValue,
                    format!("`{name}` is not the name of a file"),
                    "write it without a path, and without a dot in front",
                );
            }
        }
        if let Some(fallback) = self.fallback.as_deref().filter(|path| !is_beneath(Path::new(path))) {
            let message = format!("`{fallback}` is not below `root`");
            refuse(at.key("fallback"), Code::BadValue, message, "write it as below that directory: `index.html`");
        }
        let cache_control = self.cache_control.as_deref().map(HeaderValue::from_str).transpose();
        if cache_control.is_err() {
            let message = "this cannot be the value of a header field".into();
            refuse(at.key("cache_control"), Code::BadValue, message, "write `public, max-age=3600` or the like");
        }
        let cache_control = cache_control.ok().filter(|_| sound)?;
        let files = Files { spec: self.clone(), cache_control };
        Some(Arc::new(StaticFiles { files: Arc::new(files) }))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn is_beneath(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[derive(Debug)]
struct StaticFiles {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    spec: StaticFilesSpec,
    cache_control: Option<HeaderValue>,
}

/// What a request wants, taken along to where files are read.
struct Wanted {
    path: PathBuf,
    /// The path ends with a slash: it means a directory.
    slash: bool,
    /// Where a directory is that was asked for without one.
    with_slash: String,
    head: bool,
    conditions: Conditions,
    /// Those that the client takes, the best first.
    codings: SmallVec<[Coding; 3]>,
}

impl Filter for StaticFiles {
    fn kind(&self) -> &'static str {
        "static_files"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let head = request.method == "HEAD";
        if request.upgrade || !(head || request.method == "GET") {
            return Verdict::Continue;
        }
        let Some((path, slash)) = beneath::relative(request.target().0, self.files.spec.hidden) else { return Verdict::Continue };
        let query = request.query.map_or_else(String::new, |query| format!("?{query}"));
        let wanted = Wanted {
            path,
            slash,
            with_slash: format!("{}/{query}", request.path),
            head,
            conditions: Conditions::of(&*request.fields),
            codings: Accepted::of(&self.files.spec.precompressed, &*request.fields).codings,
        };
        match self.files.answer(&wanted, Disk::Avoided) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            answer => return or_unreadable(answer),
        }
        let files = self.files.clone();
        Verdict::later(async move {
            let found = tokio::task::spawn_blocking(move || files.answer(&wanted, Disk::Waited)).await;
            let verdict = or_unreadable(found.map_err(io::Error::other).flatten());
            move |_: &mut FilterRequest<'_>, _: &mut Slot| verdict
        })
    }
}

fn or_unreadable(answer: io::Result<Verdict>) -> Verdict {
    answer.unwrap_or_else(|error| {
        log::error!("a file cannot be served: {error}");
        Verdict::Answer { reply: Reply::status(500), reason: "file_unreadable" }
    })
}

impl Files {
    /// Opens and, where it is short, reads.
    fn answer(&self, wanted: &Wanted, disk: Disk) -> io::Result<Verdict> {
        let root = beneath::enter(&self.spec.root, disk)?;
        let find = |path: &Path| beneath::find(&root, path, disk);
        let serve = |path: &Path, plain: (File, Metadata)| self.serve(&root, path, plain, wanted, disk);
        match find(&wanted.path)? {
            Some(Found::File(file, facts)) if !wanted.slash => return serve(&wanted.path, (file, facts)),
            Some(Found::Directory) => {
                for name in self.spec.index.iter() {
                    let path = wanted.path.join(name);
                    let Some(Found::File(file, facts)) = find(&path)? else { continue };
                    return match wanted.slash {
                        true => serve(&path, (file, facts)),
                        // Links in the page are relative to its directory.
                        false => Ok(redirect(&wanted.with_slash)),
                    };
                }
            }
            Some(Found::File(..)) => {}
            None => {
                for ending in self.spec.extensions.iter().filter(|_| !wanted.slash) {
                    let path = with_ending(&wanted.path, ending);
                    if let Some(Found::File(file, facts)) = find(&path)? {
                        return serve(&path, (file, facts));
                    }
                }
            }
        }
        let page = wanted.path.extension().is_none();
        if let Some(fallback) = self.spec.fallback.as_ref().filter(|_| page)
            && let Some(Found::File(file, facts)) = find(Path::new(fallback))?
        {
            return serve(Path::new(fallback), (file, facts));
        }
        Ok(Verdict::Continue)
    }

    fn serve(&self, root: &OwnedFd, path: &Path, plain: (File, Metadata), wanted: &Wanted, disk: Disk) -> io::Result<Verdict> {
        let ((mut file, mut facts), mut coding) = (plain, None);
        for accepted in &wanted.codings {
            if let Some(Found::File(beside, about)) = beneath::find(root, &with_ending(path, accepted.ending()), disk)? {
                (file, facts, coding) = (beside, about, Some(*accepted));
                break;
            }
        }
        let has = Validators::new(&facts, coding.map(Coding::name));
        let length = facts.len();
        let answer = wanted.conditions.judge(&has, length, !wanted.head);
        let (status, first, length) = match answer {
            Answer::Failed => return Ok(Verdict::Answer { reply: Reply::status(412), reason: "precondition_failed" }),
            Answer::Unsatisfiable => {
                let reply = with(Reply::status(416), header::CONTENT_RANGE, &format!("bytes */{length}"));
                return Ok(Verdict::Answer { reply, reason: "range_unsatisfiable" });
            }
            Answer::NotModified => {
                return Ok(Verdict::Answer { reply: self.describe(Reply::status(304), &has), reason: "not_modified" });
            }
            Answer::Whole => (200, 0, length),
            Answer::Part(first, last) => (206, first, last - first + 1),
        };
        let mut reply = self.describe(Reply::status(status), &has).with(header::CONTENT_TYPE, media_type(path));
        reply = reply.with(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(coding) = coding {
            reply = reply.with(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }
        if status == 206 {
            reply = with(reply, header::CONTENT_RANGE, &format!("bytes {first}-{}/{}", first + length - 1, facts.len()));
        }
        if length <= PIECE as u64 && !wanted.head {
            let body = read(&file, first, length, disk)?;
            return Ok(Verdict::Answer { reply: Reply { body: Some(body), ..reply }, reason: "static_file" });
        }
        Ok(Verdict::Stream { reply, body: pieces(file, first, length), reason: "static_file" })
    }

    /// What a 304 has as well (RFC 9110 section 15.4.5).
    fn describe(&self, reply: Reply, has: &Validators) -> Reply {
        let mut reply = with(reply, header::ETAG, &has.etag);
        reply.headers.extend(has.last_modified().map(|date| (header::LAST_MODIFIED, date)));
        reply.headers.extend(self.cache_control.clone().map(|value| (header::CACHE_CONTROL, value)));
        if !self.spec.precompressed.is_absent() {
            reply = reply.with(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        reply
    }
}

fn with(mut reply: Reply, name: http::HeaderName, value: &str) -> Reply {
    reply.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    reply
}

fn redirect(to: &str) -> Verdict {
    Verdict::Answer { reply: with(Reply::status(308), header::LOCATION, to), reason: "static_directory" }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// By the ending of the name. Text is in UTF-8, as everything is that is written today.
fn media_type(path: &Path) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let text = match guess.type_() == mime_guess::mime::TEXT && guess.get_param("charset").is_none() {
        true => format!("{guess}; charset=utf-8"),
        false => guess.to_string(),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Bytes of a file from here. One that has become shorter since it was opened is an error.
fn read(file: &File, first: u64, length: u64, disk: Disk) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    match disk {
        Disk::Waited => file.read_exact_at(&mut bytes, first)?,
        Disk::Avoided if bytes.is_empty() => {}
        Disk::Avoided => match preadv2(file, &mut [IoSliceMut::new(&mut bytes)], first, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == bytes.len() => {}
            Err(Errno::OPNOTSUPP) if is_memory(file) => file.read_exact_at(&mut bytes, first)?,
            // Only a part is in memory, or the file has become shorter, or this is a file system without a cache.
            Ok(_) | Err(_) => return Err(ErrorKind::WouldBlock.into()),
        },
    }
    Ok(bytes.into())
}

/// Is it on a tmpfs, which has no disk to wait for, and so no way to ask for not waiting?
fn is_memory(file: &File) -> bool {
    /// From `linux/magic.h`.
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|facts| facts.f_type == TMPFS_MAGIC)
}

/// The pieces of a file, each read when the one before has been taken.
fn pieces(file: File, first: u64, length: u64) -> BodyStream {
    let file = Arc::new(file);
    let pieces = stream::try_unfold((first, length), move |(at, left)| {
        let file = file.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let size = left.min(PIECE as u64);
            let piece = match read(&file, at, size, Disk::Avoided) {
                Ok(piece) => piece,
                Err(_) => {
                    let read = tokio::task::spawn_blocking(move || read(&file, at, size, Disk::Waited));
                    read.await.map_err(io::Error::other)??
                }
            };
            Ok(Some((piece, (at + size, left - size))))
        }
    });
    BodyStream::new(Some(length), pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::refused;

    #[test]
    fn types_go_by_the_name() {
        for (name, want) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.JS", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.wasm", "application/wasm"),
            ("a.json", "application/json"),
            ("a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(media_type(Path::new(name)), want, "{name}");
        }
    }

    #[test]
    fn a_file_on_a_tmpfs_is_read_at_once() {
        let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
        std::io::Write::write_all(&mut file, b"in memory").unwrap();
        assert_eq!(read(&file, 3, 6, Disk::Avoided).unwrap(), "memory");
        let longer = read(&file, 3, 7, Disk::Avoided).unwrap_err();
        assert_eq!(longer.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_not_in_memory_is_left_to_a_thread_that_may_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..3 * PIECE).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        for (first, length) in [(0, PIECE), (100, 3 * PIECE - 100), (5, 0)] {
            let want = &content[first..first + length];
            match read(&file, first as u64, length as u64, Disk::Avoided) {
                Ok(bytes) => assert_eq!(bytes, want),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert_eq!(read(&file, first as u64, length as u64, Disk::Waited).unwrap(), want);
        }
        let end = content.len() as u64;
        assert_eq!(read(&file, end - 1, 2, Disk::Avoided).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(read(&file, end - 1, 2, Disk::Waited).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"root": "/nonexistent"}"#, "cannot read"),
            (r#"{"root": "Cargo.toml"}"#, "not a directory"),
            (r#"{"root": "src", "index": ["a", "b/c"]}"#, "`b/c` is not the name"),
            (r#"{"root": "src", "extensions": ".html"}"#, "`.html` is not the name"),
            (r#"{"root": "src", "fallback": "../x"}"#, "not below `root`"),
            (r#"{"root": "src", "fallback": "/x"}"#, "not below `root`"),
            (r#"{"root": "src", "cache_control": "a\nb"}"#, "cannot be the value"),
        ] {
            let problems = refused(&format!(r#"[{{"static_files": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
