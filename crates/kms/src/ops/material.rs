//! Key material: made, sealed in its key's place, unsealed for one call.
//!
//! A key has one current material, which seals, and those that rotations left, which only open. The
//! keys of a multi-Region family have the same materials, each sealed under its own ARN.

use super::Room;
use crate::store::records::{Key, Material, Rotated};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::{AwsError, error};
use keystead_envelope::memory::DataKey;
use keystead_envelope::random;
use keystead_envelope::root_key::RootKey;
use keystead_types::KeyArn;

/// What sealed material is bound to.
fn aad(arn: &KeyArn, material_id: &str) -> Vec<u8> {
    format!("keystead material 1\n{arn}\n{material_id}").into_bytes()
}

/// Material on its way into its keys' records.
pub(super) struct Fresh {
    id: String,
    bytes: DataKey,
    rotated: Option<Rotated>,
}

impl Fresh {
    /// New material; a blob tells by eight bytes which of a key's materials it needs, so no two of
    /// `beside` may begin alike.
    pub(super) fn make<'a>(
        beside: impl Iterator<Item = &'a Material> + Clone,
        rotated: Option<Rotated>,
    ) -> Result<Self, AwsError> {
        loop {
            let id = hex::encode(random::array::<32>().map_err(|_| error::internal())?);
            if beside.clone().all(|other| other.id.get(..16) != id.get(..16)) {
                let bytes = DataKey::random(32).map_err(|_| error::internal())?;
                return Ok(Self { id, bytes, rotated });
            }
        }
    }

    /// Seals it in a key's place.
    pub(super) fn seal(&self, root: &RootKey, arn: &KeyArn) -> Result<Material, AwsError> {
        let sealed = root.seal(&aad(arn, &self.id), self.bytes.expose());
        let sealed = STANDARD.encode(sealed.map_err(|_| error::internal())?);
        Ok(Material { id: self.id.clone(), sealed, rotated: self.rotated })
    }
}

/// Unseals a material of a key.
pub(super) fn open(root: &RootKey, arn: &KeyArn, material: &Material) -> Result<DataKey, AwsError> {
    let sealed = STANDARD.decode(&material.sealed).map_err(|_| error::internal())?;
    root.open(&aad(arn, &material.id), &sealed).map_err(|fault| {
        tracing::error!(key = %arn, %fault, "key material does not open");
        error::internal()
    })
}

/// All materials of a key, sealed in the place of its new replica: the current one, then the older
/// ones.
pub(super) fn replicate(
    room: &Room<'_>,
    key: &Key,
    replica: &KeyArn,
) -> Result<(Material, Vec<Material>), AwsError> {
    let move_one = |material: &Material| {
        let bytes = open(room.root, &key.arn, material)?;
        let (id, rotated) = (material.id.clone(), material.rotated);
        Fresh { id, bytes, rotated }.seal(room.root, replica)
    };
    let older = key.older.iter().map(move_one).collect::<Result<_, _>>()?;
    Ok((move_one(&key.material)?, older))
}
