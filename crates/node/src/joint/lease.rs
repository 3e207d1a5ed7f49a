//! A cluster's lease together with the gate that its engine threads read.

use crate::cluster::machine::LeaseView;
use crate::keeper::run::{Guarded, Said};
use keystead_envelope::lease::{Event, Lease, LeaseGate, State};
use keystead_types::{Boot, Clock, LeaseSettings, LeaseWord};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After a refusal FIFREEZE may write for this long; the cluster's thread closes the gates when it
/// is done, and at the latest time does.
const FREEZE_ROOM: Duration = Duration::from_millis(400);
/// The watch renews only while the last real proof is younger than this.
const PROOF_MAX_AGE: Duration = Duration::from_secs(90);

/// The gate of a cluster's engine threads, and what it was told last; it outlives a lease whose
/// settings changed.
#[derive(Default)]
pub(crate) struct Door {
    pub(super) gate: Arc<LeaseGate>,
    end: Mutex<Option<Boot>>,
}

/// The lease as the keeper holds it.
pub(crate) struct Kept {
    lease: Lease,
    door: Arc<Door>,
    clock: Arc<dyn Clock>,
}

impl Kept {
    /// A door that an earlier lease of this cluster opened ends where that one left it, until this
    /// one is proved.
    pub(crate) fn new(settings: &LeaseSettings, door: Arc<Door>, clock: Arc<dyn Clock>) -> Self {
        let silence = Duration::from_millis(settings.silence_ms);
        let grace = Duration::from_millis(settings.grace_ms);
        Self { lease: Lease::new(silence, grace, PROOF_MAX_AGE), door, clock }
    }
}

impl Guarded for Kept {
    fn on(&mut self, said: Said) {
        let now = self.clock.boot();
        self.lease.on(match said {
            Said::ProofOk { sent } => Event::ProofOk { sent, now },
            Said::WatchUnchanged { sent } => Event::WatchUnchanged { sent },
            Said::Named { at } => Event::Named { at },
            Said::Refused { at, cause } => Event::Refused { at, cause },
            Said::Corrupt { at } => Event::Corrupt { at },
            Said::ConfirmedDeleted => Event::ConfirmedDeleted,
            Said::Tick { now } => Event::Tick { now },
        });
        let mut end = self.door.end.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match self.lease.state() {
            State::Live { until } => Some(until),
            // Never later than it would have ended anyway; a refusal repeated never moves it.
            State::Frozen { .. } | State::Dead => end.map(|end| end.min(now.plus(FREEZE_ROOM))),
            // It has ended, or ends, by itself.
            State::Lapsed { .. } | State::Unproved => *end,
        };
        if *end != next {
            self.door.gate.publish(next);
            *end = next;
        }
    }

    fn view(&self) -> LeaseView {
        let (word, cause) = match self.lease.state() {
            State::Unproved => (LeaseWord::Unproved, None),
            State::Live { .. } => (LeaseWord::Live, None),
            State::Lapsed { .. } => (LeaseWord::Lapsed, None),
            State::Frozen { cause, .. } => (LeaseWord::Frozen, Some(cause)),
            State::Dead => (LeaseWord::Dead, None),
        };
        LeaseView { word, cause, until: self.lease.until() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_types::Cause;

    struct Hand(Mutex<Boot>);

    impl Hand {
        fn set(&self, ms: u64) {
            *self.0.lock().expect("the hand") = at(ms);
        }
    }
    impl Clock for Hand {
        fn boot(&self) -> Boot {
            *self.0.lock().expect("the hand")
        }
        fn wall_ms(&self) -> i64 {
            0
        }
    }

    fn at(ms: u64) -> Boot {
        Boot::since_boot(Duration::from_millis(ms))
    }

    fn kept() -> (Kept, Arc<LeaseGate>, Arc<Hand>) {
        let (door, hand) = (Arc::new(Door::default()), Arc::new(Hand(Mutex::new(at(0)))));
        let gate = door.gate.clone();
        (Kept::new(&LeaseSettings::default(), door, hand.clone()), gate, hand)
    }

    #[test]
    fn a_refusal_leaves_the_freeze_its_room_and_no_more() {
        let (mut kept, gate, hand) = kept();
        assert_eq!(kept.view().word, LeaseWord::Unproved);
        hand.set(1_010);
        kept.on(Said::ProofOk { sent: at(1_000) });
        assert_eq!(kept.view().until, Some(at(11_000)));
        assert!(gate.admits(at(10_999)) && !gate.admits(at(11_000)));

        hand.set(5_000);
        kept.on(Said::Refused { at: at(5_000), cause: Cause::KeyDisabled });
        assert_eq!(kept.view().word, LeaseWord::Frozen);
        assert_eq!(kept.view().cause, Some(Cause::KeyDisabled));
        assert!(gate.admits(at(5_399)) && !gate.admits(at(5_400)));
        hand.set(5_300);
        kept.on(Said::Refused { at: at(5_300), cause: Cause::KeyDisabled });
        kept.on(Said::Tick { now: at(5_300) });
        assert!(!gate.admits(at(5_400)), "a refusal that is repeated gives no more room");

        // Live again: the new end, at once.
        hand.set(6_010);
        kept.on(Said::ProofOk { sent: at(6_000) });
        assert!(gate.admits(at(15_999)) && !gate.admits(at(16_000)));
    }

    #[test]
    fn a_refusal_never_moves_the_end_outwards() {
        let (mut kept, gate, hand) = kept();
        kept.on(Said::ProofOk { sent: at(0) });
        hand.set(9_900);
        kept.on(Said::Corrupt { at: at(9_900) });
        assert_eq!(kept.view().cause, Some(Cause::WrappedKeyMismatch));
        assert!(gate.admits(at(9_999)) && !gate.admits(at(10_000)));
        // Silence first, then a refusal: the gate has ended and stays so.
        let (mut kept, gate, hand) = self::kept();
        kept.on(Said::ProofOk { sent: at(0) });
        hand.set(10_000);
        kept.on(Said::Tick { now: at(10_000) });
        assert_eq!(kept.view().word, LeaseWord::Lapsed);
        kept.on(Said::Refused { at: at(10_000), cause: Cause::PolicyDenies });
        assert!(!gate.admits(at(10_000)));
    }

    #[test]
    fn a_lease_that_was_never_proved_admits_nobody() {
        let (mut kept, gate, _) = kept();
        kept.on(Said::WatchUnchanged { sent: at(0) });
        kept.on(Said::Refused { at: at(0), cause: Cause::KeyDisabled });
        assert!(!gate.admits(at(0)));
        kept.on(Said::ConfirmedDeleted);
        assert_eq!(kept.view().word, LeaseWord::Dead);
        assert!(!gate.admits(at(0)));
    }
}
