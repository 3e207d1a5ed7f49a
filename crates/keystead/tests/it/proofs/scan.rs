//! A search through the memory of a process for secrets that the test knows.

use super::aes_schedule::{expand, invert};
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

const WINDOW: usize = 16;
const CHUNK: usize = 1 << 20;

/// Every 16-byte window of what must not be found.
#[derive(Default)]
pub(super) struct Wanted {
    windows: HashMap<u128, String>,
    /// Which first two bytes occur at all: most of memory is told apart by it.
    first: Vec<bool>,
}

/// A window that was found.
#[derive(Debug)]
#[allow(dead_code)] // read by the panic message of the test that fails
pub(super) struct Hit {
    what: String,
    mapping: String,
    address: u64,
}

fn window(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes.try_into().expect("sixteen bytes"))
}

/// Base64 without its last, partial group.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(LETTERS[(bits >> shift & 63) as usize]));
        }
    }
    text
}

impl Wanted {
    fn add(&mut self, what: &str, bytes: &[u8]) {
        self.first.resize(1 << 16, false);
        for slice in bytes.windows(WINDOW) {
            self.first[usize::from(u16::from_le_bytes([slice[0], slice[1]]))] = true;
            self.windows.insert(window(slice), what.to_owned());
        }
    }

    /// A secret as it is, in hexadecimal, and in base64 at its three offsets.
    pub(super) fn secret(&mut self, what: &str, bytes: &[u8]) {
        self.add(what, bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        self.add(&format!("{what} in hex"), hex.as_bytes());
        self.add(&format!("{what} in hex"), hex.to_ascii_uppercase().as_bytes());
        for offset in 0..3 {
            let text = base64(&bytes[offset..]);
            self.add(&format!("{what} in base64"), text.as_bytes());
        }
    }

    /// An AES-XTS key: both halves with their round keys, both directions.
    pub(super) fn xts_key(&mut self, what: &str, bytes: &[u8]) {
        self.secret(what, bytes);
        bytes.chunks_exact(32).for_each(|half| self.round_keys(what, half));
    }

    /// An AES-256 key with its round keys, both directions.
    pub(super) fn aes_key(&mut self, what: &str, bytes: &[u8]) {
        self.secret(what, bytes);
        self.round_keys(what, bytes);
    }

    fn round_keys(&mut self, what: &str, key: &[u8]) {
        let keys = expand(key.try_into().expect("32 bytes"));
        self.add(&format!("round keys of {what}"), &keys.concat());
        for key in invert(&keys) {
            self.add(&format!("inverse round keys of {what}"), &key);
        }
    }

    pub(super) fn find(&self, memory: &[u8]) -> Vec<(usize, &str)> {
        memory
            .windows(WINDOW)
            .enumerate()
            .filter(|(_, w)| self.first[usize::from(u16::from_le_bytes([w[0], w[1]]))])
            .filter_map(|(at, w)| Some((at, self.windows.get(&window(w))?.as_str())))
            .collect()
    }

    /// Searches everything that the process can read. What the kernel does not show (secret
    /// memory, device pages) counts into `unread`.
    pub(super) fn scan(&self, pid: i32) -> Scan {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the mappings");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory");
        let mut scan = Scan::default();
        let mut chunk = vec![0; CHUNK + WINDOW];
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let name = words.nth(3).unwrap_or("anonymous");
            if !rights.starts_with('r') || name.starts_with("[v") {
                continue;
            }
            let (from, to) = range.split_once('-').expect("a range");
            let end = |text| u64::from_str_radix(text, 16).expect("an address");
            let (mut at, to) = (end(from), end(to));
            while at < to {
                let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK + WINDOW - 1);
                let Ok(got) = memory.read_at(&mut chunk[..want], at) else {
                    scan.unread += to - at;
                    break;
                };
                if got == 0 {
                    break;
                }
                scan.read += got.min(CHUNK) as u64;
                for (offset, what) in self.find(&chunk[..got]) {
                    scan.hits.push(Hit {
                        what: what.to_owned(),
                        mapping: name.to_owned(),
                        address: at + offset as u64,
                    });
                }
                at += got.min(CHUNK) as u64;
            }
        }
        scan
    }
}

#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) hits: Vec<Hit>,
    pub(super) read: u64,
    pub(super) unread: u64,
}

#[test]
fn sixteen_bytes_are_found_in_every_spelling_and_fifteen_are_not() {
    let key: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
    let mut wanted = Wanted::default();
    wanted.xts_key("key", &key);
    let found = |middle: &[u8]| {
        let memory = [&[0xee; 100][..], middle, &[0xee; 100][..]].concat();
        !wanted.find(&memory).is_empty()
    };
    assert!(found(&key[11..27]) && !found(&key[11..26]));
    let hex: String = key[5..21].iter().map(|b| format!("{b:02x}")).collect();
    assert!(found(hex.as_bytes()) && found(hex.to_ascii_uppercase().as_bytes()));
    for offset in 0..3 {
        assert!(found(base64(&key[offset..offset + 24]).as_bytes()), "offset {offset}");
    }
    let half: [u8; 32] = key[32..].try_into().expect("32 bytes");
    assert!(found(&expand(&half)[9]) && found(&invert(&expand(&half))[4]));
    assert!(!found(&[0; 64]));
}
