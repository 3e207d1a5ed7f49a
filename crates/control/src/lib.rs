//! Keystead's control plane: API, store, plan and reconcile, roles, conditions, client.
//!
//! It decides and records. It never sees a plaintext or a data key, and it may make tenant roles
//! but not assume them.

// The readers of secret files wait for the server (docs/STATUS.md); the line falls with it.
#![expect(dead_code, reason = "no server yet")]

pub mod client;
mod config;
pub mod wire;

pub use config::{ConfigError, ControlConfig, NodeEntry};
