//! Keystead: control.
