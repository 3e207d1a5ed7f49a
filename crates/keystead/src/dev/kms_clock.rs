//! `keystead dev kms-clock`: puts the scheduler of a folder's KMS forward, so that one sees what a
//! deletion does without waiting a week, or a rotation without waiting a year. Only what KMS does
//! by itself goes by that clock.

use super::folder::{self, write_private};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const MINUTE_MS: i64 = 60_000;

/// Where the server reads how far it is ahead.
pub(crate) fn file(root: &Path) -> PathBuf {
    root.join("config/kms-scheduler-ahead")
}

/// Moves it by a span as `+8d`; keys that fall due are gone for good.
pub(crate) fn put_forward(root: &Path, span: &str) -> Result<()> {
    if !folder::is_ours(root) {
        return Err(folder::foreign(root).fix("name the folder by --data DIR").into());
    }
    let by = parse(span).ok_or_else(|| {
        Failure::new(format!("`{span}` is no span"))
            .why("the scheduler's clock goes forward only, at most 400 days at a time")
            .fix("write it as +8d, +90m or +2h")
    })?;
    let path = file(root);
    let before = match fs::read_to_string(&path) {
        Ok(text) => {
            text.trim().parse::<i64>().with_context(|| format!("read {}", path.display()))?
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let ahead = before.saturating_add(by);
    write_private(&path, &format!("{ahead}\n"))?;
    let (days, hours) = (ahead / (24 * 60 * MINUTE_MS), ahead / (60 * MINUTE_MS) % 24);
    say!("the scheduler of {} is {days} days {hours} h ahead", root.display());
    say!("keys whose waiting period is over by then are deleted within a second, for good;");
    say!("keys whose rotation is due by then are rotated");
    Ok(())
}

fn parse(span: &str) -> Option<i64> {
    let digits = span.strip_prefix('+').unwrap_or(span);
    let (digits, unit) = digits.split_at_checked(digits.len().checked_sub(1)?)?;
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let by = digits.parse::<i64>().ok()?.checked_mul(minutes * MINUTE_MS)?;
    (by <= 400 * 24 * 60 * MINUTE_MS).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_forward_only() {
        assert_eq!(parse("+8d"), Some(8 * 86_400_000));
        assert_eq!(parse("90m"), Some(90 * MINUTE_MS));
        for wrong in ["", "+", "d", "-8d", "+-8d", "8", "8w", "401d", "9999999999999999999d", "8é"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn it_adds_up_and_leaves_foreign_folders_alone() {
        let outer = tempfile::tempdir().expect("a folder");
        assert!(put_forward(outer.path(), "+8d").is_err());
        let root = outer.path().join("data");
        drop(folder::Folder::open(&root).expect("it opens"));
        put_forward(&root, "+8d").expect("put forward");
        put_forward(&root, "+1h").expect("put forward");
        let text = fs::read_to_string(file(&root)).expect("kept");
        assert_eq!(text.trim(), (8 * 86_400_000 + 3_600_000).to_string());
    }
}
