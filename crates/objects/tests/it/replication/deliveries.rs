//! What a sender of ours never sends: repeated, out of turn, foreign, cut. Each delivery here is made
//! by hand from files that lie on the primary's disk.

use super::rig::{REPLICATOR, Two, files};
use crate::world::text;
use std::path::Path;

/// One run from the beginning on.
const HISTORY: &str = r#""history":{"runs":[{"id":1,"began":0}],"confirmed":0}"#;

/// A version's files as they lie on the primary's disk: its id, the record's name, the record, the parts.
#[derive(Clone)]
struct Taken {
    bucket: String,
    key: String,
    version: String,
    record_file: String,
    record: Vec<u8>,
    parts: Vec<Vec<u8>>,
}

impl Taken {
    /// Of a key that is its own folder's name.
    fn of(two: &Two, bucket: &str, key: &str) -> Self {
        let root = two.folders[0].join("buckets").join(bucket).join(key);
        let found = files(&root);
        let version = found.keys().next().and_then(|path| path.iter().next());
        let version = version.expect("a version").to_str().expect("text").to_owned();
        let here = |path: &Path, stem: &str| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(stem).then(|| name.to_owned())
        };
        let record = found.iter().find_map(|(p, b)| Some((here(p, "record")?, b.clone())));
        let (record_file, record) = record.expect("a record");
        let parts = found.iter().filter(|(path, _)| here(path, "part").is_some());
        let parts = parts.map(|(_, bytes)| bytes.clone()).collect();
        Self { bucket: bucket.into(), key: key.into(), version, record_file, record, parts }
    }

    fn body(&self, sequence: u64, floor: u64) -> Vec<u8> {
        let sizes: Vec<usize> = self.parts.iter().map(Vec::len).collect();
        let manifest = format!(
            r#"{{"bucket":"{}","key":"{}","kind":"object","sequence":{sequence},"floor":{floor},{HISTORY},"version":"{}","record_file":"{}","record_bytes":{},"parts":{sizes:?}}}"#,
            self.bucket,
            self.key,
            self.version,
            self.record_file,
            self.record.len()
        );
        let mut body = framed(&manifest);
        body.extend_from_slice(&self.record);
        self.parts.iter().for_each(|part| body.extend_from_slice(part));
        body
    }
}

fn framed(manifest: &str) -> Vec<u8> {
    let mut body = (manifest.len() as u32).to_be_bytes().to_vec();
    body.extend_from_slice(manifest.as_bytes());
    body
}

fn gone(bucket: &str, key: &str, sequence: u64, floor: u64) -> Vec<u8> {
    let kind = if key.is_empty() { "emptied" } else { "delete" };
    framed(&format!(
        r#"{{"bucket":"{bucket}","key":"{key}","kind":"{kind}","sequence":{sequence},"floor":{floor},{HISTORY}}}"#
    ))
}

async fn deliver(two: &Two, body: &[u8]) -> (u16, String) {
    let answer = two.client(REPLICATOR).chunked("/.replica", body, None, |_| {}).await;
    (answer.status, answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_or_twice_changes_nothing() {
    let two = Two::quiet().await;
    two.put("one", "k", b"first").await;
    let first = Taken::of(&two, "one", "k");
    two.put("one", "k", b"second").await;
    super::rig::wait(|| files(&two.folders[0].join("buckets/one/k")).len() == 2).await;
    let second = Taken::of(&two, "one", "k");
    let is = async |wanted: Option<&str>, when: &str| {
        let there = two.get("one", "k").await.map(|b| String::from_utf8(b).expect("text"));
        assert_eq!(there.as_deref(), wanted, "{when}");
    };
    for _ in 0..2 {
        assert_eq!(deliver(&two, &second.body(2, 0)).await.0, 200);
        is(Some("second"), "newest first, and again").await;
    }
    assert_eq!(deliver(&two, &first.body(1, 0)).await.0, 200);
    is(Some("second"), "the older one late").await;
    assert_eq!(deliver(&two, &gone("one", "k", 3, 0)).await.0, 200);
    is(None, "deleted").await;
    for body in [first.body(1, 0), second.body(2, 0)] {
        assert_eq!(deliver(&two, &body).await.0, 200);
        is(None, "nothing comes back after its deletion").await;
    }
    // The floor makes the backup forget single numbers, and still nothing old comes back.
    assert_eq!(deliver(&two, &gone("two", "other", 9, 8)).await.0, 200);
    assert_eq!(deliver(&two, &second.body(2, 0)).await.0, 200);
    is(None, "below the floor").await;
    // A deletion of a bucket that is not there is remembered, too.
    assert_eq!(deliver(&two, &gone("one", "", 12, 8)).await.0, 200);
    assert_eq!(deliver(&two, &second.body(11, 8)).await.0, 200);
    is(None, "before its bucket was emptied").await;
    assert_eq!(deliver(&two, &second.body(13, 8)).await.0, 200);
    is(Some("second"), "newer than all of it").await;
    // Many at a time: one comes of it.
    let bodies: Vec<_> = (0..6).map(|n| first.body(20 + n % 2, 8)).collect();
    let all = bodies.iter().map(|body| deliver(&two, body));
    let mut said = Vec::new();
    for one in all {
        said.push(one.await.0);
    }
    assert!(said.iter().all(|status| *status == 200), "{said:?}");
    is(Some("first"), "one of many").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_one_change_at_the_same_time_do_not_meet() {
    let two = std::sync::Arc::new(Two::quiet().await);
    two.put("one", "k", &text(400_000)).await;
    let body = Taken::of(&two, "one", "k").body(1, 0);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (two, body) = (two.clone(), body.clone());
        all.spawn(async move { deliver(&two, &body).await.0 });
    }
    let said = all.join_all().await;
    // Who met another's files is told to come again.
    assert!(said.iter().all(|status| [200, 503].contains(status)), "{said:?}");
    assert!(said.contains(&200), "{said:?}");
    assert_eq!(two.get("one", "k").await, Some(text(400_000)));
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_is_refused_and_leaves_nothing() {
    let two = Two::quiet().await;
    two.put("one", "k", &text(70_000)).await;
    two.put("one", "other", &text(70_000)).await;
    two.put("two", "k", &text(70_000)).await;
    let k = Taken::of(&two, "one", "k");
    let (other, bucket) = (Taken::of(&two, "one", "other"), Taken::of(&two, "two", "k"));
    let spoilt = |part: &mut Vec<u8>, at: usize| part[at] ^= 1;
    let cases: Vec<(&str, Taken)> = vec![
        ("another key's record", Taken { record: other.record.clone(), ..k.clone() }),
        ("another bucket's record", Taken { record: bucket.record.clone(), ..k.clone() }),
        ("another object's part", Taken { parts: other.parts.clone(), ..k.clone() }),
        ("another bucket's part", Taken { parts: bucket.parts.clone(), ..k.clone() }),
        ("a record under another name", Taken { key: "x".into(), ..k.clone() }),
        ("another version", Taken { version: other.version.clone(), ..k.clone() }),
        ("a version that is none", Taken { version: "..".into(), ..k.clone() }),
        ("a record's name that leads away", Taken { record_file: "../x".into(), ..k.clone() }),
        ("a record's name of no store", Taken { record_file: "record-x".into(), ..k.clone() }),
        ("two parts", Taken { parts: [k.parts.clone(), k.parts.clone()].concat(), ..k.clone() }),
        ("a part that is cut", {
            let mut cut = k.clone();
            cut.parts[0].truncate(69_000);
            cut
        }),
        ("a spoilt record", {
            let mut cut = k.clone();
            let last = cut.record.len() - 1;
            spoilt(&mut cut.record, last);
            cut
        }),
        ("a spoilt header", {
            let mut cut = k.clone();
            spoilt(&mut cut.parts[0], 30);
            cut
        }),
        // The header's wrapped keys must be the recorded ones, both of them.
        ("a foreign wrapped key", {
            let mut cut = k.clone();
            let at = cut.parts[0].windows(6).position(|w| w == b"no KMS").expect("a wrapped key");
            spoilt(&mut cut.parts[0], at);
            cut
        }),
    ];
    for (what, case) in cases {
        let (status, said) = deliver(&two, &case.body(1, 0)).await;
        assert_eq!(status, 422, "{what}: {said}");
    }
    // Less or more than the manifest tells.
    let whole = k.body(1, 0);
    let (status, said) = deliver(&two, &whole[..whole.len() - 1]).await;
    assert_eq!(status, 422, "{said}");
    let (status, said) = deliver(&two, &[&whole[..], b"x"].concat()).await;
    assert_eq!(status, 422, "{said}");
    let (status, said) = deliver(&two, &framed(&"x".repeat(50))).await;
    assert_eq!(status, 422, "{said}");
    assert_eq!(deliver(&two, &u32::MAX.to_be_bytes()).await.0, 422);
    for (bucket, key) in [("one", "k"), ("one", "other"), ("one", "x"), ("two", "k")] {
        assert_eq!(two.get(bucket, key).await, None);
    }
    super::rig::wait(|| files(&two.folders[1].join("incoming")).is_empty()).await;
    assert_eq!(files(&two.folders[1].join("buckets")).len(), 0);
    // None of them spoils the number for the real one.
    assert_eq!(deliver(&two, &whole).await.0, 200);
    assert_eq!(two.get("one", "k").await, Some(text(70_000)));
}
