//! The four roles as processes, judged from outside.

#![allow(clippy::print_stderr)] // figures and seeds are for whoever reads the run

mod golden;
mod joint;
mod objects;
mod proofs;
mod regions;
mod supervisor;
mod world;

/// The sampled count in `test`, the full one in `cargo xtask soak ROOM`.
fn count(room: &str, sample: usize, full: usize) -> usize {
    let soak = std::env::var("KEYSTEAD_SOAK").is_ok_and(|soaked| soaked == room);
    if soak { full } else { sample }
}

/// A file of this repository, as cargo says now: clones may share one target folder.
fn repository(path: &str) -> std::path::PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&manifest).join("../..").join(path)
}

/// The rig for what this machine's kernel cannot show.
fn boot_vm() -> std::path::PathBuf {
    repository("xtask/vm/boot-vm.sh")
}
