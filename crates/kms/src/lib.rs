//! The KMS server. Today: who may call (accounts, users, sessions) and the trail's writer. The
//! store, the operations and the listener are not written yet.

#![deny(unsafe_code)]

pub mod principals;
pub mod sessions;
pub mod trail;
mod unique_id;
