//! A form of STS or IAM. The same bytes are also read as the XML of an answer.

use crate::query::{
    Form, IAM_NAMESPACE, QueryRequest, STS_NAMESPACE, error_of, get_role_policy, text_of,
};
use percent_encoding::percent_decode_str;

/// Forms read the same when they are printed; a taken request keeps IAM's bounds; every refusal and
/// every document comes back whole through our own XML reader.
pub fn query(data: &[u8]) {
    if let Ok(xml) = std::str::from_utf8(data) {
        let _ = (text_of(xml, "Code"), error_of(xml));
        document_survives(xml);
    }
    let Ok(form) = Form::parse(data) else { return };
    let again = Form::parse(form.encode().as_bytes());
    assert!(again.as_ref().is_ok_and(|again| *again == form), "{form:?} and {again:?}");
    for (service, namespace) in [("sts", STS_NAMESPACE), ("iam", IAM_NAMESPACE)] {
        match QueryRequest::decode(service, &form) {
            Ok(request) => {
                within_bounds(&request);
                assert_eq!(Some(request.name()), form.get("Action"));
            }
            Err(error) => {
                let xml = error.query_xml(namespace, "id-1");
                let (code, message) = error_of(&xml).expect("XML").expect("an error");
                assert_eq!((code, message), (plain(&error.code), plain(text(&error))));
                let id = text_of(&xml, "RequestId").expect("XML");
                assert_eq!(id.as_deref(), Some("id-1"));
            }
        }
    }
}

fn text(error: &crate::AwsError) -> &str {
    error.message.as_deref().unwrap_or_default()
}

/// What XML can hold of a text.
fn plain(text: &str) -> String {
    let holds = |c: char| !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f');
    let holds = |c: char| holds(c) && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if holds(c) { c } else { '\u{fffd}' }).collect()
}

fn document_survives(document: &str) {
    let xml = get_role_policy("r", "p", document, "id-1");
    let shown = text_of(&xml, "PolicyDocument").expect("XML").expect("the document");
    assert_eq!(percent_decode_str(&shown).decode_utf8().expect("UTF-8"), document);
}

fn within_bounds(request: &QueryRequest) {
    use QueryRequest as R;
    let name = |name: &str, most: usize| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        assert!((1..=most).contains(&name.len()) && name.bytes().all(fits), "{name}");
    };
    match request {
        R::AssumeRole(r) => {
            name(&r.role_session_name, 64);
            assert!((900..=43_200).contains(&r.duration_seconds));
            let role: keystead_types::RoleArn = r.role_arn.parse().expect("a role");
            assert_eq!(role.to_string(), r.role_arn);
        }
        R::GetCallerIdentity => {}
        R::CreateRole(r) => {
            name(&r.role_name, 64);
            assert!(r.path.starts_with('/') && r.path.ends_with('/') && r.path.is_ascii());
            assert!((3600..=43_200).contains(&r.max_session_duration) && r.tags.len() <= 50);
        }
        R::GetRole { role_name } | R::DeleteRole { role_name } => name(role_name, 64),
        R::PutRolePolicy(r) => {
            name(&r.role_name, 64);
            name(&r.policy_name, 128);
        }
        R::GetRolePolicy(r) | R::DeleteRolePolicy(r) => name(&r.policy_name, 128),
    }
}
