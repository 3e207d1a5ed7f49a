//! Condition keys: what a policy's conditions can look at.
//!
//! | keys | present for |
//! |---|---|
//! | `aws:PrincipalArn PrincipalAccount PrincipalType userid SourceIp SecureTransport CurrentTime EpochTime RequestedRegion ViaAWSService` | every call |
//! | `aws:UserAgent` | calls that sent one |
//! | `aws:username` | users |
//! | `aws:TokenIssueTime` | sessions of a role |
//! | `aws:PrincipalTag/<k>` | sessions of a role that has this tag |
//! | `aws:ResourceAccount` | calls with a resource: key, alias, role |
//! | `kms:CallerAccount` | every call of KMS |
//! | `kms:KeySpec KeyUsage KeyOrigin MultiRegion` | CreateKey; every call on a key |
//! | `kms:MultiRegionKeyType` (PRIMARY, REPLICA) | the same, of multi-Region keys |
//! | `kms:ReplicaRegion` | ReplicateKey |
//! | `kms:PrimaryRegion` | UpdatePrimaryRegion, asked of both keys |
//! | `kms:RotationPeriodInDays` | EnableKeyRotation, also when it was not sent |
//! | `iam:AWSServiceName` | CreateKey of a multi-Region key, asked for iam:CreateServiceLinkedRole |
//! | `aws:ResourceTag/<k>` | every call on a key that has this tag |
//! | `kms:ResourceAliases` (several values) | every call on a key that has aliases; identity and session policies only |
//! | `kms:RequestAlias` | crypto calls and DescribeKey that named the key by an alias |
//! | `kms:EncryptionAlgorithm` | crypto calls |
//! | `kms:EncryptionContext:<k> EncryptionContextKeys` | crypto calls; CreateGrant, from its constraint |
//! | `kms:ReEncryptOnSameKey` | ReEncrypt |
//! | `kms:BypassPolicyLockoutSafetyCheck` | CreateKey, PutKeyPolicy |
//! | `kms:PolicyName` | GetKeyPolicy, PutKeyPolicy |
//! | `kms:ScheduleKeyDeletionPendingWindowInDays` | ScheduleKeyDeletion |
//! | `kms:GrantIsForAWSResource` | CreateGrant, ListGrants, RevokeGrant: always false |
//! | `kms:GranteePrincipal RetiringPrincipal GrantOperations GrantConstraintType` | CreateGrant |
//! | `aws:RequestTag/<k> aws:TagKeys` | CreateKey with tags, TagResource; UntagResource the second only |
//! | `sts:ExternalId RoleSessionName` | AssumeRole |
//!
//! No AWS service calls here for anybody, there are no VPC endpoints and no organization: their
//! keys (`kms:ViaService`, `aws:SourceArn`, `SourceVpce`, `PrincipalOrgID` and the like) are absent
//! as they are from a direct call to AWS.

use super::Call;
use crate::store::records::{KeySpec, MultiRegion};
use keystead_aws::ops::Tag;
use keystead_aws::policy::{CallerKind, RequestContext};

/// KeyOrigin of every key here.
pub(super) const ORIGIN: &str = "AWS_KMS";

impl Call<'_> {
    /// A request context with the condition keys that every call has.
    pub(super) fn context(&self, action: &str, resource: &str) -> RequestContext {
        let caller = &self.who.caller;
        // IAM is global, whatever Region its request was signed for.
        let region = if action.starts_with("iam:") { "us-east-1" } else { self.region.as_str() };
        let mut context = RequestContext::new(action, resource);
        context
            .caller(caller)
            .time(self.now_ms)
            .key("aws:EpochTime", (self.now_ms / 1000).to_string())
            .key("aws:SourceIp", self.source_ip)
            .key("aws:SecureTransport", "false")
            .key("aws:ViaAWSService", "false")
            .key("aws:RequestedRegion", region)
            .key("aws:userid", caller.user_id());
        let kind = match caller.kind {
            CallerKind::User => {
                let name = caller.arn.rsplit('/').next().unwrap_or_default();
                context.key("aws:username", name);
                "User"
            }
            CallerKind::RoleSession => "AssumedRole",
            CallerKind::Root => "Account",
        };
        context.key("aws:PrincipalType", kind);
        if let Some(agent) = self.user_agent {
            context.key("aws:UserAgent", agent);
        }
        if let Some(issued_ms) = self.who.issued_ms {
            context.key("aws:TokenIssueTime", keystead_aws::trail::iso_seconds(issued_ms));
        }
        for (key, value) in &self.who.tags {
            context.key(&format!("aws:PrincipalTag/{key}"), value.as_str());
        }
        if let Some(account) = resource.split(':').nth(4).filter(|a| !a.is_empty()) {
            context.key("aws:ResourceAccount", account);
        }
        context
    }
}

/// What kind of key it is, or is to be.
pub(super) fn of_kind(request: &mut RequestContext, spec: &str, usage: &str, origin: &str) {
    request.key("kms:KeySpec", spec).key("kms:KeyUsage", usage).key("kms:KeyOrigin", origin);
}

/// Whether it is a multi-Region key, and which.
pub(super) fn of_multi_region(request: &mut RequestContext, kind: Option<MultiRegion>) {
    flag(request, "kms:MultiRegion", kind.is_some());
    if let Some(kind) = kind {
        request.key("kms:MultiRegionKeyType", kind.as_str());
    }
}

/// What a key of this server says of itself.
pub(super) fn of_key(
    request: &mut RequestContext,
    spec: KeySpec,
    kind: Option<MultiRegion>,
    tags: &[(String, String)],
) {
    of_kind(request, spec.as_str(), spec.usage(), ORIGIN);
    of_multi_region(request, kind);
    for (key, value) in tags {
        request.key(&format!("aws:ResourceTag/{key}"), value.as_str());
    }
}

/// Tags that a request brings.
pub(super) fn of_tags(request: &mut RequestContext, tags: &[Tag]) {
    for tag in tags {
        request
            .key(&format!("aws:RequestTag/{}", tag.key), tag.value.as_str())
            .key("aws:TagKeys", tag.key.as_str());
    }
}

/// A condition key that is true or false.
pub(super) fn flag(request: &mut RequestContext, name: &str, set: bool) {
    request.key(name, if set { "true" } else { "false" });
}

/// A call on a key policy.
pub(super) fn of_policy(request: &mut RequestContext, name: &str, bypass: Option<bool>) {
    request.key("kms:PolicyName", name);
    if let Some(bypass) = bypass {
        flag(request, "kms:BypassPolicyLockoutSafetyCheck", bypass);
    }
}
