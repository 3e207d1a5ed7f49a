//! The buckets of a cluster with two Regions, each with a node of its own.

use super::*;
use keystead_types::{KeyArn, Part, Peer, SecondKey};

const REPLICATOR: &str = "KSREPLICATOR00000001";

/// Both nodes' worlds: the same records, each Region's own key first to itself.
struct Regions {
    primary: World,
    backup: World,
}

/// The same data key under the other Region's KMS key.
fn both(key: &StoreKey, second: &KeyArn) -> StoreKey {
    let mut key = key.clone();
    let mut other = key.wrapped[0].clone();
    other.key = second.clone();
    // Another ciphertext, which the fake KMS opens to the same key.
    other.ciphertext.replace_range(1..2, "R");
    key.wrapped.push(other);
    key
}

impl Regions {
    fn new() -> Self {
        let (mut primary, mut backup) = (World::new(), World::new());
        let first = primary.wanted.binding.clone().expect("bound").key;
        let second: KeyArn =
            first.to_string().replace("eu-central-1", "eu-west-1").parse().expect("an ARN");
        for keys in primary.wanted.buckets.iter_mut().map(|b| &mut b.keys) {
            keys.iter_mut().for_each(|key| *key = both(key, &second));
        }
        primary.wanted.credentials.iter_mut().for_each(|key| *key = both(key, &second));
        primary.wanted.s3_keys.push(S3KeyAssignment {
            access_key_id: REPLICATOR.to_owned(),
            role: S3Role::Replicator,
            sealed: None,
            expires_ms: None,
        });
        backup.wanted = primary.wanted.clone();
        let tie = |world: &mut World, own: &KeyArn, other: &KeyArn| {
            let binding = world.wanted.binding.as_mut().expect("bound");
            binding.key = own.clone();
            binding.second = Some(SecondKey { key: other.clone(), canary: None });
        };
        tie(&mut primary, &first, &second);
        tie(&mut backup, &second, &first);
        let region = |name: &str| name.parse().expect("a Region");
        primary.wanted.peer = Some(Peer { region: region("eu-west-1"), s3_endpoint: None });
        backup.wanted.part = Part::Backup;
        backup.wanted.peer = Some(Peer { region: region("eu-central-1"), s3_endpoint: None });
        Self { primary, backup }
    }

    /// Puts the backup's gateway on a port and tells the primary of it.
    fn serve(&mut self) {
        let backup = &self.backup;
        let region = "eu-west-1".parse().expect("a Region");
        let endpoint = backup.runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let at = listener.local_addr().expect("an address");
            let config = S3 { listen: at, domain: None };
            let (buckets, board) = (backup.buckets.clone(), &backup.board);
            let serves = serve(listener, &config, &region, buckets, board).expect("a gateway");
            tokio::spawn(serves);
            format!("http://{at}")
        });
        self.primary.wanted.peer.as_mut().expect("a peer").s3_endpoint = Some(endpoint);
    }

    /// The replicator's secret is made by the primary's node alone.
    fn seal(&mut self) {
        until("a secret", || self.primary.board.has_s3_key(REPLICATOR));
        let made = self.primary.board.made_s3_key(REPLICATOR).expect("made");
        assert!(!self.backup.board.has_s3_key(REPLICATOR), "made in both Regions");
        for world in [&mut self.primary, &mut self.backup] {
            world.wanted.s3_keys[0].sealed = Some(made.sealed.clone());
            world.assign();
        }
    }

    fn message(&self) -> Option<String> {
        self.primary.board.replicated(&self.primary.wanted.cluster).and_then(|r| r.message)
    }

    fn pending(&self) -> Option<u64> {
        self.primary.board.replicated(&self.primary.wanted.cluster).map(|r| r.pending)
    }
}

#[test]
fn objects_reach_the_other_region_and_its_own_key_opens_them() {
    let mut r = Regions::new();
    for world in [&r.primary, &r.backup] {
        world.assign();
        world.live();
        world.becomes(BucketWord::Serving);
    }
    r.primary.put(b"sealed once").expect("stored");
    until("a reason", || r.message().is_some_and(|m| m.contains("has not said where")));
    assert!(matches!(r.backup.put(b"no"), Err(StoreError::ReadOnly)));
    r.serve();
    r.seal();
    until("the replica", || r.backup.get().is_ok());
    assert_eq!(r.backup.get().expect("there"), 11);
    until("confirmed", || r.pending() == Some(0) && r.message().is_none());

    // One refusal is enough: the backup takes nothing, and the primary says whose word it was.
    r.backup.refused(Cause::SecondKeyUnusable);
    r.backup.becomes(BucketWord::Frozen);
    r.primary.put(b"waits").expect("stored");
    until("a refusal", || r.message().is_some_and(|m| m.contains("second-key-unusable")));
    assert_eq!(r.pending(), Some(1));
    // A fenced primary sends nothing, though the backup is open again.
    r.primary.refused(Cause::KeyDisabled);
    r.primary.becomes(BucketWord::Frozen);
    until("fenced", || r.message().is_some_and(|m| m.contains("frozen")));
    r.backup.live();
    r.backup.becomes(BucketWord::Serving);
    assert_eq!(r.backup.get().expect("the old one"), 11);
    r.primary.live();
    until("the new one", || r.backup.get().is_ok_and(|size| size == 5));
}

#[test]
fn a_bucket_that_is_removed_goes_from_the_backup_with_what_it_still_holds() {
    let mut r = Regions::new();
    r.serve();
    for world in [&r.primary, &r.backup] {
        world.assign();
        world.live();
        world.becomes(BucketWord::Serving);
    }
    r.seal();
    r.primary.put(b"sealed once").expect("stored");
    until("the replica", || r.backup.get().is_ok());
    // The backup hears of the removal before it hears that the object is gone.
    let store = r.primary.store();
    r.backup.wanted.buckets.clear();
    r.backup.assign();
    until("not served", || r.backup.get().is_err());
    let deleted = store.delete("documents", "a", keystead_objects::WriteCondition::default());
    r.primary.runtime.block_on(deleted).expect("deleted");
    r.primary.wanted.buckets.clear();
    r.primary.assign();
    let replica = r.backup.store();
    let buckets = || r.backup.runtime.block_on(replica.list_buckets()).expect("buckets").len();
    until("gone in both", || buckets() == 0 && r.pending() == Some(0));
}
