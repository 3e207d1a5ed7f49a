//! A loader that costs little CPU of its own: heads that are signed already, one body for all, and
//! what comes back is counted, not kept.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) const CONNECTIONS: usize = 2;
pub(super) const SPAN: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 256 << 10;

/// Bytes that no server can compress or know, and their CRC64NVME as S3 writes it.
pub(super) struct Body {
    bytes: Vec<u8>,
    pub(super) checksum: String,
}

impl Body {
    pub(super) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let bytes: Vec<u8> = words.flatten().take(size).collect();
        let checksum = base64(&crc64nvme(&bytes).to_be_bytes());
        Self { bytes, checksum }
    }
}

/// Reflected, with ones before and after: https://reveng.sourceforge.io/crc-catalogue/17plus.htm
fn crc64nvme(bytes: &[u8]) -> u64 {
    let table: Vec<u64> = (0..256)
        .map(|byte| (0..8).fold(byte, |crc, _| (crc >> 1) ^ ((crc & 1) * 0x9a6c_9329_ac4b_c9b5)))
        .collect();
    !bytes
        .iter()
        .fold(!0, |crc, byte| (crc >> 8) ^ table[((crc ^ u64::from(*byte)) & 0xff) as usize])
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| (bits << 8) | usize::from(*piece.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let known = digit <= piece.len();
            text.push(if known {
                char::from(DIGITS[(bits >> (18 - 6 * digit)) & 63])
            } else {
                '='
            });
        }
    }
    text
}

/// Sends the requests over and over for a span; answers the bytes of bodies moved, and how long it
/// took. Every answer must be a success, and every GET's body `size` long.
pub(super) fn load(
    address: &str,
    heads: &[Vec<u8>],
    body: Option<&Body>,
    size: usize,
) -> Result<(u64, Duration)> {
    let moved = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let (moved, stop) = (&moved, &stop);
                scope.spawn(move || {
                    let own = heads.iter().skip(n).step_by(CONNECTIONS);
                    worker(address, own.cycle(), body, size, moved, stop)
                })
            })
            .collect();
        std::thread::sleep(SPAN);
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| bail!("a worker")))
    })?;
    Ok((moved.into_inner(), begun.elapsed()))
}

fn worker<'a>(
    address: &str,
    heads: impl Iterator<Item = &'a Vec<u8>>,
    body: Option<&Body>,
    size: usize,
    moved: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut stream = connect(address)?;
    let mut piece = vec![0; PIECE];
    for head in heads {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(head)?;
        if let Some(body) = body {
            stream.write_all(&body.bytes).context("send the body")?;
        }
        let (length, close) = answer(&mut stream, &mut piece)?;
        ensure!(body.is_some() || length == size, "a body of {length} bytes");
        moved.fetch_add(size as u64, Ordering::Relaxed);
        if close {
            stream = connect(address)?;
        }
    }
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    ensure!(address.starts_with("127."), "{address} is not this machine's own");
    let stream = TcpStream::connect(address).with_context(|| format!("dial {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads an answer to its end; says its body's length, and whether the connection ends with it.
fn answer(stream: &mut TcpStream, piece: &mut [u8]) -> Result<(usize, bool)> {
    let (mut have, mut end) = (0, None);
    while end.is_none() {
        let n = stream.read(&mut piece[have..])?;
        ensure!(n > 0, "the answer was cut");
        have += n;
        end = piece[..have].windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    }
    let end = end.unwrap_or(have);
    let head = String::from_utf8_lossy(&piece[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let length = field("content-length:").map_or(Ok(0), |length| length.trim().parse::<usize>())?;
    let ok = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    ensure!(ok, "{}", String::from_utf8_lossy(&piece[..have]));
    let mut left = length - (have - end).min(length);
    while left > 0 {
        let n = stream.read(piece)?;
        ensure!(n > 0, "the answer was cut");
        left -= n.min(left);
    }
    Ok((length, field("connection:").is_some_and(|value| value.trim() == "close")))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_checksum_is_the_catalogues() {
        assert_eq!(crc64nvme(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(base64(&[0, 1, 2, 3, 4, 5, 6, 7]), "AAECAwQFBgc=");
        assert_eq!(base64(b"abc"), "YWJj");
    }
}
