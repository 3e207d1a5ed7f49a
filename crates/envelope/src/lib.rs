//! Keystead: envelope.
