//! The lease: the right to hold plaintext data keys until a time that only KMS's answers move.
//!
//! ```text
//!             ProofOk                      Tick at `until`
//!  Unproved ───────────► Live(until) ───────────────────────► Lapsed(since)
//!     │                   ▲  ▲  │ ▲ WatchUnchanged: until moves  │    │
//!     │ Refused, Corrupt  │  │  └─┘                              │    │
//!     ▼                   │  └──────────── ProofOk ──────────────┘    │
//!  Frozen(cause, since) ──┘ ProofOk sent after the refusal            │
//!     ▲  │  ◄──────────────── Refused, Corrupt ───────────────────────┘
//!     │  └── ConfirmedDeleted ──► Dead      (also from Lapsed, Unproved)
//!     └────── ProofOk ─────────────┘        Dead ends only in Frozen
//! ```
//!
//! Every time is CLOCK_BOOTTIME. `until` is the moment at which a question was *sent*, plus
//! `silence` and the grace that the owner granted. An answer to a question that was sent before a
//! naming or a refusal neither renews nor thaws. Writes never extend a lease: no event says so.

use keystead_types::{Boot, Cause};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A proof succeeded.
    ProofOk {
        /// When it was sent.
        sent: Boot,
        /// Now: an answer that came after its own span says nothing any more.
        now: Boot,
    },
    /// The watch answered that nothing changed.
    WatchUnchanged {
        /// When it was sent.
        sent: Boot,
    },
    /// A change touched the key: nothing renews until a proof sent after this has succeeded.
    Named {
        /// When the naming arrived.
        at: Boot,
    },
    /// KMS refused a proof.
    Refused {
        /// When the proof was sent, or when the refusal arrived: later is safer.
        at: Boot,
        /// Why.
        cause: Cause,
    },
    /// A wrapped key does not open under the recorded key and context.
    Corrupt {
        /// When the proof was sent.
        at: Boot,
    },
    /// The key is gone and its deletion date has passed.
    ConfirmedDeleted,
    /// Time passed.
    Tick {
        /// Now.
        now: Boot,
    },
}

/// Where the lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No proof yet.
    Unproved,
    /// Data keys may be used before `until`.
    Live {
        /// The end, unless KMS answers again.
        until: Boot,
    },
    /// KMS was silent for too long.
    Lapsed {
        /// When the lease ran out.
        since: Boot,
    },
    /// KMS refused.
    Frozen {
        /// Why.
        cause: Cause,
        /// When the first refused proof was sent.
        since: Boot,
    },
    /// The key is gone for good.
    Dead,
}

/// One lease of one (cluster, region, node).
#[derive(Debug, Clone)]
pub struct Lease {
    state: State,
    span: Duration,
    proof_max_age: Duration,
    proof: Option<Boot>,
    named: Option<Boot>,
    refused: Option<Boot>,
}

impl Lease {
    /// A lease without a proof. Watch renews only while the last proof is younger than
    /// `proof_max_age`.
    pub fn new(silence: Duration, grace: Duration, proof_max_age: Duration) -> Self {
        let span = silence.saturating_add(grace);
        Self {
            state: State::Unproved,
            span,
            proof_max_age,
            proof: None,
            named: None,
            refused: None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Until when data keys may be used; `None` when they may not.
    pub fn until(&self) -> Option<Boot> {
        match self.state {
            State::Live { until } => Some(until),
            _ => None,
        }
    }

    /// May a data key be used now?
    pub fn admits(&self, now: Boot) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Takes an event; answers true when the state is another one than before.
    pub fn on(&mut self, event: Event) -> bool {
        let before = self.state;
        match event {
            Event::ProofOk { sent, now } => self.proved(sent, now),
            Event::WatchUnchanged { sent } => self.unchanged(sent),
            Event::Named { at } => self.named = self.named.max(Some(at)),
            Event::Refused { at, cause } => self.refuse(at, cause),
            Event::Corrupt { at } => self.refuse(at, Cause::WrappedKeyMismatch),
            Event::ConfirmedDeleted => {
                if !matches!(self.state, State::Live { .. }) {
                    self.state = State::Dead;
                }
            }
            Event::Tick { now } => {
                if let State::Live { until } = self.state
                    && now >= until
                {
                    self.state = State::Lapsed { since: until };
                }
            }
        }
        self.state != before
    }

    fn proved(&mut self, sent: Boot, now: Boot) {
        let outdated = self.refused.is_some_and(|at| sent <= at)
            || self.named.is_some_and(|at| sent <= at)
            || now >= sent.plus(self.span);
        if outdated {
            return;
        }
        self.named = None;
        self.proof = self.proof.max(Some(sent));
        if self.state == State::Dead {
            // A key said to be gone that answers: the next proof thaws, this one only revives.
            self.refused = Some(sent);
            self.state = State::Frozen { cause: Cause::KeyDeleted, since: sent };
            return;
        }
        self.renew(sent);
    }

    fn unchanged(&mut self, sent: Boot) {
        let fresh = self.proof.is_some_and(|at| sent.since(at) <= self.proof_max_age);
        if fresh && self.named.is_none() && self.until().is_some_and(|until| sent < until) {
            self.renew(sent);
        }
    }

    fn renew(&mut self, sent: Boot) {
        let until = sent.plus(self.span);
        let until = self.until().map_or(until, |old| old.max(until));
        self.state = State::Live { until };
    }

    fn refuse(&mut self, at: Boot, cause: Cause) {
        if self.proof.is_some_and(|proof| proof > at) || self.state == State::Dead {
            return;
        }
        self.refused = self.refused.max(Some(at));
        self.state = match self.state {
            State::Frozen { since, .. } => State::Frozen { cause, since },
            _ => State::Frozen { cause, since: at },
        };
    }
}

/// The lease's end as the engine threads read it: one atomic, no lock.
#[derive(Debug, Default)]
pub struct LeaseGate {
    /// Nanoseconds since boot; zero admits nobody.
    until_ns: AtomicU64,
}

impl LeaseGate {
    /// A gate that admits nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says until when data keys may be used.
    pub fn publish(&self, until: Option<Boot>) {
        let ns = until.map_or(0, |b| u64::try_from(b.as_duration().as_nanos()).unwrap_or(u64::MAX));
        self.until_ns.store(ns, Ordering::SeqCst);
    }

    /// May a data key be used now?
    pub fn admits(&self, now: Boot) -> bool {
        now.as_duration().as_nanos() < u128::from(self.until_ns.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests;
