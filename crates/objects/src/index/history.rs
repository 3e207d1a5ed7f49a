//! Whether the two Regions speak of one history. A folder that was restored from an older copy
//! counts its changes from an older number on, and would give numbers again that stand for other
//! changes there: the other Region would take none of them and say that it has them.
//!
//! Each start of a primary's store is a *run*: a random id, and the number of the last change when
//! it began. It sends its runs since the last one that the backup confirmed, and the highest number
//! confirmed. The backup keeps the run that it took from last. What it took of an earlier run must
//! not reach beyond the number at which the next one began; what was confirmed must be there.

use super::{META, RUNS};
use crate::error::StoreError;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

/// Runs that are told. With more, the second is forgotten: at worst all is sent anew.
const MOST: u64 = 32;

/// One start of a primary's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// Number of the last change before it.
    pub(crate) began: u64,
}

/// What a change says of those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    /// The present one last.
    pub(crate) runs: Vec<Run>,
    /// Highest number that the backup confirmed.
    pub(crate) confirmed: u64,
}

impl History {
    /// The run that the change is sent in.
    pub(crate) fn present(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.id)
    }
}

/// A store of a primary starts.
pub(super) fn begin(txn: &WriteTransaction, id: u64) -> Result<(), StoreError> {
    let began = txn.open_table(META)?.get("change")?.map_or(0, |value| value.value());
    let mut runs = txn.open_table(RUNS)?;
    let next = runs.last()?.map_or(0, |(place, _)| place.value() + 1);
    if runs.len()? >= MOST {
        let second = runs.iter()?.nth(1).transpose()?.map(|(place, _)| place.value());
        if let Some(second) = second {
            runs.remove(second)?;
        }
    }
    runs.insert(next, (id, began))?;
    Ok(())
}

/// From now on nothing before this run counts: the other Region is told everything anew.
pub(super) fn begin_anew(txn: &WriteTransaction, id: u64) -> Result<(), StoreError> {
    txn.open_table(RUNS)?.retain(|_, _| false)?;
    txn.open_table(META)?.remove("confirmed")?;
    begin(txn, id)
}

/// The present run.
pub(super) fn present(txn: &WriteTransaction) -> Result<u64, StoreError> {
    Ok(txn.open_table(RUNS)?.last()?.map_or(0, |(_, value)| value.value().0))
}

/// The backup has taken this number of the present run, so it knows the run.
pub(super) fn confirm(txn: &WriteTransaction, sequence: u64) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META)?;
    let known = meta.get("confirmed")?.map_or(0, |value| value.value());
    meta.insert("confirmed", known.max(sequence))?;
    let mut runs = txn.open_table(RUNS)?;
    if runs.len()? > 1 {
        let last = runs.last()?.map(|(place, _)| place.value());
        runs.retain(|place, _| Some(place) == last)?;
    }
    Ok(())
}

/// What is sent with a change.
pub(super) fn told(txn: &ReadTransaction) -> Result<History, StoreError> {
    let mut runs = Vec::new();
    for item in txn.open_table(RUNS)?.iter()? {
        let (id, began) = item?.1.value();
        runs.push(Run { id, began });
    }
    let confirmed = txn.open_table(META)?.get("confirmed")?.map_or(0, |value| value.value());
    Ok(History { runs, confirmed })
}

/// Does a change of this history follow on what was taken here?
pub(super) fn follows(
    meta: &impl ReadableTable<&'static str, u64>,
    taken_at: &impl ReadableTable<u64, (&'static str, &'static str)>,
    history: &History,
) -> Result<Result<(), StoreError>, StoreError> {
    let floor = meta.get("floor")?.map_or(0, |value| value.value());
    let newest = taken_at.last()?.map_or(0, |(number, _)| number.value());
    let highest = floor.max(newest);
    let taken_of = meta.get("taken-of")?.map(|value| value.value());
    Ok(match judge(history, taken_of, highest) {
        true => Ok(()),
        false => Err(StoreError::OtherHistory { highest }),
    })
}

fn judge(history: &History, taken_of: Option<u64>, highest: u64) -> bool {
    let Some(first) = history.runs.first() else { return false };
    let at = history.runs.iter().position(|run| Some(run.id) == taken_of);
    let until = match at {
        // The present run: its numbers are given once.
        Some(at) if at + 1 == history.runs.len() => u64::MAX,
        Some(at) => history.runs[at + 1].began,
        None => first.began,
    };
    history.confirmed <= highest && highest <= until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_follows_or_does_not() {
        let run = |(id, began)| Run { id, began };
        let cases = [
            ("the first of all", vec![(1, 0)], 0, None, 0, true),
            ("the same run", vec![(1, 0)], 7, Some(1), 9, true),
            ("a restart", vec![(1, 0), (2, 9)], 7, Some(1), 9, true),
            (
                "two restarts that the backup saw none of",
                vec![(1, 0), (2, 9), (3, 20)],
                9,
                Some(1),
                9,
                true,
            ),
            ("a restart before anything was confirmed", vec![(1, 0), (2, 9)], 0, Some(1), 9, true),
            ("an older copy", vec![(1, 0), (2, 5)], 5, Some(1), 9, false),
            ("one that has passed the number", vec![(1, 0), (2, 5), (3, 20)], 5, Some(1), 9, false),
            (
                "one from before the run that was taken from",
                vec![(1, 0), (2, 5)],
                5,
                Some(8),
                9,
                false,
            ),
            ("a folder made anew", vec![(2, 0)], 0, Some(1), 9, false),
            ("a backup made anew", vec![(1, 0)], 9, None, 0, false),
            ("a backup's older copy", vec![(1, 0)], 9, Some(1), 5, false),
            ("no run", vec![], 0, None, 0, false),
        ];
        for (what, all, confirmed, taken_of, highest, follows) in cases {
            let history = History { runs: all.into_iter().map(run).collect(), confirmed };
            assert_eq!(judge(&history, taken_of, highest), follows, "{what}");
        }
    }
}
