//! What a cluster does next: a pure decision from its state, its lease and the clock.
//!
//! ```text
//! stage   Down -> Formatted -> Attached -> Prepared -> Started -> Ready      (each by one step)
//! fence   Open -> Frozen -> Open          refusal, or half a second before `until`; thaw when live
//!                 Frozen -> (evict) Down, Open
//! lost    any stage -> (evict) Down, Open    an image is lost to its server, as by a power cut
//! ```
//! A step runs on a thread of its own and ends in [`Event::Done`]; freeze, thaw and evict run at
//! once, whatever step is under way: its I/O waits at the gate, its processes in the freezer. A
//! step that an eviction overtook is told by its run number and counts for nothing.

use keystead_types::{Boot, Cause, LeaseWord};
use std::time::Duration;

/// A silent KMS: freezing begins this long before the lease ends.
pub(crate) const AHEAD: Duration = Duration::from_millis(500);
/// A lease must be good for this long before a thaw.
const ROOM: Duration = Duration::from_millis(1_000);
/// A silence that lasts this much longer than the lease costs the keys.
const ZEROIZE: Duration = Duration::from_secs(10);
/// FIFREEZE missed its deadline: every sync(2) of the machine hangs, so it is not kept up.
const STALLED: Duration = Duration::from_secs(3);
/// Between two tries of a step, between two looks at the workload, between two thaws that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a workload that is starting.
const LOOK: Duration = Duration::from_millis(250);
const THAW_AGAIN: Duration = Duration::from_millis(400);

/// What the keeper last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseView {
    pub(crate) word: LeaseWord,
    pub(crate) cause: Option<Cause>,
    pub(crate) until: Option<Boot>,
}

impl LeaseView {
    fn good_for(&self, now: Boot, span: Duration) -> bool {
        self.word == LeaseWord::Live && self.until.is_some_and(|until| until >= now.plus(span))
    }
}

/// What the assignment and the disk say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// Every volume has its wrapped key recorded and its grant made.
    pub(crate) provisioned: bool,
    /// Every volume's key digest is recorded by control.
    pub(crate) recorded: bool,
    /// The owner's choice.
    pub(crate) evict_after: Duration,
    /// The owner's choice: an adopted cluster is frozen after this long without a word of KMS.
    pub(crate) silence: Duration,
}

/// How far the workload is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Down,
    Formatted,
    Attached,
    Prepared,
    Started,
    Ready,
}

/// The next thing to do for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Format,
    Attach,
    Prepare,
    Spawn,
    Check,
}

/// The fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    Open,
    /// `keys`: the gate closed by time alone, or a thaw failed: keys may still be there.
    Frozen {
        since: Boot,
        held: Held,
        keys: bool,
        stalled: bool,
        retry: Boot,
    },
}

/// What of the freeze the holder has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Adopted: its requests wait at closed gates, nothing is frozen yet.
    Gates,
    /// Processes and file systems are frozen.
    Whole,
    /// Refused, failed in part, or undone in part by a thaw that failed: asked for again then.
    Owed { again: Boot },
}

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or lease or facts changed.
    Look,
    /// A step ended; `ended` tells of a workload process that ended by itself.
    Done { run: u64, step: Step, good: bool, ended: bool },
    /// The freeze was asked for; `good`: everything is frozen or FIFREEZE is under way; `late`:
    /// FIFREEZE missed its deadline.
    FreezeDone { good: bool, late: bool },
    /// The eviction left nothing, or something.
    EvictDone { good: bool },
    /// The thaw worked, or not.
    ThawDone { good: bool },
    /// What was written to a volume since its last flush may be gone: to go on would be to serve
    /// what no crash could have left. Taken off the host, it comes back as after a power cut.
    Lost,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start {
        run: u64,
        step: Step,
    },
    /// Freeze the processes, then the file systems; with `zeroize` close the gates after it.
    Freeze {
        zeroize: bool,
    },
    /// Close the gates: the keys go.
    Zeroize,
    Thaw,
    Evict,
}

/// One cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) stage: Stage,
    pub(crate) fence: Fence,
    pub(crate) run: u64,
    busy: Option<Step>,
    /// An attach was begun: gates may be open and disks mounted, whether it came to its end or not.
    touched: bool,
    /// An eviction that left something is repeated then.
    evict_again: Option<Boot>,
    not_before: Boot,
    lapsed_until: Option<Boot>,
    /// The end of the last lease that lived; one made anew begins unproved.
    lived_until: Option<Boot>,
}

impl Machine {
    /// A cluster of which the holder has nothing.
    pub(crate) fn down() -> Self {
        Self {
            stage: Stage::Down,
            fence: Fence::Open,
            run: 0,
            busy: None,
            touched: false,
            evict_again: None,
            not_before: Boot::since_boot(Duration::ZERO),
            lapsed_until: None,
            lived_until: None,
        }
    }

    /// A cluster that a former process of this node left with the holder: its gates are closed, so
    /// it is fenced until the lease lives.
    pub(crate) fn adopted(stage: Stage, held: bool, now: Boot) -> Self {
        let held = if held { Held::Whole } else { Held::Gates };
        let fence = Fence::Frozen { since: now, held, keys: false, stalled: false, retry: now };
        Self { stage, fence, touched: true, ..Self::down() }
    }

    /// True when volumes may be with the holder, or keys behind open gates.
    fn attached(&self) -> bool {
        self.touched
    }

    /// When the frozen workload is taken out of memory.
    pub(crate) fn evict_at(&self, facts: &Facts, lease: &LeaseView) -> Option<Boot> {
        let Fence::Frozen { since, stalled, held, .. } = self.fence else { return None };
        if held == Held::Gates {
            return None;
        }
        let after = if stalled {
            STALLED.min(facts.evict_after)
        } else if lease.word == LeaseWord::Dead || lease.cause == Some(Cause::KeyDeleted) {
            Duration::ZERO
        } else {
            facts.evict_after
        };
        Some(since.plus(after))
    }

    /// Decides.
    pub(crate) fn next(
        &mut self,
        now: Boot,
        lease: &LeaseView,
        facts: &Facts,
        event: Event,
    ) -> Vec<Action> {
        if lease.word == LeaseWord::Live {
            self.lived_until = lease.until;
        }
        match event {
            Event::Look => {}
            Event::Done { run, .. } if run != self.run => {}
            Event::Done { step, good, ended, .. } => self.done(now, step, good, ended),
            Event::FreezeDone { good, late } => {
                if let Fence::Frozen { held, stalled, .. } = &mut self.fence {
                    let owed = Held::Owed { again: now.plus(AGAIN) };
                    (*held, *stalled) = (if good { Held::Whole } else { owed }, late);
                }
            }
            Event::EvictDone { good } => {
                self.evict_again = (!good).then(|| now.plus(AGAIN));
            }
            Event::Lost if self.attached() => {
                let actions = self.evict();
                self.not_before = now.plus(AGAIN);
                return actions;
            }
            Event::Lost => {}
            Event::ThawDone { good: true } => {
                self.fence = Fence::Open;
                // Whatever waited in the freezer is looked at soon, not at once.
                self.not_before = now;
            }
            Event::ThawDone { good: false } => {
                if let Fence::Frozen { since, held, retry, keys, .. } = &mut self.fence {
                    // Some gate may be open by now, and some of it thawed. It is asked for while
                    // the lease lives only: what comes next is another outage.
                    (*since, *held) = (now, Held::Owed { again: now });
                    (*retry, *keys) = (now.plus(THAW_AGAIN), true);
                }
            }
        }
        self.look(now, lease, facts)
    }

    fn done(&mut self, now: Boot, step: Step, good: bool, ended: bool) {
        self.busy = None;
        let pause = match (step, good) {
            // Starting: looked at often, so that it is not down longer than it takes.
            (Step::Check, false) if !ended && self.stage == Stage::Started => LOOK,
            (Step::Check, _) | (_, false) => AGAIN,
            (_, true) => Duration::ZERO,
        };
        self.not_before = now.plus(pause);
        self.stage = match (step, good) {
            (Step::Format, true) => Stage::Formatted,
            (Step::Attach, true) => Stage::Attached,
            (Step::Prepare, true) => Stage::Prepared,
            (Step::Spawn, true) => Stage::Started,
            (Step::Check, true) => Stage::Ready,
            (Step::Check, false) if ended => Stage::Prepared,
            (Step::Check, false) => Stage::Started,
            (_, false) => self.stage,
        };
    }

    fn look(&mut self, now: Boot, lease: &LeaseView, facts: &Facts) -> Vec<Action> {
        if let Some(at) = self.evict_again {
            return if now >= at { vec![Action::Evict] } else { Vec::new() };
        }
        match self.fence {
            Fence::Open if self.attached() => match self.freeze(now, lease) {
                Some(action) => vec![action],
                None => self.step(now, lease, facts),
            },
            Fence::Open => self.step(now, lease, facts),
            Fence::Frozen { .. } => self.fenced(now, lease, facts),
        }
    }

    /// Open, with volumes attached: is it time to fence?
    fn freeze(&mut self, now: Boot, lease: &LeaseView) -> Option<Action> {
        let zeroize = match lease.word {
            LeaseWord::Frozen | LeaseWord::Dead => true,
            LeaseWord::Live if lease.good_for(now, AHEAD) => return None,
            LeaseWord::Live | LeaseWord::Lapsed => false,
            // The gates stay open until the end of the lease before this one.
            LeaseWord::None | LeaseWord::Unproved
                if self.lived_until.is_some_and(|until| until >= now.plus(AHEAD)) =>
            {
                return None;
            }
            LeaseWord::None | LeaseWord::Unproved => false,
        };
        self.lapsed_until = Some(lease.until.unwrap_or(now));
        let held = Held::Owed { again: now.plus(AGAIN) };
        self.fence = Fence::Frozen { since: now, held, keys: !zeroize, stalled: false, retry: now };
        Some(Action::Freeze { zeroize })
    }

    fn fenced(&mut self, now: Boot, lease: &LeaseView, facts: &Facts) -> Vec<Action> {
        let evict_at = self.evict_at(facts, lease);
        let until = self.lapsed_until.max(self.lived_until);
        let Fence::Frozen { since, held, keys, retry, .. } = &mut self.fence else {
            return Vec::new();
        };
        if lease.good_for(now, ROOM) {
            if now < *retry {
                return Vec::new();
            }
            // One thaw at a time; a failed one sets its own time.
            *retry = now.plus(THAW_AGAIN);
            return vec![Action::Thaw];
        }
        if evict_at.is_some_and(|at| now >= at) {
            return self.evict();
        }
        let refused = matches!(lease.word, LeaseWord::Frozen | LeaseWord::Dead);
        match *held {
            Held::Whole => {}
            // Until its lease is known, or silence has lasted.
            Held::Gates if refused || now >= since.plus(facts.silence) => {
                (*since, *held, *keys) = (now, Held::Owed { again: now.plus(AGAIN) }, false);
                return vec![Action::Freeze { zeroize: true }];
            }
            Held::Owed { again } if now >= again => {
                *held = Held::Owed { again: now.plus(AGAIN) };
                let zeroize = refused || !*keys;
                *keys = !zeroize;
                return vec![Action::Freeze { zeroize }];
            }
            Held::Gates | Held::Owed { .. } => {}
        }
        let silent_for_long = until.is_some_and(|until| now >= until.plus(ZEROIZE));
        if *keys && (refused || silent_for_long) {
            *keys = false;
            return vec![Action::Zeroize];
        }
        Vec::new()
    }

    /// Whatever step is under way counts for nothing any more.
    fn evict(&mut self) -> Vec<Action> {
        *self = Self { run: self.run + 1, ..Self::down() };
        vec![Action::Evict]
    }

    /// Not fenced: the next step of bringing the workload up.
    fn step(&mut self, now: Boot, lease: &LeaseView, facts: &Facts) -> Vec<Action> {
        if self.busy.is_some() || now < self.not_before || !lease.good_for(now, ROOM) {
            return Vec::new();
        }
        let step = match self.stage {
            Stage::Down if !facts.provisioned => return Vec::new(),
            Stage::Down => Step::Format,
            Stage::Formatted if !facts.recorded => return Vec::new(),
            Stage::Formatted => Step::Attach,
            Stage::Attached => Step::Prepare,
            Stage::Prepared => Step::Spawn,
            Stage::Started | Stage::Ready => Step::Check,
        };
        self.busy = Some(step);
        self.touched |= step == Step::Attach;
        vec![Action::Start { run: self.run, step }]
    }
}

#[cfg(test)]
mod tests;
