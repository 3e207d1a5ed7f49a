//! Where plaintext keys live: one locked arena a process, handed out in slots.
//!
//! The arena is memfd_secret(2) where the kernel has it (then not even root reads it through
//! /proc or ptrace), else anonymous memory with mlock, DONTDUMP and WIPEONFORK. A slot is zeroed
//! when its key is dropped. There is no guard page a key: `max_map_count` would run out.
#![allow(unsafe_code)] // The arena is raw memory; every access goes through a slot held by one key.

use crate::random::{self, RandomError};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The longest key that fits a slot, in bytes.
pub const MAX_KEY_BYTES: usize = 128;
const DEFAULT_ARENA_BYTES: usize = 1 << 20;
const SCRUB_BYTES: usize = 512 << 10;

/// Which kind of memory the arena is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaMode {
    /// memfd_secret, or mlock where the kernel has none.
    Secret,
    /// mlock; a test can find the keys in it.
    Mlock,
}

/// Why key memory is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A kernel call failed.
    #[error("{0} failed")]
    Kernel(&'static str, #[source] std::io::Error),
    /// The arena was made before.
    #[error("the key arena exists already")]
    Exists,
    /// Every slot is taken.
    #[error("the key arena is full ({0} keys)")]
    Full(usize),
    /// The key does not fit a slot.
    #[error("a key of {0} bytes does not fit (1 to {MAX_KEY_BYTES})")]
    Size(usize),
    /// No randomness.
    #[error("no random bytes")]
    Random(#[from] RandomError),
}

struct Arena {
    base: *mut u8,
    mode: ArenaMode,
    slots: Mutex<Vec<bool>>,
}

// SAFETY: `base` is never moved or unmapped; a slot's bytes are touched only by the one DataKey
// that holds it, and slots are handed out under the mutex.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

static ARENA: OnceLock<Result<Arena, MemoryError>> = OnceLock::new();

/// Makes the arena; once, at the start of the process, and says which kind it came to be: a caller
/// that asked for secret memory has to tell when there is none. Without this call the first key
/// makes a secret arena of 1 MiB.
pub fn init_arena(mode: ArenaMode, bytes: usize) -> Result<ArenaMode, MemoryError> {
    let mut fresh = false;
    let made = ARENA.get_or_init(|| {
        fresh = true;
        Arena::map(mode, bytes)
    });
    match made {
        Err(MemoryError::Kernel(what, error)) => {
            Err(MemoryError::Kernel(what, std::io::Error::from(error.kind())))
        }
        _ if !fresh => Err(MemoryError::Exists),
        Ok(arena) => Ok(arena.mode),
        Err(_) => Err(MemoryError::Full(0)),
    }
}

/// Which kind of memory the arena is made of, once there is one.
pub fn arena_mode() -> Option<ArenaMode> {
    ARENA.get().and_then(|made| made.as_ref().ok()).map(|arena| arena.mode)
}

fn arena() -> Result<&'static Arena, MemoryError> {
    match ARENA.get_or_init(|| Arena::map(ArenaMode::Secret, DEFAULT_ARENA_BYTES)) {
        Ok(arena) => Ok(arena),
        Err(MemoryError::Kernel(what, error)) => {
            Err(MemoryError::Kernel(what, std::io::Error::from(error.kind())))
        }
        Err(_) => Err(MemoryError::Full(0)),
    }
}

fn last(what: &'static str) -> MemoryError {
    MemoryError::Kernel(what, std::io::Error::last_os_error())
}

impl Arena {
    fn map(mode: ArenaMode, bytes: usize) -> Result<Self, MemoryError> {
        let bytes = bytes.max(MAX_KEY_BYTES).next_multiple_of(4096);
        let secret = if mode == ArenaMode::Secret { Self::secret(bytes).ok() } else { None };
        let (base, mode) = match secret {
            Some(base) => (base, ArenaMode::Secret),
            None => (Self::locked(bytes)?, ArenaMode::Mlock),
        };
        Ok(Self { base, mode, slots: Mutex::new(vec![false; bytes / MAX_KEY_BYTES]) })
    }

    fn secret(bytes: usize) -> Result<*mut u8, MemoryError> {
        // SAFETY: plain system calls on a descriptor made here; the mapping is checked before use.
        unsafe {
            // The manual says FD_CLOEXEC; the kernel takes O_CLOEXEC alone.
            let fd = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) as libc::c_int;
            if fd < 0 {
                return Err(last("memfd_secret"));
            }
            let sized = libc::ftruncate(fd, bytes as libc::off_t);
            let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let base = libc::mmap(std::ptr::null_mut(), bytes, rights, kind, fd, 0);
            // A descriptor that a child inherits would map the keys again.
            libc::close(fd);
            if base == libc::MAP_FAILED {
                return Err(last("mmap of secret memory"));
            }
            // Shared memory would be the child's too.
            if sized != 0 || libc::madvise(base, bytes, libc::MADV_DONTFORK) != 0 {
                let error = last("sizing secret memory");
                libc::munmap(base, bytes);
                return Err(error);
            }
            Ok(base.cast())
        }
    }

    fn locked(bytes: usize) -> Result<*mut u8, MemoryError> {
        // SAFETY: an anonymous mapping made here, checked before use.
        unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), bytes, rights, kind, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(last("mmap"));
            }
            if libc::mlock(base, bytes) != 0 {
                return Err(last("mlock"));
            }
            for advice in [libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK] {
                if libc::madvise(base, bytes, advice) != 0 {
                    return Err(last("madvise"));
                }
            }
            Ok(base.cast())
        }
    }
}

/// Key bytes in the arena. No clone, no display; zeroed when dropped.
pub struct DataKey {
    slot: usize,
    len: usize,
}

impl DataKey {
    fn take(len: usize) -> Result<Self, MemoryError> {
        if len == 0 || len > MAX_KEY_BYTES {
            return Err(MemoryError::Size(len));
        }
        let mut slots = arena()?.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let all = slots.len();
        let slot = slots.iter().position(|taken| !taken).ok_or(MemoryError::Full(all))?;
        slots[slot] = true;
        Ok(Self { slot, len })
    }

    fn start(&self) -> *mut u8 {
        let arena = arena().expect("a key was taken from the arena");
        // SAFETY: `slot` is an index of the arena, so the sum stays inside the mapping.
        unsafe { arena.base.add(self.slot * MAX_KEY_BYTES) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: this key alone holds the slot, and `&mut self` excludes other views of it.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }

    /// Moves key bytes into the arena and wipes where they came from.
    pub fn from_slice_zeroizing(bytes: &mut [u8]) -> Result<Self, MemoryError> {
        let made = Self::take(bytes.len()).map(|mut key| {
            key.bytes_mut().copy_from_slice(bytes);
            key
        });
        zeroize::Zeroize::zeroize(bytes);
        made
    }

    /// A random key, made in place.
    pub fn random(len: usize) -> Result<Self, MemoryError> {
        let mut key = Self::take(len)?;
        random::fill(key.bytes_mut())?;
        Ok(key)
    }

    /// How long it is, in bytes.
    #[allow(clippy::len_without_is_empty)] // A key is never empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The key bytes: the one way to look inside.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: this key alone holds the slot, and nobody writes it behind a shared reference.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        // SAFETY: the whole slot lies in the mapping and belongs to this key.
        unsafe { libc::explicit_bzero(self.start().cast(), MAX_KEY_BYTES) };
        if let Ok(arena) = arena() {
            arena.slots.lock().unwrap_or_else(PoisonError::into_inner)[self.slot] = false;
        }
    }
}

/// Enough for the calls of [`wiped_after`]: a hash, no more.
const SMALL_BYTES: usize = 16 << 10;

/// Calls `f`, which uses little stack, and wipes what it left below this frame: for values of a
/// library that are keys, or say as much, and do not wipe themselves.
#[inline(never)]
pub(crate) fn wiped_after<T>(f: impl FnOnce() -> T) -> T {
    let out = below(f);
    scrub_small();
    out
}

#[inline(never)]
fn scrub_small() {
    let mut below = [0u8; SMALL_BYTES];
    // SAFETY: the buffer is a local of this frame.
    unsafe { libc::explicit_bzero(below.as_mut_ptr().cast(), below.len()) };
    std::hint::black_box(&mut below);
}

#[inline(never)]
fn scrub() {
    let mut below = [0u8; SCRUB_BYTES];
    // SAFETY: the buffer is a local of this frame.
    unsafe { libc::explicit_bzero(below.as_mut_ptr().cast(), below.len()) };
    std::hint::black_box(&mut below);
}

/// Calls `f` in a frame of its own, which lies where [`scrub`] wipes afterwards.
#[inline(never)]
fn below<T>(f: impl FnOnce() -> T) -> T {
    f()
}

/// Runs `f` on a thread of its own, scrubs that thread's stack, joins it. Whatever the compiler
/// spilled there is gone afterwards.
pub fn run_scrubbed<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            let out = below(f);
            scrub();
            out
        };
        let thread = std::thread::Builder::new()
            .name("key-call".to_owned())
            .stack_size(4 << 20)
            .spawn_scoped(scope, run)
            .expect("a thread can be made");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// No core dumps, and no reading of this process by others of the same user.
pub fn harden_process() -> Result<(), MemoryError> {
    // SAFETY: system calls that take integers and a local struct.
    unsafe {
        if libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 {
            return Err(last("prctl(PR_SET_DUMPABLE)"));
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::setrlimit(libc::RLIMIT_CORE, &none) != 0 {
            return Err(last("setrlimit(RLIMIT_CORE)"));
        }
    }
    Ok(())
}

/// The swap areas named in the text of /proc/swaps. Swap must be off, because this process cannot
/// tell whether an area is encrypted.
pub fn parse_swaps(proc_swaps: &str) -> Vec<String> {
    let rows = proc_swaps.lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_in_and_slots_come_back_zeroed() {
        let mut bytes = *b"sixteen byte key";
        let key = DataKey::from_slice_zeroizing(&mut bytes).expect("it fits");
        assert_eq!((key.expose(), bytes), (&b"sixteen byte key"[..], [0; 16]));
        assert_eq!(format!("{key:?}"), "DataKey");
        let (slot, start) = (key.slot, key.start());
        drop(key);
        // SAFETY: the arena stays mapped; another test may hold the slot again by now, but none
        // writes these bytes.
        let after = unsafe { std::slice::from_raw_parts(start, 16) };
        assert_ne!(after, b"sixteen byte key", "slot {slot} still holds the key");
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_and_still_wiped() {
        let mut long = [7u8; MAX_KEY_BYTES + 1];
        assert!(matches!(DataKey::from_slice_zeroizing(&mut long), Err(MemoryError::Size(129))));
        assert_eq!(long, [0; MAX_KEY_BYTES + 1]);
        assert!(matches!(DataKey::random(0), Err(MemoryError::Size(0))));
    }

    /// A flag that the kernel does not know would look like a kernel without secret memory.
    #[test]
    fn secret_memory_is_had_where_the_kernel_has_it() {
        match Arena::secret(4096) {
            Ok(_) => {
                let arena = Arena::map(ArenaMode::Secret, 4096).expect("an arena");
                assert_eq!(arena.mode, ArenaMode::Secret);
            }
            Err(MemoryError::Kernel(what, error)) => {
                // No such call, forbidden by a filter, or no room for it: anything but a wrong flag.
                assert_ne!(error.raw_os_error(), Some(libc::EINVAL), "{what}");
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn locked_memory_can_be_had_and_swaps_are_read() {
        let locked = Arena::map(ArenaMode::Mlock, 4096).expect("locked memory");
        assert_eq!(locked.mode, ArenaMode::Mlock);
        let key = DataKey::random(8).expect("key memory");
        assert!(arena_mode().is_some());
        drop(key);
        assert_eq!(run_scrubbed(|| 7), 7);
        let swaps = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n";
        assert_eq!(parse_swaps(swaps), ["/dev/sda2"]);
        assert!(parse_swaps("Filename Type Size Used Priority\n").is_empty());
    }
}
