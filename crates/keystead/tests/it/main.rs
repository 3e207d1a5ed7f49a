//! The four roles as processes, judged from outside.
//!
//! `world.rs`, `supervisor.rs` and `joint/` lie beside this file and are switched on (`mod world;
//! mod supervisor; mod joint;`) with the roles that they start: docs/STATUS.md.

#![allow(clippy::print_stderr)] // figures and seeds are for whoever reads the run

mod golden;
