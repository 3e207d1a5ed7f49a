//! The newest records in memory, for LookupEvents.

use super::Record;
use std::collections::VecDeque;

/// Records kept in memory; older ones are in the segments only.
const KEPT: usize = 200_000;

#[derive(Default)]
pub(super) struct Index(VecDeque<Record>);

impl Index {
    /// Takes a record; lines of the trail itself are not events.
    pub(super) fn push(&mut self, record: Record) {
        if record.contains_key("keystead") {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(super) fn newest(
        &self,
        skip: usize,
        most: usize,
        fits: impl Fn(&Record) -> bool,
    ) -> (Vec<Record>, bool) {
        let mut found = self.0.iter().rev().filter(|record| fits(record)).skip(skip);
        let page: Vec<Record> = found.by_ref().take(most).cloned().collect();
        (page, found.next().is_some())
    }
}
