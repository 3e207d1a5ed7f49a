//! Keystead's control plane: API, store, plan and reconcile, roles, conditions, client.
//!
//! It decides and records. It never sees a plaintext or a data key, and it may make tenant roles
//! but not assume them.

mod api;
mod assignment;
mod beside;
mod board;
pub mod client;
mod conditions;
mod config;
mod desk;
mod plan;
mod policy;
mod preflight;
mod reconcile;
mod roles;
mod serve;
mod store;
mod templates;
#[cfg(test)]
mod testing;
mod time;
mod why;
pub mod wire;

pub use config::{ConfigError, ControlConfig, NodeEntry};
pub use serve::{ControlError, serve};
pub use store::StoreError;
pub use templates::TemplateError;
