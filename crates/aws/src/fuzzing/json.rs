//! A request of KMS: the operation's name, a line feed, the JSON body.

use crate::AwsError;
use crate::ops::{KeyRef, KmsRequest, Operation};
use serde_json::Value;

/// What is taken keeps AWS's bounds, means the same when it is printed and read again, and knows no
/// member that it ignores; what is refused never repeats a plaintext.
pub fn json(data: &[u8]) {
    let (name, body) = match data.iter().position(|b| *b == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&b"Encrypt"[..], data),
    };
    let name = std::str::from_utf8(name).unwrap_or_default();
    let op = Operation::named(name).unwrap_or(Operation::Encrypt);
    match KmsRequest::decode(op, body) {
        Err(error) => refused(&error, body),
        Ok(request) => {
            within_bounds(&request);
            let mut value: Value = match body {
                b"" => Value::Object(serde_json::Map::new()),
                body => serde_json::from_slice(body).expect("it was read"),
            };
            let again = |value: &Value| KmsRequest::decode(op, value.to_string().as_bytes());
            assert!(again(&value).is_ok_and(|r| r == request), "printed, it reads another way");
            value["NobodyKnowsThis"] = Value::Null;
            assert!(again(&value).is_ok_and(|r| r == request), "an unknown member counts");
        }
    }
}

fn refused(error: &AwsError, body: &[u8]) {
    let told: Value = serde_json::from_str(&error.json_body()).expect("an error is JSON");
    let code = told["__type"].as_str().expect("an error has a type");
    assert!(code.ends_with(error.code.as_ref()) && (400..600).contains(&error.status));
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let (Some(secret), Some(text)) = (value["Plaintext"].as_str(), error.message.as_deref()) else {
        return;
    };
    // Short ones, and those that stand elsewhere too, may be in a message by chance.
    let whole = value.to_string();
    let once = whole.matches(secret).count() == 1 && !secret.contains(['"', '\\']);
    assert!(secret.len() < 12 || !once || !text.contains(secret), "a plaintext in: {text}");
}

fn key(given: &str) {
    assert!((1..=2048).contains(&given.chars().count()));
    let region = "eu-central-1".parse().expect("a Region");
    for takes_alias in [false, true] {
        let Ok(parsed) = KeyRef::parse(given, &region, takes_alias) else { continue };
        let printed = match &parsed {
            KeyRef::Id(id) => id.clone(),
            KeyRef::Arn(arn) => arn.to_string(),
            KeyRef::Alias(alias) => alias.clone(),
            KeyRef::AliasArn { account, alias } => {
                format!("arn:aws:kms:{region}:{account}:{alias}")
            }
        };
        assert_eq!(printed, given);
        assert!(takes_alias || parsed.alias().is_none());
    }
}

fn within_bounds(request: &KmsRequest) {
    use KmsRequest as R;
    let bytes = |pairs: &std::collections::BTreeMap<String, String>| {
        pairs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
    };
    match request {
        R::Encrypt(r) => {
            key(&r.key_id);
            assert!((1..=4096).contains(&r.plaintext.len()) && bytes(&r.context) <= 8192);
            assert!(r.grant_tokens.len() <= 10);
        }
        R::Decrypt(r) => {
            assert!((1..=6144).contains(&r.ciphertext.len()) && bytes(&r.context) <= 8192);
            if let Some(given) = &r.key_id {
                key(given);
            }
        }
        R::ReEncrypt(r) => {
            key(&r.destination_key_id);
            assert!((1..=6144).contains(&r.ciphertext.len()));
            assert!(bytes(&r.source_context) <= 8192 && bytes(&r.destination_context) <= 8192);
        }
        R::GenerateDataKey(r) | R::GenerateDataKeyWithoutPlaintext(r) => {
            key(&r.key_id);
            assert!((1..=1024).contains(&r.number_of_bytes) && bytes(&r.context) <= 8192);
        }
        R::ScheduleKeyDeletion(r) => assert!((7..=30).contains(&r.pending_window_in_days)),
        R::ListKeys(r) => assert!((1..=1000).contains(&r.limit)),
        R::ListGrants(r) => assert!((1..=100).contains(&r.limit)),
        R::CreateAlias(r) => {
            let name = r.alias_name.strip_prefix("alias/").expect("an alias");
            assert!(!name.is_empty() && !name.starts_with("aws/") && name.is_ascii());
        }
        R::CreateGrant(r) => {
            key(&r.key_id);
            assert!(r.constraints.each().all(|(_, pairs)| pairs.len() <= 8));
            assert!(r.operations.iter().all(|o| o.bytes().all(|b| b.is_ascii_alphabetic())));
        }
        R::EnableKeyRotation(r) => assert!((90..=2560).contains(&r.period_days)),
        R::ListKeyRotations(r) => assert!((1..=1000).contains(&r.limit)),
        R::ListRetirableGrants(r) => {
            assert!((1..=256).contains(&r.retiring_principal.chars().count()));
            assert!((1..=100).contains(&r.limit));
        }
        R::ReplicateKey(r) => {
            key(&r.key_id);
            assert!(r.tags.len() <= 50 && r.replica_region.as_str().contains('-'));
        }
        R::UpdatePrimaryRegion(r) => {
            key(&r.key_id);
            assert!(r.primary_region.as_str().contains('-'));
        }
        R::CreateKey(r) => assert!(r.tags.len() <= 50 && r.description.chars().count() <= 8192),
        R::RetireGrant(r) => assert!(r.grant_token.is_some() || r.grant_id.is_some()),
        _ => {}
    }
}
