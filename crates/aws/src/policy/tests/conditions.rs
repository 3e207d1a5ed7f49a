//! Operators, absent keys, sets, variables.

use super::*;

/// Does an identity policy with this condition allow, when these keys are handed in?
fn holds(condition: &str, keys: &[(&str, &str)]) -> bool {
    holds_in("2012-10-17", condition, keys)
}

fn holds_in(version: &str, condition: &str, keys: &[(&str, &str)]) -> bool {
    let text = format!(
        r#"{{"Version":"{version}","Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{{condition}}}}}}}"#
    );
    let policy =
        BoundPolicy::new(Policy::parse_key_policy(&text).expect(condition), PrincipalIds::new());
    let ada = user(OWNER, "ada");
    let mut asked = RequestContext::new("kms:Decrypt", KEY);
    for (name, value) in keys {
        asked.key(name, *value);
    }
    lockout_safe(&ada, &asked, OWNER, &policy, &[], None)
}

#[test]
fn strings() {
    let k = &[("aws:x", "Abc")];
    for (condition, expected) in [
        (r#""StringEquals":{"aws:x":"Abc"}"#, true),
        (r#""StringEquals":{"AWS:X":["no","Abc"]}"#, true),
        (r#""StringEquals":{"aws:x":"abc"}"#, false),
        (r#""StringEquals":{"aws:x":"A*"}"#, false),
        (r#""StringNotEquals":{"aws:x":["no","Abc"]}"#, false),
        (r#""StringNotEquals":{"aws:x":["no","nor"]}"#, true),
        (r#""StringEqualsIgnoreCase":{"aws:x":"aBC"}"#, true),
        (r#""StringNotEqualsIgnoreCase":{"aws:x":"aBC"}"#, false),
        (r#""StringLike":{"aws:x":"A?c"}"#, true),
        (r#""StringLike":{"aws:x":"a*"}"#, false),
        (r#""StringNotLike":{"aws:x":"a*"}"#, true),
        (r#""stringequals":{"aws:x":"Abc"}"#, true),
    ] {
        assert_eq!(holds(condition, k), expected, "{condition}");
    }
}

#[test]
fn absent_keys() {
    for (condition, expected) in [
        (r#""StringEquals":{"aws:x":"a"}"#, false),
        (r#""StringNotEquals":{"aws:x":"a"}"#, true),
        (r#""StringNotLike":{"aws:x":"*"}"#, true),
        (r#""ArnNotLike":{"aws:x":"arn:a:b:c:d:e"}"#, true),
        (r#""NotIpAddress":{"aws:x":"10.0.0.0/8"}"#, true),
        (r#""NumericNotEquals":{"aws:x":"1"}"#, true),
        (r#""StringEqualsIfExists":{"aws:x":"a"}"#, true),
        (r#""BoolIfExists":{"aws:x":"true"}"#, true),
        (r#""Null":{"aws:x":"true"}"#, true),
        (r#""Null":{"aws:x":false}"#, false),
        (r#""ForAnyValue:StringEquals":{"aws:x":"a"}"#, false),
        (r#""ForAllValues:StringEquals":{"aws:x":"a"}"#, true),
    ] {
        assert_eq!(holds(condition, &[]), expected, "{condition}");
    }
    assert!(holds(r#""Null":{"aws:x":"false"}"#, &[("aws:x", "a")]));
    assert!(!holds(r#""StringEqualsIfExists":{"aws:x":"a"}"#, &[("aws:x", "b")]));
}

#[test]
fn sets() {
    let k = &[("kms:GrantOperations", "Decrypt"), ("kms:GrantOperations", "Encrypt")];
    for (condition, expected) in [
        (r#""ForAnyValue:StringEquals":{"kms:GrantOperations":"Decrypt"}"#, true),
        (r#""ForAllValues:StringEquals":{"kms:GrantOperations":"Decrypt"}"#, false),
        (
            r#""ForAllValues:StringEquals":{"kms:GrantOperations":["Decrypt","Encrypt","Sign"]}"#,
            true,
        ),
        (r#""ForAnyValue:StringNotEquals":{"kms:GrantOperations":"Decrypt"}"#, true),
        (r#""ForAllValues:StringNotEquals":{"kms:GrantOperations":"Decrypt"}"#, false),
        (r#""ForAllValues:StringNotLike":{"kms:GrantOperations":"*Grant"}"#, true),
    ] {
        assert_eq!(holds(condition, k), expected, "{condition}");
    }
}

#[test]
fn numbers_dates_booleans_bytes() {
    let k = &[
        ("aws:n", "7"),
        ("aws:CurrentTime", "2026-11-24T08:01:02Z"),
        ("aws:EpochTime", "1795507262"),
        ("aws:b", "true"),
        ("aws:bytes", "AAE="),
    ];
    for (condition, expected) in [
        (r#""NumericEquals":{"aws:n":7}"#, true),
        (r#""NumericEquals":{"aws:n":"7.0"}"#, true),
        (r#""NumericNotEquals":{"aws:n":7}"#, false),
        (r#""NumericLessThan":{"aws:n":7}"#, false),
        (r#""NumericLessThanEquals":{"aws:n":7}"#, true),
        (r#""NumericGreaterThan":{"aws:n":6}"#, true),
        (r#""NumericGreaterThanEquals":{"aws:n":8}"#, false),
        (r#""DateLessThan":{"aws:CurrentTime":"2026-11-24T08:01:03Z"}"#, true),
        (r#""DateLessThan":{"aws:CurrentTime":"2026-11-24T09:00:00+01:00"}"#, false),
        (r#""DateGreaterThan":{"aws:CurrentTime":"2026-11-24"}"#, true),
        (r#""DateEquals":{"aws:CurrentTime":"1795507262"}"#, true),
        (r#""DateGreaterThanEquals":{"aws:EpochTime":1795507263}"#, false),
        (r#""DateNotEquals":{"aws:EpochTime":"2026-11-24T08:01:02Z"}"#, false),
        (r#""DateLessThanEquals":{"aws:EpochTime":"2026-11-24T08:01:02Z"}"#, true),
        (r#""Bool":{"aws:b":true}"#, true),
        (r#""Bool":{"aws:b":"False"}"#, false),
        (r#""BinaryEquals":{"aws:bytes":"AAE="}"#, true),
        (r#""BinaryEquals":{"aws:bytes":"AAI="}"#, false),
    ] {
        assert_eq!(holds(condition, k), expected, "{condition}");
    }
    assert!(!holds(r#""NumericEquals":{"aws:n":7}"#, &[("aws:n", "seven")]));
}

#[test]
fn addresses() {
    for (given, wanted, expected) in [
        ("192.0.2.10", "192.0.2.0/24", true),
        ("192.0.3.10", "192.0.2.0/24", false),
        ("192.0.2.10", "192.0.2.10", true),
        ("192.0.2.11", "192.0.2.10", false),
        ("192.0.2.10", "0.0.0.0/0", true),
        ("2001:db8::1", "0.0.0.0/0", false),
        ("2001:db8::1", "2001:db8::/32", true),
        ("2001:db9::1", "2001:db8::/32", false),
        ("2001:db8::1", "::/0", true),
        ("::ffff:192.0.2.10", "192.0.2.0/24", true),
        ("nonsense", "0.0.0.0/0", false),
    ] {
        let k = &[("aws:SourceIp", given)];
        let yes = format!(r#""IpAddress":{{"aws:SourceIp":"{wanted}"}}"#);
        let no = format!(r#""NotIpAddress":{{"aws:SourceIp":["{wanted}"]}}"#);
        assert_eq!(holds(&yes, k), expected, "{given} in {wanted}");
        assert_eq!(holds(&no, k), !expected, "{given} not in {wanted}");
    }
}

#[test]
fn arns() {
    let k = &[("aws:PrincipalArn", "arn:aws:iam::111122223333:role/team/a")];
    for (condition, expected) in [
        (r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}"#, true),
        (r#""ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::*:role/team/?"}"#, true),
        (r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam:*:role/team/a"}"#, false),
        (r#""ArnNotEquals":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"}"#, false),
        (r#""ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}"#, true),
    ] {
        assert_eq!(holds(condition, k), expected, "{condition}");
    }
}

#[test]
fn variables_work_in_the_new_version_only() {
    let k = &[("aws:username", "ada"), ("aws:x", "home-ada"), ("aws:star", "*")];
    let condition = r#""StringEquals":{"aws:x":"home-${aws:username}"}"#;
    assert!(holds(condition, k));
    assert!(!holds_in("2008-10-17", condition, k));
    assert!(!holds(r#""StringLike":{"aws:x":"${aws:star}"}"#, k));
    assert!(holds(r#""StringLike":{"aws:star":"${*}"}"#, k));
    assert!(!holds(r#""StringLike":{"aws:x":"${aws:nobody}*"}"#, k));
}

#[test]
fn keys_and_operators_are_anded() {
    let k = &[("aws:a", "1"), ("aws:b", "2")];
    assert!(holds(r#""StringEquals":{"aws:a":"1","aws:b":"2"}"#, k));
    assert!(!holds(r#""StringEquals":{"aws:a":"1","aws:b":"1"}"#, k));
    assert!(!holds(r#""StringEquals":{"aws:a":"1"},"StringNotEquals":{"aws:b":"2"}"#, k));
}

#[test]
fn encryption_context_fills_its_keys() {
    let ada = user(OWNER, "ada");
    let ask = |condition: &str, pairs: Option<&[(&str, &str)]>| {
        let text = format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{{condition}}}}}}}"#
        );
        let policy = BoundPolicy::new(
            Policy::parse_key_policy(&text).expect("a policy"),
            PrincipalIds::new(),
        );
        let mut asked = RequestContext::new("kms:Decrypt", KEY);
        asked.encryption_context = pairs
            .map(|pairs| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        lockout_safe(&ada, &asked, OWNER, &policy, &[], None)
    };
    let store = r#""StringEquals":{"kms:EncryptionContext:keystead:store":"vol-1"}"#;
    assert!(ask(store, Some(&[("keystead:store", "vol-1")])));
    assert!(!ask(store, Some(&[("keystead:store", "vol-2")])));
    // A second pair that differs by case only cannot stand in for the first.
    assert!(!ask(store, Some(&[("keystead:store", "vol-2"), ("Keystead:Store", "vol-1")])));
    assert!(!ask(store, Some(&[])) && !ask(store, None));
    let keys = r#""ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"a"}"#;
    assert!(ask(keys, Some(&[("b", "1"), ("a", "1")])) && !ask(keys, Some(&[])));
    assert!(ask(r#""Null":{"kms:EncryptionContextKeys":"true"}"#, Some(&[])));
}

#[test]
fn aliases_of_the_key_count_in_identity_policies_only() {
    let any = r#""ForAnyValue:StringEquals":{"KMS:resourceAliases":"alias/a"}"#;
    let absent = r#""Null":{"kms:ResourceAliases":"true"}"#;
    let keys = &[("kms:ResourceAliases", "alias/a"), ("kms:ResourceAliases", "alias/b")];
    assert!(!holds(any, keys));
    assert!(holds(absent, keys));
    let ada = user(OWNER, "ada");
    let mut asked = RequestContext::new("kms:CreateKey", KEY);
    for (name, value) in keys {
        asked.key(name, *value);
    }
    for (condition, expected) in [(any, true), (absent, false)] {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{{condition}}}}}}}"#
        );
        let own = [Policy::parse_identity(&text).expect(condition)];
        let allowed = evaluate_identity_only(&ada, &asked, &own, None).is_allowed();
        assert_eq!(allowed, expected, "{condition}");
    }
}

#[test]
fn of_keys_that_differ_by_case_the_one_spelt_like_the_policy_counts() {
    let both = &[("aws:ResourceTag/Team", "a"), ("aws:ResourceTag/team", "b")];
    let team = |spelt: &str, value: &str| {
        holds(&format!(r#""StringEquals":{{"aws:ResourceTag/{spelt}":"{value}"}}"#), both)
    };
    assert!(team("Team", "a") && team("team", "b"));
    assert!(!team("Team", "b") && !team("team", "a"));
    // The key's own name knows no case, the tag's does.
    let odd = |tag: &str, value: &str| {
        holds(&format!(r#""StringEquals":{{"AWS:resourcetag/{tag}":"{value}"}}"#), both)
    };
    assert!(odd("Team", "a") && odd("team", "b") && !odd("team", "a"));
}
