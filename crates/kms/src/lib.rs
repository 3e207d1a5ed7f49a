//! The KMS server. Today: the trail's writer. The server itself is not written yet.

#![deny(unsafe_code)]

pub mod trail;
