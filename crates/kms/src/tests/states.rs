//! Every operation in every key state, against the contract's table (AWS's "Key states of AWS KMS
//! keys"). An operation, or a key state, without a row does not compile.

use super::DAY;
use super::bench::{ADMIN, Bench, HERE, POLICY, THERE, text};
use crate::store::records::{Key, KeyState};
use crate::store::state::Change;
use keystead_aws::ops::{Operation, TABLE};
use keystead_types::KeyArn;
use serde_json::{Value, json};

/// Where a key is in its life; `Gone` is after its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Enabled,
    Disabled,
    Pending,
    Creating,
    Updating,
    Gone,
    /// A primary key that waits for the deletion of its replicas: as `Pending`.
    ReplicaPending,
}

impl Life {
    /// The columns of the table.
    const ALL: [Self; 6] =
        [Self::Enabled, Self::Disabled, Self::Pending, Self::Creating, Self::Updating, Self::Gone];

    fn says(self, op: Operation) -> Says {
        let column = if self == Self::ReplicaPending { Self::Pending } else { self };
        row(op)[column as usize]
    }

    /// A new key state needs a column.
    fn of(state: KeyState) -> Self {
        match state {
            KeyState::Enabled => Self::Enabled,
            KeyState::Disabled => Self::Disabled,
            KeyState::Creating => Self::Creating,
            KeyState::Updating => Self::Updating,
            KeyState::PendingDeletion { .. } => Self::Pending,
            KeyState::PendingReplicaDeletion { .. } => Self::ReplicaPending,
        }
    }
}

/// What an operation answers; the names are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Ok,
    /// DisabledException.
    D1,
    /// KMSInvalidStateException: is pending deletion.
    Sd,
    /// KMSInvalidStateException: is not pending deletion.
    Sn,
    /// KMSInvalidStateException: is creating.
    Sc,
    /// KMSInvalidStateException: is updating.
    Sg,
    /// UnsupportedOperationException: a single-Region key.
    U,
    /// NotFoundException.
    No,
}

/// The row of an operation.
fn row(op: Operation) -> [Says; 6] {
    use Operation as O;
    use Says::{D1, No, Ok, Sc, Sd, Sg, Sn};
    match op {
        //             Enabled Disabled Pending Creating Updating Gone
        // No key at all.
        O::CreateKey | O::ListKeys | O::GenerateRandom | O::ListRetirableGrants => [Ok; 6],
        O::Encrypt
        | O::Decrypt
        | O::ReEncrypt
        | O::GenerateDataKey
        | O::GenerateDataKeyWithoutPlaintext
        | O::CreateGrant
        | O::EnableKeyRotation
        | O::DisableKeyRotation
        | O::UpdatePrimaryRegion => [Ok, D1, Sd, Sc, Ok, No],
        O::ReplicateKey | O::RotateKeyOnDemand => [Ok, D1, Sd, Sc, Sg, No],
        O::DescribeKey
        | O::GetKeyPolicy
        | O::ListKeyPolicies
        | O::PutKeyPolicy
        | O::ListAliases
        // Its alias goes with the key.
        | O::DeleteAlias
        | O::ListResourceTags
        | O::ListGrants
        | O::RetireGrant
        | O::RevokeGrant
        | O::GetKeyRotationStatus
        | O::ListKeyRotations => [Ok, Ok, Ok, Ok, Ok, No],
        // Of UpdateAlias the new target counts.
        O::CreateAlias
        | O::UpdateAlias
        | O::TagResource
        | O::UntagResource
        | O::UpdateKeyDescription => [Ok, Ok, Sd, Ok, Ok, No],
        O::EnableKey | O::DisableKey => [Ok, Ok, Sd, Sc, Sg, No],
        O::ScheduleKeyDeletion => [Ok, Ok, Sd, Ok, Sg, No],
        O::CancelKeyDeletion => [Sn, Sn, Ok, Sn, Sn, No],
    }
}

/// Where a key is after a call that succeeded.
fn after(op: Operation, before: Life, key: &Subject) -> Life {
    match op {
        Operation::UpdatePrimaryRegion => Life::Updating,
        Operation::ScheduleKeyDeletion if key.replicated => Life::ReplicaPending,
        Operation::EnableKey => Life::Enabled,
        Operation::DisableKey | Operation::CancelKeyDeletion => Life::Disabled,
        Operation::ScheduleKeyDeletion => Life::Pending,
        _ => before,
    }
}

/// A request of each sort that the operation takes.
fn inputs(op: Operation, key: &Subject) -> Vec<Value> {
    use Operation as O;
    let Subject { arn, alias, blob, other, other_alias, other_blob, grant, token, .. } = key;
    match op {
        O::CreateKey | O::ListKeys => vec![json!({})],
        O::GenerateRandom => vec![json!({"NumberOfBytes": 16})],
        O::DescribeKey => vec![json!({"KeyId": arn}), json!({"KeyId": alias})],
        O::EnableKey
        | O::DisableKey
        | O::CancelKeyDeletion
        | O::GetKeyPolicy
        | O::ListKeyPolicies
        | O::ListAliases
        | O::ListResourceTags
        | O::ListGrants
        | O::EnableKeyRotation
        | O::DisableKeyRotation
        | O::GetKeyRotationStatus
        | O::RotateKeyOnDemand
        | O::ListKeyRotations => vec![json!({"KeyId": arn})],
        O::ReplicateKey => vec![json!({"KeyId": arn, "ReplicaRegion": "ap-southeast-1"})],
        O::UpdatePrimaryRegion => vec![json!({"KeyId": arn, "PrimaryRegion": THERE})],
        O::ListRetirableGrants => vec![json!({"RetiringPrincipal": ADMIN})],
        O::ScheduleKeyDeletion => vec![json!({"KeyId": arn, "PendingWindowInDays": 7})],
        O::PutKeyPolicy => vec![json!({"KeyId": arn, "Policy": POLICY})],
        O::Encrypt => vec![
            json!({"KeyId": arn, "Plaintext": "AAAA"}),
            json!({"KeyId": alias, "Plaintext": "AAAA"}),
            json!({"KeyId": arn, "Plaintext": "AAAA", "DryRun": true}),
        ],
        O::Decrypt => vec![
            json!({"KeyId": arn, "CiphertextBlob": blob}),
            json!({"KeyId": alias, "CiphertextBlob": blob}),
            json!({"KeyId": arn, "CiphertextBlob": blob, "DryRun": true}),
        ],
        O::ReEncrypt => vec![
            json!({"CiphertextBlob": blob, "SourceKeyId": arn, "DestinationKeyId": other}),
            json!({"CiphertextBlob": other_blob, "DestinationKeyId": arn}),
            json!({"CiphertextBlob": other_blob, "DestinationKeyId": arn, "DryRun": true}),
        ],
        O::GenerateDataKey | O::GenerateDataKeyWithoutPlaintext => vec![
            json!({"KeyId": arn, "KeySpec": "AES_256"}),
            json!({"KeyId": alias, "NumberOfBytes": 64}),
            json!({"KeyId": arn, "KeySpec": "AES_256", "DryRun": true}),
        ],
        O::CreateAlias => vec![json!({"TargetKeyId": arn, "AliasName": format!("{alias}-2")})],
        O::UpdateAlias => vec![json!({"TargetKeyId": arn, "AliasName": other_alias})],
        O::DeleteAlias => vec![json!({"AliasName": alias})],
        O::TagResource => {
            vec![json!({"KeyId": arn, "Tags": [{"TagKey": "team", "TagValue": "blue"}]})]
        }
        O::UntagResource => vec![json!({"KeyId": arn, "TagKeys": ["team"]})],
        O::UpdateKeyDescription => vec![json!({"KeyId": arn, "Description": "of the table"})],
        O::CreateGrant => {
            let input = json!({"KeyId": arn, "GranteePrincipal": ADMIN, "Operations": ["Decrypt"]});
            let mut dry = input.clone();
            dry["DryRun"] = true.into();
            vec![input, dry]
        }
        O::RevokeGrant => vec![
            json!({"KeyId": arn, "GrantId": grant, "DryRun": true}),
            json!({"KeyId": arn, "GrantId": grant}),
        ],
        O::RetireGrant => vec![
            json!({"GrantToken": token, "DryRun": true}),
            json!({"KeyId": arn, "GrantId": grant, "DryRun": true}),
            json!({"GrantToken": token}),
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_in_every_state_answers_as_the_table_says() {
    let bench = Bench::new().await;
    for op in TABLE.iter().map(|info| info.op) {
        for life in [Life::Enabled, Life::Disabled, Life::Pending, Life::Gone] {
            let mut says = life.says(op);
            let of_families =
                matches!(op, Operation::ReplicateKey | Operation::UpdatePrimaryRegion);
            if of_families && says == Says::Ok {
                says = Says::U;
            }
            let key = bench.subject(life).await;
            for input in inputs(op, &key) {
                bench.holds(op, life, says, &key, &input).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_in_every_state_of_a_multi_region_key_answers_as_the_table_says() {
    let bench = Bench::new().await;
    for op in TABLE.iter().map(|info| info.op) {
        for life in Life::ALL.into_iter().chain([Life::ReplicaPending]) {
            let key = bench.multi_region_subject(life).await;
            for input in inputs(op, &key) {
                bench.holds(op, life, life.says(op), &key, &input).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_gone_takes_its_names_and_grants_along() {
    let bench = Bench::new().await;
    let key = bench.subject(Life::Gone).await;
    // Only the blob names the key: who asks does not learn that it was there.
    for (operation, input) in [
        ("Decrypt", json!({"CiphertextBlob": key.blob})),
        ("ReEncrypt", json!({"CiphertextBlob": key.blob, "DestinationKeyId": key.other})),
    ] {
        let (_, answer) = bench.call(operation, &input).await;
        assert_eq!(answer["__type"], "AccessDeniedException", "{operation}");
        let text = answer["message"].as_str().expect("a text");
        assert!(text.contains("on the resource associated with this ciphertext because"), "{text}");
    }
    // Its name is free again; its grants are gone.
    let again = json!({"AliasName": key.alias, "TargetKeyId": key.other});
    assert_eq!(bench.call("CreateAlias", &again).await.0, 200);
    assert!(bench.kms().store.state().grants(&key.arn.parse().expect("an ARN")).next().is_none());
}

/// A key with all that an operation may name.
struct Subject {
    arn: String,
    alias: String,
    blob: String,
    grant: String,
    token: String,
    /// Another key, always enabled.
    other: String,
    other_alias: String,
    other_blob: String,
    /// A primary key with a replica.
    replicated: bool,
}

impl Bench {
    async fn sealed(&self, arn: &str) -> String {
        let sealed = self.good("Encrypt", json!({"KeyId": arn, "Plaintext": "AAAA"})).await;
        text(&sealed["CiphertextBlob"])
    }

    /// A single-Region key that was used, named and granted, and then came into this state.
    async fn subject(&self, life: Life) -> Subject {
        let arn = self.key(json!({})).await;
        self.brought(arn, life, false).await
    }

    /// The same of a multi-Region key. Where the table needs a family, it has one more key.
    async fn multi_region_subject(&self, life: Life) -> Subject {
        let replicated = !matches!(life, Life::Pending | Life::Gone);
        let arn = match life {
            // Made there, replicated to here.
            Life::Creating | Life::Updating => {
                let made = self.good_in(THERE, "CreateKey", json!({"MultiRegion": true})).await;
                self.replicate(THERE, &text(&made["KeyMetadata"]["KeyId"]), HERE).await
            }
            _ => self.multi_region_key().await,
        };
        if matches!(life, Life::Enabled | Life::Disabled | Life::ReplicaPending) {
            self.replicate(HERE, &arn, THERE).await;
        }
        let replicated = replicated && life != Life::Creating;
        self.brought(arn, life, replicated).await
    }

    /// Uses a key, names it, grants it, and brings it into a state.
    async fn brought(&self, arn: String, life: Life, replicated: bool) -> Subject {
        let blob = self.sealed(&arn).await;
        let other = self.key(json!({})).await;
        let other_blob = self.sealed(&other).await;
        let alias = format!("alias/{}", uuid::Uuid::new_v4());
        self.good("CreateAlias", json!({"AliasName": alias, "TargetKeyId": arn})).await;
        let other_alias = format!("{alias}-other");
        let named = json!({"AliasName": other_alias, "TargetKeyId": other});
        self.good("CreateAlias", named).await;
        let granted = json!({"KeyId": arn, "GranteePrincipal": ADMIN, "RetiringPrincipal": ADMIN,
            "Operations": ["Decrypt"]});
        let granted = self.good("CreateGrant", granted).await;
        match life {
            Life::Enabled => {}
            Life::Disabled => drop(self.good("DisableKey", json!({"KeyId": arn})).await),
            Life::Creating => self.put_back(&arn).await,
            Life::Updating => {
                let id = arn.rsplit('/').next().expect("an id");
                let input = json!({"KeyId": id, "PrimaryRegion": HERE});
                self.good_in(THERE, "UpdatePrimaryRegion", input).await;
            }
            Life::Pending | Life::Gone | Life::ReplicaPending => {
                let input = json!({"KeyId": arn, "PendingWindowInDays": 7});
                self.good("ScheduleKeyDeletion", input).await;
            }
        }
        if life == Life::Gone {
            self.wait(7 * DAY).await;
        }
        let (grant, token) = (text(&granted["GrantId"]), text(&granted["GrantToken"]));
        let subject =
            Subject { arn, alias, blob, grant, token, other, other_alias, other_blob, replicated };
        assert_eq!(self.life(&subject).await, life);
        subject
    }

    /// A replica that has all that an operation may name is past Creating: back it goes.
    async fn put_back(&self, arn: &str) {
        let arn: KeyArn = arn.parse().expect("an ARN");
        let record = self.kms().store.state().keys[&arn].record.clone();
        let writer = self.kms().store.writer().await;
        let change = Change::PutKey(Key { state: KeyState::Creating, ..record });
        writer.commit(vec![change], &[]).expect("written");
    }

    /// Where the key is, by its store and by its description.
    async fn life(&self, key: &Subject) -> Life {
        let arn = key.arn.parse().expect("an ARN");
        let stored = self.kms().store.state().keys.get(&arn).map(|key| Life::of(key.record.state));
        let (status, answer) = self.call("DescribeKey", &json!({"KeyId": key.arn})).await;
        let metadata = &answer["KeyMetadata"];
        let described = match metadata["KeyState"].as_str() {
            Some("Enabled") => Life::Enabled,
            Some("Disabled") => Life::Disabled,
            Some("PendingDeletion") => Life::Pending,
            Some("PendingReplicaDeletion") => Life::ReplicaPending,
            Some("Creating") => Life::Creating,
            Some("Updating") => Life::Updating,
            None if status == 400 => Life::Gone,
            other => panic!("{other:?}: {answer}"),
        };
        assert_eq!(described, stored.unwrap_or(Life::Gone));
        if described != Life::Gone {
            assert_eq!(metadata["Enabled"], described == Life::Enabled);
            assert_eq!(metadata["DeletionDate"].is_number(), described == Life::Pending);
            let window = metadata["PendingDeletionWindowInDays"].is_number();
            assert_eq!(window, described == Life::ReplicaPending);
        }
        described
    }

    /// One cell of the table with one request.
    async fn holds(&self, op: Operation, life: Life, says: Says, key: &Subject, input: &Value) {
        let cell = format!("{} of a key that is {life:?}, {input}", op.name());
        assert_eq!(self.life(key).await, life, "{cell}: moved by the request before");
        let (status, answer) = self.call(op.name(), input).await;
        let dry = input["DryRun"] == true && says == Says::Ok;
        let arn = &key.arn;
        let (code, message) = match says {
            Says::Ok if dry => {
                let text = "The request would have succeeded, but the DryRun option is set.";
                ("DryRunOperationException", text.to_owned())
            }
            Says::Ok => {
                assert_eq!(status, 200, "{cell}: {answer}");
                assert_eq!(self.life(key).await, after(op, life, key), "{cell}");
                return;
            }
            Says::D1 => ("DisabledException", format!("{arn} is disabled.")),
            Says::Sd => ("KMSInvalidStateException", format!("{arn} is pending deletion.")),
            Says::Sn => (
                "KMSInvalidStateException",
                format!("{arn} is not pending deletion (or pending replica deletion)."),
            ),
            Says::Sc => ("KMSInvalidStateException", format!("{arn} is creating.")),
            Says::Sg => ("KMSInvalidStateException", format!("{arn} is updating.")),
            Says::U => (
                "UnsupportedOperationException",
                format!("{arn} is not a multi-region primary key."),
            ),
            Says::No if [&input["KeyId"], &input["AliasName"]].contains(&&json!(key.alias)) => (
                "NotFoundException",
                format!("Alias arn:aws:kms:eu-central-1:111122223333:{} is not found.", key.alias),
            ),
            Says::No => ("NotFoundException", format!("Key '{arn}' does not exist")),
        };
        assert_eq!(status, 400, "{cell}: {answer}");
        assert_eq!(answer["__type"], code, "{cell}: {answer}");
        assert_eq!(answer["message"], message.as_str(), "{cell}");
        assert_eq!(self.life(key).await, life, "{cell}: a refusal changes nothing");
    }
}
