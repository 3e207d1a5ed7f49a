//! The truth table of two keys, cell by cell: what serves, what is frozen, and what is said. The
//! page is `docs/regions.md`; a cell that differs from it fails here.

use super::{Keys, Pair, count};
use crate::objects::client::S3;
use crate::world::Random;
use serde_json::json;
use std::time::{Duration, Instant};

/// What a key, or the KMS that has it, is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Usable,
    Refused,
    Silent,
}
use Word::{Refused, Silent, Usable};

const WORDS: [Word; 3] = [Usable, Refused, Silent];
/// The lease's `silence` in dev, and what the node needs to see it.
const LAPSES: Duration = Duration::from_secs(14);
const FREEZES: Duration = Duration::from_secs(1);
const THAWS: Duration = Duration::from_secs(3);

/// Why a Region does not serve; `None` when it does. The page's table, as a function.
fn cause(own: Word, other: Word, revocation: &str) -> Option<&'static str> {
    match (own, other) {
        (Refused, _) => Some("key-disabled"),
        (_, Refused) if revocation == "any" => Some("second-key-unusable"),
        (Silent, _) => Some("kms-unreachable"),
        (Usable, _) => None,
    }
}

/// S3's own word for it.
fn code(cause: &str) -> (u16, &'static str) {
    match cause {
        "key-disabled" => (400, "KMS.DisabledException"),
        "second-key-unusable" => (400, "KMS.KMSInvalidStateException"),
        "kms-unreachable" => (503, "ServiceUnavailable"),
        other => panic!("{other} is not in the table"),
    }
}

#[test]
fn any_refusal_freezes_both_regions() {
    table("any");
}

#[test]
fn each_refusal_freezes_its_own_region() {
    table("each");
}

fn table(revocation: &str) {
    let pair = Pair::start(&format!("table-{revocation}"), Keys::Separate, revocation);
    let users = pair.users("writer");
    let [here, there] = &users;
    assert_eq!(here.call("PUT", "/documents/a", "", b"before").expect("answered").status, 200);
    replicated(&pair, there, "a", b"before");
    let all = WORDS.iter().flat_map(|own| WORDS.map(|other| (*own, other)));
    let mut cells: Vec<_> = all.filter(|cell| *cell != (Usable, Usable)).collect();
    // A silence takes the lease's ten seconds and more: a sample of those, all of the others.
    let mut random = Random::from_environment();
    let silences = count(1, 5);
    while cells.iter().filter(|(a, b)| *a == Silent || *b == Silent).count() > silences {
        let at = random.below(cells.len() as u64) as usize;
        if cells[at].0 == Silent || cells[at].1 == Silent {
            cells.remove(at);
        }
    }
    for (n, (first, second)) in cells.into_iter().enumerate() {
        eprintln!("cell {revocation}: {first:?} x {second:?}");
        cell(&pair, &users, revocation, [first, second], n);
    }
    drop(users);
    pair.stage.world.stop();
}

fn cell(pair: &Pair, users: &[S3; 2], revocation: &str, words: [Word; 2], n: usize) {
    // Refusals first: what is silent cannot be heard to refuse.
    for at in [0, 1].into_iter().filter(|at| words[*at] == Refused) {
        let (owner, key) = pair.owner_of(at);
        let said = owner.call("DisableKey", json!({ "KeyId": key })).at;
        let frozen = cause(Refused, Usable, revocation).expect("refused");
        refuses(pair, &users[at], frozen, said, FREEZES);
    }
    if revocation == "any" && words.contains(&Refused) {
        for at in [0, 1].into_iter().filter(|at| words[*at] != Refused) {
            refuses(pair, &users[at], "second-key-unusable", Instant::now(), FREEZES);
        }
    }
    let cut = Instant::now();
    for at in [0, 1].into_iter().filter(|at| words[*at] == Silent) {
        pair.ways[at].cut();
    }
    for (at, user) in users.iter().enumerate() {
        let (own, other) = (words[at], words[1 - at]);
        match cause(own, other, revocation) {
            Some(cause) => refuses(pair, user, cause, cut, LAPSES),
            None => serves(user),
        }
    }
    told(pair, revocation, words);
    // A silence that has lasted changes nothing for the Region whose own KMS answers.
    let writes = cause(words[0], words[1], revocation).is_none();
    let path = format!("/documents/{n}");
    if writes {
        assert_eq!(users[0].call("PUT", &path, "", b"during").expect("answered").status, 200);
    }

    let back = Instant::now();
    for at in [0, 1] {
        match words[at] {
            Usable => {}
            Silent => pair.ways[at].mend(),
            Refused => {
                let (owner, key) = pair.owner_of(at);
                owner.call("EnableKey", json!({ "KeyId": key }));
            }
        }
    }
    for user in users {
        pair.until("served again", THAWS, || served(user).then_some(()));
    }
    eprintln!(
        "FIGURE regions: {words:?} {revocation}: both serve {} ms after",
        back.elapsed().as_millis()
    );
    pair.stage.wait(&pair.cluster.name, "Ready", None, Duration::from_secs(5));
    if writes {
        replicated(pair, &users[1], &n.to_string(), b"during");
    }
}

fn served(user: &S3) -> bool {
    user.call("GET", "/documents/a", "", b"").is_ok_and(|r| r.status == 200 && r.body == b"before")
}

fn serves(user: &S3) {
    assert!(served(user), "{} does not serve", user.region);
}

/// Refused with this cause, from no later than the deadline on.
fn refuses(pair: &Pair, user: &S3, cause: &str, since: Instant, within: Duration) {
    let wanted = code(cause);
    let what = format!("{} refuses with {wanted:?} for {cause}", user.region);
    let left = within.saturating_sub(since.elapsed()).max(Duration::from_millis(1));
    pair.until(&what, left, || {
        let reply = user.call("GET", "/documents/a", "", b"").ok()?;
        let told = reply.status == wanted.0 && reply.code() == wanted.1;
        (told && reply.text().contains(cause)).then_some(())
    });
}

/// What control says of the cell: the phase is the primary's, the backup's fault is told beside it.
fn told(pair: &Pair, revocation: &str, words: [Word; 2]) {
    let here = cause(words[0], words[1], revocation);
    let there = cause(words[1], words[0], revocation);
    let phase = if here.is_some() { "Frozen" } else { "Ready" };
    pair.until(&format!("{phase} {here:?}, backup {there:?}"), Duration::from_secs(3), || {
        let view = pair.view();
        let message = view["message"].as_str().unwrap_or_default();
        let backup = there.is_none() || here.is_some() || message.contains(super::SECOND);
        (view["phase"] == phase && view["cause"].as_str() == here && backup).then_some(())
    });
    let why = pair.stage.world.cli_ok(&["why", &pair.cluster.name]);
    let named = |word: Option<&str>| word.is_none_or(|w| why.contains(w));
    assert!(named(here), "{why}");
    if here.is_none() {
        assert!(named(there), "{why}");
    }
    // Whoever reads it knows which key to mend.
    for at in [0, 1].into_iter().filter(|at| words[*at] == Refused) {
        let shown = here.is_some() || revocation == "each";
        let (_, key) = pair.owner_of(at);
        if shown && (at == 0 || words[0] != Refused) && !(at == 1 && words[0] == Silent) {
            assert!(why.contains(key), "{key} is not named:\n{why}");
        }
    }
}

/// Waits until the backup Region has it.
fn replicated(pair: &Pair, there: &S3, key: &str, body: &[u8]) {
    let path = format!("/documents/{key}");
    pair.until(&format!("{key} is replicated"), Duration::from_secs(10), || {
        let reply = there.call("GET", &path, "", b"").ok()?;
        (reply.status == 200 && reply.body == body).then_some(())
    });
}
