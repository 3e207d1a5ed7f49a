//! PostgreSQL's own load generator beside ours: it knows nothing of freezes and must see no error.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";

pub(crate) struct Pgbench {
    child: Child,
    folder: tempfile::TempDir,
}

impl Pgbench {
    pub(crate) fn start(uri: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new(PGBENCH).args(["-i", "-q", "-s", "2", uri]).output();
        let made = made.expect("pgbench is there");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(PGBENCH)
            .args(["-n", "-c", "4", "-j", "1", "-T", "36000", "-P", "1", uri])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("shared"))
            .stderr(log)
            .spawn()
            .expect("pgbench starts");
        Self { child, folder }
    }

    /// Ends it; it must have run to the last and seen no error.
    pub(crate) fn finish(mut self) {
        let text = std::fs::read_to_string(self.log()).expect("the log is there");
        let ended = self.child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "pgbench ended by itself: {text}");
        assert!(!text.contains("error") && !text.contains("aborted"), "{text}");
        assert!(text.contains("tps"), "pgbench did nothing: {text}");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
