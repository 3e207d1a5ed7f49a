//! The node's start: the process is hardened, swap is looked at, the holder is found; and the
//! heartbeat, which keeps the holder from taking the node for dead.

use crate::buckets::{self, Buckets};
use crate::config::{Arena, NodeConfig};
use crate::grants::Grants;
use crate::host::{Holder, HostError};
use crate::joint::{Joined, Shared};
use crate::kms::Everywhere;
use crate::serve::{NodeError, io, serve_with};
use crate::status::Board;
use crate::time::boot;
use keystead_envelope::memory::{ArenaMode, harden_process, init_arena, parse_swaps};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A volume has a key for as long as it is being opened, a bucket for as long as the lease lives:
/// room for eight thousand at once.
const ARENA_BYTES: usize = 1 << 20;
/// The holder may be starting at the same time.
const HOLDER_WAIT: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(1);
/// What a beat promises.
const ALIVE: Duration = Duration::from_secs(3);
/// The holder did not answer for this long: it is gone, or as good as gone.
const HOLDER_GONE: Duration = Duration::from_secs(5);
/// This node was stopped for so long that the holder has frozen its workloads.
const OVERSLEPT: Duration = Duration::from_secs(12);

/// Serves until SIGTERM or SIGINT. Volumes and workloads stay with the holder, unless
/// `detach_on_stop` says otherwise. To be called on a multi-threaded runtime.
pub async fn serve(config: NodeConfig) -> Result<(), NodeError> {
    harden_process()?;
    end_on_panic();
    let swaps = match std::fs::read_to_string("/proc/swaps") {
        Ok(text) => parse_swaps(&text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(io("read /proc/swaps")(e)),
    };
    swap_rule(swaps, config.insecure_swap)?;
    let arena = match config.arena {
        Arena::Secret => ArenaMode::Secret,
        Arena::Mlock => ArenaMode::Mlock,
    };
    match init_arena(arena, ARENA_BYTES)? {
        got if got == arena => tracing::info!(arena = ?got, "key memory"),
        got => tracing::warn!(arena = ?got, wanted = ?arena,
            "this kernel has no memfd_secret: keys lie in locked memory, which root can read"),
    }
    let _lock = own_folder(&config.data)?;
    let everywhere = Everywhere::load(&config)?;
    let settings = &everywhere.own;
    let holder = Arc::new(find(&config.hold_socket).await?);
    let stop = Arc::new(AtomicBool::new(false));
    let lost = heartbeat(holder.clone(), stop.clone())?;
    let (board, grants) = (Arc::new(Board::default()), Grants::new(&config.data));
    let joint = Joined::new(Shared {
        holder,
        keys: Box::new(settings.clone()),
        grants: grants.clone(),
        board: board.clone(),
        data: config.data.clone(),
        detach: config.detach_on_stop,
        ports: Mutex::default(),
    });
    let buckets = Arc::new(Buckets::new(buckets::Parts {
        keys: Box::new(settings.clone()),
        board: board.clone(),
        data: config.data.clone(),
        runtime: tokio::runtime::Handle::current(),
        pace: buckets::Pace::DAILY,
    }));
    let joint = Arc::new(joint);
    let ended = serve_with(config, everywhere.clone(), board, grants, joint, buckets, lost).await;
    stop.store(true, Ordering::SeqCst);
    ended
}

/// A panic on any thread or task ends the process, as kill -9 would: the holder keeps everything
/// and the next process takes over. A node that goes on without one of its threads would look
/// alive and not be.
fn end_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

/// Keys are locked, but what a workload's thread or the SDK holds for a moment may be swapped out,
/// and nobody here can tell whether a swap area is encrypted.
fn swap_rule(swaps: Vec<String>, insecure: bool) -> Result<(), NodeError> {
    match swaps.as_slice() {
        [] => Ok(()),
        _ if insecure => {
            tracing::warn!(swaps = swaps.join(", "), "swap is on; insecure_swap allows it");
            Ok(())
        }
        _ => Err(NodeError::Swap(swaps.join(", "))),
    }
}

/// The folder, for its owner alone, locked while this process lives.
fn own_folder(data: &Path) -> Result<File, NodeError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(data).map_err(io("make the node's folder"))?;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(data.join("lock")).map_err(io("open the lock of the node's folder"))?;
    // A predecessor that was killed lets go when its last system call has ended.
    let deadline = Instant::now() + HOLDER_GONE;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(io("lock the node's folder: another node has it")(e.into())),
        }
    }
}

async fn find(socket: &Path) -> Result<Holder, NodeError> {
    let deadline = Instant::now() + HOLDER_WAIT;
    loop {
        let path = socket.to_owned();
        let asked = tokio::task::spawn_blocking(move || Holder::connect(&path)).await;
        match asked {
            Ok(Ok(holder)) => return Ok(holder),
            // Of another version: it will not learn.
            Ok(Err(error @ HostError::Hold(_))) => return Err(error.into()),
            Ok(Err(error)) if Instant::now() >= deadline => return Err(error.into()),
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(_) => return Err(NodeError::HolderLost("the search for it panicked".to_owned())),
        }
    }
}

/// One round: the holder is told, and says which process it is.
trait Pulse: Send + 'static {
    fn beat(&self) -> Result<String, HostError>;
}

impl Pulse for Arc<Holder> {
    fn beat(&self) -> Result<String, HostError> {
        self.alive(boot().plus(ALIVE))?;
        self.inventory().map(|held| held.incarnation)
    }
}

/// Beats each second until `stop`; the receiver is told when this node has to begin anew: the
/// holder is another process (everything that was served is gone), it does not answer, or it has
/// frozen everything because this node was stopped.
fn heartbeat(
    holder: impl Pulse,
    stop: Arc<AtomicBool>,
) -> Result<oneshot::Receiver<NodeError>, NodeError> {
    let first = holder.beat()?;
    let (tell, told) = oneshot::channel();
    let beats = move || {
        let mut last = boot();
        while !stop.load(Ordering::SeqCst) {
            std::thread::sleep(BEAT);
            let answer = holder.beat();
            // After the beat: it may be this process that was stopped in the midst of it.
            let slept = boot().since(last);
            let why = match answer {
                Ok(now) if now != first => "it was started anew".to_owned(),
                Ok(_) if slept > OVERSLEPT => format!("this node did not run for {slept:?}"),
                Ok(_) => {
                    last = boot();
                    continue;
                }
                Err(error) if boot().since(last) > HOLDER_GONE => error.to_string(),
                Err(error) => {
                    tracing::warn!(%error, "a beat to the holder failed");
                    continue;
                }
            };
            // Nobody listens any more when the node is ending.
            let _ = tell.send(NodeError::HolderLost(why));
            return;
        }
    };
    let thread = std::thread::Builder::new().name("heartbeat".to_owned());
    thread.spawn(beats).map_err(io("start the heartbeat"))?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Mutex<Vec<Result<String, HostError>>>);

    impl Pulse for Says {
        fn beat(&self) -> Result<String, HostError> {
            self.0.lock().expect("one thread").remove(0)
        }
    }

    #[test]
    fn a_holder_that_is_another_process_ends_the_node() {
        let says = ["a", "a", "b"].map(|s| Ok(s.to_owned())).into_iter().collect();
        let stop = Arc::new(AtomicBool::new(false));
        let lost = heartbeat(Says(Mutex::new(says)), stop).expect("starts");
        let why = lost.blocking_recv().expect("told");
        assert!(matches!(&why, NodeError::HolderLost(w) if w.contains("anew")), "{why}");
    }

    /// Not a test of its own: the process of the test below.
    #[test]
    fn panicking_process() {
        if std::env::var_os("KEYSTEAD_TEST_PANIC").is_none() {
            return;
        }
        harden_process().expect("hardened");
        end_on_panic();
        let thread = std::thread::spawn(|| panic!("one thread of many"));
        let _ = thread.join();
        std::process::exit(0);
    }

    #[test]
    fn a_panic_on_any_thread_ends_the_node() {
        use std::os::unix::process::ExitStatusExt;
        let own = std::env::current_exe().expect("own path");
        let mut command = std::process::Command::new(own);
        command.args(["start::tests::panicking_process", "--exact", "--test-threads=1"]);
        let ended = command.env("KEYSTEAD_TEST_PANIC", "1").output().expect("runs");
        assert_eq!(ended.status.signal(), Some(rustix::process::Signal::ABORT.as_raw()));
    }

    #[test]
    fn a_node_that_was_stopped_in_the_midst_of_a_beat_ends() {
        struct Stops(std::sync::atomic::AtomicUsize);
        impl Pulse for Stops {
            fn beat(&self) -> Result<String, HostError> {
                if self.0.fetch_add(1, Ordering::SeqCst) == 1 {
                    std::thread::sleep(OVERSLEPT);
                }
                Ok("a".to_owned())
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let lost = heartbeat(Stops(Default::default()), stop).expect("starts");
        let why = lost.blocking_recv().expect("told");
        assert!(matches!(&why, NodeError::HolderLost(w) if w.contains("did not run")), "{why}");
    }

    #[test]
    fn swap_is_refused_unless_it_is_allowed() {
        let on = || vec!["/dev/sda2".to_owned()];
        let refused = swap_rule(on(), false).expect_err("refused").to_string();
        assert!(refused.contains("/dev/sda2") && refused.contains("insecure_swap"), "{refused}");
        assert!(swap_rule(on(), true).is_ok());
        assert!(swap_rule(Vec::new(), false).is_ok());
    }

    #[test]
    fn the_folder_is_the_owners_alone_and_has_one_node() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("node");
        let lock = own_folder(&data).expect("made");
        let mode = std::fs::metadata(&data).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(lock);
        own_folder(&data).expect("free again");
    }
}
