//! A primary's sender to the cluster's other Region: it runs while the lease lives, and what stands
//! in its way is put on the board.

use super::shelf::{Shelf, State};
use keystead_objects::replicate::{Replicator, Target};
use keystead_objects::{Store, StoreRole};
use keystead_types::{ClusterAssignment, LeaseWord, Part, ReplicationStatus, S3Role};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The board is told so often.
const TELL: Duration = Duration::from_millis(500);

/// A sender, and what it was started with.
pub(super) struct Running {
    to: To,
    replicator: Replicator,
}

/// Where it sends to, and as whom. The sealed secret stands for the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
struct To {
    address: String,
    region: String,
    access_key_id: String,
    sealed: String,
}

/// What the store of this node is to the cluster's other Region.
pub(super) fn role(wanted: &ClusterAssignment) -> StoreRole {
    match (wanted.part, &wanted.peer) {
        (Part::Backup, _) => StoreRole::Backup,
        (Part::Primary, Some(_)) => StoreRole::Primary,
        (Part::Primary, None) => StoreRole::Alone,
    }
}

impl State {
    /// Where to send, or what is missing.
    fn to(&self) -> Result<To, &'static str> {
        if self.view.word != LeaseWord::Live {
            return Err("the cluster is frozen");
        }
        let peer = self.wanted.peer.as_ref().ok_or("there is no other Region")?;
        let endpoint = peer.s3_endpoint.as_deref();
        let address = endpoint.and_then(|url| url.strip_prefix("http://"));
        let address = address.ok_or("the other Region's node has not said where it serves S3")?;
        let key = self.wanted.s3_keys.iter().find(|key| key.role == S3Role::Replicator);
        let id = key.map(|key| &key.access_key_id);
        let opened = id.and_then(|id| Some((id, self.access_keys.get(id)?)));
        let (id, opened) = opened.ok_or("the access key of replication is not open")?;
        Ok(To {
            address: address.trim_end_matches('/').to_owned(),
            region: peer.region.to_string(),
            access_key_id: id.clone(),
            sealed: opened.sealed.clone(),
        })
    }

    fn secret(&self, to: &To) -> Option<zeroize::Zeroizing<String>> {
        self.access_keys.get(&to.access_key_id).and_then(|key| key.secret.clone())
    }
}

impl Shelf {
    /// Starts the sender, ends it, or has another one in its place: whatever is so now.
    pub(super) fn replicate(self: &Arc<Self>, s: &mut State) {
        let Some(shop) = s.shop.clone().filter(|shop| shop.store.role() == StoreRole::Primary)
        else {
            return;
        };
        if s.teller.is_none() {
            let tell = tell(Arc::downgrade(self), shop.store.clone());
            s.teller = Some(Teller(self.parts.runtime.spawn(tell)));
        }
        let to = s.to().ok();
        if s.sender.as_ref().map(|running| &running.to) == to.as_ref() {
            return;
        }
        s.sender = None;
        let Some(to) = to else { return };
        let Some(secret) = s.secret(&to) else { return };
        let target = Target {
            address: to.address.clone(),
            host: to.address.clone(),
            region: to.region.clone(),
            access_key_id: to.access_key_id.clone(),
            secret,
        };
        tracing::info!(cluster = %self.cluster, peer = to.address, region = to.region,
            "objects are replicated");
        let replicator = Replicator::start(&shop.store, target, &self.parts.runtime);
        s.sender = Some(Running { to, replicator });
    }

    fn replication_trouble(&self) -> Option<String> {
        let s = self.lock();
        match &s.sender {
            Some(running) => running.replicator.trouble(),
            None => s.to().err().map(str::to_owned),
        }
    }
}

/// The task that tells the board; dropped, it ends.
pub(super) struct Teller(tokio::task::JoinHandle<()>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The index is read off the shelf's thread: no refusal stands behind the disk.
async fn tell(shelf: Weak<Shelf>, store: Arc<Store>) {
    loop {
        let counted = store.clone();
        let counted = tokio::task::spawn_blocking(move || counted.replication()).await;
        let Some(shelf) = shelf.upgrade() else { return };
        if let Ok(Ok(queue)) = counted {
            let status = ReplicationStatus {
                pending: queue.pending,
                oldest_ms: queue.oldest_ms,
                confirmed_ms: queue.confirmed_ms,
                message: shelf.replication_trouble(),
            };
            shelf.parts.board.replication(&shelf.cluster, status);
        }
        drop(shelf);
        tokio::time::sleep(TELL).await;
    }
}
