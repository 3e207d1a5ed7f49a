//! The image file of a volume: a LUKS2 header area, then ciphertext from 16 MiB on, sparse.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 16 MiB | LUKS2 header area, as `envelope::luks2` formats it |
//! | 16 MiB | volume size | 4096-byte sectors of ciphertext; a hole is a sector never written |
//!
//! Payload I/O is direct and aligned, so that no second cache holds the tenant's blocks and
//! fdatasync has only the disk to wait for. The open image is locked (flock): a successor waits
//! until the last system call of its predecessor has ended, so a slow old write cannot land on a
//! newer block. This file sees ciphertext only, and answers a failing disk with the disk's own
//! errno.

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Unit of encryption and of every I/O on the image.
pub const SECTOR: usize = 4096;
/// Where the payload begins.
pub const PAYLOAD_OFFSET: u64 = 16 << 20;
/// Bound of XTS by IEEE 1619, on the whole image.
pub const MAX_IMAGE_BYTES: u64 = 1 << 48;

const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Why an image cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk refused.
    #[error("{call} {path}: {source}", path = path.display())]
    Io {
        /// What was done.
        call: &'static str,
        /// To which file.
        path: PathBuf,
        /// The disk's answer.
        source: std::io::Error,
    },
    /// A volume is whole sectors, at least one, below the bound of XTS.
    #[error(
        "{0} bytes is no volume size: it must be a multiple of 4096, above 0 and below 2^48 less 16 MiB"
    )]
    Size(u64),
    /// The header area is longer than the room before the payload.
    #[error("the header takes {0} bytes, {PAYLOAD_OFFSET} are reserved")]
    Header(usize),
    /// Never overwritten: it may be the only copy.
    #[error("{} exists already; an image is never overwritten", .0.display())]
    Exists(PathBuf),
    /// Another process serves it.
    #[error("{} is still open in another process", .0.display())]
    Busy(PathBuf),
}

fn fault(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { call, path, source }
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    fd: OwnedFd,
    path: PathBuf,
    size: u64,
}

impl Image {
    /// Makes an image of `size` payload bytes under `header` (written at 0): under a temporary name
    /// in the same folder, fsynced, renamed, the folder fsynced. An existing image is refused.
    pub fn create(path: &Path, size: u64, header: &[u8]) -> Result<(), ImageError> {
        if size == 0
            || !size.is_multiple_of(SECTOR as u64)
            || size >= MAX_IMAGE_BYTES - PAYLOAD_OFFSET
        {
            return Err(ImageError::Size(size));
        }
        if header.len() as u64 > PAYLOAD_OFFSET {
            return Err(ImageError::Header(header.len()));
        }
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let temporary = folder.join(name);
        let made = write_new(&temporary, size, header).and_then(|()| publish(&temporary, path));
        if made.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        made?;
        let dir = File::open(folder).map_err(fault("open", folder))?;
        dir.sync_all().map_err(fault("fsync", folder))
    }

    /// Opens an image for serving and locks it; waits up to five seconds for a predecessor's end.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
            // A file system without direct I/O: the cache then holds ciphertext, no harm but cost.
            Err(Errno::INVAL) => rustix::fs::open(path, flags, Mode::empty()),
            other => other,
        };
        let fd = opened.map_err(|e| fault("open", path)(e.into()))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Errno::WOULDBLOCK) => return Err(ImageError::Busy(path.to_owned())),
                Err(e) => return Err(fault("flock", path)(e.into())),
            }
        }
        let length = rustix::fs::fstat(&fd).map_err(|e| fault("stat", path)(e.into()))?.st_size;
        let size = u64::try_from(length).unwrap_or(0).saturating_sub(PAYLOAD_OFFSET);
        if size == 0 || !size.is_multiple_of(SECTOR as u64) {
            return Err(ImageError::Size(size));
        }
        Ok(Self { fd, path: path.to_owned(), size })
    }

    /// Bytes of payload.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header area (16 MiB).
    pub fn read_header(&self) -> Result<Vec<u8>, ImageError> {
        read_header(&self.path)
    }

    /// Bytes of disk that the image takes (holes take none).
    pub fn allocated(&self) -> Result<u64, ImageError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| fault("stat", &self.path)(e.into()))?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    /// Reads ciphertext at a payload offset; both aligned to sectors.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buf.len() {
            let at = PAYLOAD_OFFSET + offset + done as u64;
            match rustix::io::pread(&self.fd, &mut buf[done..], at) {
                Ok(0) => return Err(Errno::IO), // somebody cut the file short
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes ciphertext at a payload offset; both aligned to sectors.
    pub(crate) fn write(&self, offset: u64, buf: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buf.len() {
            let at = PAYLOAD_OFFSET + offset + done as u64;
            match rustix::io::pwrite(&self.fd, &buf[done..], at) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Punches a hole; both aligned to sectors.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.fd, flags, PAYLOAD_OFFSET + offset, len) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Makes everything written durable.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.fd)
    }
}

/// Reads the header area of an image without opening it for service.
pub fn read_header(path: &Path) -> Result<Vec<u8>, ImageError> {
    let file = File::open(path).map_err(fault("open", path))?;
    let mut header = vec![0; PAYLOAD_OFFSET as usize];
    file.read_exact_at(&mut header, 0).map_err(fault("read", path))?;
    Ok(header)
}

fn write_new(path: &Path, size: u64, header: &[u8]) -> Result<(), ImageError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(fault("create", path))?;
    file.write_all(header).map_err(fault("write", path))?;
    file.set_len(PAYLOAD_OFFSET + size).map_err(fault("ftruncate", path))?;
    file.sync_all().map_err(fault("fsync", path))
}

fn publish(temporary: &Path, path: &Path) -> Result<(), ImageError> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, temporary, cwd, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(ImageError::Exists(path.to_owned())),
        Err(e) => Err(fault("rename", path)(e.into())),
    }
}
