//! Names: of buckets, which are checked, and of keys, which may be anything and must become paths.
//!
//! A key becomes one folder name, reversibly. ASCII letters, digits and `-_.+=,@~` stand for
//! themselves, save a dot at the start of a name; every other byte is `%` and two hexadecimal
//! digits. What is longer than a name may be is cut into several folders, each but the last ending
//! in a lone `%`, which no escape does. So a key never leaves its bucket's folder, no two keys
//! share one, and `.`, `..`, `//` and hidden files are no names at all.

use crate::error::StoreError;
use crate::limits::MAX_KEY_BYTES;
use std::path::{Component, Path, PathBuf};

/// Bytes of one folder name before it is cut: NAME_MAX is 255.
const CUT: usize = 240;

/// S3's rule for new buckets: 3 to 63 of lower case, digits, hyphen and dot, letter or digit at
/// both ends, no two dots together, not an address.
pub(crate) fn check_bucket(name: &str) -> Result<(), StoreError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = |c: Option<&u8>| c.is_some_and(|c| plain(*c));
    let bytes = name.as_bytes();
    let good = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|c| plain(*c) || matches!(c, b'-' | b'.'))
        && ends(bytes.first())
        && ends(bytes.last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if good { Ok(()) } else { Err(StoreError::InvalidBucketName) }
}

/// S3's rule for keys.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        other => Err(StoreError::InvalidKey(other)),
    }
}

/// The folder of a key, below its bucket's.
pub(crate) fn key_folder(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let mut name = String::new();
    for byte in key.bytes() {
        // An escape is never cut apart, and a name may grow by the mark of the cut.
        if name.len() + 3 > CUT {
            name.push('%');
            path.push(std::mem::take(&mut name));
        }
        let stands = byte.is_ascii_alphanumeric() || b"-_.+=,@~".contains(&byte);
        if stands && !(byte == b'.' && name.is_empty()) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    path.push(name);
    path
}

/// The key of a folder that [`key_folder`] made; `None` for any other, and for one that is cut.
pub(crate) fn key_of(folder: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    for part in folder.components() {
        let Component::Normal(name) = part else { return None };
        let mut rest = name.to_str()?;
        while let Some((before, escape)) = rest.split_once('%') {
            bytes.extend_from_slice(before.as_bytes());
            rest = escape;
            if !rest.is_empty() {
                bytes.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
        }
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|key| key_folder(key) == folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_keys_stay_readable_and_odd_ones_stay_inside() {
        for (key, path) in [
            ("photo.jpg", "photo.jpg"),
            ("a/b c", "a%2Fb%20c"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("/", "%2F"),
            ("a//b/", "a%2F%2Fb%2F"),
            ("%41", "%2541"),
            ("ä", "%C3%A4"),
            ("\0", "%00"),
        ] {
            assert_eq!(key_folder(key), Path::new(path));
            assert_eq!(key_of(Path::new(path)).as_deref(), Some(key));
        }
    }

    #[test]
    fn bucket_names_are_s3s() {
        for good in ["abc", "a-b.c1", "documents-0190"] {
            assert!(check_bucket(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["ab", "Abc", "a..b", "-ab", "ab-", "a_b", "192.168.0.1", "a/b", long.as_str()] {
            assert!(check_bucket(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back_and_every_name_fits(key in "(\\PC|[./%\\x00]){1,400}") {
            let path = key_folder(&key);
            prop_assert_eq!(key_of(&path), Some(key));
            // Part of a long key's path is no key's path.
            if path.components().count() > 1 {
                prop_assert_eq!(path.parent().and_then(key_of), None);
            }
            for part in path.components() {
                let name = part.as_os_str().to_str().expect("ASCII");
                prop_assert!(matches!(part, Component::Normal(_)) && name.len() <= 255);
                prop_assert!(!name.starts_with('.'));
            }
        }
    }
}
