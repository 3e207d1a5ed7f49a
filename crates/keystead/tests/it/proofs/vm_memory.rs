//! What an eviction leaves in the memory of the whole machine, kernel and freed pages included:
//! the product runs in a VM, whose memory QEMU writes to a file.

use super::scan::Wanted;
use super::vm::{Boot, Vm};
use super::{count, unhex};
use crate::world::Alone;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const MEMORY: u64 = 1 << 30;
const CHUNK: usize = 1 << 20;

struct Run {
    append: &'static str,
    evict_after: &'static str,
    until: &'static str,
}

/// Where marks were found: how many windows of sixteen bytes of each spelling, on how many pages.
#[derive(Debug, Default)]
struct Found {
    windows: BTreeMap<String, u64>,
    pages: BTreeSet<u64>,
}

/// QEMU stops the machine, writes its memory and lets it go on.
fn copy_memory(monitor: &Path, to: &Path) {
    let mut socket = UnixStream::connect(monitor).expect("the monitor");
    socket.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    let ready = |socket: &mut UnixStream| {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"(qemu) ") {
            socket.read_exact(&mut byte).expect("the monitor answers");
            text.push(byte[0]);
        }
    };
    ready(&mut socket);
    let save = format!("pmemsave 0 {MEMORY} \"{}\"", to.display());
    for command in ["stop", &save, "cont"] {
        socket.write_all(format!("{command}\n").as_bytes()).expect("sent");
        ready(&mut socket);
    }
}

fn search(marks: &Wanted, memory: &Path) -> Found {
    let file = File::open(memory).expect("the memory");
    assert_eq!(file.metadata().expect("its size").len(), MEMORY, "all of the memory");
    let mut found = Found::default();
    let mut chunk = vec![0; CHUNK + 15];
    for at in (0..MEMORY).step_by(CHUNK) {
        let len = chunk.len().min(usize::try_from(MEMORY - at).expect("fits"));
        file.read_exact_at(&mut chunk[..len], at).expect("read");
        for (offset, what) in marks.find(&chunk[..len]) {
            *found.windows.entry(what.to_owned()).or_default() += 1;
            found.pages.insert((at + offset as u64) >> 12);
        }
    }
    found
}

/// By coreutils: a cipher has no place in this crate.
fn sha256(text: &str) -> Vec<u8> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let out = child.wait_with_output().expect("it ends").stdout;
    unhex(&String::from_utf8(out).expect("hexadecimal")[..64])
}

/// What lay in memory while live, and at the end.
fn run(run: &Run) -> (Found, Found) {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("randomness");
    let seed = seed.trim();
    let mut marks = Wanted::default();
    for n in 0..8 {
        marks.secret("mark", &sha256(&format!("{seed}:{n}")));
    }
    let at = |name: &str| folder.path().join(name);
    let settings = format!("SEED={seed} EVICT_AFTER={} UNTIL={}", run.evict_after, run.until);
    File::create(at("disk")).and_then(|f| f.set_len(6 << 30)).expect("a disk");
    let monitor = at("monitor");
    let vm = Vm::boot(&Boot {
        folder: folder.path(),
        guest: "memory_guest.sh",
        settings: &settings,
        disk: at("disk").display().to_string(),
        rig: &[
            ("VM_APPEND", run.append),
            ("VM_MONITOR", monitor.to_str().expect("text")),
            ("VM_MEM", "1G"),
        ],
    });
    let (mut said, mut found) = (String::new(), Vec::new());
    while let Some(line) = vm.line() {
        eprintln!("vm: {line}");
        said.push_str(&line);
        said.push('\n');
        let Some(name) = ["LIVE", "OVER"].into_iter().find(|n| line.ends_with(n)) else { continue };
        copy_memory(&monitor, &at("memory"));
        File::create(at(&name.to_lowercase())).expect("the guest goes on");
        found.push(search(&marks, &at("memory")));
        std::fs::remove_file(at("memory")).expect("removed");
    }
    let status = vm.end();
    assert!(status.success(), "{status}\n{said}");
    let [live, over] = <[Found; 2]>::try_from(found).expect("two looks");
    assert!(live.pages.len() > 100, "the search finds little while live: {live:?}");
    for spelling in ["mark", "mark in hex"] {
        assert!(live.windows.contains_key(spelling), "no {spelling} while live: {live:?}");
    }
    (live, over)
}

#[test]
fn an_eviction_leaves_no_mark_in_the_machines_memory() {
    let _alone = Alone::take();
    let evicted = Run { append: "init_on_free=1", evict_after: "5s", until: "evicted" };
    let (live, over) = run(&evicted);
    eprintln!(
        "FIGURE VM with init_on_free=1: marks on {} pages while live, on {} after the eviction",
        live.pages.len(),
        over.pages.len()
    );
    assert!(over.windows.is_empty(), "after the eviction: {:?} {:x?}", over.windows, over.pages);
}

/// What the first test rests on: without eviction the marks stay, so it can fail; and what a
/// kernel leaves that does not clear freed pages, for SECURITY.
#[test]
fn marks_stay_without_an_eviction_and_without_init_on_free() {
    if count(0, 1) == 0 {
        return;
    }
    let _alone = Alone::take();
    let frozen = Run { append: "init_on_free=1", evict_after: "1h", until: "frozen" };
    let (_, over) = run(&frozen);
    eprintln!("FIGURE VM frozen, not evicted: marks on {} pages", over.pages.len());
    assert!(!over.pages.is_empty(), "frozen pages were not found");
    let plain = Run { append: "init_on_free=0", evict_after: "5s", until: "evicted" };
    let (live, over) = run(&plain);
    eprintln!(
        "FIGURE VM without init_on_free: marks on {} pages while live, on {} after the eviction",
        live.pages.len(),
        over.pages.len()
    );
}
