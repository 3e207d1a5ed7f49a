//! Random sequences of operations against a model in memory.

use crate::world::*;
use bytes::Bytes;
use keystead_objects::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Few keys, so that operations meet; odd ones, so that names are tried.
const KEYS: [&str; 8] = ["a", "a/b", "a/b/c", "a//b", "..", "b", "b/", "é/%"];
const BUCKETS: [&str; 2] = ["one", "two"];

#[derive(Debug, Clone)]
enum Step {
    Put(usize, usize, usize),
    Delete(usize, usize),
    Copy((usize, usize), (usize, usize)),
    /// Sizes of parts by number; the last may be small.
    Multipart(usize, usize, Vec<usize>),
    Aborted(usize, usize, usize),
    Dropped(usize, usize, usize),
    Tag(usize, usize, u8),
    Range(usize, usize, u32, u32),
    List(usize, usize, Option<&'static str>, Option<usize>, usize),
    Reopen,
    Scrub,
}

fn step() -> impl Strategy<Value = Step> {
    let b = || 0..BUCKETS.len();
    let k = || 0..KEYS.len();
    let size = || {
        prop_oneof![
            4 => 0usize..300,
            2 => 65_530usize..65_545,
            2 => 0usize..300_000,
            1 => 1_048_570usize..1_048_590,
            1 => 0usize..2_500_000,
        ]
    };
    let delimiter = prop_oneof![Just(None), Just(Some("/")), Just(Some("b"))];
    prop_oneof![
        6 => (b(), k(), size()).prop_map(|(b, k, n)| Step::Put(b, k, n)),
        2 => (b(), k()).prop_map(|(b, k)| Step::Delete(b, k)),
        2 => ((b(), k()), (b(), k())).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => (b(), k(), proptest::collection::vec(size(), 1..4))
            .prop_map(|(b, k, parts)| Step::Multipart(b, k, parts)),
        1 => (b(), k(), size()).prop_map(|(b, k, n)| Step::Aborted(b, k, n)),
        1 => (b(), k(), size()).prop_map(|(b, k, n)| Step::Dropped(b, k, n)),
        1 => (b(), k(), any::<u8>()).prop_map(|(b, k, tag)| Step::Tag(b, k, tag)),
        4 => (b(), k(), 0u32..2_500_000, 0u32..400_000)
            .prop_map(|(b, k, from, n)| Step::Range(b, k, from, n)),
        4 => (b(), k(), delimiter, proptest::option::of(k()), 0usize..6)
            .prop_map(|(b, prefix, delimiter, after, max)| {
                Step::List(b, prefix, delimiter, after, max)
            }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Scrub),
    ]
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Object {
    data: Vec<u8>,
    tag: Option<u8>,
}

type Model = BTreeMap<(usize, String), Object>;

/// A page as it must be: every key that fits, rolled up, cut.
fn model_page(
    model: &Model,
    bucket: usize,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    max: usize,
) -> (BTreeSet<String>, bool) {
    let rolled = |key: &str| -> String {
        let at = delimiter.and_then(|d| key[prefix.len()..].find(d).map(|at| at + d.len()));
        at.map_or(key.to_owned(), |at| key[..prefix.len() + at].to_owned())
    };
    // A page that ended at a common prefix (some text that rolls up into itself) goes on behind all that it stands for.
    let is_common = |text: &str| {
        let longer = text.starts_with(prefix) && text.len() > prefix.len();
        let found = longer.then(|| rolled(text));
        found.is_some_and(|found| found == text && delimiter.is_some_and(|d| text.ends_with(d)))
    };
    let behind = |key: &str| {
        let rolls = |after: &str| is_common(after) && key.starts_with(after);
        after.is_none_or(|after| key > after && !rolls(after))
    };
    let keys = model.keys().filter(|(b, key)| *b == bucket && key.starts_with(prefix));
    let all: BTreeSet<String> =
        keys.filter(|(_, key)| behind(key)).map(|(_, key)| rolled(key)).collect();
    let more = max > 0 && all.len() > max;
    (all.into_iter().take(max).collect(), more)
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    let mut model = Model::new();
    let at = |b: usize, k: usize| (b, KEYS[k].to_owned());
    for (i, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put(b, k, size) => {
                let data: Vec<u8> = text(size + i)[i..].to_vec();
                world.put(BUCKETS[b], KEYS[k], &data).await;
                model.insert(at(b, k), Object { data, tag: None });
            }
            Step::Delete(b, k) => {
                let gone = world.store.delete(BUCKETS[b], KEYS[k], WriteCondition::default()).await;
                assert_eq!(gone.expect("deleted"), model.remove(&at(b, k)).is_some());
            }
            Step::Copy((b, k), (to_b, to_k)) => {
                let source = CopySource {
                    bucket: BUCKETS[b].into(),
                    key: KEYS[k].into(),
                    ..CopySource::default()
                };
                let copied =
                    world.store.copy(source, BUCKETS[to_b], KEYS[to_k], CopyOptions::default());
                match (copied.await, model.get(&at(b, k)).cloned()) {
                    (Ok(_), Some(object)) => drop(model.insert(at(to_b, to_k), object)),
                    (Err(StoreError::NoSuchKey), None) => {}
                    (other, _) => panic!("{other:?}"),
                }
            }
            Step::Multipart(b, k, sizes) => {
                // Small parts, but for the least size of all but the last.
                let (bucket, key) = (BUCKETS[b], KEYS[k]);
                let begun = world.store.create_upload(bucket, key, UploadOptions::default()).await;
                let id = begun.expect("begun").upload_id;
                let last = sizes.len() - 1;
                let floor = |n: usize| if n == last { 0 } else { 5 << 20 };
                let whole = text(sizes.iter().enumerate().map(|(n, s)| floor(n) + s).sum());
                let (mut named, mut from) = (Vec::new(), 0);
                for (n, size) in sizes.iter().enumerate() {
                    let to = from + floor(n) + size;
                    let part = [(n as u16 * 3 + 1, &whole[from..to])];
                    named.extend(world.parts(bucket, key, &id, &part).await);
                    from = to;
                }
                let options = CompleteOptions::default();
                let done = world.store.complete_upload(bucket, key, &id, named, options).await;
                done.expect("completed");
                model.insert(at(b, k), Object { data: whole, tag: None });
            }
            Step::Aborted(b, k, size) => {
                let (bucket, key) = (BUCKETS[b], KEYS[k]);
                let begun = world.store.create_upload(bucket, key, UploadOptions::default()).await;
                let id = begun.expect("begun").upload_id;
                world.parts(bucket, key, &id, &[(7, &text(size))]).await;
                world.store.abort_upload(bucket, key, &id).await.expect("aborted");
            }
            Step::Dropped(b, k, size) => {
                let put = world.store.put(BUCKETS[b], KEYS[k], PutOptions::default()).await;
                put.expect("begun").write(Bytes::from(text(size))).await.expect("taken");
            }
            Step::Tag(b, k, tag) => {
                let tags = Tags::from([("t".to_owned(), tag.to_string())]);
                let set = world.store.set_tags(BUCKETS[b], KEYS[k], tags).await;
                match model.get_mut(&at(b, k)) {
                    Some(object) => {
                        set.expect("set");
                        object.tag = Some(tag);
                    }
                    None => assert!(matches!(set, Err(StoreError::NoSuchKey))),
                }
            }
            Step::Range(b, k, from, n) => {
                let range = Range::Inclusive(from.into(), (from + n).into());
                let got = world.range(BUCKETS[b], KEYS[k], range).await;
                match model.get(&at(b, k)).map(|object| &object.data) {
                    None => assert!(matches!(got, Err(StoreError::NoSuchKey))),
                    Some(data) if from as usize >= data.len() => {
                        assert!(matches!(got, Err(StoreError::InvalidRange { .. })));
                    }
                    Some(data) => {
                        let end = data.len().min((from + n) as usize + 1);
                        assert!(got.expect("read") == data[from as usize..end]);
                    }
                }
            }
            Step::List(b, prefix, delimiter, after, max) => {
                let key = KEYS[prefix];
                let prefix = key.get(..1.min(key.len() - 1)).unwrap_or_default();
                let after = after.map(|k| KEYS[k]);
                let query = ListQuery {
                    prefix: prefix.into(),
                    delimiter: delimiter.map(str::to_owned),
                    after: after.map(str::to_owned),
                    max_keys: max,
                };
                let page = world.store.list(BUCKETS[b], query).await.expect("listed");
                let (want, more) = model_page(&model, b, prefix, delimiter, after, max);
                let names = page.entries.iter().map(|entry| entry.key.clone());
                let got: BTreeSet<_> = names.chain(page.common_prefixes).collect();
                assert_eq!((got, page.next.is_some()), (want, more));
            }
            Step::Reopen => world.reopen(),
            Step::Scrub => {
                let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
                assert_eq!((totals.whole, totals.corrupt), (model.len() as u64, 0));
            }
        }
    }
    world.reopen();
    for ((b, key), object) in &model {
        assert!(world.get(BUCKETS[*b], key).await.expect("read") == object.data, "{key}");
        let tags = world.store.tags(BUCKETS[*b], key).await.expect("tags");
        assert_eq!(tags.get("t").map(String::as_str), object.tag.map(|t| t.to_string()).as_deref());
    }
    assert_eq!(world.store.stats().corrupt, 0);
    // Only what the objects are made of is left.
    let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
    assert_eq!((totals.whole, totals.strays), (model.len() as u64, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
