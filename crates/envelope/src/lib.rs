//! Keystead's cryptography, in one place to audit: key memory, AES-256-XTS sectors, the LUKS2
//! header, the object message, the KMS ciphertext blob, the root key, and the lease as a pure state
//! machine.
//!
//! It never opens a socket or a file. Bytes come in, bytes go out; randomness comes from
//! getrandom(2); time comes in by hand.

pub mod alloc;
pub mod blob;
#[cfg(any(test, fuzzing))]
mod fixtures;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod kdf;
pub mod lease;
pub mod luks2;
pub mod memory;
pub mod message;
pub mod random;
pub mod root_key;
pub mod xts;
