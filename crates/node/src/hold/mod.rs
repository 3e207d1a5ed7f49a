//! `keystead hold serve`: the process that outlives the node.
//!
//! It owns what must not go when a node process goes: the /dev/fuse descriptors, the FUSE mounts
//! over files, loop devices, ext4 mounts, control groups and the workload's processes, all in a
//! mount namespace of its own. A node asks for them over a unix socket (see [`wire`]); the next
//! node process is handed the same descriptors, and the workload notices nothing.
//!
//! It holds no key, reads no image, talks to no network, and decides one thing by itself: when the
//! node has not said for ten seconds that it lives, every workload is frozen. Its state is in
//! memory and in the kernel; when hold dies, its workloads die with it (PR_SET_PDEATHSIG) and its
//! mounts with its namespace, and its successor sweeps what is left.

mod cluster;
mod collect;
mod disk;
mod fifreeze;
mod remove;
mod server;
mod spawn;
mod sweep;
mod undead;
pub(crate) mod wire;
mod workload;

use crate::cgroup::Roots;
use crate::time::boot;
pub use cluster::mount_point;
use cluster::{DISKS, Place};
use rustix::fs::{FlockOperation, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags};
use server::Hold;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use undead::is_dying;

/// The orderly end may take this long, then what is left is evicted.
const END: Duration = Duration::from_secs(8);
/// A killed hold may take this long to get out of the kernel once its connections are aborted.
const DYING: Duration = Duration::from_secs(3);
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// What hold is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldConfig {
    /// Where it listens; made with mode 0600.
    pub socket: PathBuf,
    /// Its own folder; made when missing, one process at a time.
    pub data: PathBuf,
    /// Folder of its groups in the cgroup hierarchies: one word.
    pub cgroup_prefix: String,
}

/// Why hold does not serve.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Another hold serves this folder.
    #[error("another hold process has {}", .0.display())]
    Taken(PathBuf),
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> HoldError {
    move |source| HoldError::System { what, source: source.into() }
}

/// Serves until SIGTERM or SIGINT, then detaches everything, or evicts what does not detach in
/// time. To be called before other threads are started: the mount namespace is this thread's and
/// those that it starts, and all other threads of the process stay outside.
pub fn serve(config: HoldConfig) -> Result<(), HoldError> {
    check(&config)?;
    let mut stop = spawn::catch_stop_signals().map_err(system("catch signals"))?;
    let (place, lock) = open(&config)?;
    let leftovers = sweep::sweep(&place);
    let hold = Hold::new(place);
    let listener = listen(&config.socket)?;
    background(&hold, "watchdog", |hold| {
        let mut tripped = false;
        loop {
            tripped = hold.watch(boot(), tripped);
            std::thread::sleep(WATCH_EVERY);
        }
    })?;
    background(&hold, "listen", move |hold| hold.serve(&listener))?;
    tracing::info!(socket = %config.socket.display(), leftovers, "hold serves");
    stop.read_exact(&mut [0]).map_err(system("wait for a signal"))?;
    let _ = std::fs::remove_file(&config.socket);
    hold.end(END);
    hold.place.roots.remove_prefix(&config.cgroup_prefix);
    drop(lock);
    Ok(())
}

/// Clears away what a hold that is no more left in the kernel, for a folder that is to be deleted;
/// says how much could not be. To be called before other threads are started, as [`serve`].
pub fn clear(config: &HoldConfig) -> Result<usize, HoldError> {
    check(config)?;
    let (place, _lock) = open(config)?;
    let left = sweep::sweep(&place);
    // Where an undead predecessor's connections had to be aborted, ours is mounted there.
    let _ = keystead_volumes::sys::unmount(&place.fusectl());
    place.roots.remove_prefix(&config.cgroup_prefix);
    Ok(left)
}

/// The folder as ours alone, in a mount namespace of its own.
fn open(config: &HoldConfig) -> Result<(Arc<Place>, File), HoldError> {
    let lock = open_folder(&config.data)?;
    harden()?;
    own_namespace()?;
    // As the kernel shows it: mounts and loop devices are told by their paths.
    let data = config.data.canonicalize().map_err(system("find hold's folder"))?;
    take(&lock, &data)?;
    let place = Arc::new(Place {
        roots: Roots::find()
            .map_err(|e| HoldError::System { what: "find cgroups", source: io::Error::other(e) })?,
        nursery: spawn::Nursery::start().map_err(system("start a thread"))?,
        data,
        prefix: config.cgroup_prefix.clone(),
    });
    Ok((place, lock))
}

fn check(config: &HoldConfig) -> Result<(), HoldError> {
    let prefix = &config.cgroup_prefix;
    let word = (1..=63).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !word {
        return Err(HoldError::Setting(format!("`{prefix}` is no name of a cgroup folder")));
    }
    for path in [&config.socket, &config.data] {
        if !path.is_absolute() || path.starts_with(DISKS) {
            let message = format!("{} must be absolute and not below {DISKS}", path.display());
            return Err(HoldError::Setting(message));
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Err(HoldError::Setting("hold mounts and needs to run as root".to_owned()));
    }
    Ok(())
}

/// The folder and its lock file.
fn open_folder(data: &Path) -> Result<File, HoldError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(data).map_err(system("make hold's folder"))?;
    let path = data.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&path).map_err(system("open the lock file"))?;
    builder.create(data.join("fuse")).map_err(system("make hold's folder"))?;
    Ok(lock)
}

/// Takes the lock for the life of this process. A killed holder has it until it is out of the
/// kernel, and may need help to get there.
fn take(mut lock: &File, data: &Path) -> Result<(), HoldError> {
    let deadline = Instant::now() + DYING;
    let mut aborted = HashSet::new();
    while rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::fs::read_to_string(data.join("lock")).unwrap_or_default();
        let holder: Option<i32> = holder.trim().parse().ok();
        match holder {
            Some(pid) if is_dying(pid) => undead::release(pid, data, &mut aborted),
            Some(pid) if Path::new(&format!("/proc/{pid}")).exists() => {
                return Err(HoldError::Taken(data.to_owned()));
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(HoldError::Taken(data.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    lock.set_len(0).map_err(system("write the lock file"))?;
    writeln!(lock, "{}", std::process::id()).map_err(system("write the lock file"))
}

/// No core dump, no ptrace: passwords pass through pipes here.
fn harden() -> Result<(), HoldError> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(system("forbid core dumps"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(system("forbid core dumps"))
}

/// A mount namespace of our own, from which nothing reaches the host's, and the folder of disks.
/// What the host unmounts goes here too: a copy that stayed would keep a file system from being
/// checked and mounted anew.
fn own_namespace() -> Result<(), HoldError> {
    std::fs::create_dir_all(DISKS).map_err(system("make the folder of disks"))?;
    spawn::unshare_mounts().map_err(system("unshare mounts"))?;
    let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", follow).map_err(system("make mounts follow the host's"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"keystead", DISKS, c"tmpfs", flags, c"mode=755,size=1m")
        .map_err(system("mount the folder of disks"))
}

/// The socket, 0600 from its first moment.
fn listen(socket: &Path) -> Result<UnixListener, HoldError> {
    // The folder's lock is ours: who bound it before is gone.
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(system("remove the socket")(e));
        }
        _ => {}
    }
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(socket);
    rustix::process::umask(before);
    bound.map_err(system("bind the socket"))
}

fn background(
    hold: &Arc<Hold>,
    name: &str,
    run: impl FnOnce(Arc<Hold>) + Send + 'static,
) -> Result<(), HoldError> {
    let hold = hold.clone();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || run(hold)).map(drop).map_err(system("start a thread"))
}
