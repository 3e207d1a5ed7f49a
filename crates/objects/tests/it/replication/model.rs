//! Random changes at the primary, random faults on the way, restarts of either side: in the end the
//! backup is the primary, and the primary is the model.

use super::proxy::Fault;
use super::rig::Two;
use crate::world::text;
use keystead_objects::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEYS: [&str; 6] = ["a", "a/b", "..", "b/", "é/%", "c"];
const BUCKETS: [&str; 2] = ["one", "two"];

#[derive(Debug, Clone)]
enum Step {
    Put(usize, usize, usize),
    Delete(usize, usize),
    Copy((usize, usize), (usize, usize)),
    Multipart(usize, usize, usize),
    Tag(usize, usize, u8),
    Fault(Fault),
    Sender,
    Primary,
    Backup,
    Pause(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let b = || 0..BUCKETS.len();
    let k = || 0..KEYS.len();
    let size = prop_oneof![3 => 0usize..300, 2 => 0usize..200_000, 1 => 900_000usize..2_500_000];
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::Refuse),
        2 => (0u64..400_000).prop_map(Fault::Cut),
        1 => (0u64..100_000).prop_map(Fault::Flip),
        1 => (0u64..100_000).prop_map(Fault::Stall),
    ];
    prop_oneof![
        8 => (b(), k(), size).prop_map(|(b, k, n)| Step::Put(b, k, n)),
        3 => (b(), k()).prop_map(|(b, k)| Step::Delete(b, k)),
        2 => ((b(), k()), (b(), k())).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => (b(), k(), 0usize..100_000).prop_map(|(b, k, n)| Step::Multipart(b, k, n)),
        3 => (b(), k(), any::<u8>()).prop_map(|(b, k, tag)| Step::Tag(b, k, tag)),
        3 => fault.prop_map(Step::Fault),
        1 => Just(Step::Sender),
        1 => Just(Step::Primary),
        1 => Just(Step::Backup),
        3 => (0u64..60).prop_map(Step::Pause),
    ]
}

type Model = BTreeMap<(usize, usize), (Vec<u8>, Option<String>)>;

async fn run(steps: Vec<Step>) {
    let mut two = Two::new().await;
    let mut model = Model::new();
    for (i, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put(b, k, size) => {
                let data = text(size + i)[i..].to_vec();
                two.put(BUCKETS[b], KEYS[k], &data).await;
                model.insert((b, k), (data, None));
            }
            Step::Delete(b, k) => {
                two.delete(BUCKETS[b], KEYS[k]).await;
                model.remove(&(b, k));
            }
            Step::Copy(from, to) => {
                let Some(object) = model.get(&from).cloned() else { continue };
                let source = CopySource {
                    bucket: BUCKETS[from.0].into(),
                    key: KEYS[from.1].into(),
                    ..CopySource::default()
                };
                let (bucket, key) = (BUCKETS[to.0], KEYS[to.1]);
                let copied = two.store().copy(source, bucket, key, CopyOptions::default());
                copied.await.expect("copied");
                model.insert(to, object);
            }
            Step::Multipart(b, k, last) => {
                two.multipart(BUCKETS[b], KEYS[k], last).await;
                model.insert((b, k), ([text(5 << 20), text(last)].concat(), None));
            }
            Step::Tag(b, k, tag) => {
                let Some(object) = model.get_mut(&(b, k)) else { continue };
                two.tag(BUCKETS[b], KEYS[k], &tag.to_string()).await;
                object.1 = Some(tag.to_string());
            }
            Step::Fault(fault) => two.proxy.set(fault),
            Step::Sender => two.send(),
            Step::Primary => two.restart_primary().await,
            Step::Backup => two.restart_backup().await,
            Step::Pause(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        }
    }
    two.proxy.set(Fault::None);
    // Whatever fell silent would be waited for.
    two.send();
    two.settled().await;
    two.same().await;
    for (b, bucket) in BUCKETS.iter().enumerate() {
        for (k, key) in KEYS.iter().enumerate() {
            let wanted = model.get(&(b, k));
            let there = two.get(bucket, key).await;
            assert!(there.as_ref() == wanted.map(|(data, _)| data), "{bucket} {key}");
            if let Some((_, tag)) = wanted {
                let tags = two.replica().tags(bucket, key).await.expect("tags");
                assert_eq!(tags.get("t"), tag.as_ref());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_backup_is_the_primary(steps in proptest::collection::vec(step(), 5..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(run(steps));
    }
}
