//! The store against its promises, through its public face.

mod conditions;
mod crash;
mod freeze;
mod full_disk;
mod listing;
mod model;
mod multipart;
mod objects;
mod tamper;
mod world;
