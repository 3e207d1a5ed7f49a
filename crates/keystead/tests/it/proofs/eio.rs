//! EIO from the disk below an image, in a VM whose kernel has the device mapper: writes wait, and
//! where the file system below does not outlive it, the cluster comes back as after a power cut.
//! The guest does it and judges; its page says what exactly fails.

use super::count;
use crate::world::Alone;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const GUEST: &str = "crates/keystead/tests/it/proofs/eio_guest.sh";
/// Debian 12's later kernel: the FUSE of its 6.1 has no RESEND.
const KERNEL: &str = "6.12-cloud-amd64";
/// An emulated CPU on a loaded machine: no time is judged here.
const SECONDS: &str = "900";

#[test]
fn eio_below_an_image_loses_nothing_that_was_acknowledged() {
    let _alone = Alone::take();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let disks = [("data", 2_u64 << 30), ("volumes", 3 << 30)].map(|(name, bytes)| {
        File::create(at(name)).and_then(|f| f.set_len(bytes)).expect("a disk");
        at(name).display().to_string()
    });
    let settings = format!("KEYSTEAD={} ROUNDS={}\n", env!("CARGO_BIN_EXE_keystead"), count(1, 3));
    std::fs::write(at("settings"), settings).expect("written");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut vm = Command::new(crate::boot_vm());
    vm.arg(folder.path())
        .arg(crate::repository(GUEST))
        .env("VM_DISKS", disks.join(" "))
        .env("VM_FLAVOUR", KERNEL)
        .env("VM_TIMEOUT", SECONDS)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().expect("shared"))
        .stderr(writer);
    let mut child = vm.spawn().expect("the rig starts");
    drop(vm);
    let (mut said, mut figures) = (String::new(), 0);
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        eprintln!("vm: {line}");
        figures += usize::from(line.starts_with("FIGURE EIO below an image"));
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().expect("the rig ends");
    assert!(status.success(), "{status}\n{said}");
    assert_eq!(figures, 2 * count(1, 3), "each way in each round\n{said}");
}
