//! What users of documents wait for, between their call and the node's answer. It lies in memory
//! alone: a wish may hold a file's name, an answer holds links, and neither outlives its caller.

use keystead_types::{
    ClusterId, DocumentAnswer, DocumentAsk, DocumentAsks, DocumentSaid, DocumentWish, Region,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// A cluster has so many open at a time: one that asks much must not keep its neighbours waiting.
const OPEN: usize = 16;

type Waits = (DocumentAsk, oneshot::Sender<DocumentSaid>);

/// What one Region's node is to answer.
struct Tray {
    serial: u64,
    /// By id, which is by age.
    open: BTreeMap<String, Waits>,
}

impl Default for Tray {
    /// Another process's serial is never taken for this one's.
    fn default() -> Self {
        Self { serial: Uuid::new_v4().as_u64_pair().1 >> 12, open: BTreeMap::new() }
    }
}

/// The desk.
#[derive(Default)]
pub(crate) struct Desk {
    trays: Mutex<BTreeMap<Region, Tray>>,
    /// One at a time looks for a cluster's key of links and makes it.
    pub(crate) keys: tokio::sync::Mutex<()>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Region, Tray>> {
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks; `None` when the cluster has too much open. Whoever stops waiting says [`Desk::forget`].
    pub(crate) fn ask(
        &self,
        region: &Region,
        cluster: &ClusterId,
        wish: DocumentWish,
    ) -> Option<(String, oneshot::Receiver<DocumentSaid>)> {
        let mut trays = self.lock();
        let tray = trays.entry(region.clone()).or_default();
        if tray.open.values().filter(|(ask, _)| ask.cluster == *cluster).count() >= OPEN {
            return None;
        }
        let id = Uuid::now_v7().to_string();
        let ask = DocumentAsk { ask: id.clone(), cluster: cluster.clone(), wish };
        let (told, waits) = oneshot::channel();
        tray.open.insert(id.clone(), (ask, told));
        tray.serial += 1;
        Some((id, waits))
    }

    /// Nobody waits any more; answers whether somebody had.
    pub(crate) fn forget(&self, region: &Region, ask: &str) -> bool {
        let mut trays = self.lock();
        let Some(tray) = trays.get_mut(region) else { return false };
        let was = tray.open.remove(ask).is_some();
        tray.serial += u64::from(was);
        was
    }

    /// Hands a node's answer to whoever waits for it; answers whether somebody did.
    pub(crate) fn answer(&self, region: &Region, answer: DocumentAnswer) -> bool {
        let mut trays = self.lock();
        let Some(tray) = trays.get_mut(region) else { return false };
        let of = tray.open.get(&answer.ask).map(|(ask, _)| &ask.cluster);
        if of != Some(&answer.cluster) {
            return false;
        }
        if let Some((_, told)) = tray.open.remove(&answer.ask) {
            tray.serial += 1;
            // Who asked may be gone by now.
            let _ = told.send(answer.said);
        }
        true
    }

    /// What the Region's node is to answer.
    pub(crate) fn asks(&self, region: &Region) -> DocumentAsks {
        let mut trays = self.lock();
        let tray = trays.entry(region.clone()).or_default();
        let asks = tray.open.values().map(|(ask, _)| ask.clone()).collect();
        DocumentAsks { serial: tray.serial, asks }
    }

    /// Tells the list from others, without it.
    pub(crate) fn serial(&self, region: &Region) -> u64 {
        self.lock().entry(region.clone()).or_default().serial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_a_serial_and_each_answer_its_own_asker() {
        let desk = Desk::default();
        let region: Region = "eu-central-1".parse().expect("a Region");
        let far: Region = "eu-west-1".parse().expect("a Region");
        let (one, two) =
            (ClusterId::from_uuid(Uuid::now_v7()), ClusterId::from_uuid(Uuid::now_v7()));
        let page = || DocumentWish::Page { after: None, expires_s: 1 };
        let before = desk.serial(&region);
        let (id, mut waits) = desk.ask(&region, &one, page()).expect("room");
        assert_ne!(desk.serial(&region), before);
        assert_eq!(desk.asks(&region).asks.len(), 1);
        assert!(desk.asks(&far).asks.is_empty());
        let said = |cluster: &ClusterId| DocumentAnswer {
            ask: id.clone(),
            cluster: cluster.clone(),
            said: DocumentSaid::Removed,
        };
        // Of another cluster or Region than was asked: no answer.
        assert!(!desk.answer(&region, said(&two)) && !desk.answer(&far, said(&one)));
        assert!(waits.try_recv().is_err());
        assert!(desk.answer(&region, said(&one)) && !desk.answer(&region, said(&one)));
        assert_eq!(waits.try_recv(), Ok(DocumentSaid::Removed));
        assert!(desk.asks(&region).asks.is_empty());
        let kept: Vec<_> = (0..OPEN).map(|_| desk.ask(&region, &one, page())).collect();
        assert!(kept.iter().all(Option::is_some) && desk.ask(&region, &one, page()).is_none());
        assert!(desk.ask(&region, &two, page()).is_some());
        let first = kept[0].as_ref().expect("asked").0.clone();
        assert!(desk.forget(&region, &first) && !desk.forget(&region, &first));
        assert!(desk.ask(&region, &one, page()).is_some());
    }
}
