//! Sealed records: what an object, an upload or a part is. Each names its bucket, key and version,
//! so that one put in another's place is told.

use crate::checksum::{Algorithm, Checksum, Kind};
use crate::model::{ObjectChecksum, ObjectInfo, PartInfo, SystemMetadata, Tags};
use crate::vault::Ring;
use crate::version::Version;
use keystead_envelope::message::{Header, ID_BYTES, MessageError, open_whole, seal_whole};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A message id in JSON: hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct MessageId(pub(crate) [u8; ID_BYTES]);

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        hex::encode(id.0)
    }
}

impl TryFrom<String> for MessageId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).map(|()| Self(id))
    }
}

/// A part: one message in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: u16,
    /// Its file in the version's folder.
    pub(crate) file: String,
    pub(crate) id: MessageId,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) checksum: Checksum,
    pub(crate) modified_ms: i64,
}

/// Where a record belongs; the same in all three kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: String,
}

impl Owner {
    pub(crate) fn new(bucket: &str, key: &str, version: Version) -> Self {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Self { bucket, key, version: version.to_string() }
    }
}

/// What the client said of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) system: SystemMetadata,
    pub(crate) user: BTreeMap<String, String>,
    pub(crate) tags: Tags,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRecord {
    #[serde(flatten)]
    pub(crate) owner: Owner,
    pub(crate) size: u64,
    pub(crate) modified_ms: i64,
    pub(crate) etag: String,
    pub(crate) checksum: Option<ObjectChecksum>,
    pub(crate) multipart: bool,
    pub(crate) parts: Vec<Part>,
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
}

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    #[serde(flatten)]
    pub(crate) owner: Owner,
    pub(crate) begun_ms: i64,
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    #[serde(flatten)]
    pub(crate) owner: Owner,
    pub(crate) part: Part,
}

/// One of the three, as it is sealed: the kind stands in it, so none passes for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keystead", rename_all = "lowercase")]
enum Sealed<O, U, P> {
    Object(O),
    Upload(U),
    Part(P),
}

type Read = Sealed<ObjectRecord, UploadRecord, PartRecord>;

/// A kind of record.
pub(crate) trait Record: Sized {
    fn owner(&self) -> &Owner;
    fn to_json(&self) -> Vec<u8>;
    fn from_json(json: &[u8]) -> Option<Self>;
}

macro_rules! record {
    ($record:ty, $kind:ident) => {
        impl Record for $record {
            fn owner(&self) -> &Owner {
                &self.owner
            }
            fn to_json(&self) -> Vec<u8> {
                json(&Sealed::<&ObjectRecord, &UploadRecord, &PartRecord>::$kind(self))
            }
            fn from_json(json: &[u8]) -> Option<Self> {
                match parse::<Read>(json)? {
                    Sealed::$kind(record) => Some(record),
                    _ => None,
                }
            }
        }
    };
}
record!(ObjectRecord, Object);
record!(UploadRecord, Upload);
record!(PartRecord, Part);

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record is plain text and numbers")
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

/// Seals a record under the ring's current key: CPU work, for [`crate::Vault::lend`].
pub(crate) fn seal(
    ring: &Ring,
    record: &impl Record,
) -> Result<(Vec<u8>, [u8; ID_BYTES]), MessageError> {
    let key = ring.current();
    let message = seal_whole(key.key(), ring.context(), key.wrapped(), &record.to_json())?;
    let id = *Header::parse(&message)?.id();
    Ok((message, id))
}

/// Opens a record and checks where it belongs; the error says what is wrong. With an id it must be
/// that very message.
pub(crate) fn open<R: Record>(
    ring: &Ring,
    message: &[u8],
    id: Option<&[u8; ID_BYTES]>,
    owner: &Owner,
) -> Result<R, &'static str> {
    let header = Header::parse(message).map_err(|_| "a record that is no message")?;
    if id.is_some_and(|id| id != header.id()) {
        return Err("another record than the index names");
    }
    let key = ring.of(&header).ok_or("a record of another bucket or key")?;
    let json = open_whole(key.key(), message).map_err(|_| "a record that does not authenticate")?;
    let record = R::from_json(&json).ok_or("a record that is none")?;
    if record.owner() == owner { Ok(record) } else { Err("a record of another object") }
}

impl ObjectRecord {
    /// What a caller sees of it.
    pub(crate) fn info(&self) -> ObjectInfo {
        let parts = if self.multipart { self.parts.as_slice() } else { &[] };
        ObjectInfo {
            key: self.owner.key.clone(),
            version: self.owner.version.clone(),
            size: self.size,
            modified_ms: self.modified_ms,
            etag: self.etag.clone(),
            checksum: self.checksum.clone(),
            system: self.metadata.system.clone(),
            user: self.metadata.user.clone(),
            tags: self.metadata.tags.clone(),
            parts: parts.iter().map(Part::info).collect(),
            replication: None,
        }
    }
}

impl Part {
    pub(crate) fn info(&self) -> PartInfo {
        PartInfo {
            number: self.number,
            size: self.size,
            etag: self.etag.clone(),
            checksum: Some(self.checksum.clone()),
            modified_ms: self.modified_ms,
        }
    }
}
