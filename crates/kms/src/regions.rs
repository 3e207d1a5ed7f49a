//! Which Regions one server stands for. The Region of a call is that of its credential scope: one
//! endpoint serves all of them, and a call sees the keys, aliases and grants of its Region only.
//! What crosses Regions is between related multi-Region keys: ReplicateKey, UpdatePrimaryRegion and
//! rotations.

use crate::calls::{Kms, Service};
use keystead_aws::sigv4::{AuthFault, Presented};
use keystead_aws::{AwsError, error};
use keystead_types::Region;

/// The Regions of the settings; none at all stands for every Region.
pub(crate) struct Regions(Vec<Region>);

impl Regions {
    pub(crate) fn new(named: Vec<Region>) -> Self {
        Self(named)
    }

    pub(crate) fn serve(&self, region: &Region) -> bool {
        self.0.is_empty() || self.0.contains(region)
    }

    /// Refuses to make a replica where nobody would serve it.
    pub(crate) fn check(&self, region: &Region) -> Result<(), AwsError> {
        if self.serve(region) {
            return Ok(());
        }
        let served: Vec<&str> = self.0.iter().map(Region::as_str).collect();
        let served = served.join(", ");
        Err(error::unsupported(format!(
            "Region {region} is not served by this server; it serves {served}."
        )))
    }
}

impl Kms {
    /// The Region of a call. Keys lie in the Regions of the settings; STS, IAM and the trail answer
    /// in any, as a client that knows one endpoint signs for the Region that it happens to have.
    pub(crate) fn region(
        &self,
        service: &Service,
        claimed: &Presented,
    ) -> Result<Region, AuthFault> {
        let unknown = || AuthFault::Region(claimed.region.clone());
        let region: Region = claimed.region.parse().map_err(|_| unknown())?;
        let of_keys = matches!(service, Service::Kms(..) | Service::Watch);
        if of_keys && !self.regions.serve(&region) { Err(unknown()) } else { Ok(region) }
    }
}
