//! Tests of the node's crate against the kernel. They need root.

mod kernel;
mod plain;
mod rig;

mod hold;
