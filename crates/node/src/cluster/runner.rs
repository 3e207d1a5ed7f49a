//! One cluster's thread: asks the machine, does what it says, tells it what came of it.
//!
//! Freeze, thaw and evict run on this thread and block; each step of bringing the workload up runs
//! on a thread of its own, so that no `initdb` holds up a freeze. What they touch is behind three
//! ports, so that all of it is tested without a kernel.

use super::machine::{Action, Event, Facts, Fence, LeaseView, Machine, Step};
use keystead_types::{Boot, Clock};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// FIFREEZE has this long before the gates close over it.
const FREEZE_DEADLINE: Duration = Duration::from_millis(400);
/// The machine is asked at least this often.
const TICK: Duration = Duration::from_millis(50);

/// The holder: processes and file systems of this cluster.
pub(crate) trait Host: Send + Sync + 'static {
    /// Freezes the processes, then the file systems; `Ok(true)` when FIFREEZE missed the deadline.
    /// An error: something is not frozen, and it is to be asked for again.
    fn freeze(&self, deadline: Duration) -> Result<bool, String>;
    /// Thaws both; harmless when nothing is frozen.
    fn thaw(&self) -> Result<(), String>;
    /// Takes the workload out of memory and the volumes off the host.
    fn evict(&self) -> Result<(), String>;
}

/// The gates of this cluster's volumes, and the keys behind them.
pub(crate) trait Gates: Send + Sync + 'static {
    /// Unwraps what has no key and opens every gate.
    fn open(&self) -> Result<(), String>;
    /// Closes every gate and zeroizes.
    fn close(&self);
    /// Why an image is lost to its server, if one is.
    fn lost(&self) -> Option<String>;
    /// After an eviction: the servers end.
    fn drop_servers(&self);
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepFailed {
    pub(crate) message: String,
    /// A workload process ended by itself.
    pub(crate) ended: bool,
}

/// What brings the workload up.
pub(crate) trait Steps: Send + Sync + 'static {
    /// Runs a step to its end; safe to repeat.
    fn run(&self, step: Step) -> Result<(), StepFailed>;
}

/// What others tell a cluster's thread; the newest lease and facts win, no event is lost.
pub(crate) struct Inbox {
    inner: Mutex<Letters>,
    came: Condvar,
}

struct Letters {
    lease: LeaseView,
    facts: Facts,
    events: Vec<Event>,
    message: Option<String>,
    fresh: bool,
    stop: bool,
}

impl Inbox {
    pub(crate) fn new(lease: LeaseView, facts: Facts) -> Arc<Self> {
        let letters =
            Letters { lease, facts, events: Vec::new(), message: None, fresh: true, stop: false };
        Arc::new(Self { inner: Mutex::new(letters), came: Condvar::new() })
    }

    fn with(&self, change: impl FnOnce(&mut Letters)) {
        let mut letters = self.lock();
        change(&mut letters);
        letters.fresh = true;
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper's word.
    pub(crate) fn lease(&self, lease: LeaseView) {
        self.with(|l| l.lease = lease);
    }
    /// The assignment's.
    pub(crate) fn facts(&self, facts: Facts) {
        self.with(|l| l.facts = facts);
    }
    /// Ends the thread; volumes and processes stay as they are.
    pub(crate) fn stop(&self) {
        self.with(|l| l.stop = true);
    }
}

/// What the thread tells the board after each round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) machine: Machine,
    pub(crate) evict_at: Option<Boot>,
    pub(crate) stalled: bool,
    pub(crate) message: Option<String>,
}

/// The thread's parts.
pub(crate) struct Runner {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) gates: Arc<dyn Gates>,
    pub(crate) steps: Arc<dyn Steps>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) report: Box<dyn Fn(Seen) + Send>,
}

impl Runner {
    /// Runs until the inbox says stop.
    pub(crate) fn run(self, mut machine: Machine) {
        let mut last = None;
        loop {
            let (lease, facts, events, message, stop) = self.wait();
            if stop {
                return;
            }
            let lost = self.gates.lost().map(|why| {
                tracing::error!(
                    why,
                    "an image is lost; the cluster comes back as after a power cut"
                );
                Event::Lost
            });
            for event in events.into_iter().chain(lost).chain([Event::Look]) {
                let mut actions = machine.next(self.clock.boot(), &lease, &facts, event);
                // An action's own end may call for the next one at once.
                while let Some(follow) = self.act(std::mem::take(&mut actions)) {
                    actions = machine.next(self.clock.boot(), &lease, &facts, follow);
                }
            }
            let seen = Seen {
                evict_at: machine.evict_at(&facts, &lease),
                stalled: matches!(machine.fence, Fence::Frozen { stalled: true, .. }),
                machine: machine.clone(),
                message,
            };
            if last.as_ref() != Some(&seen) {
                (self.report)(seen.clone());
                last = Some(seen);
            }
        }
    }

    fn wait(&self) -> (LeaseView, Facts, Vec<Event>, Option<String>, bool) {
        let mut letters = self.inbox.lock();
        if !letters.fresh {
            letters = match self.inbox.came.wait_timeout(letters, TICK) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        letters.fresh = false;
        let events = std::mem::take(&mut letters.events);
        (letters.lease, letters.facts, events, letters.message.clone(), letters.stop)
    }

    /// Does what the machine said; the machine says at most one blocking thing at a time.
    fn act(&self, actions: Vec<Action>) -> Option<Event> {
        let mut follow = None;
        for action in actions {
            match action {
                Action::Start { run, step } => self.start(run, step),
                Action::Freeze { zeroize } => {
                    let frozen = self.host.freeze(FREEZE_DEADLINE);
                    if let Err(error) = &frozen {
                        tracing::error!(%error, "the holder did not freeze; the gates close");
                    }
                    if zeroize {
                        self.gates.close();
                    }
                    // A holder that does not answer is no reason to evict in three seconds.
                    let (good, late) = (frozen.is_ok(), frozen.unwrap_or(false));
                    follow = Some(Event::FreezeDone { good, late });
                }
                Action::Zeroize => self.gates.close(),
                Action::Thaw => {
                    let done = self.gates.open().and_then(|()| self.host.thaw());
                    if let Err(error) = &done {
                        tracing::warn!(%error, "not thawed yet");
                    }
                    follow = Some(Event::ThawDone { good: done.is_ok() });
                    self.inbox.with(|l| l.message = done.err());
                }
                Action::Evict => {
                    let evicted = self.host.evict();
                    if let Err(error) = &evicted {
                        tracing::error!(%error, "eviction");
                    }
                    self.gates.close();
                    self.gates.drop_servers();
                    follow = Some(Event::EvictDone { good: evicted.is_ok() });
                    self.inbox.with(|l| l.message = evicted.err());
                }
            }
        }
        follow
    }

    fn start(&self, run: u64, step: Step) {
        let (steps, inbox) = (self.steps.clone(), self.inbox.clone());
        let spawned = std::thread::Builder::new().name(format!("{step:?}")).spawn(move || {
            let result = steps.run(step);
            let ended = result.as_ref().err().is_some_and(|e| e.ended);
            if let Err(failed) = &result {
                tracing::warn!(?step, message = %failed.message, "a step failed");
            }
            inbox.with(|l| {
                l.events.push(Event::Done { run, step, good: result.is_ok(), ended });
                l.message = result.err().map(|e| e.message);
            });
        });
        if let Err(error) = spawned {
            self.inbox.with(|l| {
                l.events.push(Event::Done { run, step, good: false, ended: false });
                l.message = Some(format!("a thread: {error}"));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Stage;
    use super::*;
    use crate::time::SystemClock;
    use keystead_types::{Cause, LeaseWord};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Host, gates and steps in memory: they write down what was asked, in order.
    struct Memory {
        told: SyncSender<String>,
        lost: AtomicBool,
    }

    impl Memory {
        fn say(&self, what: impl Into<String>) {
            self.told.send(what.into()).expect("the test listens");
        }
    }
    impl Host for Memory {
        fn freeze(&self, _: Duration) -> Result<bool, String> {
            self.say("freeze");
            Ok(false)
        }
        fn thaw(&self) -> Result<(), String> {
            self.say("thaw");
            Ok(())
        }
        fn evict(&self) -> Result<(), String> {
            self.say("evict");
            Ok(())
        }
    }
    impl Gates for Memory {
        fn open(&self) -> Result<(), String> {
            self.say("open");
            Ok(())
        }
        fn close(&self) {
            self.say("close");
        }
        fn lost(&self) -> Option<String> {
            self.lost.swap(false, Ordering::SeqCst).then(|| "the disk".to_owned())
        }
        fn drop_servers(&self) {
            self.say("drop");
        }
    }
    impl Steps for Memory {
        fn run(&self, step: Step) -> Result<(), StepFailed> {
            if step != Step::Check {
                self.say(format!("{step:?}"));
            }
            Ok(())
        }
    }

    fn heard(from: &Receiver<String>, wanted: &[&str]) {
        for want in wanted {
            let got = from.recv_timeout(Duration::from_secs(5)).expect("it is asked");
            assert_eq!(got, *want);
        }
    }

    #[test]
    fn up_frozen_thawed_frozen_and_evicted_in_the_order_of_the_design() {
        let (tell, told) = sync_channel(64);
        let memory = Arc::new(Memory { told: tell, lost: AtomicBool::new(false) });
        let clock = Arc::new(SystemClock);
        let live = LeaseView {
            word: LeaseWord::Live,
            cause: None,
            until: Some(clock.boot().plus(Duration::from_secs(600))),
        };
        let refused =
            LeaseView { word: LeaseWord::Frozen, cause: Some(Cause::KeyDisabled), until: None };
        let facts = Facts {
            provisioned: true,
            recorded: true,
            evict_after: Duration::from_secs(600),
            silence: Duration::from_secs(10),
        };
        let inbox = Inbox::new(live, facts);
        let (seen, seeing) = sync_channel(1024);
        let runner = Runner {
            host: memory.clone(),
            gates: memory.clone(),
            steps: memory.clone(),
            clock,
            inbox: inbox.clone(),
            report: Box::new(move |s| {
                let _ = seen.try_send(s);
            }),
        };
        let thread = std::thread::spawn(move || runner.run(Machine::down()));
        heard(&told, &["Format", "Attach", "Prepare", "Spawn"]);
        while seeing.recv_timeout(Duration::from_secs(5)).expect("reported").machine.stage
            != Stage::Ready
        {}
        inbox.lease(refused);
        heard(&told, &["freeze", "close"]);
        inbox.lease(live);
        heard(&told, &["open", "thaw"]);
        inbox.lease(LeaseView { cause: Some(Cause::KeyDeleted), ..refused });
        heard(&told, &["freeze", "close", "evict", "close", "drop"]);
        inbox.lease(live);
        heard(&told, &["Format", "Attach", "Prepare", "Spawn"]);
        memory.lost.store(true, Ordering::SeqCst);
        heard(&told, &["evict", "close", "drop", "Format", "Attach"]);
        inbox.stop();
        thread.join().expect("it ends");
    }
}
