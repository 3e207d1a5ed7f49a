//! Volumes on the real kernel: /dev/fuse, loop, ext4. Needs root. Each test runs in a process of
//! its own (this binary again, in a private mount namespace), so that nothing it leaves can reach
//! the machine.

mod handover;
mod kernel;
mod rig;
