//! Small safe functions over what Linux offers for block devices and mounts: loop devices, dirty
//! limits, FIFREEZE, mounts, the abort file of FUSE.
//!
//! Nothing here knows a key, a volume or a cluster. No function calls sync(2), and none stats a
//! FUSE mount (that hangs when nobody serves it): devices are read from mountinfo.
#![allow(unsafe_code)] // ioctl(2) has no safe form; each block below says why it is sound.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A call to the kernel that failed.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// The kernel refused.
    #[error("{call} {path}: {source}", path = path.display())]
    Call {
        /// What was asked.
        call: &'static str,
        /// What it was asked of.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
    /// Nothing is mounted there.
    #[error("{} is not a mount point of this namespace", .0.display())]
    NotMounted(PathBuf),
    /// No loop device became free.
    #[error("no loop device could be had: others took each one that was free")]
    NoLoop,
}

impl SysError {
    /// The errno, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Call { source, .. } => source.raw_os_error(),
            Self::NotMounted(_) | Self::NoLoop => None,
        }
    }
}

fn fault(call: &'static str, path: &Path) -> impl FnOnce(Errno) -> SysError {
    let path = path.to_owned();
    move |e| SysError::Call { call, path, source: e.into() }
}

fn io_fault(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SysError {
    let path = path.to_owned();
    move |source| SysError::Call { call, path, source }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, SysError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(fault("open", path))
}

/// An ioctl whose argument is a plain number or ignored.
fn ioctl_value(fd: BorrowedFd<'_>, request: u64, value: libc::c_ulong) -> Result<i32, Errno> {
    // SAFETY: every request passed by this module takes its argument by value (or ignores it), so
    // the kernel reads and writes no memory of ours; the descriptor is borrowed and thus open.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, value) };
    if got < 0 { Err(last_errno()) } else { Ok(got) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

// ---------------------------------------------------------------------------------------------
// Loop devices

const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CLR_FD: u64 = 0x4C01;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Logical block size of every loop device made here: one sector of the image.
pub const LOOP_BLOCK_SIZE: u32 = 4096;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

/// A loop device: where it is and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: PathBuf,
    /// Major number (7).
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl LoopDevice {
    fn numbered(minor: u32) -> Self {
        Self { path: PathBuf::from(format!("/dev/loop{minor}")), major: 7, minor }
    }

    fn bdi(&self) -> PathBuf {
        PathBuf::from(format!("/sys/class/bdi/{}:{}", self.major, self.minor))
    }

    /// The kernel's number of what the device holds now; each attach has its own.
    pub fn sequence(&self) -> Result<u64, SysError> {
        let path = PathBuf::from(format!("/sys/block/loop{}/diskseq", self.minor));
        let text = fs::read_to_string(&path).map_err(io_fault("read", &path))?;
        let what = std::io::ErrorKind::InvalidData;
        text.trim().parse().map_err(|_| io_fault("read", &path)(what.into()))
    }
}

/// Puts a loop device over a file: direct I/O (no second page cache, so no second plaintext copy),
/// 4096-byte logical blocks, autoclear off. The file must be served: opening it waits for its
/// server, and udev may read the new device at once.
pub fn attach_loop(backing: &Path) -> Result<LoopDevice, SysError> {
    let file = open(backing, OFlags::RDWR | OFlags::DIRECT)?;
    let control_path = Path::new("/dev/loop-control");
    let control = open(control_path, OFlags::RDWR)?;
    // Between GET_FREE and CONFIGURE somebody else may take the device: EBUSY, ask again.
    for _ in 0..64 {
        let number = ioctl_value(control.as_fd(), LOOP_CTL_GET_FREE, 0)
            .map_err(fault("LOOP_CTL_GET_FREE", control_path))?;
        let device = LoopDevice::numbered(u32::try_from(number).map_err(|_| SysError::NoLoop)?);
        let node = open_loop_node(&device.path)?;
        match configure_loop(node.as_fd(), file.as_fd(), backing) {
            Ok(()) => return Ok(device),
            Err(Errno::BUSY) => continue,
            Err(e) => return Err(fault("LOOP_CONFIGURE", &device.path)(e)),
        }
    }
    Err(SysError::NoLoop)
}

/// The node of a device that LOOP_CTL_GET_FREE just made appears a moment later (devtmpfs).
fn open_loop_node(path: &Path) -> Result<OwnedFd, SysError> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT | Errno::NXIO) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(fault("open", path)(e)),
        }
    }
}

fn configure_loop(node: BorrowedFd<'_>, file: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    let mut file_name = [0u8; 64];
    let bytes = name.as_os_str().as_encoded_bytes();
    let n = bytes.len().min(63);
    file_name[..n].copy_from_slice(&bytes[..n]);
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?,
        block_size: LOOP_BLOCK_SIZE,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_DIRECT_IO,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which `LoopConfig` mirrors (size and
    // order asserted above); it lives until the call returns and the kernel does not write to it.
    let got =
        unsafe { libc::ioctl(node.as_raw_fd(), LOOP_CONFIGURE as libc::Ioctl, &raw const config) };
    if got < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Takes a loop device off its file; a device that has none is fine.
pub fn detach_loop(device: &LoopDevice) -> Result<(), SysError> {
    let node = open(&device.path, OFlags::RDONLY)?;
    match ioctl_value(node.as_fd(), LOOP_CLR_FD, 0) {
        Ok(_) | Err(Errno::NXIO) => Ok(()),
        Err(e) => Err(fault("LOOP_CLR_FD", &device.path)(e)),
    }
}

/// Every loop device in use, with the name of its backing file as the kernel shows it.
pub fn loops() -> Result<Vec<(LoopDevice, PathBuf)>, SysError> {
    let block = Path::new("/sys/block");
    let mut found = Vec::new();
    for entry in fs::read_dir(block).map_err(io_fault("read", block))?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("loop")).map(str::parse::<u32>);
        if let Some(Ok(minor)) = number
            && let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file"))
        {
            found.push((LoopDevice::numbered(minor), PathBuf::from(file.trim_end())));
        }
    }
    Ok(found)
}

// ---------------------------------------------------------------------------------------------
// Dirty limits

/// The smallest limit that is set: below it a writer crawls.
pub const DIRTY_FLOOR: u64 = 8 << 20;

fn bdi_write(device: &LoopDevice, knob: &str, value: &str) -> Result<(), SysError> {
    let path = device.bdi().join(knob);
    fs::write(&path, value).map_err(io_fault("write", &path))
}

/// Bounds the dirty pages of a device, so that FIFREEZE has little to write. To be set at every
/// attach: the values belong to the loop node and survive its detach.
pub fn limit_dirty(device: &LoopDevice, max_bytes: u64) -> Result<(), SysError> {
    // Without strict_limit the kernel ignores max_bytes while the machine has few dirty pages.
    bdi_write(device, "strict_limit", "1")?;
    bdi_write(device, "max_bytes", &max_bytes.max(DIRTY_FLOOR).to_string())
}

/// Lifts the bound: right after `cgroup.freeze` (else a writer throttled inside write(2) never
/// freezes), and at detach, which leaves the node as the kernel made it.
pub fn lift_dirty(device: &LoopDevice) -> Result<(), SysError> {
    bdi_write(device, "max_ratio", "100")?;
    bdi_write(device, "strict_limit", "0")
}

// ---------------------------------------------------------------------------------------------
// Freeze and thaw

const FIFREEZE: u64 = 0xC004_5877;
const FITHAW: u64 = 0xC004_5878;

/// What FITHAW found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thawed {
    /// It was frozen and is no more.
    Now,
    /// It was not frozen.
    Already,
}

/// FIFREEZE: blocks until the file system is clean on its device; hangs when the gate below is
/// closed. Call it on a thread of its own.
pub fn freeze_fs(mount_point: &Path) -> Result<(), SysError> {
    let dir = open(mount_point, OFlags::RDONLY | OFlags::DIRECTORY)?;
    ioctl_value(dir.as_fd(), FIFREEZE, 0).map(drop).map_err(fault("FIFREEZE", mount_point))
}

/// FITHAW; a file system that is not frozen is fine. Hangs before an abort while the gate is
/// closed (it writes the superblock).
pub fn thaw_fs(mount_point: &Path) -> Result<Thawed, SysError> {
    let dir = open(mount_point, OFlags::RDONLY | OFlags::DIRECTORY)?;
    match ioctl_value(dir.as_fd(), FITHAW, 0) {
        Ok(_) => Ok(Thawed::Now),
        Err(Errno::INVAL) => Ok(Thawed::Already),
        Err(e) => Err(fault("FITHAW", mount_point)(e)),
    }
}

// ---------------------------------------------------------------------------------------------
// Mounts

/// Mounts an ext4 file system (nosuid, nodev, noatime). `options` are ext4's own, as `discard`.
pub fn mount_ext4(device: &Path, target: &Path, options: &str) -> Result<(), SysError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let data = CString::new(options).map_err(|_| fault("mount", target)(Errno::INVAL))?;
    rustix::mount::mount(device, target, c"ext4", flags, data.as_c_str())
        .map_err(fault("mount", target))
}

/// Unmounts. Never lazily: a lazy unmount of a frozen file system strands superblock and device.
pub fn unmount(target: &Path) -> Result<(), SysError> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW).map_err(fault("umount", target))
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// Major number of the mounted device.
    pub major: u32,
    /// Minor number; for FUSE, the number of its connection.
    pub minor: u32,
    /// Where it is mounted.
    pub target: PathBuf,
    /// File system type, as `fuse` or `ext4`.
    pub fs_type: String,
    /// What is mounted, as `/dev/loop3`.
    pub source: String,
}

/// The mounts of the calling thread's namespace, oldest first.
pub fn mounts() -> Result<Vec<MountLine>, SysError> {
    mounts_in(Path::new("/proc/thread-self/mountinfo"))
}

/// The mounts that a `mountinfo` file names.
pub fn mounts_in(path: &Path) -> Result<Vec<MountLine>, SysError> {
    let text = fs::read_to_string(path).map_err(io_fault("read", path))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<MountLine> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let (major, minor) = fields.nth(2)?.split_once(':')?;
    let target = fields.nth(1)?;
    let mut rest = right.split(' ');
    Some(MountLine {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        target: PathBuf::from(unescape(target)),
        fs_type: rest.next()?.to_owned(),
        source: unescape(rest.next()?),
    })
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'\\')
            .then(|| text.get(i + 1..i + 4).and_then(|o| u8::from_str_radix(o, 8).ok()))
            .flatten();
        out.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

// ---------------------------------------------------------------------------------------------
// Abort of a FUSE connection

/// Number of the FUSE connection mounted at `target`, read without asking its server.
pub fn fuse_connection(target: &Path) -> Result<u32, SysError> {
    mounts()?
        .into_iter()
        .rev()
        .find(|m| m.target == target && m.fs_type == "fuse")
        .map(|m| m.minor)
        .ok_or_else(|| SysError::NotMounted(target.to_owned()))
}

/// Ends a FUSE connection: every request that waits on it is answered with an error. The escape
/// hatch of eviction. `private` is an empty folder where fusectl is mounted when no mount of it is
/// there (in a private mount namespace it ends with the namespace). A connection that is already
/// gone is fine.
pub fn abort_fuse(connection: u32, private: &Path) -> Result<(), SysError> {
    let root = match mounts()?.into_iter().rev().find(|m| m.fs_type == "fusectl") {
        Some(m) => m.target,
        None => {
            fs::create_dir_all(private).map_err(io_fault("mkdir", private))?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount(c"fusectl", private, c"fusectl", flags, None)
                .map_err(fault("mount fusectl", private))?;
            private.to_owned()
        }
    };
    let file = root.join(connection.to_string()).join("abort");
    match fs::write(&file, "1") {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_fault("write", &file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_mountinfo_with_optional_fields_and_escapes() {
        let line = r"36 35 0:51 / /mnt/a\040b rw,noatime shared:7 master:1 - fuse key\134stead rw";
        let got = parse_mount(line).expect("a line");
        let want = MountLine {
            major: 0,
            minor: 51,
            target: "/mnt/a b".into(),
            fs_type: "fuse".into(),
            source: r"key\stead".into(),
        };
        assert_eq!(got, want);
        assert_eq!(parse_mount("no separator"), None);
    }
}
