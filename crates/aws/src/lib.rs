//! The AWS dialect, pure: what KMS, STS, IAM and CloudTrail say on the wire and what they decide.
//!
//! SigV4 signatures, the error catalogue, the policy language and its evaluation, requests of the
//! JSON and of the query protocol, the trail's record and chain, and Keystead's own watch call.
//!
//! This crate does no I/O, knows no async, holds no key material and takes no SDK: bytes and
//! records go in, verdicts and bytes come out. The clock is always an argument.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cloudtrail;
pub mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod ops;
pub mod policy;
pub mod query;
pub mod sigv4;
pub mod trail;
pub mod watch;

pub use error::AwsError;
