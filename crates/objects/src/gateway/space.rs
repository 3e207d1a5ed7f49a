//! One cluster's objects as the gateway serves them, and the connections that carry its plaintext.
//!
//! ```text
//!          cut(cause)
//!   open ─────────────► shut(cause): every connection of the cluster is aborted at once (RST),
//!     ▲                 and each new request is answered with the cause
//!     └──────────────── open()
//! ```
//! A connection belongs to each cluster whose genuine requests it brought, until it closes: what it was
//! answered may still lie in a buffer of this machine when its request is over. The state and the
//! list of connections lie under one lock, so a request is either refused or cut, never missed.

use super::wire::Wire;
use crate::{Store, StoreError};
use keystead_types::Cause;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Who makes and removes buckets: it takes a KMS key to make one, and the gateway knows none.
#[async_trait::async_trait]
pub trait Buckets: Send + Sync {
    /// Makes a bucket: its key, its entry in the store, its ring in the vault. What KMS refuses is
    /// [`StoreError::Refused`].
    async fn create(&self, name: &str) -> Result<(), StoreError>;

    /// Removes a bucket that holds nothing.
    async fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// One cluster's objects. Its names are its own: a request never reaches another's.
pub struct Space {
    pub(super) store: Arc<Store>,
    pub(super) buckets: Arc<dyn Buckets>,
    /// The owner that listings and ACLs name.
    pub(super) owner: String,
    /// In a backup Region: the one that is written in.
    pub(super) primary: Option<String>,
    door: Arc<Door>,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Space {
    /// An open space. `owner` is a name for the cluster, told to its clients.
    pub fn new(store: Arc<Store>, buckets: Arc<dyn Buckets>, owner: &str) -> Arc<Self> {
        Self::of(store, buckets, owner, None)
    }

    /// The space of a backup Region: replicas are taken, and users only read. `primary` is the
    /// Region that they are told to write in.
    pub fn backup(
        store: Arc<Store>,
        buckets: Arc<dyn Buckets>,
        owner: &str,
        primary: &str,
    ) -> Arc<Self> {
        Self::of(store, buckets, owner, Some(primary.to_owned()))
    }

    fn of(
        store: Arc<Store>,
        buckets: Arc<dyn Buckets>,
        owner: &str,
        primary: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self { store, buckets, owner: owner.to_owned(), primary, door: Arc::default() })
    }

    /// Refuses every new request with `cause` and aborts every connection of the cluster (RST):
    /// nothing of it leaves this machine through the gateway after this returns. Gives their
    /// number. The first step of a freeze; the vault is closed after it.
    pub fn cut(&self, cause: Cause) -> usize {
        self.door.cut(cause)
    }

    /// Takes requests again; the last step of a thaw.
    pub fn open(&self) {
        self.door.open();
    }

    /// Why requests are refused, if they are.
    pub fn shut(&self) -> Option<Cause> {
        self.door.shut()
    }

    /// The lease lives, by the clock: what asks for no key (listing, deleting) asks for this.
    pub(super) fn gate(&self) -> Result<(), Cause> {
        if self.store.vault().is_open() { Ok(()) } else { Err(Cause::KmsUnreachable) }
    }

    /// Ties a connection to this space, or says why it is shut.
    pub(super) fn seat(&self, seat: &Seat) -> Result<(), Cause> {
        seat.take(&self.door)
    }
}

/// Opens, shuts, and cuts.
#[derive(Debug, Default)]
struct Door(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    shut: Option<Cause>,
    next: u64,
    seated: HashMap<u64, Weak<Wire>>,
}

impl Door {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses every new request with `cause` and aborts every connection. Nothing of the cluster
    /// leaves this machine through the gateway after this returns. Gives the number that were cut.
    fn cut(&self, cause: Cause) -> usize {
        let mut inside = self.inside();
        inside.shut = Some(cause);
        let seated = std::mem::take(&mut inside.seated);
        // Under the lock: else one that is being seated again could be missed.
        seated.values().filter_map(Weak::upgrade).map(|wire| wire.cut()).count()
    }

    /// Takes requests again.
    fn open(&self) {
        self.inside().shut = None;
    }

    /// Why requests are refused, if they are.
    fn shut(&self) -> Option<Cause> {
        self.inside().shut
    }
}

/// Where a connection sits: at the table of each cluster whose requests it brought, until it ends.
#[derive(Debug)]
pub(super) struct Seat {
    wire: Arc<Wire>,
    at: Mutex<Vec<(Arc<Door>, u64)>>,
}

impl Seat {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self { wire, at: Mutex::default() }
    }

    /// Ties the connection to the cluster behind `door` from here on, or says why that refuses.
    fn take(&self, door: &Arc<Door>) -> Result<(), Cause> {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = door.inside();
        // Another cluster's answer may still lie in a buffer: no table is left before the end.
        if let Some((_, number)) = at.iter().find(|(taken, _)| Arc::ptr_eq(taken, door))
            && inside.seated.contains_key(number)
        {
            return inside.shut.map_or(Ok(()), Err);
        }
        if let Some(cause) = inside.shut {
            return Err(cause);
        }
        let number = inside.next;
        inside.next += 1;
        inside.seated.insert(number, Arc::downgrade(&self.wire));
        at.retain(|(taken, _)| !Arc::ptr_eq(taken, door));
        at.push((door.clone(), number));
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let at = self.at.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (door, number) in at.drain(..) {
            door.inside().seated.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    async fn pair() -> (Arc<Wire>, std::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let peer = std::net::TcpStream::connect(listener.local_addr().expect("an address"))
            .expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        (Wire::new(stream), peer)
    }

    #[tokio::test]
    async fn a_cut_resets_those_at_the_table_and_refuses_newcomers_until_it_opens() {
        let (one, other) = (Arc::new(Door::default()), Arc::new(Door::default()));
        let (wire, mut peer) = pair().await;
        let (spared, mut spared_peer) = pair().await;
        let seat = Seat::new(wire);
        let spared = Seat::new(spared);
        seat.take(&other).expect("open");
        seat.take(&one).expect("open");
        spared.take(&other).expect("open");

        assert_eq!(one.cut(Cause::KeyDisabled), 1);
        let error = peer.read(&mut [0; 8]).expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(seat.take(&one), Err(Cause::KeyDisabled));
        assert_eq!(Seat::new(pair().await.0).take(&one), Err(Cause::KeyDisabled));
        spared_peer.set_nonblocking(true).expect("set");
        let error = spared_peer.read(&mut [0; 8]).expect_err("nothing came");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

        one.open();
        Seat::new(pair().await.0).take(&one).expect("open again");
        // Every seat of the first was given up, here or by the cut.
        assert_eq!(one.cut(Cause::KeyDeleted), 0);
    }
}
