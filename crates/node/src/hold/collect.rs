//! Reads a process's stream so that it never blocks on a full pipe, and keeps a bounded part.

use super::cluster::kernel;
use super::wire::{Fault, FaultKind};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

const HEAD_BYTES: usize = 64 << 10;
const TAIL_BYTES: usize = 4 << 10;
/// After the process's end its grandchildren may hold the pipe for ever: what has come by then is
/// what there is.
const REST: Duration = Duration::from_millis(200);

/// Which part is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Head,
    Tail,
}

impl Keep {
    fn cut(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Head => bytes.truncate(HEAD_BYTES),
            Self::Tail => drop(bytes.drain(..bytes.len().saturating_sub(TAIL_BYTES))),
        }
    }
}

#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    done: bool,
}

/// A stream that is being read.
pub(crate) struct Collector {
    write: Mutex<Option<OwnedFd>>,
    shared: Arc<(Mutex<Got>, Condvar)>,
}

impl Collector {
    pub(crate) fn start(keep: Keep) -> Result<Self, Fault> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| kernel("make a pipe", e))?;
        let shared = Arc::<(Mutex<Got>, Condvar)>::default();
        let filled = shared.clone();
        let run = move || {
            let (got, changed) = &*filled;
            let mut pipe = File::from(read);
            let mut buffer = [0u8; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
                got.bytes.extend_from_slice(&buffer[..n]);
                keep.cut(&mut got.bytes);
            }
            got.lock().unwrap_or_else(PoisonError::into_inner).done = true;
            changed.notify_all();
        };
        let thread = std::thread::Builder::new().name("collect".to_owned());
        thread.spawn(run).map_err(|e| kernel("start a thread", e))?;
        Ok(Self { write: Mutex::new(Some(write)), shared })
    }

    /// The process's end of the pipe, once.
    pub(crate) fn end(&self) -> Result<OwnedFd, Fault> {
        let taken = self.write.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| Fault::new(FaultKind::Refused, "a stream is taken once"))
    }

    /// What was kept, after the process's end.
    pub(crate) fn text(self) -> String {
        let (got, changed) = &*self.shared;
        let got = got.lock().unwrap_or_else(PoisonError::into_inner);
        let got = changed.wait_timeout_while(got, REST, |g| !g.done);
        let got = got.unwrap_or_else(PoisonError::into_inner).0;
        String::from_utf8_lossy(&got.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_are_bounded() {
        let mut bytes = vec![1; HEAD_BYTES + 1];
        Keep::Head.cut(&mut bytes);
        assert_eq!(bytes.len(), HEAD_BYTES);
        *bytes.last_mut().expect("not empty") = 2;
        Keep::Tail.cut(&mut bytes);
        assert_eq!((bytes.len(), bytes.last()), (TAIL_BYTES, Some(&2)));
        Keep::Tail.cut(&mut bytes);
        assert_eq!(bytes.len(), TAIL_BYTES);
    }

    #[test]
    fn a_pipe_that_stays_open_does_not_hold_up_the_answer() {
        let collector = Collector::start(Keep::Head).expect("starts");
        let end = collector.end().expect("once");
        assert!(collector.end().is_err());
        rustix::io::write(&end, b"so far").expect("written");
        let text = collector.text();
        assert_eq!(text, "so far");
        drop(end);
    }
}
