//! The policy documents: the one for the owner's key (the brief's, word for word), the tenant
//! role's trust policy, and the role's own policy. Pure.

use keystead_types::{AccountId, Region, RoleArn, UserArn};
use serde_json::{Value, json};

/// Sid of the statement that leaves the owner's account in charge.
pub(crate) const SID_ROOT: &str = "Enable IAM user permissions";
/// Sid of the statement for the operations on data.
pub(crate) const SID_USE: &str = "Allow Camunda tenant IAM Role basic key access";
/// Sid of the statement for grants.
pub(crate) const SID_GRANTS: &str =
    "Allow Camunda tenant IAM Role to create grants for provisioning encrypted EBS volumes";

const USE: [&str; 5] =
    ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:DescribeKey", "kms:GenerateDataKey*"];
const GRANTS: [&str; 3] = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"];

fn allow(sid: &str, principal: &str, action: Value) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": { "AWS": principal },
        "Action": action,
        "Resource": "*",
    })
}

/// The statement for the operations on data.
pub(crate) fn use_statement(role: &RoleArn) -> Value {
    allow(SID_USE, &role.to_string(), json!(USE))
}

/// The statement for grants.
pub(crate) fn grants_statement(role: &RoleArn) -> Value {
    allow(SID_GRANTS, &role.to_string(), json!(GRANTS))
}

/// The key policy of the brief.
pub(crate) fn key_policy(customer: &AccountId, role: &RoleArn) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [
            allow(SID_ROOT, &format!("arn:aws:iam::{customer}:root"), json!("kms:*")),
            use_statement(role),
            grants_statement(role),
        ],
    })
}

/// Who may assume the tenant role: the nodes of its Regions.
pub(crate) fn trust_policy(nodes: &[UserArn]) -> Value {
    let principal = match nodes {
        [one] => json!(one),
        several => json!(several),
    };
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": principal },
            "Action": "sts:AssumeRole",
        }],
    })
}

/// What the role itself allows: a key in another account needs both sides to say yes. Any account,
/// for the owner's is not known before he binds; only keys of the cluster's Regions.
pub(crate) fn role_policy(regions: &[Region]) -> Value {
    let keys = regions.iter().map(|region| json!(format!("arn:aws:kms:{region}:*:key/*")));
    let resource = match keys.collect::<Vec<_>>().as_slice() {
        [one] => one.clone(),
        several => json!(several),
    };
    let actions: Vec<&str> = USE.into_iter().chain(GRANTS).collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "UseTheOwnersKey",
            "Effect": "Allow",
            "Action": actions,
            "Resource": resource,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's own text, with its placeholders.
    const BRIEF: &str = include_str!("policy_of_the_brief.json");

    #[test]
    fn the_key_policy_is_the_briefs() {
        let role = "arn:aws:iam::444455556666:role/keystead-cl-1";
        let text = BRIEF
            .replace("<customer-aws-account>", "111122223333")
            .replace("<tenant-role-arn>", role);
        let brief: Value = serde_json::from_str(&text).expect("the page's JSON");
        let customer = "111122223333".parse().expect("an account");
        assert_eq!(key_policy(&customer, &role.parse().expect("a role")), brief);
    }

    #[test]
    fn a_role_uses_keys_of_its_regions_alone() {
        let regions: Vec<Region> =
            ["eu-central-1", "eu-west-1"].map(|r| r.parse().expect("a Region")).to_vec();
        let [one, two] = ["arn:aws:kms:eu-central-1:*:key/*", "arn:aws:kms:eu-west-1:*:key/*"];
        assert_eq!(role_policy(&regions[..1])["Statement"][0]["Resource"], json!(one));
        assert_eq!(role_policy(&regions)["Statement"][0]["Resource"], json!([one, two]));
    }

    #[test]
    fn a_role_trusts_its_nodes_alone() {
        let node: UserArn = "arn:aws:iam::444455556666:user/n".parse().expect("a user");
        let one = trust_policy(std::slice::from_ref(&node));
        assert_eq!(one["Statement"][0]["Principal"]["AWS"], json!(node));
        assert_eq!(one["Statement"].as_array().map(Vec::len), Some(1));
    }
}
