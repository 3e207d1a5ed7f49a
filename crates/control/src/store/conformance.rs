//! What every store must do, run on each.

use super::buckets::{BUCKETS, S3_KEYS};
use super::*;
use keystead_types::{BucketId, EncryptionContext, PreflightCheck, S3Role};
use uuid::Uuid;

fn organization(name: &str) -> Organization {
    Organization {
        id: OrganizationId::from_uuid(Uuid::now_v7()),
        name: name.to_owned(),
        created_ms: 1,
    }
}

/// Of one Region.
fn tie(key: KeyArn) -> Keys {
    Keys { key, second: None, revocation: Revocation::Any }
}

fn backup() -> Region {
    "eu-west-1".parse().expect("a Region")
}

fn region() -> Region {
    "eu-central-1".parse().expect("a Region")
}

fn key(last: u8) -> KeyArn {
    format!(
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890{last:02x}"
    )
    .parse()
    .expect("a key ARN")
}

fn cluster(of: &Organization, name: &str) -> Cluster {
    let volume = |disk: &str| Volume {
        id: VolumeId::from_uuid(Uuid::now_v7()),
        disk: disk.to_owned(),
        size_bytes: 1 << 30,
        wrapped: None,
        key_digest: None,
        grant_generation: 1,
    };
    let bucket = |name: &str| Bucket {
        id: BucketId::from_uuid(Uuid::now_v7()),
        name: name.to_owned(),
        created_ms: 5,
        keys: vec![],
    };
    Cluster {
        id: ClusterId::from_uuid(Uuid::now_v7()),
        organization: of.id.clone(),
        name: name.to_owned(),
        region: region(),
        backup_region: None,
        template: "postgres".to_owned(),
        evict_after_ms: 900_000,
        created_ms: 5,
        generation: 1,
        tenant_role: None,
        binding: None,
        canary: None,
        second_canary: None,
        volumes: vec![volume("orchestration"), volume("search")],
        buckets: vec![bucket("documents")],
        credentials: vec![],
        s3_keys: vec![],
    }
}

fn wrapped(cluster: &ClusterId, ciphertext: &str) -> WrappedKey {
    WrappedKey {
        key: key(1),
        ciphertext: ciphertext.to_owned(),
        context: EncryptionContext::canary(cluster),
    }
}

async fn suite(store: &dyn Store) -> Result<(), StoreError> {
    organizations(store).await?;
    written_once(store).await?;
    bindings(store).await?;
    two_regions(store).await?;
    buckets(store).await?;
    s3_keys(store).await?;
    preflights(store).await
}

async fn organizations(store: &dyn Store) -> Result<(), StoreError> {
    let (a, b) = (organization("org-a"), organization("org-b"));
    assert!(store.add_organization(a.clone(), [1; 32]).await?);
    assert!(!store.add_organization(organization("org-a"), [9; 32]).await?);
    assert!(store.add_organization(b.clone(), [2; 32]).await?);
    assert_eq!(store.organization_of([2; 32]).await?, Some(b.clone()));
    assert_eq!(store.organization_of([9; 32]).await?, None);
    assert_eq!(store.organizations().await?, [a, b]);
    Ok(())
}

async fn written_once(store: &dyn Store) -> Result<(), StoreError> {
    let owner = organization("once");
    store.add_organization(owner.clone(), [3; 32]).await?;
    let made = cluster(&owner, "one");
    assert!(store.add_cluster(made.clone()).await?);
    assert!(!store.add_cluster(cluster(&owner, "one")).await?);
    assert_eq!(store.cluster(&made.id).await?, Some(made.clone()));
    assert_eq!(store.clusters(Select::WithoutRole).await?, std::slice::from_ref(&made));
    let begun = store.generation(&region()).await?;

    let (role, other): (RoleArn, RoleArn) = (
        "arn:aws:iam::444455556666:role/keystead-a".parse().expect("a role"),
        "arn:aws:iam::444455556666:role/keystead-b".parse().expect("a role"),
    );
    assert_eq!(store.record_role(&made.id, &role).await?, Recorded::New);
    assert_eq!(store.record_role(&made.id, &role).await?, Recorded::Same);
    assert_eq!(store.record_role(&made.id, &other).await?, Recorded::Other);
    assert_eq!(store.clusters(Select::WithoutRole).await?, []);
    assert_eq!(store.generation(&region()).await?, begun + 1);

    let (one, two) = (wrapped(&made.id, "AA=="), wrapped(&made.id, "BB=="));
    let volume = &made.volumes[0].id;
    for (value, wanted) in [(&one, Recorded::New), (&one, Recorded::Same), (&two, Recorded::Other)]
    {
        assert_eq!(store.record_canary(&made.id, Part::Primary, value).await?, wanted);
        assert_eq!(store.record_wrapped(volume, value).await?, wanted);
    }
    for (value, wanted) in [("aa", Recorded::New), ("aa", Recorded::Same), ("bb", Recorded::Other)]
    {
        assert_eq!(store.record_digest(volume, value).await?, wanted);
    }
    assert_eq!(store.generation(&region()).await?, begun + 4);
    let nobody = VolumeId::from_uuid(Uuid::now_v7());
    assert_eq!(store.record_digest(&nobody, "aa").await?, Recorded::Absent);

    assert!(store.regrant(volume, 1).await?);
    assert!(!store.regrant(volume, 1).await?);
    let now = store.cluster_of_volume(volume).await?.expect("its cluster");
    assert_eq!((now.volumes[0].grant_generation, now.volumes[1].grant_generation), (2, 1));
    assert_eq!((now.canary, now.tenant_role), (Some(one.clone()), Some(role)));
    assert_eq!(now.volumes[0].wrapped, Some(one));
    assert_eq!(now.volumes[0].key_digest.as_deref(), Some("aa"));
    assert_eq!(now.generation, 3, "role and grant are spec; what the node made is not");
    Ok(())
}

async fn bindings(store: &dyn Store) -> Result<(), StoreError> {
    let (a, b) = (organization("bind-a"), organization("bind-b"));
    store.add_organization(a.clone(), [4; 32]).await?;
    store.add_organization(b.clone(), [5; 32]).await?;
    let (one, two, foreign) = (cluster(&a, "one"), cluster(&a, "two"), cluster(&b, "one"));
    for c in [&one, &two, &foreign] {
        assert!(store.add_cluster(c.clone()).await?);
    }
    let begun = store.generation(&region()).await?;
    assert_eq!(store.bind(&one.id, &tie(key(7)), None, 9).await?, Bound::Done);
    for again in [7, 8] {
        let done = store.bind(&one.id, &tie(key(again)), None, 9).await?;
        assert_eq!(done, Bound::Already(tie(key(7))));
    }
    assert_eq!(store.bind(&two.id, &tie(key(7)), None, 9).await?, Bound::Done);
    let done = store.bind(&foreign.id, &tie(key(7)), None, 9).await?;
    assert_eq!(done, Bound::Elsewhere(key(7)));
    let nobody = ClusterId::from_uuid(Uuid::now_v7());
    assert_eq!(store.bind(&nobody, &tie(key(9)), None, 9).await?, Bound::Absent);
    assert_eq!(store.generation(&region()).await?, begun + 2);
    assert_eq!(store.cluster(&one.id).await?.and_then(|c| c.binding), Some(tie(key(7))));
    let names = |all: Vec<Cluster>| all.into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names(store.clusters(Select::Organization(&a.id)).await?), ["one", "two"]);
    assert_eq!(store.clusters(Select::Region(&region())).await?.len(), 4);
    Ok(())
}

fn far(last: u8) -> KeyArn {
    key(last).to_string().replace("eu-central-1", "eu-west-1").parse().expect("a key ARN")
}

async fn two_regions(store: &dyn Store) -> Result<(), StoreError> {
    let (a, b) = (organization("two-a"), organization("two-b"));
    store.add_organization(a.clone(), [10; 32]).await?;
    store.add_organization(b.clone(), [11; 32]).await?;
    let of = |owner, name| Cluster { backup_region: Some(backup()), ..cluster(owner, name) };
    let (made, foreign) = (of(&a, "one"), of(&b, "one"));
    assert!(store.add_cluster(made.clone()).await? && store.add_cluster(foreign.clone()).await?);
    assert_eq!(store.cluster(&made.id).await?, Some(made.clone()));
    let here = store.clusters(Select::Region(&region())).await?;
    assert_eq!(store.clusters(Select::Region(&backup())).await?, [made.clone(), foreign.clone()]);
    assert!(here.contains(&made) && here.len() > 2);

    // A change is told to both Regions.
    let generations = async || {
        Ok::<_, StoreError>((
            store.generation(&region()).await?,
            store.generation(&backup()).await?,
        ))
    };
    let (begun_here, begun_there) = generations().await?;
    let keys = Keys { key: key(20), second: Some(far(21)), revocation: Revocation::Each };
    let replicator = S3Key {
        access_key_id: "KSIAREP".to_owned(),
        role: S3Role::Replicator,
        description: "replication".to_owned(),
        created_ms: 9,
        sealed: None,
        expires_ms: None,
    };
    let done = store.bind(&made.id, &keys, Some(replicator.clone()), 9).await?;
    assert_eq!(done, Bound::Done);
    assert_eq!(generations().await?, (begun_here + 1, begun_there + 1));
    let other = Keys { revocation: Revocation::Any, ..keys.clone() };
    assert_eq!(store.bind(&made.id, &other, None, 9).await?, Bound::Already(keys.clone()));
    let now = store.cluster(&made.id).await?.expect("the cluster");
    assert_eq!((now.binding, now.s3_keys), (Some(keys.clone()), vec![replicator]));

    // Each of the two is its organization's own, in whichever place it is named.
    for (first, second, taken) in
        [(key(20), far(30), key(20)), (key(30), far(21), far(21)), (far(21), key(30), far(21))]
    {
        let theirs = Keys { key: first, second: Some(second), revocation: Revocation::Any };
        let done = store.bind(&foreign.id, &theirs, None, 9).await?;
        assert_eq!(done, Bound::Elsewhere(taken));
    }
    assert_eq!(store.cluster(&foreign.id).await?.and_then(|c| c.binding), None);

    let (one, two) = (wrapped(&made.id, "AA=="), wrapped(&made.id, "BB=="));
    for (part, first, other) in [(Part::Backup, &two, &one), (Part::Primary, &one, &two)] {
        assert_eq!(store.record_canary(&made.id, part, first).await?, Recorded::New);
        assert_eq!(store.record_canary(&made.id, part, first).await?, Recorded::Same);
        assert_eq!(store.record_canary(&made.id, part, other).await?, Recorded::Other);
    }
    let now = store.cluster(&made.id).await?.expect("the cluster");
    assert_eq!((now.canary, now.second_canary), (Some(one), Some(two)));

    // A preflight is of the Region of its key; a key of a third one is the cluster's own.
    let third = key(24).to_string().replace("eu-central-1", "eu-north-1");
    let of = |key| Preflight {
        id: PreflightId::from_uuid(Uuid::now_v7()),
        cluster: made.id.clone(),
        key,
        created_ms: 7,
        report: None,
    };
    let (a, b, c) = (of(key(22)), of(far(23)), of(third.parse().expect("a key ARN")));
    for p in [&a, &b, &c] {
        assert!(store.add_preflight(p.clone(), 3).await?);
    }
    assert_eq!(store.pending_preflights(&region()).await?, [a.clone(), c.clone()]);
    assert_eq!(store.pending_preflights(&backup()).await?, std::slice::from_ref(&b));
    for p in [a, b, c] {
        let (preflight, key) = (p.id, p.key);
        let report = PreflightReport { preflight, key, checks: vec![], finished_ms: 8 };
        assert_eq!(store.record_report(&report, 10).await?, Recorded::New);
    }

    // Where one Region's node serves S3 is news for the other.
    let (here, there) = generations().await?;
    assert!(store.record_endpoint(&backup(), "http://b").await?);
    assert!(!store.record_endpoint(&backup(), "http://b").await?);
    assert_eq!(generations().await?, (here + 1, there));
    assert!(store.record_endpoint(&region(), "http://a").await?);
    assert!(store.record_endpoint(&region(), "http://a2").await?);
    assert_eq!(generations().await?, (here + 1, there + 2));
    let told = [(region(), "http://a2".to_owned()), (backup(), "http://b".to_owned())];
    assert_eq!(store.endpoints().await?, BTreeMap::from(told));
    Ok(())
}

async fn buckets(store: &dyn Store) -> Result<(), StoreError> {
    let owner = organization("buckets");
    store.add_organization(owner.clone(), [7; 32]).await?;
    let made = cluster(&owner, "one");
    assert!(store.add_cluster(made.clone()).await?);
    let new = |name: &str| Bucket {
        id: BucketId::from_uuid(Uuid::now_v7()),
        name: name.to_owned(),
        created_ms: 6,
        keys: vec![],
    };
    let (first, more) = (made.buckets[0].clone(), new("more"));
    assert_eq!(store.add_bucket(&made.id, more.clone()).await?, Added::New);
    assert_eq!(store.add_bucket(&made.id, new("more")).await?, Added::Taken);
    let key = |ordinal, text: &str| StoreKey {
        ordinal,
        wrapped: vec![wrapped(&made.id, text)],
        created_ms: 9,
    };
    for store_of in [first.id.as_str(), CREDENTIALS] {
        for (value, wanted) in [
            (key(1, "AA=="), Recorded::Other),
            (key(0, "AA=="), Recorded::New),
            (key(0, "AA=="), Recorded::Same),
            (key(0, "BB=="), Recorded::Other),
            (key(1, "BB=="), Recorded::New),
        ] {
            assert_eq!(store.record_store_key(&made.id, store_of, &value).await?, wanted);
        }
    }
    let (nobody, nowhere) = (new("x").id, ClusterId::from_uuid(Uuid::now_v7()));
    for (cluster, of) in [(&made.id, nobody.as_str()), (&nowhere, CREDENTIALS)] {
        let done = store.record_store_key(cluster, of, &key(0, "AA==")).await?;
        assert_eq!(done, Recorded::Absent);
    }
    let now = store.cluster(&made.id).await?.expect("the cluster");
    let both = vec![key(0, "AA=="), key(1, "BB==")];
    assert_eq!(now.buckets, [Bucket { keys: both.clone(), ..first.clone() }, more.clone()]);
    assert_eq!(now.credentials, both);

    let before = store.generation(&region()).await?;
    assert!(store.remove_bucket(&made.id, &first.id, 10).await?);
    assert!(!store.remove_bucket(&made.id, &first.id, 11).await?);
    assert_eq!(store.generation(&region()).await?, before + 1);
    // The name is free again, for a bucket with keys of its own.
    let again = new("documents");
    assert_eq!(store.add_bucket(&made.id, again.clone()).await?, Added::New);
    let now = store.cluster(&made.id).await?.expect("the cluster");
    assert_eq!(now.buckets, [more, again]);
    for n in now.buckets.len()..BUCKETS {
        assert_eq!(store.add_bucket(&made.id, new(&format!("b-{n}"))).await?, Added::New);
    }
    assert_eq!(store.add_bucket(&made.id, new("one-too-many")).await?, Added::Full);
    Ok(())
}

async fn s3_keys(store: &dyn Store) -> Result<(), StoreError> {
    let owner = organization("s3-keys");
    store.add_organization(owner.clone(), [8; 32]).await?;
    let (made, other) = (cluster(&owner, "one"), cluster(&owner, "two"));
    assert!(store.add_cluster(made.clone()).await? && store.add_cluster(other.clone()).await?);
    let new = |id: &str| S3Key {
        access_key_id: id.to_owned(),
        role: S3Role::Reader,
        description: "backups".to_owned(),
        created_ms: 7,
        sealed: None,
        expires_ms: None,
    };
    assert_eq!(store.add_s3_key(&made.id, new("KSIA1")).await?, Added::New);
    assert_eq!(store.record_sealed(&made.id, "KSIA2", "AA==").await?, Recorded::Absent);
    assert_eq!(store.record_sealed(&other.id, "KSIA1", "AA==").await?, Recorded::Absent);
    for (sealed, wanted) in
        [("AA==", Recorded::New), ("AA==", Recorded::Same), ("BB==", Recorded::Other)]
    {
        assert_eq!(store.record_sealed(&made.id, "KSIA1", sealed).await?, wanted);
    }
    for (at, wanted) in [(50, 50), (60, 50), (40, 40)] {
        assert!(store.expire_s3_key(&made.id, "KSIA1", at).await?);
        let now = store.cluster(&made.id).await?.expect("the cluster");
        let sealed = Some("AA==".to_owned());
        assert_eq!(now.s3_keys, [S3Key { sealed, expires_ms: Some(wanted), ..new("KSIA1") }]);
    }
    let nodes_own = S3Key { role: S3Role::Replicator, ..new("KSIAN") };
    assert_eq!(store.add_s3_key(&made.id, nodes_own).await?, Added::New, "counts for nobody");
    assert!(!store.expire_s3_key(&other.id, "KSIA1", 1).await?);
    assert!(!store.remove_s3_key(&other.id, "KSIA1").await?);
    for n in 1..S3_KEYS {
        assert_eq!(store.add_s3_key(&made.id, new(&format!("KSIB{n}"))).await?, Added::New);
    }
    assert_eq!(store.add_s3_key(&made.id, new("KSIC")).await?, Added::Full);
    assert!(store.remove_s3_key(&made.id, "KSIA1").await?);
    assert!(!store.remove_s3_key(&made.id, "KSIA1").await?);
    Ok(())
}

fn found_report(finished: &Preflight) -> PreflightReport {
    finished.report.clone().map(|(report, _)| report).expect("a report")
}

async fn preflights(store: &dyn Store) -> Result<(), StoreError> {
    let owner = organization("pre");
    store.add_organization(owner.clone(), [6; 32]).await?;
    let made = cluster(&owner, "one");
    store.add_cluster(made.clone()).await?;
    let new = |key| Preflight {
        id: PreflightId::from_uuid(Uuid::now_v7()),
        cluster: made.id.clone(),
        key,
        created_ms: 7,
        report: None,
    };
    let (a, b) = (new(key(1)), new(key(2)));
    assert!(store.add_preflight(a.clone(), 2).await?);
    assert!(store.add_preflight(b.clone(), 2).await?);
    assert!(!store.add_preflight(new(key(3)), 2).await?);
    assert_eq!(store.pending_preflights(&region()).await?, [a.clone(), b.clone()]);
    let begun = store.generation(&region()).await?;
    let report = PreflightReport {
        preflight: a.id.clone(),
        key: key(1),
        checks: vec![PreflightCheck {
            check: "region".to_owned(),
            ok: true,
            cause: None,
            detail: None,
            request_id: None,
        }],
        finished_ms: 8,
    };
    assert_eq!(store.record_report(&report, 10).await?, Recorded::New);
    assert_eq!(store.record_report(&report, 11).await?, Recorded::Same);
    let other = PreflightReport { finished_ms: 9, ..report.clone() };
    assert_eq!(store.record_report(&other, 11).await?, Recorded::Other);
    assert_eq!(store.generation(&region()).await?, begun + 1);
    assert_eq!(store.pending_preflights(&region()).await?, std::slice::from_ref(&b));
    let found = store.preflight(&a.id).await?.expect("a preflight");
    assert_eq!(found.report, Some((report, 10)));
    assert_eq!(store.preflights_of(&made.id).await?, [found.clone(), b.clone()]);

    // The oldest finished ones go; what waits stays.
    for n in 0..PREFLIGHTS_KEPT + 2 {
        let next = new(key(1));
        assert!(store.add_preflight(next.clone(), 2).await?);
        let made = PreflightReport { preflight: next.id, ..found_report(&found) };
        assert_eq!(store.record_report(&made, 20).await?, Recorded::New, "{n}");
    }
    assert!(!store.preflights_of(&made.id).await?.contains(&found));
    assert!(store.preflights_of(&made.id).await?.contains(&b));
    assert_eq!(store.preflights_of(&made.id).await?.len(), PREFLIGHTS_KEPT + 2);
    let begun = store.generation(&region()).await? - 1;

    for (digest, rise) in [("one", 1), ("one", 1), ("two", 2)] {
        store.adopt_templates(digest).await?;
        assert_eq!(store.generation(&region()).await?, begun + 1 + rise);
    }
    Ok(())
}

#[tokio::test]
async fn the_twin_passes() {
    suite(&MemoryStore::default()).await.expect("the suite");
}

#[tokio::test]
async fn sqlite_passes_and_keeps_it_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).await.expect("open");
    suite(&store).await.expect("the suite");
    let before = store.clusters(Select::Region(&region())).await.expect("clusters");
    assert!(matches!(SqliteStore::open(folder.path()).await, Err(StoreError::InUse(_))));
    drop(store);
    let again = SqliteStore::open(folder.path()).await.expect("open again");
    assert_eq!(again.clusters(Select::Region(&region())).await.expect("clusters"), before);
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(SqliteStore::open(folder.path()).await.expect("open"));
    let url = format!("sqlite://{}", folder.path().join("control.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connect");
    sqlx::raw_sql("PRAGMA user_version = 4").execute(&pool).await.expect("set");
    pool.close().await;
    let refused = SqliteStore::open(folder.path()).await.err().expect("refused");
    assert!(matches!(refused, StoreError::Newer { found: 4, known: 3 }), "{refused}");
}

#[tokio::test]
async fn a_file_of_version_1_is_brought_forward_on_a_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("control.sqlite");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connect");
    let insert = "INSERT INTO organizations VALUES ('org-01900000-0000-7000-8000-000000000001', 'a', x'01', 5)";
    for sql in [include_str!("schema_1.sql"), insert, "PRAGMA user_version = 1"] {
        sqlx::raw_sql(sql).execute(&pool).await.expect("version 1");
    }
    pool.close().await;
    for _ in 0..2 {
        let store = SqliteStore::open(folder.path()).await.expect("open");
        assert_eq!(store.organizations().await.expect("read").len(), 1);
        assert_eq!(store.clusters(Select::WithoutRole).await.expect("read"), []);
        store.close().await;
    }
    assert!(folder.path().join("control.sqlite.v1").exists(), "the old one is kept");
    assert_eq!(std::fs::read_to_string(folder.path().join("VERSION")).expect("read"), "3\n");
}

#[tokio::test]
async fn a_file_of_version_2_keeps_its_clusters() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("control.sqlite");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connect");
    let owner = organization("a");
    let made = Cluster { canary: None, binding: Some(tie(key(3))), ..cluster(&owner, "one") };
    let (org, id) = (owner.id.clone(), made.id.clone());
    let rows = format!(
        "INSERT INTO organizations VALUES ('{org}', 'a', x'01', 5);
         INSERT INTO clusters VALUES ('{id}', '{org}', 'one', 'eu-central-1', 'postgres', 900000, 5, 1,
           NULL, '{}', 9, NULL);
         INSERT INTO s3_keys VALUES ('KSIA1', '{id}', 'reader', '', 7, NULL, NULL);
         INSERT INTO preflights VALUES ('{}', '{id}', '{}', 7, NULL, NULL);
         INSERT INTO regions VALUES ('eu-central-1', 41);
         PRAGMA user_version = 2",
        key(3),
        PreflightId::from_uuid(Uuid::now_v7()),
        far(4),
    );
    for sql in [include_str!("schema_1.sql"), include_str!("schema_2.sql")] {
        sqlx::raw_sql(sql).execute(&pool).await.expect("version 2");
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.expect("rows of version 2");
    pool.close().await;
    for _ in 0..2 {
        let store = SqliteStore::open(folder.path()).await.expect("open");
        let found = store.clusters(Select::Region(&region())).await.expect("read").remove(0);
        assert_eq!((&found.binding, &found.backup_region), (&made.binding, &None));
        assert_eq!((&found.second_canary, found.s3_keys.len()), (&None, 1));
        assert_eq!(store.generation(&region()).await.expect("read"), 41);
        assert_eq!(store.endpoints().await.expect("read"), BTreeMap::new());
        assert_eq!(store.pending_preflights(&region()).await.expect("read").len(), 1);
        store.close().await;
    }
    assert!(folder.path().join("control.sqlite.v2").exists(), "the old one is kept");
}

#[tokio::test]
async fn the_schema_itself_guards_what_is_written_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).await.expect("open");
    written_once(&store).await.expect("records");
    buckets(&store).await.expect("buckets");
    two_regions(&store).await.expect("two Regions");
    drop(store);
    let url = format!("sqlite://{}", folder.path().join("control.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connect");
    for sql in [
        "UPDATE clusters SET tenant_role = 'x'",
        "UPDATE clusters SET canary = NULL",
        "UPDATE clusters SET backup_region = NULL",
        "UPDATE clusters SET second_key = 'x' WHERE bound_key IS NOT NULL",
        "UPDATE clusters SET revocation = 'any' WHERE bound_key IS NOT NULL",
        "UPDATE clusters SET second_canary = NULL",
        "UPDATE volumes SET wrapped = 'x' WHERE wrapped IS NOT NULL",
        "UPDATE volumes SET key_digest = NULL WHERE key_digest IS NOT NULL",
        "UPDATE volumes SET grant_generation = 1",
        "UPDATE store_keys SET key = '{}'",
        "DELETE FROM store_keys",
        "UPDATE buckets SET removed_ms = NULL WHERE removed_ms IS NOT NULL",
    ] {
        assert!(sqlx::raw_sql(sql).execute(&pool).await.is_err(), "{sql}");
    }
}
