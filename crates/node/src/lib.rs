//! The data plane of one Region on one host: the only holder of plaintext data keys.
//!
//! It pulls its assignment from control, proves to itself once a minute and at every change that
//! KMS still allows what it does, provisions volumes, and freezes and thaws the workloads on them.
//! It is never dialled; it never sends a plaintext key anywhere; it acts on nothing but its
//! assignment and what KMS answers.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod assignments;
mod buckets;
mod cgroup;
mod cluster;
mod config;
mod disk;
mod fleet;
mod grants;
mod heads;
pub mod hold;
pub mod host;
mod joint;
mod keeper;
mod kms;
mod preflight;
mod provision;
mod serve;
mod start;
mod status;
mod time;
mod workload;

pub use config::{Arena, ConfigError, NodeConfig};
pub use serve::NodeError;
pub use start::serve;
