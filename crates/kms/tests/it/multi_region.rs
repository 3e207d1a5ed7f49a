//! Two Regions behind one endpoint: families of keys, what they share, who may make them.

use crate::contract::give;
use crate::rig::{CUSTOMER, NODE, OPERATOR, OWNER, PROVIDER, REGION, Rig, policy, user};
use crate::trail::{lookup, lookup_in};
use serde_json::{Value, json};

const THERE: &str = "eu-west-1";

fn arn(region: &str, id: &str) -> String {
    format!("arn:aws:kms:{region}:{CUSTOMER}:key/{id}")
}

async fn code_in(rig: &Rig, region: &str, operation: &str, input: Value) -> String {
    rig.kms_in(region, &user(OWNER), operation, &input).await.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_shares_id_and_material_and_nothing_else() {
    let mut rig = Rig::new().await;
    let owner = user(OWNER);
    let role = rig.make_role("tenant").await;
    let tags = json!([{"TagKey": "t", "TagValue": "v"}]);
    let make = json!({"MultiRegion": true, "Description": "one", "Tags": tags,
        "Policy": policy(Some(&role)).to_string()});
    let made = rig.good(&owner, "CreateKey", make).await["KeyMetadata"].clone();
    let id = made["KeyId"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("mrk-") && id.len() == 36, "{id}");
    let (here, there) = (arn(REGION, &id), arn(THERE, &id));
    let one = |arn: &str, region: &str| json!({"Arn": arn, "Region": region});
    assert_eq!(made["MultiRegion"], true);
    let alone = json!({"MultiRegionKeyType": "PRIMARY", "PrimaryKey": one(&here, REGION), "ReplicaKeys": []});
    assert_eq!(made["MultiRegionConfiguration"], alone);
    rig.good(&owner, "CreateAlias", json!({"AliasName": "alias/a", "TargetKeyId": id})).await;
    let grant = json!({"KeyId": id, "GranteePrincipal": role, "Operations": ["Decrypt"]});
    rig.good(&owner, "CreateGrant", grant).await;
    let old = rig.good(&owner, "Encrypt", json!({"KeyId": id, "Plaintext": "b2xk"})).await;
    rig.good(&owner, "RotateKeyOnDemand", json!({"KeyId": id})).await;

    let input = json!({"KeyId": here, "ReplicaRegion": THERE, "Description": "two",
        "Tags": [{"TagKey": "r", "TagValue": ""}]});
    let answer = rig.good(&owner, "ReplicateKey", input.clone()).await;
    let replica = &answer["ReplicaKeyMetadata"];
    assert_eq!((&replica["KeyState"], &replica["Enabled"]), (&json!("Creating"), &json!(false)));
    assert_eq!((&replica["Arn"], &replica["Description"]), (&json!(there), &json!("two")));
    assert_eq!(answer["ReplicaTags"], json!([{"TagKey": "r", "TagValue": ""}]));
    let both = |kind: &str| json!({"MultiRegionKeyType": kind, "PrimaryKey": one(&here, REGION), "ReplicaKeys": [one(&there, THERE)]});
    assert_eq!(replica["MultiRegionConfiguration"], both("REPLICA"));
    let told = rig.kms(&owner, "ReplicateKey", input).await;
    assert_eq!(told.code(), "AlreadyExistsException", "{}", told.text);
    rig.until_enabled(THERE, &id).await;
    rig.restart().await;

    let described = async |region: &str| {
        rig.good_in(region, "DescribeKey", json!({"KeyId": id})).await["KeyMetadata"].clone()
    };
    assert_eq!(described(REGION).await["MultiRegionConfiguration"], both("PRIMARY"));
    assert_eq!(described(THERE).await["MultiRegionConfiguration"], both("REPLICA"));
    let [a, b] = [described(REGION).await, described(THERE).await];
    assert_eq!(a["CurrentKeyMaterialId"], b["CurrentKeyMaterialId"]);
    let in_there =
        async |operation: &str| rig.good_in(THERE, operation, json!({"KeyId": id})).await;
    assert_eq!(in_there("ListGrants").await["Grants"], json!([]));
    assert_eq!(in_there("ListAliases").await["Aliases"], json!([]));
    let own = in_there("GetKeyPolicy").await;
    assert!(!own["Policy"].as_str().expect("a policy").contains(&role), "the default one");
    assert_eq!(in_there("ListResourceTags").await["Tags"], answer["ReplicaTags"]);
    assert_eq!(in_there("ListKeys").await["Keys"].as_array().map(Vec::len), Some(1));
    // A call sees its own Region only, and an ARN of the other is told by its Region.
    for (name, wanted) in
        [(here.as_str(), "Invalid arn eu-central-1"), ("alias/a", "is not found.")]
    {
        let answer = rig.kms_in(THERE, &owner, "DescribeKey", &json!({"KeyId": name})).await;
        assert_eq!(answer.code(), "NotFoundException");
        assert!(answer.text.contains(wanted), "{}", answer.text);
    }

    // Each opens what any of them sealed, in its own Region and by its own policy.
    let context = json!({"c": "1"});
    let seal = json!({"KeyId": id, "Plaintext": "bmV3", "EncryptionContext": context});
    let here_sealed = rig.good_in(REGION, "Encrypt", seal.clone()).await["CiphertextBlob"].clone();
    let there_sealed = rig.good_in(THERE, "Encrypt", seal).await["CiphertextBlob"].clone();
    for (region, key) in [(REGION, &here), (THERE, &there)] {
        for (blob, context, plain) in [
            (&old["CiphertextBlob"], json!({}), "b2xk"),
            (&here_sealed, context.clone(), "bmV3"),
            (&there_sealed, context.clone(), "bmV3"),
        ] {
            let mut input = json!({"CiphertextBlob": blob, "EncryptionContext": context});
            for named in [Value::Null, json!(id), json!(key)] {
                input["KeyId"] = named;
                let opened = rig.good_in(region, "Decrypt", input.clone()).await;
                assert_eq!((&opened["Plaintext"], &opened["KeyId"]), (&json!(plain), &json!(key)));
            }
            input["EncryptionContext"] = json!({"c": "2"});
            let refused = code_in(&rig, region, "Decrypt", input).await;
            assert_eq!(refused, "InvalidCiphertextException");
        }
    }
    let session = rig.assume(&role).await;
    let open = json!({"CiphertextBlob": here_sealed, "EncryptionContext": context});
    assert_eq!(rig.kms_in(REGION, &session, "Decrypt", &open).await.status, 200);
    let refused = rig.kms_in(THERE, &session, "Decrypt", &open).await;
    assert_eq!(refused.code(), "AccessDeniedException", "{}", refused.text);
    // States are each key's own; a Region without a key of the family tells nothing.
    rig.kms(&owner, "DisableKey", json!({"KeyId": id})).await;
    assert_eq!(code_in(&rig, REGION, "Decrypt", open.clone()).await, "DisabledException");
    assert_eq!(rig.good_in(THERE, "Decrypt", open.clone()).await["Plaintext"], "bmV3");
    assert_eq!(code_in(&rig, "us-east-1", "Decrypt", open).await, "AccessDeniedException");
    // Another key's blob is not the family's, and a single-Region key has no family.
    let single = rig.make_key(None).await;
    let sealed = rig.good(&owner, "Encrypt", json!({"KeyId": single, "Plaintext": "AAAA"})).await;
    let sealed = sealed["CiphertextBlob"].clone();
    let wrong = json!({"KeyId": id, "CiphertextBlob": sealed});
    assert_eq!(code_in(&rig, THERE, "Decrypt", wrong).await, "IncorrectKeyException");
    let blind = json!({"CiphertextBlob": sealed});
    assert_eq!(code_in(&rig, THERE, "Decrypt", blind).await, "AccessDeniedException");
    let input = json!({"KeyId": single, "ReplicaRegion": THERE});
    let refused = rig.kms(&owner, "ReplicateKey", input).await;
    assert_eq!(refused.code(), "UnsupportedOperationException");
    let told = format!("{single} is not a multi-region primary key.");
    assert_eq!(refused.json()["message"], told);

    // On record in both Regions, each with its own key.
    let made = lookup_in(&rig, THERE, OWNER, "CreateKey").await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["awsRegion"], THERE);
    assert_eq!(made[0]["userIdentity"]["invokedBy"], "kms.amazonaws.com");
    assert_eq!(made[0]["resources"][0]["ARN"], there.as_str());
    let shown = &made[0]["responseElements"]["keyMetadata"];
    assert_eq!(shown["multiRegionConfiguration"]["multiRegionKeyType"], "REPLICA");
    assert_eq!(shown["multiRegionConfiguration"]["primaryKey"]["arn"], here.as_str());
    assert!(lookup_in(&rig, THERE, OWNER, "ReplicateKey").await.is_empty());
    let events = lookup(&rig, OWNER, "ReplicateKey").await;
    let good = events.iter().find(|e| e["errorCode"].is_null()).expect("the good one");
    assert_eq!(good["requestParameters"]["replicaRegion"], THERE);
    assert_eq!(good["resources"][0]["ARN"], here.as_str());
    assert_eq!(events.len(), 3, "and the refused ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_key_changes_its_region_and_waits_for_its_replicas() {
    let rig = Rig::new().await;
    let id = rig.make_family(THERE).await;
    let (here, there) = (arn(REGION, &id), arn(THERE, &id));
    for (region, code, told) in [
        (
            "us-east-1",
            "NotFoundException",
            format!("Key '{}' does not exist", arn("us-east-1", &id)),
        ),
        (
            REGION,
            "UnsupportedOperationException",
            format!("{here} is the multi-region primary key already."),
        ),
    ] {
        let input = json!({"KeyId": id, "PrimaryRegion": region});
        let refused = rig.kms(&user(OWNER), "UpdatePrimaryRegion", input).await.json();
        assert_eq!((&refused["__type"], &refused["message"]), (&json!(code), &json!(told)));
    }
    let input = json!({"KeyId": id, "PrimaryRegion": THERE});
    rig.kms_in(THERE, &user(OWNER), "DisableKey", &json!({"KeyId": id})).await;
    let refused = rig.kms(&user(OWNER), "UpdatePrimaryRegion", input.clone()).await.json();
    assert_eq!(refused["message"], format!("{there} is disabled."), "both must be usable");
    rig.kms_in(THERE, &user(OWNER), "EnableKey", &json!({"KeyId": id})).await;
    let sealed = rig.good(&user(OWNER), "Encrypt", json!({"KeyId": id, "Plaintext": "AAAA"})).await;
    let answer = rig.kms(&user(OWNER), "UpdatePrimaryRegion", input).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    // Crypto calls go on at once, in both.
    for region in [REGION, THERE] {
        let open = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
        assert_eq!(rig.good_in(region, "Decrypt", open).await["Plaintext"], "AAAA");
        rig.until_enabled(region, &id).await;
        let described = rig.good_in(region, "DescribeKey", json!({"KeyId": id})).await;
        let shown = &described["KeyMetadata"]["MultiRegionConfiguration"];
        assert_eq!(shown["PrimaryKey"]["Arn"], there.as_str());
        assert_eq!(shown["ReplicaKeys"], json!([{"Arn": here, "Region": REGION}]));
        let events = lookup_in(&rig, region, OWNER, "UpdatePrimaryRegion").await;
        let good: Vec<_> = events.iter().filter(|e| e["errorCode"].is_null()).collect();
        assert_eq!(good.len(), 1, "one in each Region");
        assert_eq!(good[0]["requestParameters"]["primaryRegion"], THERE);
        assert_eq!(good[0]["responseElements"]["keyId"], arn(region, &id));
        let invoked = good[0]["userIdentity"].get("invokedBy").is_some();
        assert_eq!(invoked, region == THERE);
    }
    let seven = json!({"KeyId": id, "PendingWindowInDays": 7});
    let answer = rig.good_in(THERE, "ScheduleKeyDeletion", seven.clone()).await;
    let wanted =
        json!({"KeyId": there, "KeyState": "PendingReplicaDeletion", "PendingWindowInDays": 7});
    assert_eq!(answer, wanted);
    let described = rig.good_in(THERE, "DescribeKey", json!({"KeyId": id})).await;
    assert_eq!(described["KeyMetadata"]["PendingDeletionWindowInDays"], 7);
    let open = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
    let refused = rig.kms_in(THERE, &user(OWNER), "Decrypt", &open).await.json();
    assert_eq!(refused["message"], format!("{there} is pending deletion."));
    let answer = rig.good_in(REGION, "ScheduleKeyDeletion", seven).await;
    assert_eq!(answer["KeyState"], "PendingDeletion");
    assert!(answer["DeletionDate"].is_number());
    for region in [REGION, THERE] {
        rig.good_in(region, "CancelKeyDeletion", json!({"KeyId": id})).await;
        let described = rig.good_in(region, "DescribeKey", json!({"KeyId": id})).await;
        assert_eq!(described["KeyMetadata"]["KeyState"], "Disabled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hmac_key_has_a_family_and_no_rotation() {
    let rig = Rig::new().await;
    let make =
        json!({"MultiRegion": true, "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let made = rig.good(&user(OWNER), "CreateKey", make).await;
    let id = made["KeyMetadata"]["KeyId"].as_str().expect("an id");
    let input = json!({"KeyId": id, "ReplicaRegion": THERE});
    let replica = rig.good(&user(OWNER), "ReplicateKey", input).await["ReplicaKeyMetadata"].clone();
    assert_eq!((&replica["KeySpec"], &replica["MultiRegion"]), (&json!("HMAC_256"), &json!(true)));
    rig.until_enabled(THERE, id).await;
    for region in [REGION, THERE] {
        let refused = code_in(&rig, region, "RotateKeyOnDemand", json!({"KeyId": id})).await;
        assert_eq!(refused, "UnsupportedOperationException");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_two_regions_refuses_every_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::of_regions(folder, &[REGION, THERE]).await;
    let id = rig.make_family(THERE).await;
    let owner = user(OWNER);
    let answer = rig.kms_in("us-east-1", &owner, "ListKeys", &json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidSignatureException"));
    let told = "Credential should be scoped to a valid Region, not 'us-east-1'";
    assert!(answer.text.contains(told), "{}", answer.text);
    let watch = json!({"WaitMillis": 1, "Watched": []});
    for (region, status) in [(REGION, 200), (THERE, 200), ("us-east-1", 400)] {
        let answer = rig.json_in(region, &user(NODE), "kms", "Keystead.Watch", &watch).await;
        assert_eq!(answer.status, status, "{region}: {}", answer.text);
    }
    let away = json!({"KeyId": id, "ReplicaRegion": "us-east-1"});
    let refused = rig.kms(&owner, "ReplicateKey", away).await;
    assert_eq!(refused.code(), "UnsupportedOperationException");
    let told = "Region us-east-1 is not served by this server; it serves eu-central-1, eu-west-1.";
    assert_eq!(refused.json()["message"], told);
    // IAM's events lie in us-east-1, whatever Regions the keys are in.
    assert!(!rig.make_role("tenant").await.is_empty());
    assert_eq!(lookup_in(&rig, "us-east-1", OPERATOR, "CreateRole").await.len(), 1);
}

/// The tenant role as an administrator of its own account's keys, under conditions.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_replicate_where_is_told_by_the_condition_keys() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let deny = async |actions: &str, condition: Value| {
        let document = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["kms:*", "iam:CreateServiceLinkedRole"], "Resource": "*"},
            {"Effect": "Deny", "Action": actions, "Resource": "*", "Condition": condition}]});
        give(&rig, OPERATOR, "tenant", &document).await;
    };
    let nowhere = json!({"StringEquals": {"aws:RequestedRegion": "nowhere"}});
    let multi = json!({"MultiRegion": true});
    // Making one needs the right to make the role that AWS keeps its family alike with.
    let only_kms = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]});
    give(&rig, OPERATOR, "tenant", &only_kms).await;
    let refused = rig.kms(&session, "CreateKey", multi.clone()).await;
    assert_eq!(refused.code(), "AccessDeniedException");
    assert!(refused.text.contains("iam:CreateServiceLinkedRole"), "{}", refused.text);
    assert_eq!(rig.kms(&session, "CreateKey", json!({})).await.status, 200);
    for (condition, open) in [
        (json!({"Bool": {"kms:MultiRegion": "true"}}), false),
        (json!({"StringEquals": {"kms:MultiRegionKeyType": "PRIMARY"}}), false),
        (json!({"StringEquals": {"kms:MultiRegionKeyType": "REPLICA"}}), true),
    ] {
        deny("kms:CreateKey", condition.clone()).await;
        let made = rig.kms(&session, "CreateKey", multi.clone()).await;
        assert_eq!(made.status == 200, open, "{condition}: {}", made.text);
        assert_eq!(rig.kms(&session, "CreateKey", json!({})).await.status, 200);
    }
    deny("kms:CreateKey", nowhere).await;
    let made = rig.good(&session, "CreateKey", multi).await["KeyMetadata"].clone();
    let id = made["KeyId"].as_str().expect("an id");
    let replicate = |region: &str| {
        json!({"KeyId": id, "ReplicaRegion": region,
        "Tags": [{"TagKey": "team", "TagValue": "red"}]})
    };
    for (actions, condition) in [
        ("kms:ReplicateKey", json!({"StringEquals": {"kms:ReplicaRegion": THERE}})),
        ("kms:ReplicateKey", json!({"Bool": {"kms:MultiRegion": "true"}})),
        ("kms:ReplicateKey", json!({"StringEquals": {"kms:MultiRegionKeyType": "PRIMARY"}})),
        ("kms:CreateKey", json!({"StringEquals": {"aws:RequestedRegion": THERE}})),
        ("kms:CreateKey", json!({"StringEquals": {"kms:MultiRegionKeyType": "REPLICA"}})),
        ("kms:TagResource", json!({"StringEquals": {"aws:RequestTag/team": "red"}})),
    ] {
        deny(actions, condition.clone()).await;
        let refused = rig.kms(&session, "ReplicateKey", replicate(THERE)).await;
        assert_eq!(refused.code(), "AccessDeniedException", "{actions} {condition}");
    }
    let elsewhere = json!({"StringEquals": {"kms:ReplicaRegion": "us-east-1"}});
    deny("kms:ReplicateKey", elsewhere).await;
    rig.good(&session, "ReplicateKey", replicate(THERE)).await;
    let provider = |region: &str| format!("arn:aws:kms:{region}:{PROVIDER}:key/{id}");
    while rig
        .kms_in(THERE, &session, "GenerateDataKey", &json!({"KeyId": id, "NumberOfBytes": 1}))
        .await
        .status
        != 200
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The permission is asked for on both keys, in their own Regions.
    let turn = json!({"KeyId": id, "PrimaryRegion": THERE});
    for condition in [
        json!({"StringEquals": {"kms:PrimaryRegion": THERE}}),
        json!({"StringEquals": {"aws:RequestedRegion": REGION}}),
        json!({"StringEquals": {"aws:RequestedRegion": THERE}}),
        json!({"StringEquals": {"kms:MultiRegionKeyType": "REPLICA"}}),
    ] {
        deny("kms:UpdatePrimaryRegion", condition.clone()).await;
        let refused = rig.kms(&session, "UpdatePrimaryRegion", turn.clone()).await;
        assert_eq!(refused.code(), "AccessDeniedException", "{condition}");
        let of_replica = condition["StringEquals"]["kms:MultiRegionKeyType"].is_string()
            || condition["StringEquals"]["aws:RequestedRegion"] == THERE;
        let named = if of_replica { provider(THERE) } else { provider(REGION) };
        assert!(refused.text.contains(&named), "{condition}: {}", refused.text);
    }
    for (days, open) in [(Value::Null, false), (json!(365), false), (json!(90), true)] {
        let condition = json!({"NumericGreaterThan": {"kms:RotationPeriodInDays": "180"}});
        deny("kms:EnableKeyRotation", condition).await;
        let input = json!({"KeyId": id, "RotationPeriodInDays": days});
        let answer = rig.kms(&session, "EnableKeyRotation", input).await;
        assert_eq!(answer.status == 200, open, "{days}: {}", answer.text);
    }
}
