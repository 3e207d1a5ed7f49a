//! The keys of a cluster's objects as stock tools learn them: a message's header names the wrapped
//! data key, `aws kms decrypt` unwraps it, and HKDF (RFC 5869) in Python's standard library makes the
//! message's key of it and of the message's id (docs/formats/object.md).

use super::keys::{aws, decrypt};
use super::scan::Wanted;
use super::unhex;
use crate::joint::stage::{Cluster, Stage};
use keystead_envelope::message::Header;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A line in is a data key and a message's id, a line out the message's key and its commitment.
const HKDF: &str = "
import hashlib, hmac, sys
for line in sys.stdin:
    key, salt = (bytes.fromhex(word) for word in line.split())
    root = hmac.digest(salt, key, 'sha512')
    make = lambda info: hmac.digest(root, info + b'\\x01', 'sha512')[:32].hex()
    print(make(b'\\x04\\x78DERIVEKEY'), make(b'COMMITKEY'))
";

/// What is known so far: wrapped data keys, and what stock `aws kms decrypt` made of them.
#[derive(Default)]
pub(super) struct DataKeys(BTreeMap<Vec<u8>, Vec<u8>>);

/// A message of the cluster.
struct Message {
    file: PathBuf,
    header: Header,
}

impl DataKeys {
    /// Unwraps those that are new, as the key's owner, with the key of the cluster's first Region.
    pub(super) fn learn(&mut self, stage: &Stage, cluster: &Cluster, folder: &Path) {
        for Message { header, .. } in messages(folder) {
            let mine = header.wrapped().iter().find(|w| w.key_arn == cluster.key_arn);
            let blob = &mine.expect("wrapped under the cluster's key").ciphertext;
            if self.0.contains_key(blob) {
                continue;
            }
            let pairs: Vec<_> = header.context().iter().map(|(n, v)| format!("{n}={v}")).collect();
            let key = decrypt(stage, cluster, &pairs.join(","), blob);
            assert_eq!(key.len(), 32);
            self.0.insert(blob.clone(), key);
        }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The data keys themselves.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (number, key) in self.0.values().enumerate() {
            wanted.aes_key(&format!("data key {number} of buckets"), key);
        }
        wanted
    }

    /// Adds the key of each message that lies below the folder; answers how many. Each is the right
    /// one: the message commits to what it was derived from.
    pub(super) fn derive(&self, wanted: &mut Wanted, cluster: &Cluster, folder: &Path) -> usize {
        let messages: Vec<(Message, &Vec<u8>)> = messages(folder)
            .into_iter()
            .filter_map(|message| {
                let mut wrapped = message.header.wrapped().iter();
                let mine = wrapped.find(|w| w.key_arn == cluster.key_arn)?;
                let key = self.0.get(&mine.ciphertext)?;
                Some((message, key))
            })
            .collect();
        let asked: String = messages
            .iter()
            .map(|(message, key)| format!("{} {}\n", hex(key), hex(message.header.id())))
            .collect();
        let answered = python(asked);
        assert_eq!(answered.lines().count(), messages.len());
        for ((Message { file, header }, _), line) in messages.iter().zip(answered.lines()) {
            let (key, commitment) = line.split_once(' ').expect("two words");
            let commitment = unhex(commitment);
            assert!(
                header.bytes().windows(32).any(|w| w == commitment),
                "{} commits to another key",
                file.display()
            );
            wanted.aes_key(&format!("key of {}", file.display()), &unhex(key));
        }
        messages.len()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn python(asked: String) -> String {
    let python = Path::new(&aws()).with_file_name("python3");
    let mut child = Command::new(python)
        .args(["-c", HKDF])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = child.stdin.take().expect("a stdin");
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let mut answered = String::new();
    child.stdout.take().expect("a stdout").read_to_string(&mut answered).expect("text");
    writer.join().expect("no panic").expect("all was asked");
    assert!(child.wait().expect("python ends").success());
    answered
}

/// Every message below a folder; a file that is replaced meanwhile is passed over.
fn messages(folder: &Path) -> Vec<Message> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && (name.starts_with("part") || name.starts_with("record")) {
                let Ok(bytes) = std::fs::read(entry.path()) else { continue };
                if let Ok(header) = Header::parse(&bytes) {
                    found.push(Message { file: entry.path(), header });
                }
            }
        }
    }
    found
}
