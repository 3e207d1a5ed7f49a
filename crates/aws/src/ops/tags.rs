//! Tags of a key, in requests.

use super::requests::{Tag, TagResource, UntagResource};
use crate::json::{Fields, fault};
use crate::{AwsError, error};

/// A key has this many tags at most.
pub const MOST_TAGS: usize = 50;

/// `Tags`; their number and names are looked at by [`check_tags`].
pub(super) fn read_tags(f: &mut Fields) -> Result<Vec<Tag>, AwsError> {
    let mut tags = Vec::new();
    for mut tag in f.inners("Tags")? {
        tags.push(Tag {
            key: tag.required("TagKey", 1, 128)?,
            value: tag.required("TagValue", 0, 256)?,
        });
        f.absorb(tag);
    }
    Ok(tags)
}

/// Keys that nobody but AWS gives, to whatever thing.
pub(crate) fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

pub(super) fn check_tags(tags: &[Tag]) -> Result<(), AwsError> {
    if tags.len() > MOST_TAGS {
        return Err(error::tags("Too many tags"));
    }
    for (i, tag) in tags.iter().enumerate() {
        if is_reserved(&tag.key) {
            return Err(error::tags("Tags beginning with aws: are reserved"));
        }
        if tags[..i].iter().any(|t| t.key == tag.key) {
            return Err(error::tags("Duplicate tag keys"));
        }
    }
    Ok(())
}

impl TagResource {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        f.present("Tags");
        Ok(Self { key_id, tags: read_tags(f)? })
    }
}

impl UntagResource {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        f.present("TagKeys");
        let tag_keys = f.texts("TagKeys", usize::MAX)?.unwrap_or_default();
        if tag_keys.iter().any(|key| !(1..=128).contains(&key.chars().count())) {
            f.note(fault(
                &format!("[{}]", tag_keys.join(", ")),
                "tagKeys",
                "Member must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]",
            ));
        }
        if tag_keys.len() > MOST_TAGS {
            return Err(error::tags("Too many tags"));
        }
        Ok(Self { key_id, tag_keys })
    }
}
