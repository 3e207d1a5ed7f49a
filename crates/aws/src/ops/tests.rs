//! Requests with AWS's complaints, the table, key identifiers.

use super::*;
use keystead_types::Region;
use proptest::prelude::*;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn refused(op: Operation, body: &str) -> crate::AwsError {
    match KmsRequest::decode(op, body.as_bytes()) {
        Ok(_) => panic!("{body} was taken"),
        Err(e) => e,
    }
}

fn text(op: Operation, body: &str) -> String {
    refused(op, body).message.unwrap_or_default()
}

#[test]
fn the_table_is_in_order_and_complete() {
    assert_eq!(TABLE.len(), 36);
    for (i, row) in TABLE.iter().enumerate() {
        assert_eq!(row.op as usize, i);
        assert_eq!(Operation::of_target(&format!("TrentService.{}", row.name)), Some(row.op));
    }
    assert_eq!(Operation::of_target("TrentService.Sign"), None);
    // Served or not, the operations of the botocore model are all known.
    assert_eq!(TABLE.len() + NOT_SERVED.len(), 56);
    assert!(NOT_SERVED.iter().all(|name| Operation::named(name).is_none()));
    let across: Vec<&str> = TABLE.iter().filter(|r| r.cross_account).map(|r| r.name).collect();
    assert_eq!(
        across,
        [
            "DescribeKey",
            "Encrypt",
            "Decrypt",
            "ReEncrypt",
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "CreateGrant",
            "ListGrants",
            "RevokeGrant",
            "RetireGrant",
            "GetKeyRotationStatus",
        ]
    );
    assert_eq!(Operation::ReEncrypt.info().actions, ["kms:ReEncryptFrom", "kms:ReEncryptTo"]);
}

#[test]
fn shapes_are_told_as_aws_tells_them() {
    use Operation as O;
    assert_eq!(
        text(O::DescribeKey, "{}"),
        "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"
    );
    assert_eq!(
        text(O::Encrypt, r#"{"KeyId":"k","Plaintext":""}"#),
        "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"
    );
    assert_eq!(
        text(O::GenerateDataKey, r#"{"KeyId":"k","NumberOfBytes":1025}"#),
        "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"
    );
    assert_eq!(
        text(O::GenerateDataKey, r#"{"KeyId":"k","KeySpec":"AES_1"}"#),
        "1 validation error detected: Value 'AES_1' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"
    );
    for body in [r#"{"KeyId":"k"}"#, r#"{"KeyId":"k","KeySpec":"AES_256","NumberOfBytes":1}"#] {
        assert_eq!(
            text(O::GenerateDataKey, body),
            "Please specify either number of bytes or key spec."
        );
    }
    for days in ["6", "31"] {
        let body = format!(r#"{{"KeyId":"k","PendingWindowInDays":{days}}}"#);
        assert_eq!(refused(O::ScheduleKeyDeletion, &body).code, "ValidationException");
    }
    let two = text(O::Encrypt, "{}");
    assert!(two.starts_with("2 validation errors detected: ") && two.contains("; "), "{two}");
    for body in ["[]", "{", r#"{"KeyId":5}"#, r#"{"KeyId":"k","DryRun":"true"}"#] {
        let op = if body.contains("DryRun") { O::RevokeGrant } else { O::DescribeKey };
        assert_eq!(refused(op, body).code, "SerializationException", "{body}");
    }
}

#[test]
fn aliases_grants_and_policies_have_their_own_texts() {
    use Operation as O;
    let alias = |name: &str| {
        refused(O::CreateAlias, &format!(r#"{{"AliasName":"{name}","TargetKeyId":"k"}}"#))
    };
    assert!(
        alias("mine")
            .message
            .expect("a text")
            .starts_with("Alias must start with the prefix \"alias/\".")
    );
    assert_eq!(alias("alias/aws/x").code, "NotAuthorizedException");
    assert_eq!(alias("alias/a b").code, "ValidationException");
    let grant = |rest: &str| {
        text(O::CreateGrant, &format!(r#"{{"KeyId":"k","GranteePrincipal":"g"{rest}}}"#))
    };
    assert!(grant("").contains("'operations'"));
    assert!(grant(r#","Operations":["Nothing"]"#).contains("enum value set"));
    let nine: Vec<String> = (0..9).map(|i| format!("\"k{i}\":\"v\"")).collect();
    let constraint = format!(
        r#","Operations":["Decrypt"],"Constraints":{{"EncryptionContextSubset":{{{}}}}}"#,
        nine.join(",")
    );
    assert!(grant(&constraint).contains("'constraints'"));
    let put = |name: &str| {
        refused(O::PutKeyPolicy, &format!(r#"{{"KeyId":"k","PolicyName":"{name}","Policy":"x"}}"#))
    };
    assert_eq!(put("other").code, "NotFoundException");
    assert_eq!(
        put("AWS_RAM").message.as_deref(),
        Some("The AWS_RAM policy can only be managed by the RAM service")
    );
    assert_eq!(
        text(O::CreateKey, r#"{"Tags":[{"TagKey":"aws:x","TagValue":""}]}"#),
        "Tags beginning with aws: are reserved"
    );
    assert!(text(O::CreateKey, r#"{"Policy":"\u0100"}"#).contains("'policy'"));
    assert!(KmsRequest::decode(O::RetireGrant, b"{}").is_err());
}

#[test]
fn unknown_members_are_ignored_and_defaults_filled_in() {
    let Ok(KmsRequest::CreateKey(r)) = KmsRequest::decode(Operation::CreateKey, br#"{"New":1}"#)
    else {
        panic!("CreateKey")
    };
    assert_eq!(
        (r.key_spec.as_str(), r.key_usage, r.origin.as_str()),
        ("SYMMETRIC_DEFAULT", None, "AWS_KMS")
    );
    assert!(r.policy.is_none() && !r.multi_region && !r.bypass_lockout_check);
}

#[test]
fn key_identifiers_by_form() {
    let region: Region = "eu-central-1".parse().expect("a Region");
    let parse = |given: &str, alias: bool| KeyRef::parse(given, &region, alias);
    assert!(matches!(parse("1234abcd-12ab-34cd-56ef-1234567890ab", false), Ok(KeyRef::Id(_))));
    assert!(matches!(parse(KEY, false), Ok(KeyRef::Arn(_))));
    assert!(matches!(parse("alias/a", true), Ok(KeyRef::Alias(_))));
    let alias_arn = "arn:aws:kms:eu-central-1:111122223333:alias/a";
    let Ok(found) = parse(alias_arn, true) else { panic!("an alias ARN") };
    assert_eq!(found.alias(), Some("alias/a"));
    let text =
        |given: &str, alias| parse(given, alias).expect_err("refused").message.expect("a text");
    assert_eq!(text("nonsense", true), "Invalid keyId 'nonsense'");
    assert_eq!(text("alias/a", false), "Invalid keyId 'alias/a'");
    assert_eq!(text(alias_arn, false), format!("Invalid keyId '{alias_arn}'"));
    assert_eq!(text(&KEY.replace("eu-central-1", "us-east-1"), false), "Invalid arn us-east-1");
}

#[test]
fn tags_random_bytes_and_usages_have_their_own_texts() {
    use Operation as O;
    let tag = |list: &str| refused(O::TagResource, &format!(r#"{{"KeyId":"k","Tags":[{list}]}}"#));
    let one = |key: &str| format!(r#"{{"TagKey":"{key}","TagValue":""}}"#);
    for (list, wanted) in [
        (one("AWS:x"), "Tags beginning with aws: are reserved"),
        (format!("{},{}", one("a"), one("a")), "Duplicate tag keys"),
        ((0..51).map(|n| one(&n.to_string())).collect::<Vec<_>>().join(","), "Too many tags"),
    ] {
        let told = tag(&list);
        assert_eq!((&*told.code, told.message.as_deref()), ("TagException", Some(wanted)));
    }
    assert_eq!(tag(&one(&"k".repeat(129))).code, "ValidationException");
    assert_eq!(tag(r#"{"TagKey":"k"}"#).code, "ValidationException");
    for op in [O::TagResource, O::UntagResource] {
        assert!(text(op, r#"{"KeyId":"k"}"#).contains("Member must not be null"), "{op:?}");
    }
    assert!(text(O::UntagResource, r#"{"KeyId":"k","TagKeys":[""]}"#).contains("'tagKeys'"));
    assert_eq!(text(O::GenerateRandom, "{}"), "NumberOfBytes is required.");
    for bytes in ["0", "1025"] {
        let body = format!(r#"{{"NumberOfBytes":{bytes}}}"#);
        assert!(text(O::GenerateRandom, &body).contains("'numberOfBytes'"));
    }
    let enclave = r#"{"NumberOfBytes":1,"Recipient":{}}"#;
    assert_eq!(refused(O::GenerateRandom, enclave).code, "UnsupportedOperationException");
    assert!(text(O::UpdateKeyDescription, r#"{"KeyId":"k"}"#).contains("'description'"));
    for op in [O::UpdateAlias, O::DeleteAlias] {
        let body = r#"{"AliasName":"alias/aws/s3","TargetKeyId":"k"}"#;
        assert_eq!(refused(op, body).code, "NotAuthorizedException", "{op:?}");
    }
    assert!(
        text(O::CreateKey, r#"{"KeySpec":"HMAC_256"}"#).starts_with("You must specify a KeyUsage")
    );
}

#[test]
fn rotations_and_regions_keep_to_their_bounds() {
    use Operation as O;
    let decode = |op, body: &str| KmsRequest::decode(op, body.as_bytes());
    for (days, taken) in [("89", false), ("90", true), ("2560", true), ("2561", false)] {
        let body = format!(r#"{{"KeyId":"k","RotationPeriodInDays":{days}}}"#);
        assert_eq!(decode(O::EnableKeyRotation, &body).is_ok(), taken, "{days}");
    }
    let told = text(O::EnableKeyRotation, r#"{"KeyId":"k","RotationPeriodInDays":1}"#);
    assert!(told.contains("Value '1' at 'rotationPeriodInDays' failed"), "{told}");
    let Ok(KmsRequest::EnableKeyRotation(r)) = decode(O::EnableKeyRotation, r#"{"KeyId":"k"}"#)
    else {
        panic!("EnableKeyRotation")
    };
    assert_eq!(r.period_days, 365);
    for (region, taken) in [
        ("eu-west-1", true),
        ("us-gov-west-1", true),
        ("eu-west", false),
        ("west-1", false),
        ("eu-west-1-a", false),
        ("EU-west-1", false),
        ("eu--1", false),
        ("nowhere", false),
    ] {
        for (op, member) in
            [(O::ReplicateKey, "ReplicaRegion"), (O::UpdatePrimaryRegion, "PrimaryRegion")]
        {
            let body = format!(r#"{{"KeyId":"k","{member}":"{region}"}}"#);
            assert_eq!(decode(op, &body).is_ok(), taken, "{op:?} {region}");
        }
    }
    let told = text(O::ReplicateKey, r#"{"ReplicaRegion":"nowhere"}"#);
    assert!(told.starts_with("2 validation errors detected: Value null at 'keyId'"), "{told}");
    assert!(told.contains("Value 'nowhere' at 'replicaRegion' failed"), "{told}");
    assert!(text(O::UpdatePrimaryRegion, r#"{"KeyId":"k"}"#).contains("'primaryRegion'"));
    let told = text(O::ListKeyRotations, r#"{"KeyId":"k","IncludeKeyMaterial":"SOME"}"#);
    assert!(told.contains("[ALL_KEY_MATERIAL, ROTATIONS_ONLY]"), "{told}");
    assert!(text(O::ListRetirableGrants, "{}").contains("'retiringPrincipal'"));
    let service = r#"{"RetiringServicePrincipal":"s3.amazonaws.com"}"#;
    assert_eq!(refused(O::ListRetirableGrants, service).code, "UnsupportedOperationException");
}

proptest! {
    #[test]
    fn decoding_never_panics(op in 0..TABLE.len(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = KmsRequest::decode(TABLE[op].op, &body);
    }

    #[test]
    fn key_references_never_panic(given in "\\PC{0,80}") {
        let region: Region = "eu-central-1".parse().expect("a Region");
        let _ = KeyRef::parse(&given, &region, true);
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_and_not_ignored() {
    use Operation as O;
    for (op, member) in [
        (O::CreateGrant, r#""Constraints":{"SourceArn":"arn:aws:s3:::b"}"#),
        (O::CreateGrant, r#""GranteeServicePrincipal":"s3.amazonaws.com""#),
        (O::CreateGrant, r#""RetiringServicePrincipal":"s3.amazonaws.com""#),
        (O::CreateKey, r#""CustomKeyStoreId":"cks-1""#),
        (O::CreateKey, r#""XksKeyId":"x""#),
        (O::Decrypt, r#""Recipient":{}"#),
        (O::GenerateDataKey, r#""Recipient":{}"#),
    ] {
        let body = format!(
            r#"{{"KeyId":"k","GranteePrincipal":"111122223333","Operations":["Decrypt"],"CiphertextBlob":"AAAA","NumberOfBytes":1,{member}}}"#
        );
        assert_eq!(refused(op, &body).code, "UnsupportedOperationException", "{body}");
    }
}
