//! The segments on disk: appended whole or not at all.

use super::{Record, TrailError};
use keystead_aws::trail::{ChainState, SEGMENT_AGE_MS, SEGMENT_BYTES, TrailKey, segment_name};
use keystead_types::Clock;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Room kept on the disk ahead of the last line: a change that is made already finds place for its
/// record there, when the disk has been filled by others since.
const RESERVE: u64 = 1 << 20;

pub(super) struct Segments {
    folder: PathBuf,
    name: String,
    /// None once the disk refused for another reason than room: a file system that an error made
    /// read-only comes back by an unmount and a mount alone, and an open file forbids both. The
    /// next attempt opens the file anew.
    file: Option<File>,
    /// Bytes that are good and on disk.
    length: u64,
    /// Up to here the disk has promised its room.
    reserved: u64,
    opened_ms: i64,
    /// The closing line is written; the next segment is still to be begun.
    closed: bool,
    state: ChainState,
}

fn fault(what: &'static str) -> impl Fn(std::io::Error) -> TrailError {
    move |source| TrailError::File { what, source }
}

impl Segments {
    /// Goes on from the last segment of a folder; `seen` gets every record, oldest first.
    pub(super) fn open(
        folder: &Path,
        clock: &dyn Clock,
        key: &TrailKey,
        mut seen: impl FnMut(Record),
    ) -> Result<Self, TrailError> {
        fs::create_dir_all(folder).map_err(fault("make the folder of"))?;
        let mut names: Vec<String> = fs::read_dir(folder)
            .map_err(fault("list"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".jsonl"))
            .collect();
        names.sort();
        let mut state = ChainState::START;
        let mut last: Option<(String, Vec<u8>, bool)> = None;
        let newest = names.last().cloned();
        for name in names {
            let bytes = fs::read(folder.join(&name)).map_err(fault("read"))?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if whole == 0 && newest.as_ref() == Some(&name) {
                // Killed before its opening line was whole: nothing was recorded in it yet.
                fs::remove_file(folder.join(&name))
                    .map_err(fault("remove the empty segment of"))?;
                continue;
            }
            let mut closed = false;
            for line in bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let text = std::str::from_utf8(line).unwrap_or_default();
                state =
                    ChainState::of_line(text).ok_or_else(|| TrailError::Foreign(name.clone()))?;
                if let Ok(record) = serde_json::from_str::<Record>(text) {
                    closed = record.get("keystead").is_some_and(|k| k == "segment-closed");
                    seen(record);
                }
            }
            last = Some((name, bytes[whole..].to_vec(), closed));
        }
        let now = clock.wall_ms();
        let Some((name, torn, closed)) = last else { return Self::begin(folder, state, now) };
        if closed && torn.is_empty() {
            return Self::begin(folder, state, now);
        }
        let file = File::options().write(true).open(folder.join(&name)).map_err(fault("open"))?;
        let length = file.metadata().map_err(fault("measure"))?.len() - torn.len() as u64;
        let mut segments = Self {
            folder: folder.to_owned(),
            name,
            file: Some(file),
            length,
            reserved: 0,
            opened_ms: now,
            closed,
            state,
        };
        if !torn.is_empty() {
            segments.file()?.set_len(length).map_err(fault("cut"))?;
            let mut next = segments.state;
            let line = next.record_cut(&torn, now);
            segments.put(&format!("{line}\n"), next)?;
        }
        if closed {
            // Bytes after a closing line were torn; the chain goes on in a new segment.
            segments.turn(now, key)?;
        }
        Ok(segments)
    }

    fn begin(folder: &Path, state: ChainState, now_ms: i64) -> Result<Self, TrailError> {
        let name = segment_name(state.sequence + 1);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(&name))
            .map_err(fault("begin a segment of"))?;
        let mut segments = Self {
            folder: folder.to_owned(),
            name,
            file: Some(file),
            length: 0,
            reserved: 0,
            opened_ms: now_ms,
            closed: false,
            state,
        };
        let mut next = state;
        let line = next.open_segment(&segments.name, now_ms);
        let begun = segments.put(&format!("{line}\n"), next).and_then(|()| {
            File::open(folder).and_then(|f| f.sync_all()).map_err(fault("sync the folder of"))
        });
        if begun.is_err() {
            // An empty segment would be in the way of the next attempt.
            let _ = fs::remove_file(folder.join(&segments.name));
        }
        begun.map(|()| segments)
    }

    /// Where the chain stands on disk.
    pub(super) fn state(&self) -> ChainState {
        self.state
    }

    /// Sees that records can be appended: a segment that is not over, and room on the disk.
    pub(super) fn make_ready(&mut self, now_ms: i64, key: &TrailKey) -> Result<(), TrailError> {
        if self.closed || self.length >= SEGMENT_BYTES || now_ms - self.opened_ms >= SEGMENT_AGE_MS
        {
            self.turn(now_ms, key)?;
        }
        if self.reserved < self.length + RESERVE {
            let (flags, length) = (FallocateFlags::KEEP_SIZE, self.length);
            match rustix::fs::fallocate(self.file()?, flags, length, 2 * RESERVE) {
                // A file system without promises shows when it is written to.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => {
                    self.let_go(error);
                    return Err(fault("find room for")(error.into()));
                }
            }
            self.reserved = self.length + 2 * RESERVE;
        }
        Ok(())
    }

    /// The open segment. One that was let go is opened again, if it still is what was written.
    fn file(&mut self) -> Result<&File, TrailError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let path = self.folder.join(&self.name);
                let file =
                    File::options().read(true).write(true).open(&path).map_err(fault("open"))?;
                self.compare(&file)?;
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Up to the last good byte the file must be as it was left: the chain goes on from there.
    fn compare(&self, file: &File) -> Result<(), TrailError> {
        let mut good = vec![0; usize::try_from(self.length).unwrap_or(0)];
        file.read_exact_at(&mut good, 0).map_err(fault("read"))?;
        let last = good.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|b| *b == b'\n').next());
        let text = std::str::from_utf8(last.unwrap_or_default()).unwrap_or_default();
        if ChainState::of_line(text) != Some(self.state) {
            return Err(TrailError::Foreign(self.name.clone()));
        }
        // What a failed append left and could not take back.
        file.set_len(self.length).map_err(fault("cut"))
    }

    /// After a failed call; for room it is waited with the file open.
    fn let_go(&mut self, error: Errno) {
        self.reserved = 0;
        if !matches!(error, Errno::NOSPC | Errno::DQUOT) {
            self.file = None;
        }
    }

    /// Appends records and syncs them; on an error the file is as before.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), TrailError> {
        if self.closed {
            // Its successor could not be begun; nothing may follow a closing line.
            return Err(fault("append to")(std::io::Error::other("the segment is closed")));
        }
        let mut next = self.state;
        let mut text = String::new();
        for record in records {
            text.push_str(&next.append(record));
            text.push('\n');
        }
        self.put(&text, next)
    }

    /// Closes the segment with a signed line and begins the next.
    fn turn(&mut self, now_ms: i64, key: &TrailKey) -> Result<(), TrailError> {
        // Also one that is closed: where it is not to be found, its successor has no place.
        self.file()?;
        if !self.closed {
            let mut next = self.state;
            let line = next.close_segment(&self.name, now_ms, key);
            self.put(&format!("{line}\n"), next)?;
            self.closed = true;
            // Gives the room back that was kept ahead.
            let length = self.length;
            let _ = self.file()?.set_len(length);
        }
        let begun = Self::begin(&self.folder, self.state, now_ms);
        if begun.is_err() {
            self.file = None;
        }
        *self = begun?;
        Ok(())
    }

    fn put(&mut self, text: &str, next: ChainState) -> Result<(), TrailError> {
        let length = self.length;
        let mut file = self.file()?;
        let written = file
            .write_all_at(text.as_bytes(), length)
            .and_then(|()| file.flush())
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What was written in part must not stay; if that fails too, it is cut when the file
            // is opened the next time.
            let _ = file.set_len(length);
            self.let_go(Errno::from_io_error(&error).unwrap_or(Errno::IO));
            return Err(fault("append to")(error));
        }
        self.length += text.len() as u64;
        self.state = next;
        Ok(())
    }
}
