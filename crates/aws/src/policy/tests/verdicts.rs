//! Contract 3.1, point by point, with the texts of 3.5.

use super::*;

struct Case<'a> {
    caller: &'a Caller,
    action: &'a str,
    policy: &'a BoundPolicy,
    identity: &'a [Policy],
    session: Option<&'a Policy>,
    cross: bool,
}

impl<'a> Case<'a> {
    fn new(caller: &'a Caller, policy: &'a BoundPolicy, identity: &'a [Policy]) -> Self {
        Self { caller, action: "kms:Decrypt", policy, identity, session: None, cross: true }
    }
    fn verdict(&self) -> Verdict {
        evaluate(&EvaluateInput {
            caller: self.caller,
            request: &request(self.action, self.caller),
            key_account: OWNER,
            key_policy: self.policy,
            identity: self.identity,
            session: self.session,
            grants: &[],
            cross_account: self.cross,
        })
    }
    fn denied(&self) -> Denied {
        self.verdict().into_result().expect_err("it is refused")
    }
    fn allowed(&self) -> AllowedBy {
        self.verdict().into_result().expect("it is allowed")
    }
}

fn aws(arn: &str) -> String {
    format!(r#"{{"AWS":"{arn}"}}"#)
}

#[test]
fn same_account_direct_needs_no_identity_policy() {
    let ada = user(OWNER, "ada");
    let policy = one("Allow", &aws(&ada.arn), "kms:Decrypt", false);
    assert_eq!(Case::new(&ada, &policy, &[]).allowed(), AllowedBy::KeyPolicy);
    let bob = user(OWNER, "bob");
    let denied = Case::new(&bob, &policy, &identity("*")).denied();
    assert_eq!(
        denied.message(),
        format!(
            "User: arn:aws:iam::{OWNER}:user/bob is not authorized to perform: kms:Decrypt on resource: {KEY} because no resource-based policy allows the kms:Decrypt action"
        )
    );
}

#[test]
fn delegated_needs_an_identity_policy() {
    let ada = user(OWNER, "ada");
    for principal in ["arn:aws:iam::111122223333:root", "111122223333"] {
        let policy = one("Allow", &aws(principal), "kms:*", false);
        assert_eq!(
            Case::new(&ada, &policy, &identity("kms:dec*")).allowed(),
            AllowedBy::IdentityPolicy
        );
        let denied = Case::new(&ada, &policy, &identity("kms:Encrypt")).denied();
        assert!(denied.message().ends_with(&format!(
            "on resource: {KEY} because no identity-based policy allows the kms:Decrypt action"
        )));
        let root = Caller::root(OWNER);
        assert!(Case::new(&root, &policy, &[]).verdict().is_allowed());
    }
}

#[test]
fn explicit_deny_wins_and_is_named() {
    let ada = user(OWNER, "ada");
    let policy = one("Deny", &aws(&ada.arn), "kms:Decrypt", true);
    let text = Case::new(&ada, &policy, &identity("*")).denied().message();
    assert!(text.ends_with("with an explicit deny in a resource-based policy"), "{text}");
    let policy = one("Allow", &aws(&ada.arn), "kms:*", true);
    let own = [denies("kms:Decrypt")];
    let text = Case::new(&ada, &policy, &own).denied().message();
    assert!(text.ends_with("with an explicit deny in an identity-based policy"), "{text}");
    // A Deny on the account reaches its users.
    let policy = one("Deny", &aws(OWNER), "kms:Decrypt", true);
    assert!(!Case::new(&ada, &policy, &identity("*")).verdict().is_allowed());
}

#[test]
fn another_account_needs_both_sides() {
    let tenant = tenant();
    let policy = one("Allow", &aws(ROLE), "kms:Decrypt", true);
    assert!(Case::new(&tenant, &policy, &identity("kms:Decrypt")).verdict().is_allowed());
    let denied = Case::new(&tenant, &policy, &[]).denied();
    assert_eq!(denied.reason, DenyReason::NoIdentityPolicy);
    assert!(denied.message().starts_with(&format!("User: {} is not", tenant.arn)));
    let policy = one("Allow", &aws(PROVIDER), "kms:Decrypt", true);
    assert!(Case::new(&tenant, &policy, &identity("kms:Decrypt")).verdict().is_allowed());
    // Without the key policy nothing tells whether the key exists.
    let policy = one("Allow", &aws(OWNER), "kms:*", false);
    let denied = Case::new(&tenant, &policy, &identity("*")).denied();
    assert_eq!(
        denied.message_for_ciphertext(),
        format!(
            "User: {} is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access",
            tenant.arn
        )
    );
    assert!(
        denied
            .message()
            .contains(&format!("on resource: {KEY} because the resource does not exist"))
    );
    assert_eq!(denied.message(), Denied::undisclosed(&tenant, "kms:Decrypt", KEY).message());
    assert_eq!(denied.kms_error().code, "AccessDeniedException");
}

#[test]
fn operations_without_x_fail_across_accounts() {
    let tenant = tenant();
    let policy = one("Allow", &aws(ROLE), "kms:*", true);
    let own = identity("*");
    let mut case = Case::new(&tenant, &policy, &own);
    case.action = "kms:DisableKey";
    assert!(case.verdict().is_allowed());
    case.cross = false;
    assert_eq!(case.denied().reason, DenyReason::OtherAccount);
}

#[test]
fn a_role_made_again_under_its_name_is_another_principal() {
    let again = Caller::role_session(PROVIDER, ROLE, "AROATWO", "node");
    let policy = one("Allow", &aws(ROLE), "kms:Decrypt", true);
    assert!(!Case::new(&again, &policy, &identity("*")).verdict().is_allowed());
    let unresolved = BoundPolicy::new(policy.policy, PrincipalIds::new());
    assert!(!Case::new(&tenant(), &unresolved, &identity("*")).verdict().is_allowed());
}

#[test]
fn a_role_in_a_path_covers_its_sessions_only_with_the_path() {
    let role = "arn:aws:iam::111122223333:role/team/a/worker";
    let session = Caller::role_session(OWNER, role, ROLE_ID, "s-1");
    assert_eq!(session.arn, "arn:aws:sts::111122223333:assumed-role/worker/s-1");
    assert!(
        Case::new(&session, &one("Allow", &aws(role), "kms:*", false), &[]).verdict().is_allowed()
    );
    let bare = "arn:aws:iam::111122223333:role/worker";
    assert!(
        !Case::new(&session, &one("Allow", &aws(bare), "kms:*", false), &[]).verdict().is_allowed()
    );
    let this = one("Allow", &aws(&session.arn), "kms:*", false);
    assert!(Case::new(&session, &this, &[]).verdict().is_allowed());
    let other = Caller::role_session(OWNER, role, ROLE_ID, "s-2");
    assert!(!Case::new(&other, &this, &[]).verdict().is_allowed());
}

#[test]
fn session_policies_intersect_but_for_a_session_named_itself() {
    let role = "arn:aws:iam::111122223333:role/worker";
    let session = Caller::role_session(OWNER, role, ROLE_ID, "s-1");
    let narrow = identity("kms:Encrypt");
    let by_role = one("Allow", &aws(role), "kms:*", true);
    let own = identity("*");
    let mut case = Case::new(&session, &by_role, &own);
    case.session = Some(&narrow[0]);
    let text = case.denied().message();
    assert!(text.ends_with("because no session policy allows the kms:Decrypt action"), "{text}");
    case.action = "kms:Encrypt";
    assert!(case.verdict().is_allowed());
    let by_session = one("Allow", &aws(&session.arn), "kms:*", false);
    let mut case = Case::new(&session, &by_session, &[]);
    case.session = Some(&narrow[0]);
    assert!(case.verdict().is_allowed());
    let deny = denies("kms:Decrypt");
    case.session = Some(&deny);
    assert!(case.denied().message().ends_with("with an explicit deny in a session policy"));
}

#[test]
fn everybody_still_needs_his_own_policy_from_elsewhere() {
    let policy = one("Allow", "\"*\"", "kms:Decrypt", false);
    assert!(Case::new(&user(OWNER, "ada"), &policy, &[]).verdict().is_allowed());
    assert!(!Case::new(&tenant(), &policy, &[]).verdict().is_allowed());
    assert!(Case::new(&tenant(), &policy, &identity("kms:*")).verdict().is_allowed());
}

#[test]
fn not_principal_spares_the_named() {
    let ada = user(OWNER, "ada");
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","NotPrincipal":{{"AWS":["{}","{OWNER}"]}},"Action":"kms:*","Resource":"*"}},{{"Effect":"Allow","Principal":{{"AWS":"{OWNER}"}},"Action":"kms:*","Resource":"*"}}]}}"#,
        ada.arn
    );
    let policy = key_policy(&text);
    assert!(Case::new(&ada, &policy, &identity("*")).verdict().is_allowed());
    assert!(!Case::new(&user(OWNER, "bob"), &policy, &identity("*")).verdict().is_allowed());
    assert!(Case::new(&Caller::root(OWNER), &policy, &[]).verdict().is_allowed());
}

#[test]
fn identity_only_operations_ignore_key_policies() {
    let ada = user(OWNER, "ada");
    let asked = RequestContext::new("kms:CreateKey", "*");
    assert!(evaluate_identity_only(&ada, &asked, &identity("kms:CreateKey"), None).is_allowed());
    let denied = evaluate_identity_only(&ada, &asked, &identity("kms:List*"), None)
        .into_result()
        .expect_err("refused");
    assert!(denied.message().ends_with(
        "kms:CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action"
    ));
    assert!(evaluate_identity_only(&Caller::root(OWNER), &asked, &[], None).is_allowed());
    let narrow = identity("kms:List*");
    assert!(!evaluate_identity_only(&ada, &asked, &identity("*"), Some(&narrow[0])).is_allowed());
    assert!(!evaluate_identity_only(&ada, &asked, &[denies("kms:Create*")], None).is_allowed());
}

#[test]
fn identity_policies_name_roles_by_wildcard() {
    let control = user(PROVIDER, "control");
    let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::444455556666:role/keystead-*"}}"#;
    let own = [Policy::parse_identity(text).expect("a policy")];
    let asked = |arn: &str| RequestContext::new("iam:CreateRole", arn);
    assert!(evaluate_identity_only(&control, &asked(ROLE), &own, None).is_allowed());
    let other = asked("arn:aws:iam::444455556666:role/admin");
    assert!(!evaluate_identity_only(&control, &other, &own, None).is_allowed());
}

#[test]
fn trust_policies_decide_assume_role() {
    let node = user(PROVIDER, "keystead-node-eu-central-1");
    let stranger = user(OWNER, "mallory");
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["{}","{}"]}},"Action":"sts:AssumeRole","Condition":{{"StringEquals":{{"sts:ExternalId":"x-1"}}}}}}]}}"#,
        node.arn, stranger.arn
    );
    let trust = Policy::parse_trust(&text).expect("a trust policy");
    let ids = [
        (node.arn.clone(), node.unique_id.clone()),
        (stranger.arn.clone(), stranger.unique_id.clone()),
    ];
    let trust = BoundPolicy::new(trust, ids.into_iter().collect());
    let asked = |caller: &Caller, id: Option<&str>| {
        let mut r = RequestContext::new("sts:AssumeRole", ROLE);
        r.caller(caller);
        if let Some(id) = id {
            r.key("sts:ExternalId", id);
        }
        r
    };
    let verdict = |caller: &Caller, id, own: &[Policy]| {
        evaluate_trust(caller, &asked(caller, id), PROVIDER, &trust, own, None)
    };
    assert!(verdict(&node, Some("x-1"), &[]).is_allowed());
    for id in [None, Some("x-2"), Some("X-1")] {
        let denied = verdict(&node, id, &[]).into_result().expect_err("refused");
        assert_eq!(
            denied.query_error().message.as_deref(),
            Some(
                format!(
                    "User: {} is not authorized to perform: sts:AssumeRole on resource: {ROLE}",
                    node.arn
                )
                .as_str()
            )
        );
        assert_eq!(denied.query_error().status, 403);
    }
    assert!(!verdict(&stranger, Some("x-1"), &[]).is_allowed());
    assert!(verdict(&stranger, Some("x-1"), &identity("sts:AssumeRole")).is_allowed());
    assert!(!verdict(&node, Some("x-1"), &[denies("sts:*")]).is_allowed());
}

#[test]
fn lockout_is_seen() {
    let ada = user(OWNER, "ada");
    let safe = |policy: &BoundPolicy, own: &[Policy]| {
        lockout_safe(&ada, &request("kms:PutKeyPolicy", &ada), OWNER, policy, own, None)
    };
    assert!(safe(&one("Allow", &aws(OWNER), "kms:*", false), &identity("*")));
    assert!(!safe(&one("Allow", &aws(OWNER), "kms:*", false), &[]));
    assert!(safe(&one("Allow", &aws(&ada.arn), "kms:Put*", false), &[]));
    assert!(!safe(&one("Allow", &aws(ROLE), "kms:*", false), &identity("*")));
    assert!(!safe(&one("Deny", &aws(&ada.arn), "kms:PutKeyPolicy", true), &identity("*")));
}
