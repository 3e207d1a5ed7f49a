//! Every bound of this crate, in one place. Those of S3 carry S3's numbers.

/// Bytes of a key, in UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;
/// Bytes of user metadata, names and values together.
pub const MAX_USER_METADATA_BYTES: usize = 2048;
/// Tags of an object.
pub const MAX_TAGS: usize = 10;
/// Characters of a tag's name.
pub const MAX_TAG_KEY_CHARS: usize = 128;
/// Characters of a tag's value.
pub const MAX_TAG_VALUE_CHARS: usize = 256;
/// The highest part number, and the most parts of an object.
pub const MAX_PARTS: u16 = 10_000;
/// The least bytes of a part that is not the last.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// The most bytes of one PUT or part.
pub const MAX_PUT_BYTES: u64 = 5 << 30;
/// The most bytes of an object.
pub const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// The most entries of a listing.
pub const MAX_LIST_KEYS: usize = 1000;
/// Frames that a stream holds at a time, in each direction: 1 MiB.
pub const BATCH_FRAMES: usize = 16;
/// Bytes of a replica's manifest: ten thousand parts' lengths and a key.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Bytes of a sealed record: ten thousand parts and all that may be said of an object.
pub const MAX_RECORD_BYTES: usize = 16 << 20;
