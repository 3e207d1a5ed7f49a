//! What a cluster does next: a pure decision from its state, its lease and the clock.
//!
//! ```text
//! stage   Down -> Formatted -> Attached -> Prepared -> Started -> Ready      (each by one step)
//! fence   Open -> Frozen -> Open          refusal, or half a second before `until`; thaw when live
//!                 Frozen -> (evict) Down, Open
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
    /// `held`: processes and file systems are frozen (an adopted cluster's are not yet); `keys`:
    /// the gate closed by time alone and its keys are still there.
    Frozen {
        since: Boot,
        held: bool,
        keys: bool,
        stalled: bool,
        retry: Boot,
    },
}

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or lease or facts changed.
    Look,
    /// A step ended; `ended` tells of a workload process that ended by itself.
    Done { run: u64, step: Step, good: bool, ended: bool },
    /// The freeze is done; `late`: FIFREEZE missed its deadline.
    FreezeDone { late: bool },
    /// The thaw worked, or not.
    ThawDone { good: bool },
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
    not_before: Boot,
    lapsed_until: Option<Boot>,
}

impl Machine {
    /// A cluster of which the holder has nothing.
    pub(crate) fn down() -> Self {
        Self {
            stage: Stage::Down,
            fence: Fence::Open,
            run: 0,
            busy: None,
            not_before: Boot::since_boot(Duration::ZERO),
            lapsed_until: None,
        }
    }

    /// A cluster that a former process of this node left with the holder: its gates are closed, so
    /// it is fenced until the lease lives.
    pub(crate) fn adopted(stage: Stage, held: bool, now: Boot) -> Self {
        let fence = Fence::Frozen { since: now, held, keys: false, stalled: false, retry: now };
        Self { stage, fence, ..Self::down() }
    }

    /// True when volumes are with the holder.
    pub(crate) fn attached(&self) -> bool {
        self.stage >= Stage::Attached || self.busy == Some(Step::Attach)
    }

    /// When the frozen workload is taken out of memory.
    pub(crate) fn evict_at(&self, facts: &Facts, lease: &LeaseView) -> Option<Boot> {
        let Fence::Frozen { since, stalled, held: true, .. } = self.fence else { return None };
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
        match event {
            Event::Look => {}
            Event::Done { run, .. } if run != self.run => {}
            Event::Done { step, good, ended, .. } => self.done(now, step, good, ended),
            Event::FreezeDone { late } => {
                if let Fence::Frozen { held, stalled, .. } = &mut self.fence {
                    (*held, *stalled) = (true, late);
                }
            }
            Event::ThawDone { good: true } => {
                self.fence = Fence::Open;
                // Whatever waited in the freezer is looked at soon, not at once.
                self.not_before = now;
            }
            Event::ThawDone { good: false } => {
                if let Fence::Frozen { retry, .. } = &mut self.fence {
                    *retry = now.plus(THAW_AGAIN);
                }
            }
        }
        self.look(now, lease, facts)
    }

    fn done(&mut self, now: Boot, step: Step, good: bool, ended: bool) {
        self.busy = None;
        self.not_before =
            now.plus(if good && step != Step::Check { Duration::ZERO } else { AGAIN });
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
            LeaseWord::None | LeaseWord::Unproved => return None,
        };
        self.lapsed_until = Some(lease.until.unwrap_or(now));
        self.fence =
            Fence::Frozen { since: now, held: false, keys: !zeroize, stalled: false, retry: now };
        Some(Action::Freeze { zeroize })
    }

    fn fenced(&mut self, now: Boot, lease: &LeaseView, facts: &Facts) -> Vec<Action> {
        let evict_at = self.evict_at(facts, lease);
        let until = self.lapsed_until;
        let Fence::Frozen { held, keys, retry, .. } = &mut self.fence else { return Vec::new() };
        if lease.good_for(now, ROOM) {
            if now < *retry {
                return Vec::new();
            }
            // One thaw at a time; a failed one sets its own time.
            *retry = now.plus(THAW_AGAIN);
            return vec![Action::Thaw];
        }
        if evict_at.is_some_and(|at| now >= at) {
            *self = Self { run: self.run + 1, ..Self::down() };
            return vec![Action::Evict];
        }
        let refused = matches!(lease.word, LeaseWord::Frozen | LeaseWord::Dead);
        if refused && !*held {
            (*held, *keys) = (true, false);
            return vec![Action::Freeze { zeroize: true }];
        }
        let silent_for_long = until.is_some_and(|until| now >= until.plus(ZEROIZE));
        if *keys && (refused || silent_for_long) {
            *keys = false;
            return vec![Action::Zeroize];
        }
        Vec::new()
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
        vec![Action::Start { run: self.run, step }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Boot {
        Boot::since_boot(Duration::from_millis(ms))
    }
    fn live(until: u64) -> LeaseView {
        LeaseView { word: LeaseWord::Live, cause: None, until: Some(at(until)) }
    }
    fn refused(cause: Cause) -> LeaseView {
        LeaseView { word: LeaseWord::Frozen, cause: Some(cause), until: None }
    }
    const FACTS: Facts =
        Facts { provisioned: true, recorded: true, evict_after: Duration::from_secs(60) };

    /// Brings a machine up, one good step after another.
    fn ready() -> Machine {
        let mut m = Machine::down();
        let mut event = Event::Look;
        for wanted in [Step::Format, Step::Attach, Step::Prepare, Step::Spawn, Step::Check] {
            let actions = m.next(at(0), &live(10_000), &FACTS, event);
            assert_eq!(actions, [Action::Start { run: 0, step: wanted }]);
            event = Event::Done { run: 0, step: wanted, good: true, ended: false };
        }
        assert!(m.next(at(0), &live(10_000), &FACTS, event).is_empty());
        assert_eq!(m.stage, Stage::Ready);
        m
    }

    #[test]
    fn nothing_starts_before_it_may() {
        let mut m = Machine::down();
        let unready = Facts { provisioned: false, ..FACTS };
        assert!(m.next(at(0), &live(10_000), &unready, Event::Look).is_empty());
        assert!(m.next(at(0), &refused(Cause::KeyDisabled), &FACTS, Event::Look).is_empty());
        assert!(m.next(at(9_500), &live(10_000), &FACTS, Event::Look).is_empty());
        assert_eq!(m.next(at(0), &live(10_000), &FACTS, Event::Look).len(), 1);
        let unrecorded = Facts { recorded: false, ..FACTS };
        let formatted = Event::Done { run: 0, step: Step::Format, good: true, ended: false };
        assert!(m.next(at(0), &live(10_000), &unrecorded, formatted).is_empty());
        assert_eq!(m.stage, Stage::Formatted);
    }

    #[test]
    fn a_refusal_freezes_and_zeroizes_and_a_live_lease_thaws() {
        let mut m = ready();
        let no = refused(Cause::KeyDisabled);
        assert_eq!(m.next(at(100), &no, &FACTS, Event::Look), [Action::Freeze { zeroize: true }]);
        assert!(m.next(at(150), &no, &FACTS, Event::FreezeDone { late: false }).is_empty());
        assert!(m.next(at(50_000), &no, &FACTS, Event::Look).is_empty());
        assert_eq!(m.next(at(50_001), &live(60_000), &FACTS, Event::Look), [Action::Thaw]);
        let failed = Event::ThawDone { good: false };
        assert!(m.next(at(50_002), &live(60_000), &FACTS, failed).is_empty());
        assert_eq!(m.next(at(50_500), &live(60_000), &FACTS, Event::Look), [Action::Thaw]);
        m.next(at(50_510), &live(60_000), &FACTS, Event::ThawDone { good: true });
        assert_eq!((m.fence, m.stage), (Fence::Open, Stage::Ready));
    }

    #[test]
    fn a_freeze_overtakes_a_step_under_way() {
        let mut m = Machine::down();
        m.next(at(0), &live(10_000), &FACTS, Event::Look);
        let done = Event::Done { run: 0, step: Step::Format, good: true, ended: false };
        m.next(at(0), &live(10_000), &FACTS, done);
        let no = refused(Cause::PolicyDenies);
        assert_eq!(m.next(at(9), &no, &FACTS, Event::Look), [Action::Freeze { zeroize: true }]);
    }

    #[test]
    fn silence_freezes_half_a_second_ahead_and_keeps_the_keys_for_ten_more() {
        let mut m = ready();
        assert!(
            !m.next(at(9_499), &live(10_000), &FACTS, Event::Look)
                .contains(&Action::Freeze { zeroize: false })
        );
        let freeze = Action::Freeze { zeroize: false };
        assert_eq!(m.next(at(9_501), &live(10_000), &FACTS, Event::Look), [freeze]);
        m.next(at(9_600), &live(10_000), &FACTS, Event::FreezeDone { late: false });
        let mut back = m.clone();
        assert_eq!(back.next(at(9_700), &live(19_650), &FACTS, Event::Look), [Action::Thaw]);
        let lapsed = LeaseView { word: LeaseWord::Lapsed, cause: None, until: None };
        assert!(m.next(at(19_999), &lapsed, &FACTS, Event::Look).is_empty());
        assert_eq!(m.next(at(20_000), &lapsed, &FACTS, Event::Look), [Action::Zeroize]);
        assert!(m.next(at(20_001), &lapsed, &FACTS, Event::Look).is_empty());
    }

    #[test]
    fn a_refusal_after_silence_takes_the_keys_at_once() {
        let mut m = ready();
        m.next(at(9_501), &live(10_000), &FACTS, Event::Look);
        m.next(at(9_600), &live(10_000), &FACTS, Event::FreezeDone { late: false });
        let no = refused(Cause::KeyDisabled);
        assert_eq!(m.next(at(9_700), &no, &FACTS, Event::Look), [Action::Zeroize]);
    }

    #[test]
    fn eviction_comes_after_its_time_and_old_steps_then_count_for_nothing() {
        let mut m = ready();
        let no = refused(Cause::KeyDisabled);
        m.next(at(1_000), &no, &FACTS, Event::Look);
        m.next(at(1_100), &no, &FACTS, Event::FreezeDone { late: false });
        assert_eq!(m.evict_at(&FACTS, &no), Some(at(61_000)));
        assert!(m.next(at(60_999), &no, &FACTS, Event::Look).is_empty());
        assert_eq!(m.next(at(61_000), &no, &FACTS, Event::Look), [Action::Evict]);
        let old = Event::Done { run: 0, step: Step::Check, good: true, ended: false };
        assert!(m.next(at(61_001), &no, &FACTS, old).is_empty());
        assert_eq!(m.stage, Stage::Down);
        let again = m.next(at(70_000), &live(80_000), &FACTS, Event::Look);
        assert_eq!(again, [Action::Start { run: 1, step: Step::Format }]);
    }

    #[test]
    fn a_stalled_freeze_is_evicted_in_three_seconds_and_a_deleted_key_at_once() {
        let mut m = ready();
        let no = refused(Cause::PolicyDenies);
        m.next(at(0), &no, &FACTS, Event::Look);
        m.next(at(400), &no, &FACTS, Event::FreezeDone { late: true });
        assert!(m.next(at(2_999), &no, &FACTS, Event::Look).is_empty());
        assert_eq!(m.next(at(3_000), &no, &FACTS, Event::Look), [Action::Evict]);
        let mut m = ready();
        let gone = refused(Cause::KeyDeleted);
        m.next(at(0), &gone, &FACTS, Event::Look);
        assert_eq!(
            m.next(at(90), &gone, &FACTS, Event::FreezeDone { late: false }),
            [Action::Evict]
        );
    }

    #[test]
    fn an_adopted_cluster_waits_for_its_lease_and_is_then_thawed_or_frozen() {
        let unproved = LeaseView { word: LeaseWord::Unproved, cause: None, until: None };
        let mut m = Machine::adopted(Stage::Started, false, at(0));
        assert!(m.next(at(100), &unproved, &FACTS, Event::Look).is_empty());
        let mut good = m.clone();
        assert_eq!(good.next(at(200), &live(10_000), &FACTS, Event::Look), [Action::Thaw]);
        let no = refused(Cause::KeyDisabled);
        assert_eq!(m.next(at(200), &no, &FACTS, Event::Look), [Action::Freeze { zeroize: true }]);
    }

    #[test]
    fn a_process_that_ended_is_started_again_after_a_fixed_second() {
        let mut m = ready();
        let check = m.next(at(1_000), &live(20_000), &FACTS, Event::Look);
        assert_eq!(check, [Action::Start { run: 0, step: Step::Check }]);
        let ended = Event::Done { run: 0, step: Step::Check, good: false, ended: true };
        assert!(m.next(at(1_100), &live(20_000), &FACTS, ended).is_empty());
        assert!(m.next(at(2_099), &live(20_000), &FACTS, Event::Look).is_empty());
        let spawn = m.next(at(2_100), &live(20_000), &FACTS, Event::Look);
        assert_eq!(spawn, [Action::Start { run: 0, step: Step::Spawn }]);
    }
}
