//! Files: where they lie, how they become durable, how they go.
//!
//! ```text
//! VERSION  index.redb  ballast
//! buckets/<bucket>/<key>/<version>/{part00001, record}    each a message (docs/formats/object.md)
//! pending/<random>                                        a link to what is not committed yet
//! incoming/<random>/                                      a replica that has not come whole yet
//! ```
//! Everything is written under a version that nothing refers to, is fsynced with its folders, and
//! only then committed in the index. `pending` names what is under way, so that a start after a
//! crash looks at that alone and not at every object.

mod ballast;
mod pending;
mod pins;
mod reaper;
mod stage;
mod strays;

pub(crate) use ballast::Ballast;
pub(crate) use pending::{Pending, leftovers};
pub(crate) use pins::{Pin, Pins};
pub(crate) use reaper::Reaper;
pub(crate) use stage::Stage;

use crate::error::StoreError;
use crate::name::{key_folder, key_of};
use crate::version::Version;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LAYOUT: &str = "1";
/// A folder may be pruned between its making and its use; so often it is made again.
const TRIES: usize = 100;

/// The folder of a store and what tidies it.
pub(crate) struct Disk {
    root: PathBuf,
    pub(crate) reaper: Reaper,
    pub(crate) pins: Arc<Pins>,
    pub(crate) ballast: Ballast,
    swept: AtomicU64,
}

impl Disk {
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in [root, &root.join("buckets"), &root.join("pending")] {
            fs::create_dir_all(folder)?;
        }
        check_layout(root)?;
        sync_folder(root)?;
        let reaper = Reaper::start(root.to_owned())?;
        let (ballast, swept) = (Ballast::new(root), AtomicU64::new(0));
        let root = root.to_owned();
        Ok(Self { root, reaper, pins: Arc::default(), ballast, swept })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what an earlier process was receiving; to be called once the folder is this one's.
    pub(crate) fn empty_stages(&self) -> io::Result<()> {
        stage::empty(&self.root)
    }

    pub(crate) fn count_swept(&self, things: u64) {
        self.swept.fetch_add(things, Ordering::Relaxed);
    }

    pub(crate) fn swept(&self) -> u64 {
        self.swept.load(Ordering::Relaxed)
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    /// A path below the root, as the index and links carry it.
    pub(crate) fn absolute(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Creates a file in a version's folder, which is made when missing. The folder may be pruned
    /// as empty between its making and its use, then it is made again.
    pub(crate) fn create(&self, version: &str, file: &str) -> io::Result<File> {
        let folder = self.absolute(version);
        for _ in 0..TRIES {
            fs::create_dir_all(&folder).or_else(again)?;
            match File::create_new(folder.join(file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Err(io::Error::other("a folder that goes as often as it is made"))
    }

    /// Makes a version's folder durable, and every folder above it up to the bucket's.
    pub(crate) fn sync_version(&self, relative: &str) -> io::Result<()> {
        let mut folder = PathBuf::from(relative);
        // buckets/<bucket> was made durable when the bucket was.
        while folder.components().count() > 1 {
            sync_folder(&self.root.join(&folder))?;
            folder.pop();
        }
        Ok(())
    }

    pub(crate) fn make_bucket(&self, bucket: &str) -> io::Result<()> {
        let folder = self.root.join("buckets");
        fs::create_dir_all(folder.join(bucket))?;
        sync_folder(&folder)
    }
}

fn again(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A path below the root, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Version,
    pub(crate) file: Option<String>,
}

impl Place {
    pub(crate) fn parse(relative: &str) -> Option<Self> {
        let (bucket, rest) = relative.strip_prefix("buckets/")?.split_once('/')?;
        let (above, last) = rest.rsplit_once('/')?;
        let (key, version, file) = match Version::parse(last) {
            Some(version) => (above, version, None),
            None => {
                let (key, version) = above.rsplit_once('/')?;
                (key, Version::parse(version)?, Some(last.to_owned()))
            }
        };
        Some(Self { bucket: bucket.to_owned(), key: key_of(Path::new(key))?, version, file })
    }
}

/// Where a version lies, below the root.
pub(crate) fn version_path(bucket: &str, key: &str, version: Version) -> String {
    format!("buckets/{bucket}/{}/{version}", key_folder(key).display())
}

/// Writes a new small file and makes it durable, but not its folder.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file or a whole folder, then the folders above it that are empty now, up to the
/// bucket's. What is gone already is no error.
pub(crate) fn remove(root: &Path, relative: &str) -> io::Result<()> {
    let path = root.join(relative);
    let gone = match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut above = PathBuf::from(relative);
    while above.pop() && above.components().count() > 2 {
        if fs::remove_dir(root.join(&above)).is_err() {
            break;
        }
    }
    Ok(())
}

fn check_layout(root: &Path) -> Result<(), StoreError> {
    let path = root.join("VERSION");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == LAYOUT => Ok(()),
        Ok(text) => Err(StoreError::Layout(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Whole or not there at all: half a version would refuse every later start.
            let new = root.join("VERSION.new");
            let _ = fs::remove_file(&new);
            write_new(&new, format!("{LAYOUT}\n").as_bytes())?;
            Ok(fs::rename(new, path)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let version = Version([0xab; 16]);
        let folder = version_path("docs", "a/../b", version);
        let place = |file: Option<&str>| Place {
            bucket: "docs".into(),
            key: "a/../b".into(),
            version,
            file: file.map(str::to_owned),
        };
        assert_eq!(Place::parse(&folder), Some(place(None)));
        assert_eq!(Place::parse(&format!("{folder}/record")), Some(place(Some("record"))));
        assert_eq!(Place::parse("buckets/docs/a"), None);
        assert_eq!(Place::parse("index.redb"), None);
    }
}
