//! Keystead: volumes.
