//! What control itself has to do, from the records alone. Pure: no clock, no network.

use crate::store::Cluster;
use keystead_types::{AccountId, ClusterId, ParseArnError, Region, RoleArn};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the tenant role.
    MakeRole { cluster: ClusterId, regions: Vec<Region>, role: RoleArn },
}

/// The tenant role of a cluster. The name is the cluster's id, so a role is never made anew for
/// another cluster.
pub(crate) fn tenant_role(
    provider: &AccountId,
    cluster: &ClusterId,
) -> Result<RoleArn, ParseArnError> {
    RoleArn::new(provider.clone(), &format!("keystead-{cluster}"))
}

/// The steps that the records ask for, oldest cluster first.
pub(crate) fn plan(provider: &AccountId, clusters: &[Cluster]) -> Result<Vec<Step>, ParseArnError> {
    clusters
        .iter()
        .filter(|c| c.tenant_role.is_none())
        .map(|c| {
            Ok(Step::MakeRole {
                cluster: c.id.clone(),
                regions: std::iter::once(&c.region).chain(&c.backup_region).cloned().collect(),
                role: tenant_role(provider, &c.id)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn only_clusters_without_a_role_are_planned_for() {
        let provider: AccountId = "444455556666".parse().expect("an account");
        let (new, mut made) = (testing::cluster("new"), testing::cluster("made"));
        made.tenant_role = tenant_role(&provider, &made.id).ok();
        let steps = plan(&provider, &[new.clone(), made]).expect("a plan");
        let role = format!("arn:aws:iam::444455556666:role/keystead-{}", new.id);
        let wanted = Step::MakeRole {
            cluster: new.id,
            regions: vec![new.region],
            role: role.parse().expect("a role"),
        };
        assert_eq!(steps, [wanted]);
    }
}
