//! The gateway over TCP: stock clients for what they do, a hand-written client for what they
//! cannot, and the freeze.

mod clients;
mod freeze;
pub(crate) mod rig;
pub(crate) mod strangers;
