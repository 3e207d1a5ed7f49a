//! What the supervisor says: to stderr, and with the time into `DIR/log/dev.log`.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The supervisor's own log.
#[derive(Debug, Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    /// `dev.log` of the folder.
    pub(crate) fn of(folder: &super::folder::Folder) -> Self {
        Self(folder.log().join("dev.log"))
    }

    /// A line. A log that cannot be written stops nobody: stderr has it too.
    pub(crate) fn line(&self, text: &str) {
        eprintln!("{text}");
        let now = jiff::Timestamp::from_millisecond(crate::clock::wall_ms());
        let now = now.map(|t| format!("{t:.3}")).unwrap_or_default();
        let line = format!("{now} {text}\n");
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(&self.0);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// The last line of a file that is not blank, with the indented ones that follow from it, at most
/// 400 characters.
pub(crate) fn last_line(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().rev().filter(|l| !l.trim().is_empty()) {
        lines.insert(0, line.trim());
        if !line.starts_with("  ") {
            break;
        }
    }
    (!lines.is_empty()).then(|| lines.join("; ").chars().take(400).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_the_time_and_the_last_one_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = Log(dir.path().join("dev.log"));
        assert_eq!(last_line(&log.0), None);
        log.line("kms ended");
        log.line("kms started again");
        let text = std::fs::read_to_string(&log.0).expect("the log");
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("20") && text.contains("Z kms ended\n"), "{text}");
        let last = last_line(&log.0).expect("a line");
        assert!(last.ends_with("Z kms started again"), "{last}");
        std::fs::write(&log.0, [b'x'; 9000]).expect("written");
        assert_eq!(last_line(&log.0).map(|l| l.len()), Some(400));
        std::fs::write(&log.0, "INFO here\nerror: serve node\n  why: swap is on\n")
            .expect("written");
        assert_eq!(last_line(&log.0).as_deref(), Some("error: serve node; why: swap is on"));
    }
}
