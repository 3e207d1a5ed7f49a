//! Rotations over the wire: under load nothing changes but the material; who may retire grants.

use crate::rig::{CUSTOMER, Key, NOBODY, NODE, OPERATOR, OWNER, PROVIDER, REGION, Rig, user};
use crate::trail::{lookup, lookup_in};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const THERE: &str = "eu-west-1";

/// What one client saw: data keys with the context that they were made under.
type Seen = Vec<(Value, String)>;

/// Makes a data key here and opens one of those made so far there, until told to stop.
async fn client(rig: Arc<Rig>, id: String, number: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::new();
    let regions = [REGION, THERE];
    while !stop.load(Ordering::SeqCst) {
        let context = format!("{number} {}", seen.len());
        let input = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"n": context}});
        let made = rig.good_in(regions[seen.len() % 2], "GenerateDataKey", input).await;
        seen.push((made, context));
        let (sealed, context) = &seen[seen.len() * 7 / 11];
        open(&rig, regions[(seen.len() + number) % 2], sealed, context).await;
    }
    seen
}

async fn open(rig: &Rig, region: &str, sealed: &Value, context: &str) {
    let input =
        json!({"CiphertextBlob": sealed["CiphertextBlob"], "EncryptionContext": {"n": context}});
    let opened = rig.good_in(region, "Decrypt", input).await;
    assert_eq!(opened["Plaintext"], sealed["Plaintext"]);
    assert_eq!(opened["KeyMaterialId"], sealed["KeyMaterialId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rotations_under_load_change_nothing_but_the_material() {
    let rig = Arc::new(Rig::new().await);
    let id = rig.make_family(THERE).await;
    let before = rig.good_in(THERE, "DescribeKey", json!({"KeyId": id})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..4).map(|n| tokio::spawn(client(rig.clone(), id.clone(), n, stop.clone()))).collect();
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        rig.good_in(REGION, "RotateKeyOnDemand", json!({"KeyId": id})).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    let mut used = BTreeSet::new();
    for client in clients {
        let seen = client.await.expect("no call failed");
        calls += seen.len();
        for (sealed, context) in &seen {
            used.insert(sealed["KeyMaterialId"].to_string());
            open(&rig, THERE, sealed, context).await;
        }
    }
    assert!(calls > 100, "{calls} are no load");
    assert!(used.len() > 10, "{} materials were used", used.len());
    let mut after = rig.good_in(THERE, "DescribeKey", json!({"KeyId": id})).await;
    after["KeyMetadata"]["CurrentKeyMaterialId"] =
        before["KeyMetadata"]["CurrentKeyMaterialId"].clone();
    assert_eq!(after, before);
    // Each rotation is on record in each Region, and once as the family's.
    for region in [REGION, THERE] {
        let events = lookup_in(&rig, region, OWNER, "RotateKey").await;
        assert_eq!(events.len(), 20);
        assert_eq!(events[0]["serviceEventDetails"]["rotationType"], "ON_DEMAND");
        assert_eq!(events[0]["userIdentity"]["invokedBy"], "AWS Internal");
    }
    let events = lookup(&rig, OWNER, "SynchronizeMultiRegionKey").await;
    assert_eq!((events.len(), &events[0]["eventType"]), (20, &json!("AwsApiCall")));
    let asked = lookup(&rig, OWNER, "RotateKeyOnDemand").await;
    assert_eq!((asked.len(), &asked[0]["readOnly"]), (20, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_to_retire_are_listed_for_ones_own_principals_across_accounts() {
    let rig = Rig::new().await;
    let (owner, operator) = (user(OWNER), user(OPERATOR));
    let role = rig.make_role("tenant").await;
    let mut made = BTreeSet::new();
    for _ in 0..3 {
        let key = rig.make_key(None).await;
        for retiring in [Some(&role), None] {
            let mut input =
                json!({"KeyId": key, "GranteePrincipal": role, "Operations": ["Decrypt"]});
            if let Some(role) = retiring {
                input["RetiringPrincipal"] = role.as_str().into();
            }
            let granted = rig.good(&owner, "CreateGrant", input).await;
            if retiring.is_some() {
                made.insert(granted["GrantId"].as_str().expect("an id").to_owned());
            }
        }
    }
    let list = async |who: &Key, principal: &str, marker: Value| {
        let input = json!({"RetiringPrincipal": principal, "Limit": 2, "Marker": marker});
        rig.kms(who, "ListRetirableGrants", input).await
    };
    let mut seen = BTreeSet::new();
    let mut marker = Value::Null;
    loop {
        let page = list(&operator, &role, marker).await.json();
        for grant in page["Grants"].as_array().expect("grants") {
            assert!(grant["KeyId"].as_str().expect("an ARN").contains(CUSTOMER), "{grant}");
            assert_eq!(grant["RetiringPrincipal"], role.as_str());
            seen.insert(grant["GrantId"].as_str().expect("an id").to_owned());
        }
        if page["Truncated"] == false {
            break;
        }
        marker = page["NextMarker"].clone();
    }
    assert_eq!(seen, made);
    let bad = list(&operator, &role, json!("?")).await;
    assert_eq!(bad.code(), "InvalidMarkerException");
    // Nobody else's principals, none that there are not, and not without a policy that says so.
    let nobody = format!("arn:aws:iam::{PROVIDER}:role/absent");
    for (who, principal, code) in [
        (&owner, &*role, "InvalidArnException"),
        (&operator, &*nobody, "InvalidArnException"),
        (&operator, "tenant", "InvalidArnException"),
        (&user(NODE), &*role, "AccessDeniedException"),
        (&user(NOBODY), &*role, "AccessDeniedException"),
    ] {
        let refused = list(who, principal, Value::Null).await;
        assert_eq!(refused.code(), code, "{principal}: {}", refused.text);
    }
    // Grants are of one Region; a role made again under its name has none.
    let input = json!({"RetiringPrincipal": role});
    let there = rig.kms_in(THERE, &operator, "ListRetirableGrants", &input).await.json();
    assert_eq!(there, json!({"Grants": [], "Truncated": false}));
    for action in [
        &[("Action", "DeleteRolePolicy"), ("RoleName", "tenant"), ("PolicyName", "keys")][..],
        &[("Action", "DeleteRole"), ("RoleName", "tenant")][..],
    ] {
        assert_eq!(rig.query(&operator, "iam", action).await.status, 200);
    }
    assert_eq!(rig.make_role("tenant").await, role);
    assert_eq!(list(&operator, &role, Value::Null).await.json()["Grants"], json!([]));
    let events = lookup(&rig, OPERATOR, "ListRetirableGrants").await;
    assert_eq!(events[0]["requestParameters"]["retiringPrincipal"], role.as_str());
}
