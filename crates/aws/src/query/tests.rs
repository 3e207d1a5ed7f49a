//! Forms and answers, there and back.

use super::*;
use proptest::prelude::*;

fn decode(service: &str, form: &Form) -> Result<QueryRequest, crate::AwsError> {
    let form = Form::parse(form.encode().as_bytes()).expect("a form");
    QueryRequest::decode(service, &form)
}

#[test]
fn assume_role_is_read_with_its_bounds() {
    let arn = "arn:aws:iam::444455556666:role/keystead-cl-1";
    let form =
        Form::new("AssumeRole", STS_VERSION).with("RoleArn", arn).with("RoleSessionName", "node@1");
    let Ok(QueryRequest::AssumeRole(r)) = decode("sts", &form) else { panic!("AssumeRole") };
    assert_eq!((r.role_arn.as_str(), r.duration_seconds), (arn, 3600));
    let text = |form: Form| decode("sts", &form).expect_err("refused").message.expect("a text");
    let base = || Form::new("AssumeRole", STS_VERSION).with("RoleArn", arn);
    assert_eq!(
        text(base().with("RoleSessionName", "a b")),
        r"1 validation error detected: Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*"
    );
    assert_eq!(
        text(base()),
        "2 validation errors detected: Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"
            .replace("2 validation errors", "1 validation error")
    );
    assert_eq!(
        text(base().with("RoleSessionName", "ab").with("DurationSeconds", "899")),
        "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"
    );
    let bad = Form::new("AssumeRole", STS_VERSION)
        .with("RoleArn", "arn:aws:iam::44445555:role/x")
        .with("RoleSessionName", "ab");
    assert_eq!(text(bad), "arn:aws:iam::44445555:role/x is invalid");
    let tags = base().with("RoleSessionName", "ab").with("Tags.member.1.Key", "k");
    assert!(text(tags).contains("Tags is not supported"));
}

#[test]
fn unknown_actions_and_versions_are_refused() {
    for (service, action, version) in
        [("sts", "CreateRole", STS_VERSION), ("iam", "GetRole", STS_VERSION), ("iam", "", "")]
    {
        let refused = decode(service, &Form::new(action, version)).expect_err("refused");
        assert_eq!((refused.code.as_ref(), refused.status), ("InvalidAction", 400));
    }
}

#[test]
fn repeated_parameters_are_refused() {
    assert!(Form::parse(b"Action=a&Action=b").is_err());
    assert!(Form::parse(b"Action=%FF").is_err());
}

#[test]
fn a_body_of_many_names_takes_no_more_than_its_length() {
    let body: String = (0..300_000).map(|i| format!("{i:x}&")).collect();
    let began = std::time::Instant::now();
    assert!(Form::parse(body.as_bytes()).is_ok());
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn policy_documents_arrive_decoded_and_leave_encoded() {
    let document = r#"{"Version":"2012-10-17","Statement":[{"Sid":"a+b & c%20"}]}"#;
    let form = Form::new("PutRolePolicy", IAM_VERSION)
        .with("RoleName", "r")
        .with("PolicyName", "p")
        .with("PolicyDocument", document);
    let Ok(QueryRequest::PutRolePolicy(r)) = decode("iam", &form) else { panic!("PutRolePolicy") };
    assert_eq!(r.policy_document, document);
    let xml = get_role_policy("r", "p", document, "id-1");
    let shown = text_of(&xml, "PolicyDocument").expect("XML").expect("the element");
    assert!(!shown.contains(['{', '"', ' ']), "{shown}");
    let back = percent_encoding::percent_decode_str(&shown).decode_utf8().expect("UTF-8");
    assert_eq!(back, document);
    assert_eq!(text_of(&xml, "RequestId").expect("XML").as_deref(), Some("id-1"));
}

#[test]
fn answers_have_awss_shape() {
    let xml = assume_role(
        &AssumedRole {
            arn: "arn:aws:sts::4:assumed-role/r/s",
            assumed_role_id: "AROAX:s",
            access_key_id: "ASIAX",
            secret_access_key: "s/+=",
            session_token: "t<&>",
            expiration_ms: 1_795_507_262_000,
            packed_policy_size: None,
        },
        "id",
    );
    assert!(xml.starts_with(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>"
    ));
    assert_eq!(text_of(&xml, "SessionToken").expect("XML").as_deref(), Some("t<&>"));
    assert_eq!(text_of(&xml, "Expiration").expect("XML").as_deref(), Some("2026-11-24T08:01:02Z"));
    let error = crate::error::entity_exists("Role", "r").query_xml(IAM_NAMESPACE, "id");
    let (code, message) = error_of(&error).expect("XML").expect("an error");
    assert_eq!(code, "EntityAlreadyExists");
    assert_eq!(message, "Role with name r already exists.");
    assert_eq!(error_of(&xml).expect("XML"), None);
}

proptest! {
    #[test]
    fn any_text_survives_form_and_xml(text in "\\PC{0,40}") {
        let form = Form::new("A", "V").with("T", &text);
        let back = Form::parse(form.encode().as_bytes());
        if text.contains('\u{fffd}') {
            prop_assert!(back.is_err());
        } else {
            prop_assert_eq!(back.expect("a form"), form);
        }
        let xml = get_caller_identity(&text, "u", "a", "r");
        prop_assert_eq!(text_of(&xml, "Arn").expect("XML"), Some(text));
    }

    #[test]
    fn the_reader_never_panics(xml in "\\PC{0,80}") {
        let _ = text_of(&xml, "Code");
        let _ = error_of(&xml);
    }
}

#[test]
fn tags_of_a_role_give_authority_and_are_looked_at() {
    let made = |tags: &[(&str, &str)]| {
        let mut form = Form::new("CreateRole", IAM_VERSION)
            .with("RoleName", "worker")
            .with("AssumeRolePolicyDocument", "{}");
        for (i, (key, value)) in tags.iter().enumerate() {
            form = form
                .with(&format!("Tags.member.{}.Key", i + 1), key)
                .with(&format!("Tags.member.{}.Value", i + 1), value);
        }
        decode("iam", &form)
    };
    let Ok(QueryRequest::CreateRole(r)) = made(&[("team", "a"), ("stage", "")]) else {
        panic!("CreateRole")
    };
    assert_eq!(r.tags.len(), 2);
    let names: Vec<String> = (0..51).map(|i| format!("k{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    assert!(made(&many[..50]).is_ok());
    for (tags, says) in [
        (&[("team", "a"), ("TEAM", "b")][..], "Duplicate tag keys"),
        (&[("AWS:team", "a")], "prefixed"),
        (&[("", "a")], "1 to 128"),
        (&many, "at most 50"),
    ] {
        let text = made(tags).expect_err("refused").message.expect("a text");
        assert!(text.contains(says), "{text}");
    }
}
