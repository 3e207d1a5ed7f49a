//! Heads of the trail, kept by the node as a witness: one a minute, one JSON object a line in
//! `DATA/heads.jsonl`, and the newest in `DATA/head.json`. `keystead audit verify --heads` holds
//! them against the trail: a trail that was cut or rewritten no longer contains them.

use crate::disk;
use keystead_aws::watch::WatchResponse;
use keystead_types::Boot;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Line<'a> {
    time_ms: i64,
    epoch: &'a str,
    sequence: u64,
    chain: &'a str,
    signature: &'a str,
}

/// Keeps them.
pub(crate) struct Heads {
    lines: PathBuf,
    newest: PathBuf,
    written: Option<Boot>,
}

impl Heads {
    pub(crate) fn new(data: &Path) -> Self {
        Self { lines: data.join("heads.jsonl"), newest: data.join("head.json"), written: None }
    }

    /// Takes note of an answer's head.
    pub(crate) fn saw(
        &mut self,
        answer: &WatchResponse,
        now: Boot,
        wall_ms: i64,
    ) -> std::io::Result<()> {
        let line = Line {
            time_ms: wall_ms,
            epoch: &answer.epoch,
            sequence: answer.head.sequence,
            chain: &answer.head.chain,
            signature: &answer.head.signature,
        };
        if self.written.is_none_or(|at| now.since(at) >= EVERY) {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.lines)?;
            let mut text = serde_json::to_string(&line).map_err(std::io::Error::other)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            disk::replace(&self.newest, &line)?;
            self.written = Some(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_aws::watch::Head;

    #[test]
    fn one_a_minute() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut heads = Heads::new(folder.path());
        let answer = WatchResponse {
            sequence: 1,
            epoch: "e".into(),
            named: vec![],
            scheduler_time_ms: 0,
            head: Head { sequence: 9, chain: "00".into(), signature: "AA==".into() },
        };
        for second in [0, 1, 59, 60, 61] {
            let now = Boot::since_boot(Duration::from_secs(second));
            heads.saw(&answer, now, 5).expect("kept");
        }
        let text = std::fs::read_to_string(folder.path().join("heads.jsonl")).expect("there");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("\"sequence\":9"));
    }
}
