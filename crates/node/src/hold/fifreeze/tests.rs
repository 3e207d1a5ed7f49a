use super::*;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// A kernel that does each call when the test lets it.
struct Slow {
    tell: SyncSender<&'static str>,
    go: Mutex<Receiver<bool>>,
}

impl Slow {
    fn call(&self, what: &'static str) -> Result<(), SysError> {
        self.tell.send(what).expect("the test listens");
        let go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
        if go.recv().expect("the test answers") {
            Ok(())
        } else {
            Err(SysError::NotMounted("/m".into()))
        }
    }
}

impl Calls for Slow {
    fn freeze(&self, _: &Path) -> Result<(), SysError> {
        self.call("freeze")
    }
    fn thaw(&self, _: &Path) -> Result<(), SysError> {
        self.call("thaw")
    }
}

struct Test {
    fs: Arc<FsState>,
    told: Receiver<&'static str>,
    go: SyncSender<bool>,
}

impl Test {
    fn new() -> Self {
        let ((tell, told), (go, went)) = (sync_channel(8), sync_channel(8));
        let fs = FsState::new(Box::new(Slow { tell, go: Mutex::new(went) }));
        Self { fs, told, go }
    }
    fn called(&self, what: &str) {
        assert_eq!(self.told.recv_timeout(Duration::from_secs(5)).expect("a call"), what);
    }
    fn settle(&self) -> FsWord {
        assert!(self.fs.settle(Instant::now() + Duration::from_secs(5)));
        self.fs.word()
    }
}

fn m() -> &'static Path {
    Path::new("/m")
}

#[test]
fn a_freeze_asked_twice_is_one_call_and_a_deadline_leaves_it_running() {
    let t = Test::new();
    t.fs.begin_freeze(m());
    t.called("freeze");
    t.fs.begin_freeze(m());
    assert!(!t.fs.settle(Instant::now() + Duration::from_millis(20)));
    assert_eq!((t.fs.word(), t.fs.freeze_report()), (FsWord::Freezing, Fifreeze::Late));
    // A thaw has nothing to do yet.
    t.fs.begin_thaw(m());
    t.go.send(true).expect("runs");
    assert_eq!(t.settle(), FsWord::Frozen);
    t.fs.begin_freeze(m());
    assert!(matches!(t.fs.freeze_report(), Fifreeze::Done(_)));
    assert!(t.told.try_recv().is_err(), "no second call");
}

#[test]
fn a_refused_freeze_is_thawed_and_says_why() {
    let t = Test::new();
    t.fs.begin_freeze(m());
    t.go.send(false).expect("runs");
    assert_eq!(t.settle(), FsWord::Thawed);
    assert!(matches!(t.fs.freeze_report(), Fifreeze::Failed(_)));
}

#[test]
fn a_failed_thaw_stays_frozen_and_can_be_repeated() {
    let t = Test::new();
    t.fs.begin_freeze(m());
    t.go.send(true).expect("runs");
    t.settle();
    t.fs.begin_thaw(m());
    t.go.send(false).expect("runs");
    assert_eq!(t.settle(), FsWord::Frozen);
    assert!(t.fs.thaw_error().is_some());
    t.fs.begin_thaw(m());
    t.go.send(true).expect("runs");
    assert_eq!((t.settle(), t.fs.thaw_error()), (FsWord::Thawed, None));
}

#[test]
fn a_freeze_while_it_thaws_comes_right_after_it() {
    let t = Test::new();
    t.fs.begin_freeze(m());
    t.called("freeze");
    t.go.send(true).expect("runs");
    t.settle();
    t.fs.begin_thaw(m());
    t.called("thaw");
    t.fs.begin_freeze(m());
    t.go.send(true).expect("the thaw");
    t.called("freeze");
    assert_eq!(t.fs.word(), FsWord::Freezing);
    t.go.send(true).expect("the freeze");
    assert_eq!(t.settle(), FsWord::Frozen);
}
