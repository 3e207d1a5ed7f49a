//! A volume's keys: unwrapped by KMS, held against our own record, handed to the gate.

use crate::grants::Grants;
use crate::keeper::latest;
use crate::kms::answer::Failure;
use crate::kms::{Settings, unwrap::unwrap_key};
use keystead_envelope::luks2::{self, HEADER_BYTES, Holes, Luks2Error, Token};
use keystead_envelope::memory::{DataKey, run_scrubbed};
use keystead_envelope::xts::{XtsError, XtsKey};
use keystead_types::{
    Binding, ClusterAssignment, EncryptionContext, VolumeAssignment, VolumeId, WrappedKey,
};
use keystead_volumes::{Image, ImageError, PAYLOAD_OFFSET};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What brings a data key into this process.
pub(crate) trait Unwrap: Send + Sync + 'static {
    /// Decrypts a volume's wrapped key by its grant. Blocks.
    fn unwrap_key(&self, wrapped: &WrappedKey, grant_token: &str) -> Result<DataKey, Failure>;
}

impl Unwrap for Arc<Settings> {
    fn unwrap_key(&self, wrapped: &WrappedKey, grant_token: &str) -> Result<DataKey, Failure> {
        unwrap_key(self, wrapped, grant_token)
    }
}

/// Why a volume is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFault {
    /// The image and our record are not of each other. Never opened.
    #[error("wrapped-key-mismatch: {0}")]
    Mismatch(String),
    /// Something that it needs is not recorded yet.
    #[error("{0} is not recorded yet")]
    Missing(&'static str),
    /// KMS.
    #[error(transparent)]
    Kms(#[from] Failure),
    /// The header.
    #[error(transparent)]
    Header(#[from] Luks2Error),
    /// The key.
    #[error(transparent)]
    Key(#[from] XtsError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The grant's record, or the image's header.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Luks2Fault> for KeyFault {
    fn from(Luks2Fault(error): Luks2Fault) -> Self {
        match error {
            // KMS gave the key that we recorded: then the image is another one.
            Luks2Error::Passphrase | Luks2Error::NoHeader(_) | Luks2Error::Foreign(_) => {
                Self::Mismatch(format!("the image: {error}"))
            }
            other => Self::Header(other),
        }
    }
}

/// A header's error met while opening, where a foreign header is a mismatch.
struct Luks2Fault(Luks2Error);

/// One volume as our record has it.
pub(super) struct Recorded {
    pub(super) volume: VolumeId,
    wrapped: WrappedKey,
    context: EncryptionContext,
    binding: Binding,
    digest: Option<String>,
    size: u64,
    token: String,
}

impl Recorded {
    /// Everything that opening or making the volume needs.
    pub(super) fn of(
        cluster: &ClusterAssignment,
        volume: &VolumeAssignment,
        grants: &Grants,
    ) -> Result<Self, KeyFault> {
        let binding = cluster.binding.clone().ok_or(KeyFault::Missing("the key"))?;
        let wrapped = volume.wrapped.clone().ok_or(KeyFault::Missing("the wrapped key"))?;
        let context = EncryptionContext::volume(&cluster.cluster, &volume.volume);
        if !wrapped.is_of(&binding.key, &context) {
            let what = "the wrapped key is not of the bound key and this volume";
            return Err(KeyFault::Mismatch(what.to_owned()));
        }
        let grant = latest(grants, &volume.volume, volume.grant_generation)?
            .ok_or(KeyFault::Missing("the grant"))?;
        Ok(Self {
            volume: volume.volume.clone(),
            wrapped,
            context,
            binding,
            digest: volume.key_digest.clone(),
            size: volume.size_bytes,
            token: grant.token,
        })
    }

    /// The key by our own words, whatever the stored bytes say.
    fn unwrap_key(&self, keys: &dyn Unwrap) -> Result<DataKey, Failure> {
        let asked = WrappedKey {
            key: self.binding.key.clone(),
            ciphertext: self.wrapped.ciphertext.clone(),
            context: self.context.clone(),
        };
        keys.unwrap_key(&asked, &self.token)
    }

    fn check(&self, token: &Token, digest: &str) -> Result<(), KeyFault> {
        let differs =
            |what: &str| Err(KeyFault::Mismatch(format!("the image names another {what}")));
        if token.key_arn != self.binding.key {
            return differs("key");
        }
        if token.volume_id != self.volume || token.encryption_context != self.context {
            return differs("volume");
        }
        match &self.digest {
            Some(recorded) if !recorded.eq_ignore_ascii_case(digest) => differs("volume key"),
            _ => Ok(()),
        }
    }

    /// Makes the image unless it is there; answers the digest of its volume key.
    pub(super) fn format(
        &self,
        keys: &dyn Unwrap,
        path: &Path,
        now_ms: i64,
    ) -> Result<String, KeyFault> {
        sweep(path)?;
        if path.exists() {
            match read_header(path).map_err(KeyFault::from).and_then(|header| {
                let (token, digest) = luks2::read_token(&header).map_err(Luks2Fault)?;
                self.check(&token, &digest)?;
                Ok(digest)
            }) {
                // Control has no digest of it, so nothing was ever stored in it: put aside.
                Err(KeyFault::Mismatch(why)) if self.digest.is_none() => {
                    tracing::warn!(volume = %self.volume, why, "an unused image is put aside");
                    std::fs::rename(path, path.with_extension(format!("aside-{now_ms}")))?;
                }
                other => return other,
            }
        }
        if self.digest.is_some() {
            let what = format!("its image {} is missing; it is not made anew", path.display());
            return Err(KeyFault::Mismatch(what));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let passphrase = self.unwrap_key(keys)?;
        let token = Token {
            key_arn: self.binding.key.clone(),
            wrapped_key: self.wrapped.ciphertext.clone(),
            encryption_context: self.context.clone(),
            volume_id: self.volume.clone(),
            created_ms: now_ms,
            holes: Holes::Zero,
        };
        let uuid = self.volume.as_str().trim_start_matches(VolumeId::PREFIX).to_owned();
        let (header, digest) = run_scrubbed(move || -> Result<_, KeyFault> {
            let key = XtsKey::random()?;
            Ok(luks2::format(&key, &passphrase, &token, &uuid)?)
        })?;
        Image::create(path, self.size, &header)?;
        Ok(digest)
    }

    /// Unwraps the volume's key and gives it to `take`, on a thread whose stack is scrubbed.
    pub(super) fn open<T: Send>(
        &self,
        keys: &dyn Unwrap,
        path: &Path,
        take: impl FnOnce(XtsKey) -> Result<T, String> + Send,
    ) -> Result<Result<T, String>, KeyFault> {
        let recorded = self.digest.as_ref().ok_or(KeyFault::Missing("the digest of its key"))?;
        let header = read_header(path)?;
        // Before KMS is asked: what is not ours must not cost the owner's trail an entry.
        let (token, digest) = luks2::read_token(&header).map_err(Luks2Fault)?;
        self.check(&token, &digest)?;
        let passphrase = self.unwrap_key(keys)?;
        run_scrubbed(move || {
            let opened = luks2::open(&header, &passphrase).map_err(Luks2Fault)?;
            drop(passphrase);
            if !recorded.eq_ignore_ascii_case(&opened.key_digest) {
                return Err(KeyFault::Mismatch("the image holds another volume key".to_owned()));
            }
            Ok(take(opened.volume_key))
        })
    }
}

/// The part of the header area that is written.
fn read_header(path: &Path) -> std::io::Result<Vec<u8>> {
    debug_assert!((HEADER_BYTES as u64) <= PAYLOAD_OFFSET);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    std::fs::File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header)
}

/// What a crash inside `Image::create` leaves beside the image: never renamed, so never reported.
fn sweep(path: &Path) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(());
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let left = entry.file_name();
        if left.to_str().and_then(|l| l.strip_prefix(name)).is_some_and(|r| r.starts_with(".tmp-"))
        {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, wanted};
    use super::*;
    use std::sync::atomic::Ordering;

    const BYTES: u64 = 1 << 20;

    struct Rig {
        fake: Arc<Fake>,
        cluster: ClusterAssignment,
        folder: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let cluster = wanted(folder.path(), BYTES);
            Self { fake: Arc::default(), cluster, folder }
        }
        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("volumes/v.img")
        }
        fn recorded(&self) -> Recorded {
            let grants = Grants::new(self.folder.path());
            Recorded::of(&self.cluster, &self.cluster.volumes[0], &grants).expect("recorded")
        }
        fn format(&self) -> Result<String, KeyFault> {
            self.recorded().format(&self.fake, &self.path(), 7)
        }
        fn record(&mut self, digest: &str) {
            self.cluster.volumes[0].key_digest = Some(digest.to_owned());
        }
        fn open(&self) -> Result<(), KeyFault> {
            self.recorded().open(&self.fake, &self.path(), |_| Ok(())).map(|given| {
                given.expect("taken");
            })
        }
        fn asked(&self) -> usize {
            self.fake.asked.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn what_is_formatted_is_told_again_and_opens_once_it_is_recorded() {
        let mut rig = Rig::new();
        let digest = rig.format().expect("formatted");
        assert_eq!(rig.format().expect("as it is"), digest);
        assert_eq!(rig.asked(), 1, "an image that is there costs no call");
        assert!(matches!(rig.open(), Err(KeyFault::Missing(_))));
        rig.record(&digest);
        rig.open().expect("opens");
        rig.fake.refuses.store(true, Ordering::SeqCst);
        assert!(matches!(rig.open(), Err(KeyFault::Kms(Failure::Refused { .. }))));
    }

    #[test]
    fn another_image_is_never_opened_and_kms_is_not_asked() {
        let (mut rig, mut other) = (Rig::new(), Rig::new());
        let digest = rig.format().expect("formatted");
        rig.record(&digest);
        let foreign = other.format().expect("formatted");
        other.record(&foreign);
        std::fs::copy(other.path(), rig.path()).expect("swapped");
        let asked = rig.asked();
        assert!(matches!(rig.open(), Err(KeyFault::Mismatch(_))));
        assert!(matches!(rig.format(), Err(KeyFault::Mismatch(_))));
        // The right volume with another volume key: made anew by whoever has the wrapped key.
        rig.record(&foreign);
        other.record(&digest);
        assert!(matches!(other.open(), Err(KeyFault::Mismatch(w)) if w.contains("volume key")));
        assert_eq!(rig.asked(), asked);
    }

    #[test]
    fn a_crash_while_formatting_is_made_good_and_a_recorded_image_never_made_anew() {
        let mut rig = Rig::new();
        let folder = rig.folder.path().join("volumes");
        std::fs::create_dir(&folder).expect("a folder");
        let left = folder.join("v.img.tmp-99");
        std::fs::write(&left, "half").expect("left");
        // Torn, and never reported: nothing can be in it.
        std::fs::write(rig.path(), "torn").expect("torn");
        let digest = rig.format().expect("made good");
        assert!(!left.exists() && folder.join("v.aside-7").exists());
        rig.record(&digest);
        rig.open().expect("opens");
        for damage in [true, false] {
            if damage {
                std::fs::write(rig.path(), "torn").expect("damaged");
            } else {
                std::fs::remove_file(rig.path()).expect("lost");
            }
            assert!(matches!(rig.format(), Err(KeyFault::Mismatch(_))));
        }
        assert!(!rig.path().exists());
        assert_eq!(rig.asked(), 2);
    }
}
