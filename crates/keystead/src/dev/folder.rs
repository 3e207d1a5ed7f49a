//! The data folder: `DIR/{VERSION, config, kms, control, node/<region>, hold, run, log}`. One
//! supervisor a folder, by flock.

use super::Place;
use super::role::Role;
use crate::failure::Failure;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const VERSION: &str = "1\n";

/// An open data folder, ours alone.
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    _lock: OwnedFd,
}

impl Folder {
    /// Makes what is missing and takes the lock.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        make(root)?;
        version(root)?;
        for name in ["config", "kms", "control", "node", "run", "log"] {
            make(&root.join(name))?;
        }
        for place in Place::ALL {
            make(&root.join("node").join(place.region()))?;
            make(&root.join(Role::Hold(place).name()))?;
        }
        let lock = lock(root)?.ok_or_else(|| {
            Failure::new(format!("{} is in use", root.display()))
                .why("another `keystead dev` runs over it")
                .fix(format!("keystead dev stop --data {}", root.display()))
        })?;
        write_private(&root.join("run/dev.pid"), &format!("{}\n", std::process::id()))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.root.join("config").join(name)
    }
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }
    /// After an orderly stop nobody is to be found under the old id.
    pub(crate) fn forget_supervisor(&self) {
        let _ = fs::remove_file(self.run("dev.pid"));
    }
}

/// The lock when it is free.
pub(crate) fn lock(root: &Path) -> Result<Option<OwnedFd>> {
    let path = root.join("run/dev.lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .with_context(|| format!("open {}", path.display()))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("lock {}", path.display())),
    }
}

/// True when the folder is one of ours.
pub(crate) fn is_ours(root: &Path) -> bool {
    fs::read_to_string(root.join("VERSION")).is_ok_and(|v| v == VERSION)
}

/// Said of a folder that is not.
pub(crate) fn foreign(root: &Path) -> Failure {
    Failure::new(format!("{} is not Keystead's", root.display()))
        .why("it has no VERSION file of this layout")
}

fn version(root: &Path) -> Result<()> {
    let path = root.join("VERSION");
    match fs::read_to_string(&path) {
        Ok(text) if text == VERSION => Ok(()),
        Ok(text) => {
            Err(Failure::new(format!("{} has layout version {}", root.display(), text.trim()))
                .why("this build knows version 1")
                .fix("use the build that wrote it, or another folder by --data DIR")
                .into())
        }
        Err(_) if fs::read_dir(root)?.next().is_none() => write_private(&path, VERSION),
        Err(_) => Err(Failure::new(format!("{} is not empty and not Keystead's", root.display()))
            .fix("name an empty folder by --data DIR")
            .into()),
    }
}

fn make(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

/// A whole file of mode 0600, or the old one: written aside under a name that nobody can guess or
/// plant, renamed into place, and the folder synced.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let context = || format!("write {}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let random = super::secrets::hex(8)?;
    let aside = folder.join(format!(".{}.{random}", name.to_string_lossy()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written.with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_folder_has_one_supervisor_and_one_layout() {
        let outer = tempfile::tempdir().expect("a folder");
        let root = outer.path().join("data");
        let first = Folder::open(&root).expect("it opens");
        assert!(is_ours(&root));
        assert_eq!(fs::metadata(&root).expect("it is there").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(root.join("VERSION")).expect("it is there").mode() & 0o777, 0o600);
        assert!(Folder::open(&root).is_err(), "a second supervisor was let in");
        drop(first);
        drop(Folder::open(&root).expect("it opens again"));
        fs::write(root.join("VERSION"), "2\n").expect("written");
        assert!(Folder::open(&root).is_err(), "a newer layout was opened");
        assert!(Folder::open(Path::new("/usr")).is_err(), "a foreign folder was taken");
    }

    #[test]
    fn a_private_file_is_0600_and_follows_no_planted_link() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("env");
        let victim = dir.path().join("victim");
        fs::write(&victim, "untouched").expect("written");
        std::os::unix::fs::symlink(&victim, dir.path().join("env.new")).expect("planted");
        fs::write(&path, "old, readable by all").expect("written");
        write_private(&path, "secret").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("text"), "secret");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&victim).expect("text"), "untouched");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 3, "nothing left aside");
        assert!(write_private(&dir.path().join("no/such/folder"), "x").is_err());
    }
}
