//! A store in a folder of its own, with a gate, a clock and keys in the test's hand.

use bytes::Bytes;
use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::message::Wrapped;
use keystead_objects::*;
use keystead_types::{Boot, Cause, Clock};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Time by hand: boot time in seconds, wall time a fixed day plus as much.
#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn boot(&self) -> Boot {
        Boot::since_boot(Duration::from_secs(100 + self.0.load(Ordering::SeqCst)))
    }
    fn wall_ms(&self) -> i64 {
        1_764_000_000_000 + 1000 * self.0.load(Ordering::SeqCst) as i64
    }
}

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) store: Arc<Store>,
    _own: Option<TempDir>,
}

pub(crate) fn ring(fill: u8, store: &str) -> Ring {
    ring_of(&[fill], store)
}

/// A ring with some keys; the last one is written with.
pub(crate) fn ring_of(fills: &[u8], store: &str) -> Ring {
    let context = BTreeMap::from([
        ("keystead:cluster".to_owned(), "cl-1".to_owned()),
        ("keystead:purpose".to_owned(), "bucket".to_owned()),
        ("keystead:store".to_owned(), store.to_owned()),
    ]);
    let key = |fill: &u8| {
        let wrapped = Wrapped {
            key_arn: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd".to_owned(),
            ciphertext: vec![*fill; 180],
        };
        let key = DataKey::from_slice_zeroizing(&mut [*fill; 32]).expect("key memory");
        BucketKey::new(vec![wrapped], key)
    };
    Ring::new(context, fills.iter().map(key).collect(), fills.len() - 1).expect("a ring")
}

impl World {
    /// A store with the open buckets `one` and `two`.
    pub(crate) async fn new() -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let mut world = Self::at(own.path());
        world._own = Some(own);
        for bucket in ["one", "two"] {
            world.store.add_bucket(bucket, BucketSettings::default()).await.expect("added");
        }
        world
    }

    /// The store of a folder, gate and buckets open.
    pub(crate) fn at(folder: &Path) -> Self {
        let clock = Arc::<HandClock>::default();
        let gate = Arc::new(LeaseGate::new());
        gate.publish(Some(clock.boot().plus(Duration::from_secs(1000))));
        let vault = Arc::new(Vault::new(gate, clock.clone(), Cause::KmsUnreachable));
        vault.open("one", ring(1, "one"));
        vault.open("two", ring(2, "two"));
        let store = Store::open(folder, vault.clone(), clock.clone()).expect("a store");
        Self { folder: folder.to_owned(), clock, vault, store, _own: None }
    }

    /// Closes the store and opens it again, as a restart does.
    pub(crate) fn reopen(&mut self) {
        let (vault, clock) = (self.vault.clone(), self.clock.clone());
        let elsewhere = tempfile::tempdir().expect("a folder");
        // The old one must be gone before its folder is opened again.
        let other = Store::open(elsewhere.path(), vault.clone(), clock.clone()).expect("a store");
        drop(std::mem::replace(&mut self.store, other));
        self.store = Store::open(&self.folder, vault, clock).expect("the store again");
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, data: &[u8]) -> Done {
        self.try_put(bucket, key, data, PutOptions::default()).await.expect("stored")
    }

    pub(crate) async fn try_put(
        &self,
        bucket: &str,
        key: &str,
        data: &[u8],
        options: PutOptions,
    ) -> Result<Done, StoreError> {
        let mut put = self.store.put(bucket, key, options).await?;
        for piece in data.chunks(100_000) {
            put.write(Bytes::copy_from_slice(piece)).await?;
        }
        put.commit(None).await
    }

    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, StoreError> {
        self.get_with(bucket, key, GetOptions::default()).await
    }

    pub(crate) async fn range(
        &self,
        bucket: &str,
        key: &str,
        range: Range,
    ) -> Result<Vec<u8>, StoreError> {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        self.get_with(bucket, key, options).await
    }

    pub(crate) async fn get_with(
        &self,
        bucket: &str,
        key: &str,
        options: GetOptions,
    ) -> Result<Vec<u8>, StoreError> {
        let got = self.store.get(bucket, key, options).await?;
        assert_eq!(got.body.remaining(), got.range.end - got.range.start);
        read(got.body).await
    }

    /// Uploads in parts; answers what completes it.
    pub(crate) async fn parts(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: &[(u16, &[u8])],
    ) -> Vec<CompletePart> {
        let mut named = Vec::new();
        for (number, data) in parts {
            let options = PartOptions::default();
            let mut part =
                self.store.put_part(bucket, key, upload, *number, options).await.expect("begun");
            part.write(Bytes::copy_from_slice(data)).await.expect("written");
            let done = part.commit(None).await.expect("stored");
            named.push(CompletePart { number: *number, etag: done.etag, checksum: None });
        }
        named
    }

    /// Every file below `buckets`, with its path from there.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.folder.join("buckets");
        let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            // A folder may go while it is looked at.
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(
                        path.strip_prefix(&root).expect("inside").to_str().expect("text").into(),
                    ),
                }
            }
        }
        found.sort();
        found
    }

    /// Files are removed behind requests' backs: waits until so many are left.
    pub(crate) fn wait_for_files(&self, count: usize) {
        wait(|| self.files().len() == count);
    }

    /// The only file of an object whose name begins so.
    pub(crate) fn file(&self, bucket: &str, key: &str, name: &str) -> PathBuf {
        let inside = format!("{bucket}/{key}/");
        let wanted = |path: &String| {
            path.strip_prefix(&inside)
                .and_then(|rest| rest.split_once('/'))
                .is_some_and(|(_, file)| file.starts_with(name))
        };
        let mut found: Vec<_> = self.files().into_iter().filter(wanted).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        self.folder.join("buckets").join(found.remove(0))
    }
}

/// Waits for a condition, with a deadline.
pub(crate) fn wait(mut condition: impl FnMut() -> bool) {
    let from = std::time::Instant::now();
    while !condition() {
        assert!(from.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::yield_now();
    }
}

pub(crate) async fn read(mut body: Body) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        assert!(!piece.is_empty() && piece.len() <= 65_536);
        all.extend_from_slice(&piece);
    }
    assert_eq!(body.remaining(), 0);
    Ok(all)
}

/// Bytes that tell where they stand.
pub(crate) fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
}
