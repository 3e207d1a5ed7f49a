//! Every operation in every key state, against the contract's table (AWS's "Key states of AWS KMS
//! keys"). An operation, or a key state, without a row does not compile.

use super::{DAY, Hand, config};
use crate::calls::{Kms, Request};
use crate::store::records::KeyState;
use crate::{open, scheduler};
use keystead_aws::ops::{Operation, TABLE, TARGET_PREFIX};
use keystead_aws::sigv4::Signer;
use keystead_types::Clock as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a key is in its life; `Gone` is after its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Enabled,
    Disabled,
    Pending,
    Gone,
}

impl Life {
    const ALL: [Self; 4] = [Self::Enabled, Self::Disabled, Self::Pending, Self::Gone];

    /// A new key state needs a column.
    fn of(state: KeyState) -> Self {
        match state {
            KeyState::Enabled => Self::Enabled,
            KeyState::Disabled => Self::Disabled,
            KeyState::PendingDeletion { .. } => Self::Pending,
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
    /// NotFoundException.
    No,
}

/// The row of an operation.
fn row(op: Operation) -> [Says; 4] {
    use Operation as O;
    use Says::{D1, No, Ok, Sd, Sn};
    match op {
        //                              Enabled Disabled Pending Gone
        // No key at all.
        O::CreateKey | O::ListKeys | O::GenerateRandom => [Ok, Ok, Ok, Ok],
        O::Encrypt
        | O::Decrypt
        | O::ReEncrypt
        | O::GenerateDataKey
        | O::GenerateDataKeyWithoutPlaintext
        | O::CreateGrant => [Ok, D1, Sd, No],
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
        | O::RevokeGrant => [Ok, Ok, Ok, No],
        // Of UpdateAlias the new target counts.
        O::CreateAlias
        | O::UpdateAlias
        | O::TagResource
        | O::UntagResource
        | O::UpdateKeyDescription
        | O::EnableKey
        | O::DisableKey
        | O::ScheduleKeyDeletion => [Ok, Ok, Sd, No],
        O::CancelKeyDeletion => [Sn, Sn, Ok, No],
    }
}

/// Where a key is after a call that succeeded.
fn after(op: Operation, before: Life) -> Life {
    match op {
        Operation::EnableKey => Life::Enabled,
        Operation::DisableKey | Operation::CancelKeyDeletion => Life::Disabled,
        Operation::ScheduleKeyDeletion => Life::Pending,
        _ => before,
    }
}

/// A request of each sort that the operation takes.
fn inputs(op: Operation, key: &Subject) -> Vec<Value> {
    use Operation as O;
    let Subject { arn, alias, blob, other, other_alias, other_blob, grant, token } = key;
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
        | O::ListGrants => vec![json!({"KeyId": arn})],
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
        for (life, says) in Life::ALL.into_iter().zip(row(op)) {
            let key = bench.subject(life).await;
            for input in inputs(op, &key) {
                bench.holds(op, life, says, &key, &input).await;
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
    assert!(bench.kms.store.state().grants(&key.arn.parse().expect("an ARN")).next().is_none());
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
}

const ADMIN: &str = "arn:aws:iam::111122223333:user/admin";
const KEY_ID: &str = "AKIAABCDEFGHIJKLMNOP";
const SECRET: &str = "0123456789abcdef";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}"#;
const PRINCIPALS: &str = r#"
[[account]]
id = "111122223333"
name = "c"
[[account.user]]
name = "admin"
access_key_id = "AKIAABCDEFGHIJKLMNOP"
secret_access_key = "0123456789abcdef"
policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
"#;

struct Bench {
    kms: Kms,
    clock: Arc<Hand>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = config(folder.path());
        std::fs::write(&settings.principals, PRINCIPALS).expect("written");
        let clock = Arc::new(Hand::default());
        let at = "127.0.0.1:1".parse().expect("an address");
        let kms = open(&settings, clock.clone(), at).await.expect("it opens");
        Self { kms, clock, _folder: folder }
    }

    /// A signed call, from bytes to bytes.
    async fn call(&self, operation: &str, input: &Value) -> (u16, Value) {
        let mut headers = vec![
            ("host".to_owned(), self.kms.hosts[0].clone()),
            ("x-amz-target".to_owned(), format!("{TARGET_PREFIX}{operation}")),
        ];
        let body = input.to_string().into_bytes();
        let signer = Signer {
            access_key_id: KEY_ID,
            secret: SECRET,
            session_token: None,
            region: "eu-central-1",
            service: "kms",
        };
        let now_ms = self.clock.wall_ms();
        headers.extend(signer.sign("POST", "/", "", &headers, &body, now_ms));
        let request = Request {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers,
            body,
            peer: "127.0.0.1".to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let answer = self.kms.answer(&request).await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    async fn good(&self, operation: &str, input: Value) -> Value {
        let (status, answer) = self.call(operation, &input).await;
        assert_eq!(status, 200, "{operation} {input}: {answer}");
        answer
    }

    async fn key(&self) -> (String, String) {
        let made = self.good("CreateKey", json!({})).await;
        let arn = text(&made["KeyMetadata"]["Arn"]);
        let sealed = self.good("Encrypt", json!({"KeyId": arn, "Plaintext": "AAAA"})).await;
        (arn, text(&sealed["CiphertextBlob"]))
    }

    /// A key that was used, named and granted, and then came into this state.
    async fn subject(&self, life: Life) -> Subject {
        let (arn, blob) = self.key().await;
        let (other, other_blob) = self.key().await;
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
            Life::Pending | Life::Gone => {
                let input = json!({"KeyId": arn, "PendingWindowInDays": 7});
                self.good("ScheduleKeyDeletion", input).await;
            }
        }
        if life == Life::Gone {
            self.clock.wall.fetch_add(7 * DAY, Ordering::SeqCst);
            self.clock.ran.fetch_add(7 * DAY, Ordering::SeqCst);
            scheduler::look(&self.kms).await;
        }
        let (grant, token) = (text(&granted["GrantId"]), text(&granted["GrantToken"]));
        let subject = Subject { arn, alias, blob, grant, token, other, other_alias, other_blob };
        assert_eq!(self.life(&subject).await, life);
        subject
    }

    /// Where the key is, by its store and by its description.
    async fn life(&self, key: &Subject) -> Life {
        let arn = key.arn.parse().expect("an ARN");
        let stored = self.kms.store.state().keys.get(&arn).map(|key| Life::of(key.record.state));
        let (status, answer) = self.call("DescribeKey", &json!({"KeyId": key.arn})).await;
        let metadata = &answer["KeyMetadata"];
        let described = match metadata["KeyState"].as_str() {
            Some("Enabled") => Life::Enabled,
            Some("Disabled") => Life::Disabled,
            Some("PendingDeletion") => Life::Pending,
            None if status == 400 => Life::Gone,
            other => panic!("{other:?}: {answer}"),
        };
        assert_eq!(described, stored.unwrap_or(Life::Gone));
        if described != Life::Gone {
            assert_eq!(metadata["Enabled"], described == Life::Enabled);
            assert_eq!(metadata["DeletionDate"].is_number(), described == Life::Pending);
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
                assert_eq!(self.life(key).await, after(op, life), "{cell}");
                return;
            }
            Says::D1 => ("DisabledException", format!("{arn} is disabled.")),
            Says::Sd => ("KMSInvalidStateException", format!("{arn} is pending deletion.")),
            Says::Sn => (
                "KMSInvalidStateException",
                format!("{arn} is not pending deletion (or pending replica deletion)."),
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

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
