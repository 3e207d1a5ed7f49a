//! The newest records in memory, for LookupEvents: as text, which takes a fifth of what parsed
//! records take, and of which most are passed over without being parsed.

use super::Record;
use std::collections::VecDeque;
use std::sync::Arc;

/// Records kept in memory; older ones are in the segments only.
const KEPT: usize = 200_000;

#[derive(Default)]
pub(super) struct Index(VecDeque<Arc<str>>);

impl Index {
    /// Takes a record; lines of the trail itself are not events.
    pub(super) fn push(&mut self, record: &Record) {
        if record.contains_key("keystead") {
            return;
        }
        let Ok(text) = serde_json::to_string(record) else { return };
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(text.into());
    }

    /// All of them, newest first: to be looked through without holding the writer up.
    pub(super) fn snapshot(&self) -> Vec<Arc<str>> {
        self.0.iter().rev().cloned().collect()
    }
}

/// A question to the newest records.
#[derive(Default)]
pub(crate) struct Query<'a> {
    /// Only what comes after (is older than) the event of this id.
    pub(crate) after: Option<&'a str>,
    /// What the text of a record must contain to be worth parsing.
    pub(crate) contains: Vec<String>,
    /// At most so many.
    pub(crate) most: usize,
}

/// Looks through a snapshot; answers what fits, and whether there is more.
pub(super) fn search(
    events: &[Arc<str>],
    query: &Query<'_>,
    fits: impl Fn(&Record) -> bool,
) -> (Vec<Record>, bool) {
    let from = match query.after {
        None => 0,
        Some(id) => {
            let member = format!("\"eventID\":\"{id}\"");
            let at = events.iter().position(|text| text.contains(&member));
            at.map_or(events.len(), |at| at + 1)
        }
    };
    let mut found = events[from..]
        .iter()
        .filter(|text| query.contains.iter().all(|part| text.contains(part.as_str())))
        .filter_map(|text| serde_json::from_str::<Record>(text).ok())
        .filter(|record| fits(record));
    let page: Vec<Record> = found.by_ref().take(query.most).collect();
    (page, found.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_search_through_everything_kept_takes_no_longer_than_a_blink() {
        let mut index = Index::default();
        for n in 0..(KEPT + 5) {
            let record = json!({"eventID": format!("e-{n}"), "eventName": "Decrypt",
                "recipientAccountId": "111122223333", "userAgent": "x".repeat(700)});
            index.push(record.as_object().expect("an object"));
        }
        let started = std::time::Instant::now();
        let rare = Query { contains: vec!["DisableKey".to_owned()], most: 50, after: Some("e-5") };
        assert_eq!(search(&index.snapshot(), &rare, |_| true), (vec![], false));
        assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
        let after = format!("e-{}", KEPT);
        let next = Query { after: Some(&after), most: 2, ..Query::default() };
        let (page, more) = search(&index.snapshot(), &next, |_| true);
        assert_eq!(page[0]["eventID"], format!("e-{}", KEPT - 1));
        assert!(page.len() == 2 && more);
        // What was dropped is not there any more.
        let gone = Query { after: Some("e-2"), most: 2, ..Query::default() };
        assert_eq!(search(&index.snapshot(), &gone, |_| true), (vec![], false));
    }
}
