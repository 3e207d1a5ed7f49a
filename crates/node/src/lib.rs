//! Keystead: node.
