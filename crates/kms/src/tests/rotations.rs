//! Rotations by the clock and on demand, of one key and of a family; a store from before them.

use super::bench::{Bench, HERE, THERE, text};
use super::{DAY, nine, private};
use crate::scheduler;
use keystead_envelope::blob::{self, BlobHeader};
use keystead_envelope::memory::DataKey;
use keystead_envelope::root_key::RootKey;
use redb::{Database, TableDefinition};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn rotations(bench: &Bench, region: &str, key: &str) -> Vec<Value> {
    let input = json!({"KeyId": key, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
    let listed = bench.good_in(region, "ListKeyRotations", input).await;
    listed["Rotations"].as_array().expect("a list").clone()
}

async fn types(bench: &Bench, key: &str) -> Vec<String> {
    let listed = rotations(bench, HERE, key).await;
    listed.iter().skip(1).map(|one| text(&one["RotationType"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_rotation_goes_by_the_schedulers_clock_and_waits_for_a_usable_key() {
    let bench = Bench::new().await;
    let key = bench.key(json!({})).await;
    let of_key = json!({"KeyId": key});
    let status = async || bench.good("GetKeyRotationStatus", of_key.clone()).await;
    let id = key.rsplit('/').next().expect("an id").to_owned();
    assert_eq!(status().await, json!({"KeyId": id, "KeyRotationEnabled": false}));
    let sealed = bench.good("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})).await;
    bench.good("EnableKeyRotation", of_key.clone()).await;
    assert_eq!(status().await["RotationPeriodInDays"], 365);
    let ninety = json!({"KeyId": key, "RotationPeriodInDays": 90});
    bench.good("EnableKeyRotation", ninety.clone()).await;
    let next = status().await["NextRotationDate"].as_f64().expect("a date");
    assert_eq!(next, 1_700_000_000.0 + 90.0 * 86_400.0);
    bench.wait(60 * DAY).await;
    // The same again puts nothing off.
    bench.good("EnableKeyRotation", ninety).await;
    assert_eq!(status().await["NextRotationDate"].as_f64(), Some(next));
    bench.wait(30 * DAY - 20 * 60_000).await;
    assert_eq!(types(&bench, &key).await, [""; 0]);
    let (code, _) = bench.refused(HERE, "RotateKeyOnDemand", of_key.clone()).await;
    assert_eq!(code, "ConflictException", "twenty minutes before the automatic one");
    bench.wait(20 * 60_000 - 1).await;
    assert_eq!(types(&bench, &key).await, [""; 0]);
    bench.wait(1).await;
    assert_eq!(types(&bench, &key).await, ["AUTOMATIC"]);
    let later = status().await["NextRotationDate"].as_f64();
    assert_eq!(later, Some(next + 90.0 * 86_400.0));
    // On demand leaves the schedule alone.
    bench.good("RotateKeyOnDemand", of_key.clone()).await;
    assert_eq!(status().await["NextRotationDate"].as_f64(), later);
    // Put forward alone, by `keystead dev kms-clock`.
    private(bench.folder(), "ahead", &(90 * DAY).to_string());
    scheduler::look(bench.kms()).await;
    assert_eq!(types(&bench, &key).await, ["AUTOMATIC", "ON_DEMAND", "AUTOMATIC"]);
    // Disabled, it waits, keeps its status, and makes up for it once.
    bench.good("DisableKey", of_key.clone()).await;
    bench.wait(400 * DAY).await;
    assert_eq!(types(&bench, &key).await.len(), 3);
    assert_eq!(status().await["KeyRotationEnabled"], true);
    bench.good("EnableKey", of_key.clone()).await;
    for _ in 0..3 {
        scheduler::look(bench.kms()).await;
    }
    assert_eq!(types(&bench, &key).await.len(), 4);
    // Waiting for its deletion it says no, and yes again when that is cancelled.
    bench.good("ScheduleKeyDeletion", json!({"KeyId": key, "PendingWindowInDays": 30})).await;
    assert_eq!(status().await, json!({"KeyId": id, "KeyRotationEnabled": false}));
    bench.good("CancelKeyDeletion", of_key.clone()).await;
    assert_eq!(status().await["RotationPeriodInDays"], 90);
    let open = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
    let (code, _) = bench.refused(HERE, "Decrypt", open.clone()).await;
    assert_eq!(code, "DisabledException", "older material of a disabled key opens nothing");
    bench.good("EnableKey", of_key.clone()).await;
    assert_eq!(bench.good("Decrypt", open).await["Plaintext"], "AAAA");
    bench.good("DisableKeyRotation", of_key.clone()).await;
    bench.wait(4000 * DAY).await;
    assert_eq!(types(&bench, &key).await.len(), 4);
    // On record: what took over from what.
    let kms = bench.kms();
    let (records, _) =
        kms.trail.newest(&nine(), |r| r.get("eventName") == Some(&json!("RotateKey")));
    let listed = rotations(&bench, HERE, &key).await;
    let details: Vec<&Value> = records.iter().map(|r| &r["serviceEventDetails"]).collect();
    assert_eq!(details.len(), 4);
    for (n, details) in details.iter().rev().enumerate() {
        assert_eq!(details["previousKeyMaterialId"], listed[n]["KeyMaterialId"]);
        assert_eq!(details["currentKeyMaterialId"], listed[n + 1]["KeyMaterialId"]);
        assert_eq!(details["rotationType"], listed[n + 1]["RotationType"]);
    }
    assert_eq!(records[0]["eventType"], "AwsServiceEvent");
    assert_eq!(records[0]["responseElements"]["keyId"], key.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_rotates_as_one_and_its_primary_goes_last() {
    let bench = Bench::new().await;
    let key = bench.multi_region_key().await;
    let id = key.rsplit('/').next().expect("an id").to_owned();
    let of_key = json!({"KeyId": id});
    bench.good("EnableKeyRotation", json!({"KeyId": key, "RotationPeriodInDays": 90})).await;
    let replica = bench.replicate(HERE, &key, THERE).await;
    assert_eq!(replica, key.replace(HERE, THERE));
    // Rotation is the primary's, and everybody sees it.
    for operation in ["EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"] {
        let refused = bench.refused(THERE, operation, of_key.clone()).await;
        let told = format!("{replica} is not a multi-region primary key.");
        assert_eq!(refused, ("UnsupportedOperationException".to_owned(), told));
    }
    let status = bench.good_in(THERE, "GetKeyRotationStatus", of_key.clone()).await;
    assert_eq!(status["RotationPeriodInDays"], 90);
    bench.good_in(THERE, "DisableKey", of_key.clone()).await;
    bench.wait(90 * DAY).await;
    assert_eq!(rotations(&bench, HERE, &id).await, rotations(&bench, THERE, &id).await);
    assert_eq!(types(&bench, &id).await, ["AUTOMATIC"]);
    // The replica becomes the primary key, and the schedule goes on there.
    bench.good_in(THERE, "EnableKey", of_key.clone()).await;
    let turn = json!({"KeyId": id, "PrimaryRegion": THERE});
    bench.good("UpdatePrimaryRegion", turn.clone()).await;
    assert_eq!(
        bench.refused(HERE, "UpdatePrimaryRegion", turn).await.0,
        "UnsupportedOperationException"
    );
    bench.wait(0).await;
    bench.wait(90 * DAY).await;
    assert_eq!(rotations(&bench, HERE, &id).await, rotations(&bench, THERE, &id).await);
    assert_eq!(types(&bench, &id).await, ["AUTOMATIC"; 2]);
    // Seven days for the primary key begin when its last replica is gone.
    let seven = json!({"KeyId": id, "PendingWindowInDays": 7});
    let answer = bench.good_in(THERE, "ScheduleKeyDeletion", seven.clone()).await;
    assert_eq!(answer["KeyState"], "PendingReplicaDeletion");
    assert!(answer.get("DeletionDate").is_none(), "{answer}");
    bench.wait(30 * DAY).await;
    bench.good("ScheduleKeyDeletion", seven).await;
    let state = async |region: &str| {
        let (status, answer) = bench.call_in(region, "DescribeKey", &of_key).await;
        let state = answer["KeyMetadata"]["KeyState"].as_str().unwrap_or("gone").to_owned();
        assert_eq!(status == 200, state != "gone");
        state
    };
    bench.wait(7 * DAY).await;
    assert_eq!([state(HERE).await, state(THERE).await], ["gone", "PendingDeletion"]);
    bench.wait(7 * DAY - 1).await;
    assert_eq!(state(THERE).await, "PendingDeletion");
    bench.wait(1).await;
    assert_eq!(state(THERE).await, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotates_on_demand_twenty_five_times() {
    let bench = Bench::new().await;
    let key = bench.key(json!({})).await;
    for _ in 0..25 {
        bench.good("RotateKeyOnDemand", json!({"KeyId": key})).await;
    }
    let (code, told) = bench.refused(HERE, "RotateKeyOnDemand", json!({"KeyId": key})).await;
    assert_eq!(code, "LimitExceededException");
    assert_eq!(
        told,
        format!(
            "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: {key}"
        )
    );
    // The automatic ones are not counted.
    bench.good("EnableKeyRotation", json!({"KeyId": key})).await;
    bench.wait(365 * DAY).await;
    let mut seen = Vec::new();
    let mut marker = Value::Null;
    loop {
        let input = json!({"KeyId": key, "Limit": 7, "Marker": marker});
        let page = bench.good("ListKeyRotations", input).await;
        seen.extend(page["Rotations"].as_array().expect("a list").clone());
        if page["Truncated"] == false {
            break;
        }
        marker = page["NextMarker"].clone();
    }
    let all = rotations(&bench, HERE, &key).await;
    assert_eq!((seen.len(), all.len()), (26, 27));
    assert_eq!(seen, all[1..], "only what a rotation made, unless all is asked for");
    assert!(all[0].get("RotationDate").is_none() && all[0].get("RotationType").is_none());
    let current = all.iter().filter(|one| one["KeyMaterialState"] == "CURRENT").count();
    assert_eq!((current, &all[26]["KeyMaterialState"]), (1, &json!("CURRENT")));
    assert_eq!(all[26]["RotationType"], "AUTOMATIC");
    let described = bench.good("DescribeKey", json!({"KeyId": key})).await;
    assert_eq!(described["KeyMetadata"]["CurrentKeyMaterialId"], all[26]["KeyMaterialId"]);
    let starts: BTreeSet<String> =
        all.iter().map(|one| text(&one["KeyMaterialId"])[..16].to_owned()).collect();
    assert_eq!(starts.len(), 27);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_layout_is_read_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("kms");
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::write(data.join("VERSION"), "1\n").expect("written");
    let arn = super::arn();
    let root = RootKey::new(DataKey::from_slice_zeroizing(&mut [0x5a; 32]).expect("memory"));
    let material = DataKey::random(32).expect("memory");
    let id = "0a".repeat(32);
    let aad = format!("keystead material 1\n{arn}\n{id}");
    let sealed = root.expect("32 bytes").seal(aad.as_bytes(), material.expose()).expect("sealed");
    let encode = |bytes: &[u8]| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let record = json!({
        "arn": arn, "description": "old", "created_ms": 5, "state": "Enabled", "tags": [],
        "policy": {"text": super::bench::POLICY, "ids": {}},
        "material": {"id": id, "sealed": encode(&sealed)},
    });
    {
        let keys: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
        let database = Database::create(data.join("store.redb")).expect("made");
        let write = database.begin_write().expect("begun");
        let value = [b"\x01", record.to_string().as_bytes()].concat();
        let mut table = write.open_table(keys).expect("a table");
        table.insert(arn.to_string().as_str(), value.as_slice()).expect("put");
        drop(table);
        write.commit().expect("committed");
    }
    let header = BlobHeader {
        region: arn.region().clone(),
        account: arn.account().clone(),
        key_id: arn.key_id().to_owned(),
        material_id: [0x0a; 8],
    };
    let old = blob::seal(&material, &header, &BTreeMap::new(), b"old words").expect("sealed");
    let open = json!({"CiphertextBlob": encode(&old)});
    let mut bench = Bench::on(folder).await;
    for turn in 0..3 {
        let opened = bench.good("Decrypt", open.clone()).await;
        assert_eq!(
            (&opened["Plaintext"], &opened["KeyMaterialId"]),
            (&json!(encode(b"old words")), &json!(id))
        );
        assert_eq!(rotations(&bench, HERE, arn.key_id()).await.len(), 1 + turn);
        bench.good("RotateKeyOnDemand", json!({"KeyId": arn})).await;
        bench.again().await;
    }
    let version = std::fs::read_to_string(bench.folder().join("kms/VERSION")).expect("read");
    assert_eq!(version.trim(), "2", "a build that would forget materials refuses this folder");
}
