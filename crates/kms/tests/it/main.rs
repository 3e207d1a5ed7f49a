//! The server over TCP, as its callers see it: a small signed client of our own for what stock
//! clients cannot send, and boto3 for what they do.

mod administration;
mod boto3;
mod conditions;
mod contract;
mod disclosure;
mod full_disk;
mod grants;
mod kills;
mod management;
mod multi_region;
mod policies;
mod refusals;
mod rig;
mod rotation;
mod trail;
mod watch;
