//! What unit tests and fuzz targets seal and format.

use crate::blob::BlobHeader;
use crate::luks2::{Holes, Token};
use keystead_types::{ClusterId, EncryptionContext, VolumeId};

/// A volume's, for LUKS2.
pub(crate) const UUID: &str = "01900000-0000-4000-8000-000000000003";

pub(crate) fn token() -> Token {
    let volume: VolumeId = "vol-01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let cluster: ClusterId = "cl-01900000-0000-7000-8000-000000000002".parse().expect("an id");
    Token {
        key_arn: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
            .parse()
            .expect("an ARN"),
        wrapped_key: "AQIDBA==".to_owned(),
        encryption_context: EncryptionContext::volume(&cluster, &volume),
        volume_id: volume,
        created_ms: 1_764_000_000_000,
        holes: Holes::Zero,
    }
}

pub(crate) fn blob_header() -> BlobHeader {
    BlobHeader {
        region: "eu-central-1".parse().expect("a Region"),
        account: "111122223333".parse().expect("an account"),
        key_id: "1234abcd-12ab-34cd-56ef-1234567890ab".to_owned(),
        material_id: [9; 8],
    }
}
