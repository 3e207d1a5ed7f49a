//! The sealed files of both Regions, compared.

use super::{Pair, SECOND};
use crate::joint::stage::REGION;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folders of what is gone are cleared behind the answers.
const TIDIED: Duration = Duration::from_secs(30);

/// Waits until both Regions have the same files, and holds each against its replica, byte for byte;
/// answers how many there are.
pub(crate) fn same(pair: &Pair) -> usize {
    let folders = [REGION, SECOND].map(|region| pair.folder(region).join("buckets"));
    let listed = || folders.each_ref().map(|folder| files(folder));
    let begun = std::time::Instant::now();
    let files = loop {
        let [first, second] = listed();
        if first == second {
            break first;
        }
        let odd: Vec<_> = first.iter().filter(|(path, n)| second.get(*path) != Some(n)).collect();
        let extra: Vec<_> = second.iter().filter(|(path, n)| first.get(*path) != Some(n)).collect();
        assert!(begun.elapsed() < TIDIED, "in one Region only: {odd:?}, in the other: {extra:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    for path in files.keys() {
        let [first, second] =
            folders.each_ref().map(|folder| std::fs::read(folder.join(path)).expect("readable"));
        assert!(first == second, "{} differs from what it is a replica of", path.display());
    }
    files.len()
}

/// Parts and records below a folder, by their path in it, and their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                let below = entry.path().strip_prefix(folder).expect("below").to_owned();
                found.insert(below, meta.len());
            }
        }
    }
    found
}
