//! Keystead: kms.
