//! A family of keys against a model: whatever sequence of rotations, replicas, changes of the
//! primary key, switches and restarts it goes through, its ciphertexts open.

use super::DAY;
use super::bench::{Bench, HERE, THERE, text};
use super::rotations::rotations;
use crate::scheduler;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One thing that happens to a family.
#[derive(Debug, Clone, Copy)]
enum Step {
    Rotate,
    /// A year goes by.
    Year,
    Seal(u8),
    Replicate(u8),
    Primary(u8),
    Switch(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Rotate),
        1 => Just(Step::Year),
        4 => any::<u8>().prop_map(Step::Seal),
        2 => any::<u8>().prop_map(Step::Replicate),
        1 => any::<u8>().prop_map(Step::Primary),
        2 => any::<u8>().prop_map(Step::Switch),
        1 => Just(Step::Restart),
    ]
}

const REGIONS: [&str; 4] = [HERE, THERE, "us-east-1", "ap-southeast-1"];

/// What a family should be.
struct Model {
    bench: Bench,
    id: String,
    primary: &'static str,
    /// Region -> is it enabled?
    keys: BTreeMap<&'static str, bool>,
    /// Blob, the id of the material that sealed it.
    blobs: Vec<(Value, String)>,
    on_demand: usize,
    materials: usize,
}

impl Model {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let key = bench.multi_region_key().await;
        bench.good("EnableKeyRotation", json!({"KeyId": key})).await;
        let id = key.rsplit('/').next().expect("an id").to_owned();
        let keys = BTreeMap::from([(HERE, true)]);
        Self { bench, id, primary: HERE, keys, blobs: vec![], on_demand: 0, materials: 1 }
    }

    fn pick(&self, by: u8) -> &'static str {
        self.keys.keys().nth(usize::from(by) % self.keys.len()).expect("one")
    }

    async fn current(&self) -> String {
        let input = json!({"KeyId": self.id});
        let key = self.bench.good_in(self.primary, "DescribeKey", input).await;
        text(&key["KeyMetadata"]["CurrentKeyMaterialId"])
    }

    async fn take(&mut self, step: Step) {
        let key = json!({"KeyId": self.id});
        let enabled = self.keys[self.primary];
        match step {
            Step::Rotate => {
                let (status, answer) =
                    self.bench.call_in(self.primary, "RotateKeyOnDemand", &key).await;
                let good = enabled && self.on_demand < 25;
                assert_eq!(status == 200, good, "{answer}");
                self.on_demand += usize::from(good);
                self.materials += usize::from(good);
            }
            Step::Year => {
                self.bench.wait(365 * DAY).await;
                self.materials += usize::from(enabled);
            }
            Step::Seal(by) => {
                let region = self.pick(by);
                let input = json!({"KeyId": self.id, "NumberOfBytes": 32,
                    "EncryptionContext": {"n": self.blobs.len().to_string()}});
                let (status, sealed) = self.bench.call_in(region, "GenerateDataKey", &input).await;
                assert_eq!(status == 200, self.keys[region], "{sealed}");
                if status == 200 {
                    assert_eq!(text(&sealed["KeyMaterialId"]), self.current().await);
                    let material = text(&sealed["KeyMaterialId"]);
                    self.blobs.push((sealed, material));
                }
            }
            Step::Replicate(by) => {
                let to = REGIONS[usize::from(by) % REGIONS.len()];
                let input = json!({"KeyId": self.id, "ReplicaRegion": to});
                let (status, answer) =
                    self.bench.call_in(self.primary, "ReplicateKey", &input).await;
                assert_eq!(status == 200, enabled && !self.keys.contains_key(to), "{answer}");
                if status == 200 {
                    self.keys.insert(to, true);
                }
                scheduler::look(self.bench.kms()).await;
            }
            Step::Primary(by) => {
                let to = self.pick(by);
                let input = json!({"KeyId": self.id, "PrimaryRegion": to});
                let (status, answer) =
                    self.bench.call_in(self.primary, "UpdatePrimaryRegion", &input).await;
                let good = enabled && self.keys[to] && to != self.primary;
                assert_eq!(status == 200, good, "{answer}");
                if good {
                    self.primary = to;
                }
                scheduler::look(self.bench.kms()).await;
            }
            Step::Switch(by) => {
                let region = self.pick(by);
                let enabled = self.keys.get_mut(region).expect("one");
                let operation = if *enabled { "DisableKey" } else { "EnableKey" };
                *enabled = !*enabled;
                self.bench.good_in(region, operation, key).await;
                // An overdue rotation is made up for: the clock tells.
                scheduler::look(self.bench.kms()).await;
                self.materials = rotations(&self.bench, HERE, &self.id).await.len();
            }
            Step::Restart => self.bench.again().await,
        }
    }

    /// Every blob opens in every Region whose key is enabled, with the material that sealed it.
    async fn check(&self) {
        let all = rotations(&self.bench, self.primary, &self.id).await;
        assert_eq!(all.len(), self.materials);
        for (region, enabled) in &self.keys {
            assert_eq!(rotations(&self.bench, region, &self.id).await, all, "{region}");
            for (n, (sealed, material)) in self.blobs.iter().enumerate() {
                let mut input = json!({"CiphertextBlob": sealed["CiphertextBlob"],
                    "EncryptionContext": {"n": n.to_string()}});
                let (status, opened) = self.bench.call_in(region, "Decrypt", &input).await;
                if !enabled {
                    assert_eq!(opened["__type"], "DisabledException", "{region}");
                    continue;
                }
                assert_eq!(status, 200, "{region}: {opened}");
                assert_eq!(opened["Plaintext"], sealed["Plaintext"]);
                assert_eq!(opened["KeyMaterialId"], material.as_str());
                assert!(text(&opened["KeyId"]).contains(region));
                input["EncryptionContext"] = json!({"n": "another"});
                let (_, other) = self.bench.call_in(region, "Decrypt", &input).await;
                assert_eq!(other["__type"], "InvalidCiphertextException");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_to_a_family_its_ciphertexts_open(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).enable_all().build().expect("a runtime").block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model.take(step).await;
            }
            model.check().await;
        });
    }
}
