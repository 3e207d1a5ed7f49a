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
const FACTS: Facts = Facts {
    provisioned: true,
    recorded: true,
    evict_after: Duration::from_secs(60),
    silence: Duration::from_secs(10),
};

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
    assert!(m.next(at(150), &no, &FACTS, Event::FreezeDone { good: true, late: false }).is_empty());
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
    m.next(at(9_600), &live(10_000), &FACTS, Event::FreezeDone { good: true, late: false });
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
    m.next(at(9_600), &live(10_000), &FACTS, Event::FreezeDone { good: true, late: false });
    let no = refused(Cause::KeyDisabled);
    assert_eq!(m.next(at(9_700), &no, &FACTS, Event::Look), [Action::Zeroize]);
}

#[test]
fn eviction_comes_after_its_time_and_old_steps_then_count_for_nothing() {
    let mut m = ready();
    let no = refused(Cause::KeyDisabled);
    m.next(at(1_000), &no, &FACTS, Event::Look);
    m.next(at(1_100), &no, &FACTS, Event::FreezeDone { good: true, late: false });
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
    m.next(at(400), &no, &FACTS, Event::FreezeDone { good: true, late: true });
    assert!(m.next(at(2_999), &no, &FACTS, Event::Look).is_empty());
    assert_eq!(m.next(at(3_000), &no, &FACTS, Event::Look), [Action::Evict]);
    let mut m = ready();
    let gone = refused(Cause::KeyDeleted);
    m.next(at(0), &gone, &FACTS, Event::Look);
    assert_eq!(
        m.next(at(90), &gone, &FACTS, Event::FreezeDone { good: true, late: false }),
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
fn an_adopted_cluster_that_kms_is_silent_about_is_frozen_and_thawed_when_it_speaks() {
    let unproved = LeaseView { word: LeaseWord::Unproved, cause: None, until: None };
    for word in [LeaseWord::Unproved, LeaseWord::None, LeaseWord::Lapsed] {
        let silent = LeaseView { word, ..unproved };
        let mut m = Machine::adopted(Stage::Started, false, at(1_000));
        assert!(m.next(at(10_999), &silent, &FACTS, Event::Look).is_empty());
        let freeze = Action::Freeze { zeroize: true };
        assert_eq!(m.next(at(11_000), &silent, &FACTS, Event::Look), [freeze], "{word:?}");
        assert!(
            m.next(at(11_100), &silent, &FACTS, Event::FreezeDone { good: true, late: false })
                .is_empty()
        );
        assert!(m.next(at(11_200), &silent, &FACTS, Event::Look).is_empty(), "frozen once");
        // The time until eviction counts from the freeze.
        assert_eq!(m.evict_at(&FACTS, &silent), Some(at(71_000)));
        assert_eq!(m.next(at(12_000), &live(22_000), &FACTS, Event::Look), [Action::Thaw]);
    }
    // One that its predecessor froze stays as it is.
    let mut m = Machine::adopted(Stage::Started, true, at(0));
    assert!(m.next(at(20_000), &unproved, &FACTS, Event::Look).is_empty());
}

#[test]
fn a_lease_made_anew_freezes_at_the_end_of_the_one_before_it() {
    let mut m = ready();
    let unproved = LeaseView { word: LeaseWord::Unproved, cause: None, until: None };
    let steps = m.next(at(9_400), &unproved, &FACTS, Event::Look);
    assert!(!steps.contains(&Action::Freeze { zeroize: false }), "{steps:?}");
    let freeze = Action::Freeze { zeroize: false };
    assert_eq!(m.next(at(9_501), &unproved, &FACTS, Event::Look), [freeze]);
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

#[test]
fn what_a_failed_thaw_has_opened_is_frozen_and_closed_at_a_refusal_and_after_long_silence() {
    let unproved = LeaseView { word: LeaseWord::Unproved, cause: None, until: None };
    let mut m = Machine::adopted(Stage::Started, true, at(0));
    assert!(m.next(at(1), &unproved, &FACTS, Event::Look).is_empty());
    assert_eq!(m.next(at(100), &live(10_000), &FACTS, Event::Look), [Action::Thaw]);
    m.next(at(200), &live(10_000), &FACTS, Event::ThawDone { good: false });
    let mut refusal = m.clone();
    let no = refused(Cause::GrantRevoked);
    // The holder may have thawed processes before it failed.
    assert_eq!(refusal.next(at(300), &no, &FACTS, Event::Look), [Action::Freeze { zeroize: true }]);
    let done = Event::FreezeDone { good: true, late: false };
    assert!(refusal.next(at(400), &no, &FACTS, done).is_empty());
    assert!(refusal.next(at(5_000), &no, &FACTS, Event::Look).is_empty());
    let lapsed = LeaseView { word: LeaseWord::Lapsed, cause: None, until: None };
    let freeze = [Action::Freeze { zeroize: false }];
    assert_eq!(m.next(at(10_000), &lapsed, &FACTS, Event::Look), freeze);
    m.next(at(10_100), &lapsed, &FACTS, done);
    assert!(m.next(at(19_999), &lapsed, &FACTS, Event::Look).is_empty());
    assert_eq!(m.next(at(20_000), &lapsed, &FACTS, Event::Look), [Action::Zeroize]);
}

#[test]
fn a_freeze_that_the_holder_refuses_is_asked_for_again_and_evicted_in_its_time() {
    let mut m = ready();
    let no = refused(Cause::KeyDisabled);
    let freeze = [Action::Freeze { zeroize: true }];
    let failed = Event::FreezeDone { good: false, late: false };
    assert_eq!(m.next(at(100), &no, &FACTS, Event::Look), freeze);
    assert!(m.next(at(200), &no, &FACTS, failed).is_empty());
    assert!(m.next(at(1_199), &no, &FACTS, Event::Look).is_empty());
    assert_eq!(m.next(at(1_200), &no, &FACTS, Event::Look), freeze);
    m.next(at(1_300), &no, &FACTS, failed);
    assert_eq!(m.evict_at(&FACTS, &no), Some(at(60_100)), "counted from the first");
    let mut evicted = m.clone();
    assert_eq!(evicted.next(at(60_100), &no, &FACTS, Event::Look), [Action::Evict]);
    assert_eq!(m.next(at(2_300), &no, &FACTS, Event::Look), freeze);
    m.next(at(2_400), &no, &FACTS, Event::FreezeDone { good: true, late: false });
    assert!(m.next(at(50_000), &no, &FACTS, Event::Look).is_empty());
}

#[test]
fn an_attach_that_failed_half_way_leaves_no_open_gate_behind() {
    let mut m = Machine::down();
    m.next(at(0), &live(10_000), &FACTS, Event::Look);
    let done = |step, good| Event::Done { run: 0, step, good, ended: false };
    m.next(at(0), &live(10_000), &FACTS, done(Step::Format, true));
    m.next(at(0), &live(10_000), &FACTS, done(Step::Attach, false));
    assert_eq!(m.stage, Stage::Formatted);
    let no = refused(Cause::KeyDisabled);
    assert_eq!(m.next(at(9), &no, &FACTS, Event::Look), [Action::Freeze { zeroize: true }]);
}

#[test]
fn an_eviction_that_left_something_is_repeated_and_nothing_starts_before_it_is_whole() {
    let mut m = ready();
    let gone = refused(Cause::KeyDeleted);
    m.next(at(0), &gone, &FACTS, Event::Look);
    m.next(at(90), &gone, &FACTS, Event::FreezeDone { good: true, late: false });
    let (bad, good) = (Event::EvictDone { good: false }, Event::EvictDone { good: true });
    assert!(m.next(at(100), &gone, &FACTS, bad).is_empty());
    assert!(m.next(at(1_099), &live(20_000), &FACTS, Event::Look).is_empty());
    assert_eq!(m.next(at(1_100), &gone, &FACTS, Event::Look), [Action::Evict]);
    let steps = m.next(at(1_200), &live(20_000), &FACTS, good);
    assert_eq!(steps, [Action::Start { run: 1, step: Step::Format }]);
}

#[test]
fn a_workload_that_is_starting_is_looked_at_four_times_a_second() {
    let mut m = ready();
    let bad = Event::Done { run: 0, step: Step::Check, good: false, ended: false };
    let check = [Action::Start { run: 0, step: Step::Check }];
    assert_eq!(m.next(at(1_000), &live(20_000), &FACTS, Event::Look), check);
    assert!(m.next(at(1_100), &live(20_000), &FACTS, bad).is_empty());
    assert_eq!(m.next(at(2_100), &live(20_000), &FACTS, Event::Look), check);
    assert!(m.next(at(2_200), &live(20_000), &FACTS, bad).is_empty());
    assert_eq!(m.next(at(2_450), &live(20_000), &FACTS, Event::Look), check);
}
