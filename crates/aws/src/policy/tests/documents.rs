//! What is taken, what is refused, with the exact texts.

use super::*;
use proptest::prelude::*;

fn key_text(text: &str) -> String {
    Policy::parse_key_policy(text).expect_err(text).0
}

fn with_principal(principal: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"kms:*","Resource":"*"}}]}}"#
    )
}

#[test]
fn placeholders_and_groups_are_no_principals() {
    const TEXT: &str = "Policy contains a statement with one or more invalid principals.";
    for bad in [
        "<TENANT-ROLE-ARN>",
        "arn:aws:iam::<CUSTOMER-AWS-ACCOUNT-ID>:root",
        "arn:aws:iam::111122223333:group/g",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:iam::11112222333:root",
        "arn:aws:sts::111122223333:assumed-role/r",
        "arn:aws:sts::111122223333:assumed-role/r/*",
        "arn:aws:sts::111122223333:assumed-role/path/r/s",
        "1111",
        "",
    ] {
        assert_eq!(key_text(&with_principal(&format!(r#"{{"AWS":"{bad}"}}"#))), TEXT, "{bad}");
    }
    for bad in ["\"x\"", "{}", "[]", r#"{"AWS":[]}"#, r#"{"AWS":7}"#, r#"{"Other":"x"}"#] {
        assert_eq!(key_text(&with_principal(bad)), TEXT, "{bad}");
    }
}

#[test]
fn every_form_of_principal_is_read() {
    let text = with_principal(
        r#"{"AWS":["*","111122223333","arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:user/p/u","arn:aws:iam::111122223333:role/p/r","arn:aws:sts::111122223333:assumed-role/r/s"],"Service":"ec2.amazonaws.com"}"#,
    );
    let policy = Policy::parse_key_policy(&text).expect("it is well-formed");
    let found = policy.principals();
    assert_eq!(found.len(), 6, "the account occurs twice: {found:?}");
    assert!(found.contains(&&Principal::Service("ec2.amazonaws.com".into())));
    assert!(found.contains(&&Principal::Role("arn:aws:iam::111122223333:role/p/r".into())));
}

#[test]
fn shapes_of_key_policies() {
    assert_eq!(key_text("{"), "This policy contains invalid Json");
    assert_eq!(key_text("[]"), "This policy contains invalid Json");
    assert_eq!(
        key_text(r#"{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#),
        "Policy contains a statement with no principal."
    );
    for bad in [
        r#"{"Version":"2012-10-17"}"#,
        r#"{"Version":"2012-10-17","Statement":[]}"#,
        r#"{"Version":"2011-10-17","Statement":[{"Effect":"Allow","Principal":"*"}]}"#,
        r#"{"Statement":[{"Effect":"allow","Principal":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Extra":1}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","NotAction":"kms:*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"StringAlike":{"a:b":"c"}}}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"Bool":{"aws:SecureTransport":"maybe"}}}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"NumericEquals":{"kms:X":"x"}}}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"NullIfExists":{"kms:X":"true"}}}]}"#,
    ] {
        assert_eq!(key_text(bad), "Syntax errors in policy.", "{bad}");
    }
}

#[test]
fn a_key_policy_without_action_or_resource_has_no_effect() {
    let ada = user(OWNER, "ada");
    for part in [r#""Action":"kms:*""#, r#""Resource":"*""#] {
        let text = format!(r#"{{"Statement":{{"Effect":"Allow","Principal":"*",{part}}}}}"#);
        let policy = key_policy(&text);
        let asked = request("kms:PutKeyPolicy", &ada);
        assert!(!lockout_safe(&ada, &asked, OWNER, &policy, &identity("*"), None), "{part}");
    }
}

#[test]
fn identity_and_trust_policies_have_their_own_rules() {
    let own = |s: &str| {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{s}]}}"#);
        Policy::parse_identity(&text).expect_err(s).0
    };
    assert_eq!(
        own(r#"{"Effect":"Allow","Principal":"*","Action":"a:b","Resource":"*"}"#),
        "Policy document should not specify a principal."
    );
    assert_eq!(
        own(r#"{"Effect":"Allow","Resource":"*"}"#),
        "Policy statement must contain actions."
    );
    assert_eq!(
        own(r#"{"Effect":"Allow","Action":"a:b"}"#),
        "Policy statement must contain resources."
    );
    assert_eq!(
        own(r#"{"Effect":"Allow","Action":"b","Resource":"*"}"#),
        "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
    );
    assert_eq!(
        own(r#"{"Effect":"Allow","Action":"a:b","Resource":"key/1"}"#),
        "Resource key/1 must be in ARN format or \"*\"."
    );
    assert_eq!(
        Policy::parse_identity(r#"{"Version":"2008-10-17","Statement":[]}"#).expect_err("old").0,
        "Policy document must be version 2012-10-17 or greater."
    );
    let trust = |s: &str| Policy::parse_trust(&format!(r#"{{"Statement":[{s}]}}"#)).expect_err(s).0;
    assert_eq!(
        trust(r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}"#),
        "Has prohibited field Resource"
    );
    assert_eq!(
        trust(r#"{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt"}"#),
        "AssumeRole policy may only specify STS AssumeRole actions."
    );
}

#[test]
fn the_policy_of_the_brief_gives_the_role_what_it_needs() {
    let text = r#"{"Version":"2012-10-17","Id":"key-policy","Statement":[
      {"Sid":"Enable IAM user permissions","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
      {"Sid":"Allow Camunda tenant IAM Role basic key access","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:role/keystead-cl-1"},"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:DescribeKey","kms:GenerateDataKey*"],"Resource":"*"},
      {"Sid":"Allow Camunda tenant IAM Role to create grants for provisioning encrypted EBS volumes","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:role/keystead-cl-1"},"Action":["kms:CreateGrant","kms:ListGrants","kms:RevokeGrant"],"Resource":"*"}]}"#;
    let policy = key_policy(text);
    let tenant = tenant();
    let own = identity("kms:*");
    let allowed = |action: &str| {
        evaluate(&EvaluateInput {
            caller: &tenant,
            request: &request(action, &tenant),
            key_account: OWNER,
            key_policy: &policy,
            identity: &own,
            session: None,
            grants: &[],
            cross_account: true,
        })
        .is_allowed()
    };
    for action in [
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
        "kms:DescribeKey",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:CreateGrant",
        "kms:ListGrants",
        "kms:RevokeGrant",
    ] {
        assert!(allowed(action), "{action}");
    }
    for action in ["kms:RetireGrant", "kms:GetKeyPolicy", "kms:PutKeyPolicy", "kms:DisableKey"] {
        assert!(!allowed(action), "{action}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}") {
        let _ = Policy::parse_key_policy(&text);
    }

    #[test]
    fn statements_of_any_shape_never_panic(
        principal in "\\PC{0,30}", action in "\\PC{0,20}", key in "\\PC{0,20}", value in "\\PC{0,20}",
        operator in prop::sample::select(vec!["StringLike", "IpAddress", "DateLessThan", "ArnLike", "ForAllValues:StringEquals"]),
    ) {
        let text = serde_json::json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Principal": {"AWS": principal}, "Action": action, "Resource": "*",
            "Condition": {operator: {key: value}}}]}).to_string();
        if let Ok(policy) = Policy::parse_key_policy(&text) {
            let ada = user(OWNER, "ada");
            let bound = BoundPolicy::new(policy, PrincipalIds::new());
            lockout_safe(&ada, &request("kms:PutKeyPolicy", &ada), OWNER, &bound, &[], None);
        }
    }
}
