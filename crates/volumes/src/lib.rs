//! Keystead's encrypted volumes: the image file, the engine behind its gate, the /dev/fuse front,
//! and the small kernel calls that attach, freeze and detach.
//!
//! This crate has no async and knows neither KMS nor cluster, only a lease that admits or does
//! not. A key is lent for CPU work and never held across I/O; nothing is ever answered with an
//! error because of a key: the request waits.

mod engine;
mod fuse_dev;
mod gate;
mod image;
mod parked;
mod range_lock;
mod server;
pub mod sys;

pub use fuse_dev::{
    FuseError, InitReply, MAX_BACKGROUND, MAX_IO, answer_init, mount_over_file, open_device,
};
pub use image::{Image, ImageError, MAX_IMAGE_BYTES, PAYLOAD_OFFSET, SECTOR, read_header};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use server::fuzzing::fuse;
pub use server::{Closed, READERS, ServerError, Stats, VolumeServer};
