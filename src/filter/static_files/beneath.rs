//! Opening what is beneath a directory, and nothing else: the kernel resolves the path and refuses to leave.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::Disk;

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    File(File, Metadata),
    Directory,
}

/// The directory that everything is beneath, as it is now: a link to it may lead elsewhere for the next request.
pub(super) fn enter(root: &Path, disk: Disk) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(match disk {
        Disk::Avoided => openat2(CWD, root, flags, Mode::empty(), ResolveFlags::CACHED).map_err(|error| match error {
            // Neither do old kernels know the flag, nor some containers' rules the call.
            Errno::INVAL | Errno::NOSYS | Errno::PERM => Errno::WOULDBLOCK,
            error => error,
        }),
        Disk::Waited => openat(CWD, root, flags, Mode::empty()),
    }?)
}

/// Not waiting for a writer where the path is a pipe.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A change of directories beside us may have looked like an escape: the kernel asks to try again.
const TRIES: usize = 4;

/// Opens a path beneath the directory. `None` where there is nothing that may be served: nothing at all, something
/// that is neither a file nor a directory, that we may not read, or that a link leads out to.
pub(super) fn find(root: &OwnedFd, path: &Path, disk: Disk) -> io::Result<Option<Found>> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |resolve| openat2(root, this(path), READ, Mode::empty(), resolve);
    if disk == Disk::Avoided {
        return match open(beneath | ResolveFlags::CACHED) {
            // An empty name is invalid, too, and is none here.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => Err(Errno::WOULDBLOCK.into()),
            opened => found(opened),
        };
    }
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        opened = open(beneath);
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
    }
    match opened {
        // Kernels before 5.6, and containers whose rules are older than that.
        Err(Errno::NOSYS | Errno::PERM) => found(step_by_step(root, path)),
        opened => found(opened),
    }
}

/// The same without the kernel's help, following no link at all. The path has no `..` in it.
fn step_by_step(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let directory = path.parent().unwrap_or(Path::new(""));
    for name in directory {
        at = Some(openat(at.as_ref().unwrap_or(root), name, step, Mode::empty())?);
    }
    let name = path.file_name().unwrap_or(OsStr::new("."));
    openat(at.as_ref().unwrap_or(root), name, READ | OFlags::NOFOLLOW, Mode::empty())
}

fn this(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn found(opened: rustix::io::Result<OwnedFd>) -> io::Result<Option<Found>> {
    let file = match opened {
        Ok(file) => File::from(file),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ACCESS
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::INVAL,
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = file.metadata()?;
    Ok(match facts.is_dir() {
        true => Some(Found::Directory),
        false => facts.is_file().then(|| Found::File(file, facts)),
    })
}

/// A request's path as one beneath the directory, and whether it ends with a slash. `None` for what can be no file of
/// ours: a name with a slash or a NUL in it, and unless `hidden`, one that begins with a dot, but for `.well-known`.
pub(super) fn relative(path: &str, hidden: bool) -> Option<(PathBuf, bool)> {
    let path = path.strip_prefix('/')?;
    let (path, slash) = match path.strip_suffix('/') {
        Some("") => return None,
        Some(path) => (path, true),
        None => (path, path.is_empty()),
    };
    let mut out = PathBuf::new();
    for segment in path.split('/').filter(|_| !path.is_empty()) {
        let name: Vec<u8> = percent_decode_str(segment).collect();
        let dots = name.starts_with(b".") && !(hidden || name == b".well-known");
        if dots || name.is_empty() || matches!(&name[..], b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return None;
        }
        out.push(OsStr::from_bytes(&name));
    }
    Some((out, slash))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::fs::symlink,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_requests_path_is_one_beneath_or_none() {
        for (path, hidden, want) in [
            ("/", false, Some(("", true))),
            ("/a/b.txt", false, Some(("a/b.txt", false))),
            ("/a/", false, Some(("a", true))),
            ("/a%20b%C3%BC", false, Some(("a bü", false))),
            ("/.well-known/x", false, Some((".well-known/x", false))),
            ("/.env", false, None),
            ("/.env", true, Some((".env", false))),
            ("/a/%2egit/config", false, None),
            ("/..", true, None),
            ("/%2e%2e/x", true, None),
            ("/.", true, None),
            ("/a%2fb", false, None),
            ("/a%00", false, None),
            ("/a//b", false, None),
            ("//", false, None),
            ("*", false, None),
        ] {
            let found = relative(path, hidden);
            let want = want.map(|(path, slash)| (PathBuf::from(path), slash));
            assert_eq!(found, want, "{path}");
        }
    }

    /// A tree with files inside and outside, and links of every kind.
    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("sub/deep")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("sub/file"), "inside").unwrap();
        symlink("../../secret", root.join("sub/out")).unwrap();
        symlink(directory.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("sub", root.join("link")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        directory
    }

    #[test]
    fn nothing_leads_out() {
        let directory = tree();
        let root = enter(&directory.path().join("root"), Disk::Waited).unwrap();
        let began = Instant::now();
        for path in ["sub/out", "absolute", "up/secret", "../secret", "/etc/passwd", "loop", "pipe", "none", "sub/file/x"] {
            assert!(find(&root, Path::new(path), Disk::Waited).unwrap().is_none(), "{path}");
            match find(&root, Path::new(path), Disk::Avoided) {
                Ok(found) => assert!(found.is_none(), "{path}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{path}: {error}"),
            }
        }
        assert!(began.elapsed() < Duration::from_secs(5), "a pipe is not waited for");
        for path in ["sub/file", "link/file"] {
            let Some(Found::File(mut file, facts)) = find(&root, Path::new(path), Disk::Waited).unwrap() else {
                panic!("{path}")
            };
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), facts.len()), ("inside", 6));
        }
        for path in ["", "sub", "link", "sub/deep"] {
            assert!(matches!(find(&root, Path::new(path), Disk::Waited).unwrap(), Some(Found::Directory)), "{path}");
        }
        assert!(enter(&directory.path().join("root/sub/file"), Disk::Waited).is_err());
    }

    #[test]
    fn without_the_kernels_help_no_link_is_followed() {
        let directory = tree();
        let root = enter(&directory.path().join("root"), Disk::Waited).unwrap();
        let look = |path: &str| found(step_by_step(&root, Path::new(path))).unwrap();
        for path in ["sub/out", "absolute", "up/secret", "loop", "pipe", "none", "sub/file/x", "link/file", "link"] {
            assert!(look(path).is_none(), "{path}");
        }
        assert!(matches!(look("sub/file"), Some(Found::File(..))));
        assert!(matches!((look(""), look("sub/deep")), (Some(Found::Directory), Some(Found::Directory))));
    }
}
