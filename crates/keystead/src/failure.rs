//! The one printer of errors: what, why, fix.

use keystead_control::client::ClientError;
use std::{fmt, io};

/// An ext4 that met an error is read-only until it is mounted anew, whoever it is that writes.
const MOUNT_AGAIN: &str = "look in `dmesg` for what made it read-only; then unmount it, check it (fsck) and mount it again.
A role that `keystead dev` keeps running goes on by itself";

/// An error that knows its repair.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    fix: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, fix: None }
    }
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Prints to stderr.
pub(crate) fn print(error: &anyhow::Error) {
    eprint!("{}", render(error));
}

/// `error: what`, then `  why: …` once a cause, then `  fix: …`.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut fix = None;
    for (depth, cause) in error.chain().enumerate() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            if depth > 0 {
                text.push_str(&format!("  why: {failure}\n"));
            }
            if let Some(why) = &failure.why {
                text.push_str(&format!("  why: {}\n", why.replace('\n', "\n       ")));
            }
            fix = fix.or_else(|| failure.fix.clone());
            continue;
        }
        if depth > 0 {
            text.push_str(&format!("  why: {cause}\n"));
        }
        if let Some(problem) = cause.downcast_ref::<ClientError>().and_then(ClientError::problem) {
            if let Some(cause) = problem.cause {
                text.push_str(&format!("  why: {cause}: {}\n", problem.title));
            }
            fix = fix.or_else(|| problem.fix.clone());
        }
        if cause.downcast_ref::<io::Error>().is_some_and(is_read_only) {
            fix = fix.or_else(|| Some(MOUNT_AGAIN.to_owned()));
        }
        let client = cause.downcast_ref::<ClientError>();
        let word = match client {
            Some(e) if e.is_setting() => "correct KEYSTEAD_API (--api) and KEYSTEAD_TOKEN",
            Some(ClientError::Transport(_)) => {
                "start it with `keystead dev`, or correct KEYSTEAD_API (--api)"
            }
            Some(ClientError::Shape { .. }) => {
                "something else listens there; correct KEYSTEAD_API (--api)"
            }
            _ => continue,
        };
        fix = fix.or_else(|| Some(word.to_owned()));
        if matches!(client, Some(ClientError::Transport(_))) {
            // The library's layers in between tell nobody anything.
            text.push_str(&format!("  why: {}\n", crate::commands::innermost(cause)));
            break;
        }
    }
    if let Some(fix) = fix {
        text.push_str(&format!("  fix: {}\n", fix.replace('\n', "\n       ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_why_and_fix_stand_in_their_lines() {
        let inner: anyhow::Result<()> = Err(Failure::new("the port is taken")
            .why("another process listens there")
            .fix("stop it")
            .into());
        let error = inner.context("start control").expect_err("it failed");
        assert_eq!(
            render(&error),
            "error: start control\n  why: the port is taken\n  why: another process listens there\n  fix: stop it\n"
        );
    }
}
