//! The store against its promises, through its public face; the gateway over TCP.

mod conditions;
mod crash;
mod freeze;
mod full_disk;
mod gateway;
mod listing;
mod model;
mod multipart;
mod objects;
mod replication;
mod tamper;
mod world;
