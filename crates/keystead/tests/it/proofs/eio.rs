//! EIO from the disk below an image, in a VM whose kernel has the device mapper: writes wait, and
//! where the file system below does not outlive it, the cluster comes back as after a power cut.
//! The guest does it and judges; its page says what exactly fails.

use super::count;
use super::vm::{Boot, Vm};
use crate::world::Alone;
use std::fs::File;

#[test]
fn eio_below_an_image_loses_nothing_that_was_acknowledged() {
    let _alone = Alone::take();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let disks = [("data", 2_u64 << 30), ("volumes", 3 << 30)].map(|(name, bytes)| {
        File::create(at(name)).and_then(|f| f.set_len(bytes)).expect("a disk");
        at(name).display().to_string()
    });
    let vm = Vm::boot(&Boot {
        folder: folder.path(),
        guest: "eio_guest.sh",
        settings: &format!("ROUNDS={}", count(1, 3)),
        disk: disks.join(" "),
        rig: &[],
    });
    let (mut said, mut figures) = (String::new(), 0);
    while let Some(line) = vm.line() {
        eprintln!("vm: {line}");
        figures += usize::from(line.starts_with("FIGURE EIO below an image"));
        said.push_str(&line);
        said.push('\n');
    }
    let status = vm.end();
    assert!(status.success(), "{status}\n{said}");
    assert_eq!(figures, 2 * count(1, 3), "each way in each round\n{said}");
}
