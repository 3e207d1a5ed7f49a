//! What lies in a bucket's folder, for a scrub to compare with the index.

use super::{Disk, Place, leftovers};
use crate::version::Version;
use std::fs;
use std::io;

impl Disk {
    /// Calls `each` with every version's folder and every file in one, below the root.
    pub(crate) fn walk<E: From<io::Error>>(
        &self,
        bucket: &str,
        each: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut folders = vec![format!("buckets/{bucket}")];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.absolute(&folder)) {
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let path = format!("{folder}/{name}");
                match entry.file_type()?.is_dir() {
                    true if Version::parse(name).is_some() && Place::parse(&path).is_some() => {
                        each(&path)?;
                        folders.push(path);
                    }
                    true => folders.push(path),
                    false => each(&path)?,
                }
            }
        }
        Ok(())
    }

    /// Is this path, or the version's folder that it lies in, being written?
    pub(crate) fn is_pending(&self, path: &str) -> io::Result<bool> {
        let inside = |target: &str| {
            path == target || path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
        };
        Ok(leftovers(&self.root)?
            .iter()
            .any(|(_, target)| inside(target) || target.starts_with(path)))
    }
}
