//! Tests of the node's crate against the kernel. They need root.

mod kernel;
mod outside;
mod plain;
mod rig;
mod serve;

mod hold;
