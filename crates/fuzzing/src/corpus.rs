//! The committed inputs of a target, and the words in them.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What breaks readers: ends of ranges, escapes, brackets, wildcards.
const SHARP: [&[u8]; 28] = [
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\n",
    b"\r\n",
    b" ",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"0.1",
    b"9223372036854775808",
    b"18446744073709551615",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"%00",
    b"%FF",
    b"*",
    b"?",
    b"${*}",
    b"${aws:PrincipalArn}",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\x80\0\0\0\0",
];

pub(crate) struct Corpus {
    /// Name and bytes, in order of names.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Runs of letters and digits, of the files, and [`SHARP`].
    pub(crate) words: Vec<Vec<u8>>,
}

impl Corpus {
    pub(crate) fn read(name: &str) -> Self {
        // Of the crate that is tested, as cargo says now: clones may share one target folder.
        let tested = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let folder = tested.join("../../fuzz/corpus").join(name);
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("no corpus in {}: {e}", folder.display()));
        let mut files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| {
                let path = entry.expect("a folder that can be listed").path();
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (file, std::fs::read(&path).expect("a file of the corpus"))
            })
            .collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus in {} is empty", folder.display());
        let mut words: BTreeSet<&[u8]> = SHARP.into_iter().collect();
        for (_, bytes) in &files {
            words.extend(
                bytes
                    .split(|b| !b.is_ascii_alphanumeric())
                    .filter(|word| (2..=64).contains(&word.len())),
            );
        }
        let words = words.into_iter().map(<[u8]>::to_vec).collect();
        Self { files, words }
    }
}
