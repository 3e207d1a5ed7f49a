//! Tests of the node's crate against the kernel. They need root.

mod kernel;
mod plain;
mod rig;

// Waits for keystead-envelope (DataKey, XtsKey, LeaseGate) and for volumes to export VolumeServer:
// then take this line away, nothing else is to be done.
#[cfg(any())]
mod hold;
