//! Starts processes and reaps them.
//!
//! fork and exec are done by hand: `std::process` waits until exec has happened, and a process
//! that enters a frozen group stops before it. Everything that allocates or may fail for a reason
//! worth words is done before the fork; between fork and exec there are system calls only.
//!
//! One thread forks for everybody and lives as long as hold: PR_SET_PDEATHSIG follows the thread
//! that forked, not the process. One thread reaps for everybody, orphans of the workload too (hold
//! is their subreaper).
#![allow(unsafe_code)] // fork, exec and what stands between them have no safe form.

use super::wire::Ended;
use rustix::process::{Pid, Signal, WaitOptions};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A system user, as the kernel wants him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl User {
    /// Root, for hold's own helpers (mkfs).
    pub(crate) fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0] }
    }

    /// Looks a user up, with his groups. `Ok(None)`: there is none of that name.
    pub(crate) fn named(name: &str) -> io::Result<Option<Self>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        let mut buffer = vec![0 as libc::c_char; 16 << 10];
        // SAFETY: a zeroed passwd is a valid one (null pointers); it is only read when filled.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to a live object of the stated size; `entry` points into
        // `buffer`, which outlives its use below.
        let failed = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                &mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &mut found,
            )
        };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        if found.is_null() {
            return Ok(None);
        }
        let mut groups = vec![0 as libc::gid_t; 256];
        let mut count = 256;
        // SAFETY: `groups` has room for `count` entries; the name is nul-terminated.
        let fits = unsafe {
            libc::getgrouplist(name.as_ptr(), entry.pw_gid, groups.as_mut_ptr(), &mut count)
        };
        if fits < 0 {
            return Err(io::Error::other("the user is in more than 256 groups"));
        }
        groups.truncate(usize::try_from(count).unwrap_or(0));
        Ok(Some(Self { uid: entry.pw_uid, gid: entry.pw_gid, groups }))
    }
}

/// All that a new process is made of.
pub(crate) struct Plan {
    pub(crate) program: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) folder: CString,
    pub(crate) user: User,
    /// `cgroup.procs` of each group to enter.
    pub(crate) entrances: Vec<File>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// A process that hold started.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its end, at most that long.
    pub(crate) fn wait(&self, at_most: Duration) -> Option<Ended> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, at_most, |e| e.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The pipe on which a new process reports why it could not exec; exec closes it.
pub(crate) struct Report(OwnedFd);

type Started = io::Result<(Arc<Child>, Report)>;

/// The living children, and the way to the thread that forks.
pub(crate) struct Nursery {
    jobs: SyncSender<(Plan, SyncSender<Started>)>,
    living: Arc<Living>,
}

#[derive(Default)]
struct Living {
    children: Mutex<Children>,
    forked: Condvar,
}

#[derive(Default)]
struct Children {
    by_pid: HashMap<i32, Arc<Child>>,
    forks: u64,
}

impl Living {
    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nursery {
    /// Starts the two threads. Their mount namespace is the caller's.
    pub(crate) fn start() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let living = Arc::new(Living::default());
        let (jobs, todo) = sync_channel::<(Plan, SyncSender<Started>)>(0);
        let forker = living.clone();
        std::thread::Builder::new().name("fork".to_owned()).spawn(move || {
            for (plan, reply) in todo {
                let _ = reply.send(start(&forker, plan));
            }
        })?;
        let reaped = living.clone();
        std::thread::Builder::new().name("reap".to_owned()).spawn(move || reap(&reaped))?;
        Ok(Self { jobs, living })
    }

    /// Forks; what becomes of the exec comes through [`Report`].
    pub(crate) fn fork(&self, plan: Plan) -> io::Result<(Arc<Child>, Report)> {
        let (reply, answer) = sync_channel(1);
        let gone = || io::Error::other("the forking thread is gone");
        self.jobs.send((plan, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Signals a child, or with `session` its whole process group. One that has ended is fine:
    /// under the lock its number cannot have become another's.
    pub(crate) fn signal(&self, child: &Child, signal: Signal, session: bool) {
        let living = self.living.lock();
        if living.by_pid.contains_key(&child.pid()) {
            // setsid made it the leader of a group of its own number.
            let _ = if session {
                rustix::process::kill_process_group(child.pid, signal)
            } else {
                rustix::process::kill_process(child.pid, signal)
            };
        }
    }
}

fn start(living: &Living, plan: Plan) -> Started {
    let (report, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // Held across the fork: the reaper must not meet a child that is not listed.
    let mut children = living.lock();
    let pid = fork_exec(&plan, status.as_raw_fd())?;
    let child = Arc::new(Child { pid, ended: Mutex::new(None), changed: Condvar::new() });
    children.by_pid.insert(child.pid(), child.clone());
    children.forks += 1;
    living.forked.notify_all();
    Ok((child, Report(report)))
}

fn reap(living: &Living) {
    loop {
        let forks = living.lock().forks;
        match some_zombie() {
            Ok(pid) => {
                let mut children = living.lock();
                let Ok(Some((_, status))) =
                    rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)
                else {
                    continue;
                };
                let child = children.by_pid.remove(&pid.as_raw_nonzero().get());
                drop(children);
                let ended = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Exit(code),
                    (None, Some(signal)) => Ended::Signal(signal),
                    (None, None) => continue,
                };
                if let Some(child) = child {
                    *child.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
                    child.changed.notify_all();
                }
            }
            // ECHILD: nothing to wait for until somebody forks.
            Err(_) => {
                let children = living.lock();
                let wait = Duration::from_secs(1);
                drop(living.forked.wait_timeout_while(children, wait, |c| c.forks == forks));
            }
        }
    }
}

/// Waits until some child has ended and leaves it unreaped, so that its number stays taken.
fn some_zombie() -> io::Result<Pid> {
    // SAFETY: a zeroed siginfo_t is valid; waitid fills it and keeps no pointer to it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let got = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOWAIT) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid succeeded, so the SIGCHLD part of the union is the one that is filled.
    Pid::from_raw(unsafe { info.si_pid() }).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Report {
    /// Waits for the exec and says why it failed. After a second it is taken for done: the process
    /// stands in the freezer before it.
    pub(crate) fn executed(self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&wait)) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut bytes = [0u8; 5];
        if rustix::io::read(&self.0, &mut bytes)? < bytes.len() {
            return Ok(());
        }
        let [step, a, b, c, d] = bytes;
        let step = STEPS.get(usize::from(step)).copied().unwrap_or("start");
        let source = io::Error::from_raw_os_error(i32::from_le_bytes([a, b, c, d]));
        Err(io::Error::new(source.kind(), format!("cannot {step}: {source}")))
    }
}

const STEPS: [&str; 8] = [
    "redirect its standard streams",
    "enter its cgroup",
    "start a session",
    "close what it must not inherit",
    "take its user and groups",
    "enter its working directory",
    "tie its life to hold's",
    "execute its program",
];

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn fork_exec(plan: &Plan, status: RawFd) -> io::Result<Pid> {
    let (argv, envp) = (pointers(&plan.arguments), pointers(&plan.environment));
    let entrances: Vec<RawFd> = plan.entrances.iter().map(|f| f.as_raw_fd()).collect();
    let streams = [&plan.stdin, &plan.stdout, &plan.stderr].map(|f| f.as_raw_fd());
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child calls async-signal-safe functions only (`child` below: no allocation, no
    // lock), on memory that was made ready before, and ends in exec or _exit.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let launch = Launch { plan, argv: &argv, envp: &envp, entrances: &entrances, streams };
            // SAFETY: this is the forked child.
            let (step, errno) = unsafe { launch.child(parent) };
            let e = errno.to_le_bytes();
            let bytes = [step, e[0], e[1], e[2], e[3]];
            // SAFETY: five bytes of the stack; the pipe is open; _exit runs no destructor.
            unsafe {
                libc::write(status, bytes.as_ptr().cast(), bytes.len());
                libc::_exit(127)
            }
        }
        pid => Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error),
    }
}

struct Launch<'a> {
    plan: &'a Plan,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    entrances: &'a [RawFd],
    streams: [RawFd; 3],
}

fn errno() -> i32 {
    // SAFETY: errno is a thread-local of libc, always there.
    unsafe { *libc::__errno_location() }
}

impl Launch<'_> {
    /// Between fork and exec. Returns the step that failed and its errno.
    ///
    /// # Safety
    /// To be called in a forked child only: it gives up the process's identity and image.
    unsafe fn child(&self, parent: libc::pid_t) -> (u8, i32) {
        macro_rules! must {
            ($step:literal, $call:expr) => {
                if $call < 0 {
                    return ($step, errno());
                }
            };
        }
        const NONE: libc::c_ulong = 0;
        let user = &self.plan.user;
        let core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: plain system calls of libc on descriptors that are open in the child and on
        // strings and arrays that the parent made and that live in this copy of its memory; every
        // pointer array ends in a null pointer. Nothing here allocates or takes a lock.
        unsafe {
            for (to, from) in self.streams.iter().enumerate() {
                must!(0, libc::dup2(*from, to as libc::c_int));
            }
            for entrance in self.entrances {
                must!(1, libc::write(*entrance, c"0".as_ptr().cast(), 1));
            }
            must!(2, libc::setsid());
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            for signal in 1..32 {
                // KILL and STOP refuse; that is fine.
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::umask(0o077);
            must!(2, libc::setrlimit(libc::RLIMIT_CORE, &core));
            let all = libc::c_ulong::from(libc::c_uint::MAX);
            let closing = libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC);
            must!(3, libc::syscall(libc::SYS_close_range, 3 as libc::c_ulong, all, closing));
            if user.uid != 0 {
                must!(4, libc::setgroups(user.groups.len(), user.groups.as_ptr()));
                must!(4, libc::setresgid(user.gid, user.gid, user.gid));
                must!(4, libc::setresuid(user.uid, user.uid, user.uid));
                let one: libc::c_ulong = 1;
                must!(4, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, NONE, NONE, NONE));
            }
            must!(5, libc::chdir(self.plan.folder.as_ptr()));
            // After the change of user, which clears it.
            let kill = libc::SIGKILL as libc::c_ulong;
            must!(6, libc::prctl(libc::PR_SET_PDEATHSIG, kill, NONE, NONE, NONE));
            if libc::getppid() != parent {
                return (6, libc::ESRCH);
            }
            libc::execve(self.plan.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            (7, errno())
        }
    }
}

/// Where the signal handler writes; -1 before there is a pipe.
static STOP_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn tell_stop(_: libc::c_int) {
    let saved = errno();
    // SAFETY: write(2) is async-signal-safe; one byte of a static; a full pipe is fine. errno is
    // the interrupted thread's and is put back.
    unsafe {
        libc::write(STOP_PIPE.load(Ordering::SeqCst), c"s".as_ptr().cast(), 1);
        *libc::__errno_location() = saved;
    }
}

/// SIGTERM and SIGINT from now on reach whoever reads the pipe, whichever thread they hit.
pub(crate) fn catch_stop_signals() -> io::Result<File> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
    let (read, write) = rustix::pipe::pipe_with(flags)?;
    rustix::io::ioctl_fionbio(&read, false)?;
    // Never closed: the handler lives as long as the process.
    STOP_PIPE.store(write.into_raw_fd(), Ordering::SeqCst);
    // SAFETY: a zeroed sigaction with a handler and an empty mask is a valid one; the handler does
    // async-signal-safe things only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tell_stop as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        for signal in [libc::SIGTERM, libc::SIGINT] {
            if libc::sigaction(signal, &action, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(File::from(read))
}

/// Moves this thread, and all that it starts, into a mount namespace of its own.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only the mount namespace (and with it root and working directory) becomes the
    // thread's own; the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .map_err(io::Error::from)
}

/// A C string; one with a zero byte inside is refused.
pub(crate) fn c_string(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte"))
}

/// Signal of a template's name, as `SIGINT` or `INT`.
pub(crate) fn signal_named(name: &str) -> Option<Signal> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "KILL" => Signal::KILL,
        _ => return None,
    })
}

/// The file that a command means: itself when it has a slash, else the first of PATH.
pub(crate) fn program(command: &str, path: &str) -> io::Result<CString> {
    use std::os::unix::fs::PermissionsExt;
    if command.contains('/') {
        return c_string(command.as_bytes());
    }
    for folder in path.split(':').filter(|f| !f.is_empty()) {
        let candidate = std::path::Path::new(folder).join(command);
        let runs = |m: std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
        if std::fs::metadata(&candidate).is_ok_and(runs) {
            return c_string(candidate.as_os_str().as_encoded_bytes());
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("`{command}` is not found in {path}")))
}

/// /dev/null, for reading or writing.
pub(crate) fn null() -> io::Result<OwnedFd> {
    let null: &CStr = c"/dev/null";
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(null, flags, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod tests;
