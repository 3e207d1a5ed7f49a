use super::*;
use proptest::prelude::*;

const SILENCE: Duration = Duration::from_secs(10);
const MAX_AGE: Duration = Duration::from_secs(90);

fn at(seconds: u64) -> Boot {
    Boot::since_boot(Duration::from_secs(seconds))
}

fn ok(second: u64) -> Event {
    Event::ProofOk { sent: at(second), now: at(second) }
}

fn fresh() -> Lease {
    Lease::new(SILENCE, Duration::ZERO, MAX_AGE)
}

/// A lease in each state; the last event was at second 100.
fn each_state() -> Vec<(&'static str, Lease)> {
    let after = |events: &[Event]| {
        let mut lease = fresh();
        for event in events {
            lease.on(*event);
        }
        lease
    };
    let proved = ok(90);
    let refused = Event::Refused { at: at(100), cause: Cause::KeyDisabled };
    vec![
        ("unproved", fresh()),
        ("live", after(&[ok(100)])),
        ("lapsed", after(&[proved, Event::Tick { now: at(100) }])),
        ("frozen", after(&[proved, refused])),
        ("dead", after(&[proved, refused, Event::ConfirmedDeleted])),
    ]
}

#[test]
fn every_pair_of_state_and_event() {
    let live = |until| State::Live { until: at(until) };
    let frozen = |cause, since| State::Frozen { cause, since: at(since) };
    let disabled = Cause::KeyDisabled;
    let mismatch = Cause::WrappedKeyMismatch;
    let lapsed = State::Lapsed { since: at(100) };
    let policy = Event::Refused { at: at(105), cause: Cause::PolicyDenies };
    // (event, then the state from: unproved, live, lapsed, frozen, dead)
    let table: [(Event, [State; 5]); 9] = [
        (ok(105), [live(115), live(115), live(115), live(115), frozen(Cause::KeyDeleted, 105)]),
        (ok(95), [live(105), live(110), live(105), frozen(disabled, 100), State::Dead]),
        (
            Event::WatchUnchanged { sent: at(105) },
            [State::Unproved, live(115), lapsed, frozen(disabled, 100), State::Dead],
        ),
        (
            Event::Named { at: at(105) },
            [State::Unproved, live(110), lapsed, frozen(disabled, 100), State::Dead],
        ),
        (
            policy,
            [
                frozen(Cause::PolicyDenies, 105),
                frozen(Cause::PolicyDenies, 105),
                frozen(Cause::PolicyDenies, 105),
                frozen(Cause::PolicyDenies, 100),
                State::Dead,
            ],
        ),
        (
            Event::Corrupt { at: at(105) },
            [
                frozen(mismatch, 105),
                frozen(mismatch, 105),
                frozen(mismatch, 105),
                frozen(mismatch, 100),
                State::Dead,
            ],
        ),
        (Event::ConfirmedDeleted, [State::Dead, live(110), State::Dead, State::Dead, State::Dead]),
        (
            Event::Tick { now: at(109) },
            [State::Unproved, live(110), lapsed, frozen(disabled, 100), State::Dead],
        ),
        (
            Event::Tick { now: at(110) },
            [
                State::Unproved,
                State::Lapsed { since: at(110) },
                lapsed,
                frozen(disabled, 100),
                State::Dead,
            ],
        ),
    ];
    for (event, wants) in table {
        for ((name, mut lease), want) in each_state().into_iter().zip(wants) {
            let changed = lease.on(event);
            assert_eq!(lease.state(), want, "{name} on {event:?}");
            let before = each_state().into_iter().find(|s| s.0 == name).expect("named").1.state();
            assert_eq!(changed, before != want, "{name} on {event:?} says whether it changed");
        }
    }
}

#[test]
fn a_named_key_is_renewed_only_by_a_proof_sent_after_the_naming() {
    let mut lease = fresh();
    lease.on(ok(100));
    lease.on(Event::Named { at: at(102) });
    lease.on(Event::WatchUnchanged { sent: at(103) });
    lease.on(ok(101));
    assert_eq!(lease.until(), Some(at(110)));
    lease.on(ok(104));
    lease.on(Event::WatchUnchanged { sent: at(105) });
    assert_eq!(lease.until(), Some(at(115)));
}

#[test]
fn a_watch_does_not_stand_in_for_an_old_proof() {
    let mut lease = fresh();
    lease.on(ok(100));
    for second in 101..250 {
        lease.on(Event::WatchUnchanged { sent: at(second) });
    }
    assert_eq!(lease.until(), Some(at(200)), "100 + 90 s of watching + 10 s of silence");
}

#[test]
fn a_stale_refusal_does_not_freeze_and_a_second_proof_revives_the_dead() {
    let mut lease = fresh();
    lease.on(ok(100));
    assert!(!lease.on(Event::Refused { at: at(99), cause: Cause::KeyDisabled }));
    let (_, mut dead) = each_state().pop().expect("the last is dead");
    dead.on(ok(120));
    assert!(!dead.admits(at(120)));
    dead.on(ok(121));
    assert!(dead.admits(at(130)) && !dead.admits(at(131)));
}

#[test]
fn an_answer_that_comes_after_its_own_span_opens_nothing() {
    let mut lease = fresh();
    assert!(!lease.on(Event::ProofOk { sent: at(100), now: at(110) }));
    assert_eq!(lease.state(), State::Unproved);
    assert!(lease.on(Event::ProofOk { sent: at(100), now: at(109) }));
}

#[test]
fn the_gate_admits_before_the_end_only() {
    let gate = LeaseGate::new();
    assert!(!gate.admits(at(0)));
    gate.publish(Some(at(5)));
    assert!(gate.admits(at(4)) && !gate.admits(at(5)));
    gate.publish(None);
    assert!(!gate.admits(at(4)));
}

fn event() -> impl Strategy<Value = Event> {
    let t = || (0u64..200).prop_map(at);
    prop_oneof![
        (0u64..200, 0u64..20)
            .prop_map(|(s, late)| Event::ProofOk { sent: at(s), now: at(s + late) }),
        t().prop_map(|sent| Event::WatchUnchanged { sent }),
        t().prop_map(|at| Event::Named { at }),
        t().prop_map(|at| Event::Refused { at, cause: Cause::KeyDisabled }),
        t().prop_map(|at| Event::Corrupt { at }),
        Just(Event::ConfirmedDeleted),
        t().prop_map(|now| Event::Tick { now }),
    ]
}

proptest! {
    #[test]
    fn never_live_past_the_last_good_question_nor_by_an_answer_older_than_a_refusal(events in prop::collection::vec(event(), 0..40), grace in 0u64..5) {
        let mut lease = Lease::new(SILENCE, Duration::from_secs(grace), MAX_AGE);
        let (mut good, mut refused): (Option<Boot>, Option<Boot>) = (None, None);
        for event in events {
            let was_live = lease.until().is_some();
            lease.on(event);
            match event {
                Event::ProofOk { sent, .. } | Event::WatchUnchanged { sent } => {
                    good = good.max(Some(sent));
                    if !was_live && lease.until().is_some() {
                        prop_assert!(matches!(event, Event::ProofOk { .. }), "only a proof thaws");
                        prop_assert!(refused.is_none_or(|r| sent > r), "a proof sent before the refusal thaws");
                    }
                }
                Event::Refused { at, .. } | Event::Corrupt { at } if matches!(lease.state(), State::Frozen { .. }) => refused = refused.max(Some(at)),
                _ => {}
            }
            if let Some(until) = lease.until() {
                let good = good.expect("live only after a good answer");
                prop_assert!(until <= good.plus(SILENCE + Duration::from_secs(grace)));
            }
        }
    }
}
