//! HMAC-SHA-256 and PBKDF2 as this crate uses them.

use crate::memory::wiped_after;
use aws_lc_rs::{hmac, pbkdf2};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// HMAC-SHA-256(key, parts joined), on the heap: a move of an array would leave a copy behind. What
/// the library leaves on the stack (tag, contexts) is wiped.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(vec![0; 32]);
    wiped_after(|| tag_into(&mut out, key, parts));
    out
}

fn tag_into(out: &mut [u8], key: &[u8], parts: &[&[u8]]) {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    out.copy_from_slice(context.sign().as_ref());
}

/// PBKDF2-HMAC-SHA-256.
pub(crate) fn pbkdf2_sha256(secret: &[u8], salt: &[u8], iterations: NonZeroU32, out: &mut [u8]) {
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, secret, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const MASK: u8 = 0x5a;

    /// How often 16 bytes, told masked, lie in the 64 KiB of stack below `above`.
    #[inline(never)]
    fn found_below(above: usize, masked: &[u8; 32]) -> usize {
        let mut stack = vec![0u8; 64 << 10];
        let from = (above - stack.len()) as u64;
        let memory = File::open("/proc/self/mem").expect("own memory");
        memory.read_exact_at(&mut stack, from).expect("own stack");
        let half = &masked[..16];
        stack.windows(16).filter(|w| w.iter().zip(half).all(|(a, b)| a ^ MASK == *b)).count()
    }

    /// Calls `f` below eight KiB that the scan's own frames do not reach.
    #[inline(never)]
    fn deeper<T>(f: impl FnOnce() -> T) -> T {
        let mut room = [0u8; 8 << 10];
        std::hint::black_box(&mut room);
        let out = f();
        std::hint::black_box(&mut room);
        out
    }

    #[inline(never)]
    fn plant(masked: &[u8; 32]) {
        let mut local = masked.map(|b| b ^ MASK);
        std::hint::black_box(&mut local);
    }

    #[inline(never)]
    fn masked(wiped: bool) -> [u8; 32] {
        let (key, parts) = (b"a key of some length", [&b"one"[..], b"two"]);
        let mac = if wiped {
            hmac_sha256(key, &parts)
        } else {
            let mut mac = Zeroizing::new(vec![0; 32]);
            tag_into(&mut mac, key, &parts);
            mac
        };
        std::array::from_fn(|i| mac[i] ^ MASK)
    }

    /// What is found after a call, on a thread of its own so that nobody else's frames lie there.
    fn left_by(call: fn(&[u8; 32])) -> usize {
        let looked = std::thread::spawn(move || {
            let mut here = [1u8; 96 << 10];
            std::hint::black_box(&mut here);
            let known = masked(true);
            deeper(|| call(&known));
            found_below(std::ptr::from_ref(&here) as usize, &known)
        });
        looked.join().expect("looked")
    }

    #[test]
    fn no_tag_is_left_on_the_stack() {
        assert!(left_by(plant) > 0, "the scan finds what is there");
        let bare = left_by(|_| {
            std::hint::black_box(masked(false));
        });
        let wiped = left_by(|_| {
            std::hint::black_box(masked(true));
        });
        assert_eq!(wiped, 0, "left after a wiped call; {bare} after one that is not");
    }
}
