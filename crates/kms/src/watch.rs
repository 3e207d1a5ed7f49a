//! Who waits for a change, and what changed since: the hub of `Keystead.Watch`.

use crate::store::state::Touched;
use keystead_aws::watch::Watched;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes kept; who asks for older ones is told that everything may have changed.
const KEPT: usize = 4096;

pub(crate) struct Hub {
    changes: Mutex<Changes>,
    changed: Notify,
}

struct Changes {
    /// Everything after this sequence is in `kept`.
    from: u64,
    last: u64,
    kept: VecDeque<(u64, Touched)>,
}

/// What changed since a sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Too old, or from another store's count.
    Unknown,
    /// These, up to the sequence.
    Changes(Vec<Touched>),
}

impl Hub {
    /// A hub of a store that stands at `sequence`.
    pub(crate) fn new(sequence: u64) -> Self {
        let kept = VecDeque::new();
        let changes = Mutex::new(Changes { from: sequence, last: sequence, kept });
        Self { changes, changed: Notify::new() }
    }

    pub(crate) fn publish(&self, sequence: u64, touched: Vec<Touched>) {
        if touched.is_empty() {
            return;
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.last = changes.last.max(sequence);
        for one in touched {
            if changes.kept.len() == KEPT
                && let Some((dropped, _)) = changes.kept.pop_front()
            {
                changes.from = dropped;
            }
            changes.kept.push_back((sequence, one));
        }
        drop(changes);
        self.changed.notify_waiters();
    }

    /// The sequence, and what changed after `since`.
    pub(crate) fn since(&self, since: u64) -> (u64, Since) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if since < changes.from || since > changes.last {
            Since::Unknown
        } else {
            // Sorted by sequence.
            let later = changes.kept.partition_point(|(at, _)| *at <= since);
            Since::Changes(changes.kept.range(later..).map(|(_, t)| t.clone()).collect())
        };
        (changes.last, found)
    }

    /// Waits until a change after `since` touches one of `watched`, at most `wait`; answers the
    /// sequence and the keys to name.
    pub(crate) async fn wait(
        &self,
        since: Option<u64>,
        watched: &[Watched],
        wait: Duration,
    ) -> (u64, Vec<String>) {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look: a change between look and wait is not missed.
            changed.as_mut().enable();
            let (sequence, found) = match since {
                Some(since) => self.since(since),
                None => (self.since(0).0, Since::Unknown),
            };
            let named = named(&found, watched);
            if !named.is_empty() {
                return (sequence, named);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return (sequence, named);
            }
        }
    }
}

/// The watched keys that the changes touch, each once.
fn named(found: &Since, watched: &[Watched]) -> Vec<String> {
    let mut keys = HashSet::new();
    let mut roles = HashSet::new();
    if let Since::Changes(changes) = found {
        for touched in changes {
            match touched {
                Touched::Key(arn) => keys.insert(arn.as_str()),
                Touched::Role(arn) => roles.insert(arn.as_str()),
            };
        }
        if keys.is_empty() && roles.is_empty() {
            return Vec::new();
        }
    }
    let all = *found == Since::Unknown;
    let touches = |w: &Watched| all || keys.contains(&*w.key_arn) || roles.contains(&*w.role_arn);
    let mut named: Vec<String> =
        watched.iter().filter(|w| touches(w)).map(|w| w.key_arn.clone()).collect();
    named.sort();
    named.dedup();
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Vec<Watched> {
        let one = |key: &str, role: &str| Watched { key_arn: key.into(), role_arn: role.into() };
        vec![one("k1", "r1"), one("k1", "r2"), one("k2", "r2")]
    }

    #[tokio::test]
    async fn names_what_was_touched_and_everything_when_it_cannot_tell() {
        let hub = Hub::new(7);
        let wait = Duration::from_millis(20);
        let all = vec!["k1".to_owned(), "k2".to_owned()];
        assert_eq!(hub.wait(None, &watched(), wait).await, (7, all.clone()));
        assert_eq!(hub.wait(Some(6), &watched(), wait).await, (7, all.clone()));
        assert_eq!(hub.wait(Some(8), &watched(), wait).await, (7, all.clone()));
        assert_eq!(hub.wait(Some(7), &watched(), wait).await, (7, vec![]));
        hub.publish(8, vec![Touched::Key("k2".into())]);
        hub.publish(9, vec![Touched::Key("elsewhere".into())]);
        assert_eq!(hub.wait(Some(7), &watched(), wait).await, (9, vec!["k2".to_owned()]));
        assert_eq!(hub.wait(Some(8), &watched(), wait).await, (9, vec![]));
        hub.publish(10, vec![Touched::Role("r2".into())]);
        assert_eq!(hub.wait(Some(9), &watched(), wait).await, (10, all));
    }

    #[tokio::test]
    async fn a_waiter_hears_at_once() {
        let hub = std::sync::Arc::new(Hub::new(0));
        let other = hub.clone();
        let waiter =
            tokio::spawn(
                async move { other.wait(Some(0), &watched(), Duration::from_secs(60)).await },
            );
        tokio::time::sleep(Duration::from_millis(20)).await;
        hub.publish(1, vec![Touched::Key("k1".into())]);
        let heard = tokio::time::timeout(Duration::from_secs(5), waiter).await;
        assert_eq!(heard.expect("in time").expect("runs"), (1, vec!["k1".to_owned()]));
    }

    #[test]
    fn a_dropped_change_is_not_forgotten_silently() {
        let hub = Hub::new(0);
        for n in 1..=(KEPT as u64 + 3) {
            hub.publish(n, vec![Touched::Key("x".into())]);
        }
        assert_eq!(hub.since(2).1, Since::Unknown);
        assert!(matches!(hub.since(3).1, Since::Changes(_)));
    }
}
