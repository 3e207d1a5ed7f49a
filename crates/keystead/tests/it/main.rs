//! The four roles as processes, judged from outside.

#![allow(clippy::print_stderr)] // figures and seeds are for whoever reads the run

mod golden;
mod joint;
mod proofs;
mod supervisor;
mod world;
