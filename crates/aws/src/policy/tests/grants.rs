//! Grants: grantee, operations, constraints, child grants, retirement.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn subset(list: &[(&str, &str)]) -> GrantConstraints {
    GrantConstraints { encryption_context_subset: Some(pairs(list)), ..Default::default() }
}

fn equals(list: &[(&str, &str)]) -> GrantConstraints {
    GrantConstraints { encryption_context_equals: Some(pairs(list)), ..Default::default() }
}

fn ops(list: &[&str]) -> Vec<String> {
    list.iter().map(|o| (*o).to_owned()).collect()
}

fn decide(
    caller: &Caller,
    asked: &RequestContext,
    grant: &GrantView<'_>,
    own: &[Policy],
) -> Verdict {
    let policy = one("Allow", r#"{"AWS":"111122223333"}"#, "kms:*", false);
    evaluate(&EvaluateInput {
        caller,
        request: asked,
        key_account: OWNER,
        key_policy: &policy,
        identity: own,
        session: None,
        grants: std::slice::from_ref(grant),
        cross_account: true,
    })
}

#[test]
fn a_grant_alone_lets_a_foreign_user_decrypt_with_its_context() {
    let node = user(PROVIDER, "node");
    let operations = ops(&["Decrypt"]);
    let constraints = subset(&[("keystead:store", "vol-1")]);
    let grant = GrantView {
        id: "g-1",
        grantee: &node.arn,
        grantee_id: Some(&node.unique_id),
        operations: &operations,
        constraints: &constraints,
    };
    let mut asked = request("kms:Decrypt", &node);
    assert!(!decide(&node, &asked, &grant, &[]).is_allowed());
    asked.encryption_context = Some(pairs(&[("keystead:store", "vol-1"), ("more", "1")]));
    assert_eq!(
        decide(&node, &asked, &grant, &[]),
        Verdict::Allow(AllowedBy::Grant("g-1".to_owned()))
    );
    asked.encryption_context = Some(pairs(&[("keystead:store", "vol-2")]));
    assert!(!decide(&node, &asked, &grant, &[]).is_allowed());
    // Another operation, another user, another id under the same name, an explicit deny.
    asked.encryption_context = Some(pairs(&[("keystead:store", "vol-1")]));
    assert!(!decide(&node, &request("kms:Encrypt", &node), &grant, &[]).is_allowed());
    let other = user(PROVIDER, "other");
    assert!(!decide(&other, &asked, &grant, &[]).is_allowed());
    let again = Caller { unique_id: "AIDAagain".to_owned(), ..node.clone() };
    assert!(!decide(&again, &asked, &grant, &[]).is_allowed());
    assert!(!decide(&node, &asked, &grant, &[denies("kms:Decrypt")]).is_allowed());
}

#[test]
fn a_role_covers_its_sessions_and_a_session_itself() {
    let tenant = tenant();
    let operations = ops(&["DescribeKey"]);
    let none = GrantConstraints::default();
    let view = |grantee, grantee_id| GrantView {
        id: "g",
        grantee,
        grantee_id,
        operations: &operations,
        constraints: &none,
    };
    assert!(view(ROLE, Some(ROLE_ID)).covers(&tenant));
    assert!(!view(ROLE, Some("AROATWO")).covers(&tenant));
    assert!(!view(ROLE, None).covers(&tenant));
    assert!(view(&tenant.arn, None).covers(&tenant));
    let sibling = Caller::role_session(PROVIDER, ROLE, ROLE_ID, "other");
    assert!(!view(&tenant.arn, None).covers(&sibling));
    assert!(!view("arn:aws:iam::444455556666:root", None).covers(&tenant));
    assert!(view("arn:aws:iam::444455556666:root", None).covers(&Caller::root(PROVIDER)));
}

#[test]
fn constraints_are_exact() {
    let both = pairs(&[("a", "1"), ("b", "2")]);
    assert!(equals(&[("b", "2"), ("a", "1")]).allow(&both));
    assert!(!equals(&[("a", "1")]).allow(&both));
    assert!(subset(&[("a", "1")]).allow(&both));
    assert!(!subset(&[("A", "1")]).allow(&both));
    assert!(!subset(&[("a", "1"), ("c", "3")]).allow(&both));
    assert!(GrantConstraints::default().allow(&both));
}

#[test]
fn child_grants_give_no_more_than_their_parent() {
    let parent = ops(&["Decrypt", "CreateGrant"]);
    let child =
        |operations: &[&str], constraints| NewGrant { operations: ops(operations), constraints };
    let one = || subset(&[("a", "1")]);
    assert!(child_grant_fits(
        &parent,
        &one(),
        &child(&["Decrypt"], subset(&[("a", "1"), ("b", "2")]))
    ));
    assert!(child_grant_fits(&parent, &one(), &child(&["Decrypt"], equals(&[("a", "1")]))));
    assert!(!child_grant_fits(&parent, &one(), &child(&["Encrypt"], one())));
    assert!(!child_grant_fits(&parent, &one(), &child(&["Decrypt"], GrantConstraints::default())));
    assert!(!child_grant_fits(&parent, &one(), &child(&["Decrypt"], subset(&[("a", "2")]))));
    let exact = equals(&[("a", "1")]);
    assert!(!child_grant_fits(&parent, &exact, &child(&["Decrypt"], one())));
    assert!(child_grant_fits(&parent, &exact, &child(&["Decrypt"], equals(&[("a", "1")]))));
    // And so decides evaluation.
    let node = user(PROVIDER, "node");
    let constraints = one();
    let grant = GrantView {
        id: "g",
        grantee: &node.arn,
        grantee_id: Some(&node.unique_id),
        operations: &parent,
        constraints: &constraints,
    };
    let mut asked = request("kms:CreateGrant", &node);
    assert!(!decide(&node, &asked, &grant, &[]).is_allowed());
    asked.new_grant = Some(child(&["Decrypt"], one()));
    assert!(decide(&node, &asked, &grant, &[]).is_allowed());
    asked.new_grant = Some(child(&["Decrypt", "Encrypt"], one()));
    assert!(!decide(&node, &asked, &grant, &[]).is_allowed());
}

#[test]
fn retirement_is_the_grants_own_affair() {
    let (node, owner, ada) = (user(PROVIDER, "node"), user(OWNER, "owner"), user(OWNER, "ada"));
    let none = GrantConstraints::default();
    let (plain, with) = (ops(&["Decrypt"]), ops(&["Decrypt", "RetireGrant"]));
    let policy = one("Allow", "\"*\"", "kms:*", true);
    let retire = |caller: &Caller, operations: &[String], own: &[Policy]| {
        let view = |who: &str, id| GrantView {
            id: "g",
            grantee: if who == "node" { &node.arn } else { &owner.arn },
            grantee_id: Some(id),
            operations,
            constraints: &none,
        };
        let grant = view("node", node.unique_id.as_str());
        let retiring = view("owner", owner.unique_id.as_str());
        let asked = request("kms:RetireGrant", caller);
        let input = EvaluateInput {
            caller,
            request: &asked,
            key_account: OWNER,
            key_policy: &policy,
            identity: own,
            session: None,
            grants: &[],
            cross_account: true,
        };
        evaluate_retire(&input, &grant, Some(&retiring), OWNER).is_allowed()
    };
    assert!(retire(&owner, &plain, &[]));
    assert!(!retire(&owner, &plain, &[denies("kms:RetireGrant")]));
    assert!(!retire(&node, &plain, &identity("*")) && retire(&node, &with, &[]));
    assert!(!retire(&ada, &plain, &[]) && retire(&ada, &plain, &identity("kms:RetireGrant")));
}

proptest! {
    #[test]
    fn whatever_a_child_allows_its_parent_allows(
        parent in proptest::collection::btree_map("[ab]", "[12]", 0..3),
        child in proptest::collection::btree_map("[ab]", "[12]", 0..3),
        context in proptest::collection::btree_map("[abc]", "[12]", 0..4),
        (parent_equals, child_equals) in any::<(bool, bool)>(),
    ) {
        let make = |pairs: BTreeMap<String, String>, exact: bool| if exact {
            GrantConstraints { encryption_context_equals: Some(pairs), ..Default::default() }
        } else {
            GrantConstraints { encryption_context_subset: Some(pairs), ..Default::default() }
        };
        let (parent, child) = (make(parent, parent_equals), make(child, child_equals));
        let new = NewGrant { operations: ops(&["Decrypt"]), constraints: child.clone() };
        if child_grant_fits(&ops(&["Decrypt"]), &parent, &new) && child.allow(&context) {
            prop_assert!(parent.allow(&context));
        }
    }
}
