//! The proofs: what a freeze leaves in memory and on disk, what an eviction leaves behind, and
//! that everything comes back.
//!
//! `cargo xtask test` runs each with few cycles; `cargo xtask soak proofs` sets
//! KEYSTEAD_SOAK=proofs and runs the full counts.

mod aes_schedule;
mod audit;
mod bad_input;
mod blocks;
mod disk;
mod eio;
mod eviction;
pub(crate) mod exit;
pub(crate) mod fragile;
pub(crate) mod keys;
mod memory;
mod object_keys;
mod object_memory;
mod power;
mod read_only;
mod returns;
mod scan;
mod vm;
mod vm_memory;
mod volatile;

/// The bytes that hexadecimal digits spell.
fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The sampled count in `test`, the full one in `soak`.
fn count(sample: usize, full: usize) -> usize {
    crate::count("proofs", sample, full)
}
