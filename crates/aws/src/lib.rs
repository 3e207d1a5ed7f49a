//! Keystead: aws.
