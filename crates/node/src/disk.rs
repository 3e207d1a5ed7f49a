//! Small records on the node's own disk: written whole, durable before they are used.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file: temporary name, fsync, rename, fsync of the folder.
pub(crate) fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(io::Error::other)?;
    let folder = path.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Reads it back; `None` when there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_is_read_back_and_damage_is_not_absence() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b.json");
        assert_eq!(load::<Vec<u32>>(&path).expect("absent"), None);
        replace(&path, &vec![1, 2]).expect("written");
        replace(&path, &vec![3]).expect("written over");
        assert_eq!(load::<Vec<u32>>(&path).expect("there"), Some(vec![3]));
        fs::write(&path, "[").expect("damaged");
        assert!(load::<Vec<u32>>(&path).is_err());
    }
}
